"""Tokenize text into ids, in the graph: the single implementation for training, evaluation and serving.

In: a batch of UTF-8 strings. Out: WordPiece ids, with their offsets in the text if requested, packed as
`[CLS] a [SEP] b [SEP]`. The rules are those of google-research/bert `tokenization.py`
(`BasicTokenizer`, then `WordpieceTokenizer` with `max_input_chars_per_word=200`). They work on one
character at a time, so a table from code point to code points (`unicode_table.npz`, made by
`kbert/data/make_unicode_table.py`) reproduces them in the graph exactly; the Unicode libraries of Python, ICU
and RE2 play no role. Text of characters that everyone treats alike (`PLAIN`) takes a faster path to the
same ids. "[CLS]" in a text is plain text: its brackets are punctuation and are split off.

One difference from the reference is known: the reference sorts consecutive combining marks (Unicode
NFD); here they keep their order. It can affect only marks that survive accent stripping, the 25 or so
spacing ones of musical notation, old Hangul tones and Khitan, written against the canonical order.
"""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from kbert import graphs
from kbert.config import AddedToken
from kbert.data.added_tokens import AddedTokens
from kbert.data.vocabulary import CLS, MASK, PAD, SEP, UNKNOWN, distinct, numbered

MAX_CHARACTERS = 200  # maximum length of a word; longer words are [UNK], as in the reference
SPACE = 32
HEAD_BYTES = 32  # initial estimate of bytes a word; Chinese needs three, English six
SIGMA, FINAL_SIGMA = 0x3A3, 0x3C2
CASED, SKIPPED = 1, 2  # a character's role next to a sigma

# ASCII, Chinese characters, and punctuation of both: their Unicode properties predate BERT, they never
# decompose, and only A-Z have a lower case. Beyond ASCII each character is a word of its own.
PLAIN = r"[\t\n\r -~·‐-‧、-〃〈-】〔-〟一-鿿！-＃％-＊，-／：；？＠［-］＿｛｝]*"
HAS_SIGMA = r"\C*Σ\C*"  # \C is any byte, since a cut text may end within a character


class Tokenizer(tf.Module):
    """BERT's tokenizer over batches of strings, as graph operations.

    Args:
        vocabulary: the tokens in id order.
        lowercase: lowercase the text, as uncased checkpoints want.
        strip_accents: decompose characters and drop accents, as uncased checkpoints also want.
        added_tokens: units of the text, found before these rules apply. The vocabulary has them too.
    """

    def __init__(
        self, vocabulary: Sequence[str], *, lowercase: bool, strip_accents: bool, added_tokens: Sequence[AddedToken] = ()
    ):
        super().__init__(name="tokenizer")
        self.vocabulary: list[str]
        object.__setattr__(self, "vocabulary", list(vocabulary))  # else tf.Module would track every token
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        ids = numbered(self.vocabulary)
        self.cls_id, self.sep_id, self.pad_id, self.unknown_id = (ids[token] for token in (CLS, SEP, PAD, UNKNOWN))
        self.mask_id = ids.get(MASK)  # optional, but needed for pre-training
        with np.load(Path(__file__).with_name("unicode_table.npz"), allow_pickle=False) as table:
            variant = int(lowercase) + 2 * int(strip_accents)
            self._kinds, self._beside_sigma = (table["stage1"][row].astype(np.int32) for row in (variant, 4))
            self._stage2 = table["stage2"].astype(np.int32).reshape(-1)
            self._start, self._length = table["start"], table["length"].astype(np.int32)
            self._codes = table["codes"]

        beside = {token.content for token in added_tokens if not token.wordpiece}
        words = distinct(["" if token in beside else token for token in self.vocabulary])

        def wordpiece(**options: Any) -> tf_text.FastWordpieceTokenizer:
            return tf_text.FastWordpieceTokenizer(vocab=words, unknown_token=UNKNOWN, token_out_type=tf.int32, **options)

        self._pieces = wordpiece(no_pretokenization=True, max_bytes_per_word=4 * MAX_CHARACTERS)
        self._plain_pieces = wordpiece(max_bytes_per_word=MAX_CHARACTERS)  # longer words are ASCII
        # WordPiece marks pieces that continue a word; a text cannot spell the mark, since "#" is a word of its own.
        self.opens_word = np.array([not token.startswith("##") for token in self.vocabulary])  # [vocabulary]
        # Traced once, even if used in several graphs.
        self._words = graphs.function(self.words, input_signature=[tf.TensorSpec([None], tf.string)])
        self._packed = graphs.function(self._pack, reduce_retracing=True)
        self._graph = graphs.function(self._ids, reduce_retracing=True)
        self._offsets_graph = graphs.function(self._with_offsets, reduce_retracing=True)
        if added_tokens:
            numbers = [ids.get(token.content, self.unknown_id) for token in added_tokens]
            added = AddedTokens(added_tokens, numbers, self._spelt, self._normalised, PLAIN[1:-2])
            rules, offset_rules = self._graph, self._offsets_graph
            self._graph = graphs.function(
                lambda texts, max_words: added.around(texts, lambda some: [rules(some, max_words)])[0], reduce_retracing=True
            )
            self._offsets_graph = graphs.function(lambda texts: added.around(texts, offset_rules), reduce_retracing=True)

    def tokenize(self, texts: tf.Tensor, max_words: int | None = None) -> tf.RaggedTensor:
        """Tokenize texts into ids, without special tokens.

        Args:
            texts: UTF-8 strings of shape [texts]; invalid bytes are ignored.
            max_words: only this many words are needed; the rest of long texts may be skipped.

        Returns:
            int32 ragged tensor of shape [texts, (pieces)].
        """
        return self._graph(texts, max_words)

    def _ids(self, texts: tf.Tensor, max_words: int | None) -> tf.RaggedTensor:
        plain = tf.strings.regex_full_match(texts, PLAIN)
        if max_words is not None:
            plain &= tf.strings.length(texts) <= HEAD_BYTES * max_words
        return _either(plain, texts, lambda some: [self._quick(some)], lambda some: [self._careful(some, max_words)])[0]

    def tokenize_with_masks(self, texts: tf.Tensor, max_words: int | None = None) -> tf.RaggedTensor:
        """Tokenize, with "[MASK]" in a text as the control token, for models that fill it."""
        assert self.mask_id is not None
        parts = tf.strings.split(texts, MASK)  # [texts, (parts)]
        ids = self.tokenize(parts.values, max_words)
        marked = tf.concat([ids, _column(ids.nrows(), self.mask_id)], 1)
        return parts.with_values(marked).merge_dims(1, 2)[:, :-1]

    def tokenize_with_offsets(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.RaggedTensor, tf.RaggedTensor]:
        """Tokenize texts into ids with the offsets of the pieces.

        A piece starts with the character its first letter was made from and ends after the one its
        last letter was made from: deleted characters are outside at its edges, and inside within it.
        Pieces made from one character (a decomposed Hangul syllable) share its place.

        Args:
            texts: UTF-8 strings of shape [texts]; invalid bytes are ignored.

        Returns:
            Ids, starts and ends (exclusive), int32 ragged tensors of shape [texts, (pieces)]; the latter
            count characters of the text as Python counts them, from 0, invalid bytes not among them.
        """
        ids, starts, ends = self._offsets_graph(texts)
        return ids, starts, ends

    def _with_offsets(self, texts: tf.Tensor) -> list[tf.RaggedTensor]:
        plain = tf.strings.regex_full_match(texts, PLAIN)
        return _either(plain, texts, self._quick_with_offsets, self._careful_with_offsets)

    def _quick_with_offsets(self, texts: tf.Tensor) -> list[tf.RaggedTensor]:
        """Tokenize plain texts: convert the tokenizer's own byte offsets to characters."""
        pieces, begins, ends = self._plain_pieces.tokenize_with_offsets(tf.strings.lower(texts) if self.lowercase else texts)
        starts, stops = tf.cast(begins.values, tf.int32), tf.cast(ends.values, tf.int32)
        bytes_, characters = tf.strings.length(texts), tf.strings.length(texts, "UTF8_CHAR")

        def by_character() -> tuple[tf.Tensor, tf.Tensor]:
            code = tf.strings.unicode_decode(texts, "UTF-8").values
            owner = tf.repeat(tf.range(tf.size(code)), _bytes(code))  # [bytes]: the character each is of
            row = pieces.value_rowids()
            byte = tf.gather(tf.cumsum(bytes_, exclusive=True), row)
            first = tf.gather(tf.cumsum(characters, exclusive=True), row)
            return tf.gather(owner, byte + starts) - first, tf.gather(owner, byte + stops - 1) + 1 - first

        ascii_alone = tf.reduce_sum(bytes_) == tf.reduce_sum(characters)
        starts, stops = tf.cond(ascii_alone, lambda: (starts, stops), by_character)
        return [pieces, pieces.with_values(starts), pieces.with_values(stops)]

    def _careful_with_offsets(self, texts: tf.Tensor) -> list[tf.RaggedTensor]:
        """Tokenize any texts, through the letters of their normalised words."""
        letters, sources, rows = self._letters(texts)
        pieces, begins, ends = self._pieces.tokenize_with_offsets(_encoded(letters))  # [words, (pieces)]; offsets in bytes
        code, word = letters.values, pieces.value_rowids()
        width = _bytes(code)
        owner = tf.repeat(tf.range(tf.size(code)), width)  # [bytes]: the letter each is of
        at = tf.concat([[0], tf.cumsum(width)], 0)  # the byte each letter starts at
        word_start = tf.gather(at, tf.gather(letters.row_starts(), word))
        word_end = tf.gather(at, tf.gather(letters.row_limits(), word))
        too_long = tf.gather(letters.row_lengths() > MAX_CHARACTERS, word)
        last = tf.where(too_long, word_end, word_start + tf.cast(ends.values, tf.int32)) - 1
        first = tf.gather(sources, tf.gather(owner, word_start + tf.cast(begins.values, tf.int32)))
        behind = tf.gather(sources, tf.gather(owner, last)) + 1

        def by_text(values: tf.Tensor) -> tf.RaggedTensor:
            return rows.with_values(pieces.with_values(values)).merge_dims(1, 2)

        return [by_text(pieces.values), by_text(first), by_text(behind)]

    def _quick(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Tokenize plain texts: ASCII lowercasing and the tokenizer's own splitting suffice."""
        return self._plain_pieces.tokenize(tf.strings.lower(texts) if self.lowercase else texts)

    def _careful(self, texts: tf.Tensor, max_words: int | None) -> tf.RaggedTensor:
        """Tokenize any texts."""
        words = self._words(texts) if max_words is None else self._first_words(texts, max_words)
        pieces = self._pieces.tokenize(words.values)  # [words, (pieces)]
        return words.with_values(pieces).merge_dims(1, 2)

    def _first_words(self, texts: tf.Tensor, count: int) -> tf.RaggedTensor:
        """Return `words(texts)[:, :count]` without normalising the whole of long texts."""
        limit = HEAD_BYTES * count
        heads = tf.strings.substr(texts, 0, limit)
        words = self._words(heads)
        # One more word than requested shows that those before it are complete; a sigma may depend on what follows.
        whole = words.row_lengths() > count
        if self.lowercase:
            whole &= ~tf.strings.regex_full_match(heads, HAS_SIGMA)
        enough = (tf.strings.length(texts) <= limit) | whole
        words = tf.cond(tf.reduce_all(enough), lambda: words, lambda: self._words(tf.where(enough, heads, texts)))
        return words[:, :count]

    def words(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Split texts into normalised words and punctuation marks, strings of shape [texts, (words)]."""
        letters, _, rows = self._letters(texts)
        return rows.with_values(_encoded(letters))

    def _letters(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor, tf.RaggedTensor]:
        """Return the code points of normalised words, their source characters, and the words of each text.

        Returns:
            int32 [words, (letters)]; int32 [letters], the character of its text each was made from;
            [texts, (words)], whose values are the words' numbers.
        """
        decoded, out, source = self._decoded(texts)
        text = tf.gather(decoded.value_rowids(), source)
        kept = tf.where(out != SPACE)[:, 0]
        # A word starts after a space and at the start of a text.
        before = tf.concat([[SPACE], out[:-1]], 0)
        text_before = tf.concat([[tf.constant(-1, text.dtype)], text[:-1]], 0)
        starts = tf.gather((before == SPACE) | (text != text_before), kept)
        first = tf.where(starts)[:, 0]
        letters = tf.RaggedTensor.from_row_starts(tf.gather(out, kept), first, validate=False)
        text = tf.gather(text, kept)
        character = tf.gather(source, kept) - tf.cast(tf.gather(decoded.row_starts(), text), tf.int32)
        numbers = tf.range(tf.size(first))
        rows = tf.RaggedTensor.from_value_rowids(numbers, tf.gather(text, first), nrows=decoded.nrows(), validate=False)
        return letters, character, rows

    def _decoded(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor, tf.Tensor]:
        """Return characters, [texts, (characters)], the code points that stand for them, and the character each is from."""
        decoded = tf.strings.unicode_decode(texts, "UTF-8", errors="ignore")
        code, row = decoded.values, decoded.value_rowids()
        if self.lowercase:
            code = tf.cond(tf.reduce_any(code == SIGMA), lambda: self._final_sigmas(code, row), lambda: code)
        kind = self._look_up(self._kinds, code)
        length = tf.gather(self._length, kind)  # [characters]: how many code points stand for each
        source = tf.repeat(tf.range(tf.size(code)), length)  # [normalised]
        at = tf.range(tf.size(source)) - tf.gather(tf.cumsum(length, exclusive=True), source)
        out = tf.gather(self._codes, tf.gather(tf.gather(self._start, kind), source) + at)
        return decoded, tf.where(out < 0, tf.gather(code, source), out), source

    def _normalised(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Return code points with blanks, [texts, (codes)], and the characters they are made from, to find added tokens in."""
        decoded, out, source = self._decoded(texts)
        row = tf.gather(decoded.value_rowids(), source)
        return tf.RaggedTensor.from_value_rowids(out, row, nrows=decoded.nrows(), validate=False), source

    def _spelt(self, content: str) -> list[int]:
        """Return the normalised code points of a token's content, without the graph."""
        found: list[int] = []
        for code in map(ord, content):
            kind = self._stage2[self._kinds[code // 256] * 256 + code % 256]
            out = self._codes[self._start[kind] : self._start[kind] + self._length[kind]]
            found += np.where(out < 0, code, out).tolist()
        return found

    def _look_up(self, stage1: np.ndarray, code: tf.Tensor) -> tf.Tensor:
        return tf.gather(self._stage2, tf.gather(stage1, code // 256) * 256 + code % 256)

    def _final_sigmas(self, code: tf.Tensor, row: tf.Tensor) -> tf.Tensor:
        """Return the code points with each capital sigma at a word's end as the small final one (Unicode's Final_Sigma)."""
        role = self._look_up(self._beside_sigma, code)
        seen = tf.where(role != SKIPPED)[:, 0]
        cased, row = tf.gather(role, seen) == CASED, tf.gather(row, seen)
        joined = (row[1:] == row[:-1]) & cased[1:] & cased[:-1]  # whether cased letters follow one another
        final = tf.concat([[False], joined], 0) & ~tf.concat([joined, [False]], 0) & (tf.gather(code, seen) == SIGMA)
        where = tf.boolean_mask(seen, final)
        return tf.tensor_scatter_nd_update(code, where[:, None], tf.fill(tf.shape(where), FINAL_SIGMA))

    def pack(self, parts: Sequence[tf.RaggedTensor], max_length: int) -> dict[str, tf.RaggedTensor]:
        """Pack `[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, truncating the longer part first as the reference does.

        Args:
            parts: one or two ragged id tensors of shape [rows, (pieces)].
            max_length: maximum tokens of a row, special tokens included.

        Returns:
            `token_ids` and `segment_ids`, int32 ragged tensors of shape [rows, (tokens)].
        """
        packed: dict[str, tf.RaggedTensor] = self._packed(list(parts), max_length)
        return packed

    def _pack(self, parts: list[tf.RaggedTensor], max_length: int) -> dict[str, tf.RaggedTensor]:
        room = max_length - 1 - len(parts)
        lengths = [tf.cast(part.row_lengths(), tf.int32) for part in parts]
        if len(parts) == 1:
            keep = [tf.minimum(lengths[0], room)]
        else:
            # Equal to popping from the longer part, from the second when equal.
            first = tf.minimum(lengths[0], tf.maximum(room - lengths[1], room - room // 2))
            keep = [first, tf.minimum(lengths[1], room - first)]
        rows = parts[0].nrows()
        pieces = [_column(rows, self.cls_id)]
        segments = [_column(rows, 0)]
        for segment, (part, length) in enumerate(zip(parts, keep, strict=True)):
            cut = _head(part, length)
            pieces += [cut, _column(rows, self.sep_id)]
            segments += [tf.zeros_like(cut) + segment, _column(rows, segment)]
        return {"token_ids": tf.concat(pieces, 1), "segment_ids": tf.concat(segments, 1)}


def _either(
    plain: tf.Tensor,
    texts: tf.Tensor,
    quick: Callable[[tf.Tensor], list[tf.RaggedTensor]],
    careful: Callable[[tf.Tensor], list[tf.RaggedTensor]],
) -> list[tf.RaggedTensor]:
    """Apply `quick` to plain texts and `careful` to the others; both return the same parts, [texts, (pieces)]."""

    def mixed() -> list[tf.RaggedTensor]:
        order = [tf.where(plain)[:, 0], tf.where(~plain)[:, 0]]
        back = tf.math.invert_permutation(tf.concat(order, 0))
        both = zip(quick(tf.gather(texts, order[0])), careful(tf.gather(texts, order[1])), strict=True)
        return [tf.gather(tf.concat(parts, 0), back) for parts in both]

    found: list[tf.RaggedTensor] = tf.cond(tf.reduce_all(plain), lambda: quick(texts), mixed)
    return found


def _bytes(code: tf.Tensor) -> tf.Tensor:
    """Return how many bytes each code point takes in UTF-8, int32."""
    return 1 + tf.reduce_sum([tf.cast(code >= limit, tf.int32) for limit in (0x80, 0x800, 0x10000)], 0)


def _encoded(letters: tf.RaggedTensor) -> tf.Tensor:
    """Encode words as UTF-8 strings [words]; too long words become the unknown token."""
    return tf.where(letters.row_lengths() > MAX_CHARACTERS, UNKNOWN, tf.strings.unicode_encode(letters, "UTF-8"))


def _column(rows: Any, value: int) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_uniform_row_length(tf.fill([rows], value), 1, nrows=rows, validate=False)


def _head(ragged: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """Return the first `lengths[i]` values of each row; lengths are at most the rows' own."""
    starts = tf.cast(ragged.row_starts(), tf.int32)
    index = tf.ragged.range(starts, starts + lengths)
    return index.with_values(tf.gather(ragged.values, index.values))
