"""Find added tokens in texts, in the graph, as Hugging Face's fast tokenizers do before BERT's own rules apply to the rest.

In: strings, and the tokens. Out: ids, and offsets if requested, of tokens and of the text between them. Tokens are found first
in the text as it is written, then, those that are `normalized`, in what is left, lowercased and without accents where the model
is uncased: from the left, at each place the longest. RE2 finds them; as it has no look-around, what is beside a token is
checked afterwards. White space around a token does not count, so `lstrip` and `rstrip` change no id.
"""

import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import tensorflow as tf
import tensorflow_text as tf_text

from kbert.config import AddedToken

Read = Callable[[tf.Tensor], list[tf.RaggedTensor]]  # strings -> their ids, or ids, starts and ends, [strings, (pieces)]

MOST_HINTS = 200  # tokens; patterns that say quickly where some may be get too large for RE2
MARK = b"\xff"  # no byte of valid UTF-8
# The regex crate's \w: letters, marks, decimal digits, connectors, joiners, and letters in circles and squares.
WORD = r"\pL\pM\p{Nl}\p{Nd}\p{Pc}\x{200c}\x{200d}\x{24b6}-\x{24e9}\x{1f130}-\x{1f149}\x{1f150}-\x{1f169}\x{1f170}-\x{1f189}"
PUNCTUATION = r"!-/:-@\[-`{-~\pP"
# What a token may not have before and after it, in text as it is written or normalised (True). The latter has blanks around
# punctuation and Chinese characters.
BESIDE = {
    ("words", False): (rf"[{WORD}]", rf"[{WORD}]"),
    ("words", True): (rf"[{WORD}]|\p{{Pc}} ", rf"[{WORD}]| \p{{Pc}}"),
    ("blanks", True): (rf"[^ ]|[{PUNCTUATION}] ", rf"[^ ]| [{PUNCTUATION}]"),
}


class Parts(NamedTuple):
    """Parts of texts, in order: strings, ids of tokens (-1 for plain text), the text and the character in it each starts at."""

    string: tf.Tensor
    id: tf.Tensor
    row: tf.Tensor
    start: tf.Tensor


class AddedTokens:
    """The added tokens of a tokenizer.

    Args:
        tokens: in the order in which they count where two are written alike.
        ids: of each.
        spell: a content as normalised code points, blanks around punctuation included.
        normalise: strings as normalised code points, [strings, (codes)], and of each the number of the character it was made
            from, counted over all strings.
        plain: the characters that stand for themselves, but for ASCII's case, as a regular expression's class without brackets.
    """

    def __init__(
        self,
        tokens: Sequence[AddedToken],
        ids: Sequence[int],
        spell: Callable[[str], list[int]],
        normalise: Callable[[tf.Tensor], tuple[tf.RaggedTensor, tf.Tensor]],
        plain: str,
    ):
        self._normalise = normalise
        written, normalised = ([i for i, token in enumerate(tokens) if token.normalized == kind] for kind in (False, True))
        spelt = {i: "".join(map(chr, spell(tokens[i].content))) for i in normalised}
        normalised = [i for i in normalised if spelt[i].strip()]

        def finder(which: list[int], contents: list[str]) -> Finder | None:
            return Finder([tokens[i] for i in which], contents, [ids[i] for i in which]) if which else None

        self._written = finder(written, [tokens[i].content for i in written])
        self._normalised = finder(normalised, [spelt[i] for i in normalised])
        hints = [] if self._written is None else [self._written.pattern]
        for i in normalised:
            # A character that is not plain may be deleted, or be made a letter of the token.
            letters = [rf"(?:(?i:{re.escape(c)})|[^{plain}])" for c in spelt[i].replace(" ", "")]
            hints.append(rf"(?:\s|[^{plain}])*".join(letters))
        self._hint = rf"\C*(?:{'|'.join(hints)})\C*" if len(normalised) <= MOST_HINTS else None

    def possible(self, texts: tf.Tensor) -> tf.Tensor:
        """Return whether each text may have a token; nearly always whether it has one. Cheap."""
        if self._hint is None:
            return tf.fill(tf.shape(texts), True)
        return tf.strings.regex_full_match(texts, self._hint) | ~tf.strings.regex_full_match(texts, "(?s).*")  # not UTF-8

    def around(self, texts: tf.Tensor, read: Read) -> list[tf.RaggedTensor]:
        """Tokenize texts: tokens as units, and by `read` what is between them; returns the same parts as `read`."""
        possible = self.possible(texts)
        some, none = tf.reduce_any(possible), tf.constant([], tf.int32)
        nothing = Parts(tf.constant([], tf.string), none, tf.constant([], tf.int64), none)
        parts = Parts(*tf.cond(some, lambda: tuple(self._cut(tf.boolean_mask(texts, possible))), lambda: tuple(nothing)))
        # Called once: its graph is large. The other texts come first.
        plain = tf.where(parts.id < 0, parts.string, "")
        found = read(tf.concat([tf.where(possible, "", texts), plain], 0))

        def joined() -> list[tf.RaggedTensor]:
            count = tf.size(texts)
            of_cut = self._by_text(parts, [each[count:] for each in found], tf.math.count_nonzero(possible))
            rank = tf.cumsum(tf.cast(possible, tf.int32), exclusive=True)
            order = tf.where(possible, count + rank, tf.range(count))
            return [tf.gather(tf.concat([a[:count], b], 0), order) for a, b in zip(found, of_cut, strict=True)]

        result: list[tf.RaggedTensor] = tf.cond(some, joined, lambda: found)
        return result

    def _cut(self, texts: tf.Tensor) -> Parts:
        texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
        parts = Parts(texts, tf.fill(tf.shape(texts), -1), tf.range(tf.size(texts, tf.int64)), tf.fill(tf.shape(texts), 0))
        if self._written is not None:
            parts = self._refined(parts, *self._written.split(texts))
        if self._normalised is not None:
            parts = self._refined(parts, *self._split_normalised(tf.where(parts.id < 0, parts.string, ""), self._normalised))
        return parts

    def _by_text(self, parts: Parts, found: list[tf.RaggedTensor], count: tf.Tensor) -> list[tf.RaggedTensor]:
        """Put tokens between what was read of plain parts, and parts into their texts, [count, (pieces)]."""
        is_token = parts.id >= 0
        ids, *offsets = found
        places = [parts.start, parts.start + tf.strings.length(parts.string, "UTF8_CHAR")]
        shifted = [each.with_values(each.values + tf.gather(parts.start, each.value_rowids())) for each in offsets]

        def by_text(pieces: tf.RaggedTensor, values: tf.Tensor) -> tf.RaggedTensor:
            lengths = tf.cast(is_token, tf.int64)
            column = tf.RaggedTensor.from_row_lengths(tf.boolean_mask(values, is_token), lengths, validate=False)
            both = tf.concat([pieces, column], 1)
            return tf.RaggedTensor.from_value_rowids(both, parts.row, nrows=count, validate=False).merge_dims(1, 2)

        return [by_text(ids, parts.id), *map(by_text, shifted, places)]

    def _refined(self, parts: Parts, smaller: tf.RaggedTensor, ids: tf.Tensor) -> Parts:
        """Cut plain parts into smaller ones, [parts, (smaller)]; those of tokens stay, their rows being one."""
        part = smaller.value_rowids()
        size = tf.strings.length(smaller.values, "UTF8_CHAR")
        start = tf.cumsum(size, exclusive=True)
        start = start - tf.gather(start, tf.gather(smaller.row_starts(), part)) + tf.gather(parts.start, part)
        was = tf.gather(parts.id, part)
        string = tf.where(was < 0, smaller.values, tf.gather(parts.string, part))
        return Parts(string, tf.maximum(was, ids), tf.gather(parts.row, part), start)

    def _split_normalised(self, strings: tf.Tensor, finder: "Finder") -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Do as `Finder.split`, with tokens found in the normalised strings, and the parts as they are written."""
        codes, source = self._normalise(strings)
        parts, ids = finder.split(tf.strings.unicode_encode(codes, "UTF-8"))
        row, size = parts.value_rowids(), tf.strings.length(parts.values, "UTF8_CHAR")
        behind = tf.cumsum(size)
        source = tf.concat([source, [0]], 0)
        # Of tokens, the first character and the one after the last, counted over all strings.
        first, last = tf.gather(source, behind - size), tf.gather(source, tf.maximum(behind - 1, 0)) + 1
        total = tf.cumsum(tf.strings.length(strings, "UTF8_CHAR"))
        opening = tf.gather(tf.concat([[0], total], 0), row)
        new = row[1:] != row[:-1]
        start = tf.where(tf.concat([[True], new], 0), opening, tf.concat([[0], last[:-1]], 0))
        stop = tf.where(tf.concat([new, [True]], 0), tf.gather(total, row), tf.concat([first[1:], [0]], 0))
        start, stop = tf.where(ids < 0, start, first), tf.where(ids < 0, stop, last)
        written = tf.strings.substr(tf.gather(strings, row), start - opening, tf.maximum(stop - start, 0), unit="UTF8_CHAR")
        return parts.with_values(written), ids


class Finder:
    """Finds tokens in strings.

    Args:
        tokens: those to find, in the same kind of text: as it is written, or normalised.
        contents: how each is written in that text; of two written alike the first counts.
        ids: of each.
    """

    def __init__(self, tokens: Sequence[AddedToken], contents: Sequence[str], ids: Sequence[int]):
        first = {content: i for i, content in reversed(list(enumerate(contents)))}
        longest_first = sorted(first, key=lambda content: -len(content.encode()))
        self.pattern = "|".join(map(re.escape, longest_first))
        between = [(tokens[i].between, tokens[i].normalized) for i in first.values()]
        self._kinds = {kind: [kind == each for each in between] for kind in BESIDE if kind in between}
        self._ids = [ids[i] for i in first.values()]
        # Looks up what was found. "##x" alone would be the rest of a word.
        words = ["[UNK]", *("=" + content for content in first)]
        self._numbers = tf_text.FastWordpieceTokenizer(
            vocab=words,
            unknown_token="[UNK]",
            token_out_type=tf.int32,
            no_pretokenization=True,
            max_bytes_per_word=1 + len(longest_first[0].encode()),
        )

    def split(self, texts: tf.Tensor) -> tuple[tf.RaggedTensor, tf.Tensor]:
        """Cut texts at the tokens.

        Args:
            texts: valid UTF-8 strings [texts].

        Returns:
            The parts, strings [texts, (parts)], of which each row's first is plain, as is every other; and int32 [parts], the
            ids of those found, -1 for plain ones.
        """
        parts = tf.strings.split(tf.strings.regex_replace(texts, f"({self.pattern})", MARK + rb"\1" + MARK), MARK)
        flat, row = parts.values, parts.value_rowids()
        place = tf.range(tf.size(row, row.dtype), dtype=row.dtype) - tf.gather(parts.row_starts(), row)
        found = place % 2 == 1
        number = self._numbers.tokenize("=" + tf.boolean_mask(flat, found)).values - 1
        if self._kinds:
            kept = self._apart(parts, place, number, tf.where(found)[:, 0])
            found = tf.tensor_scatter_nd_update(found, tf.where(found), kept)
            number = tf.boolean_mask(number, kept)
            # What is not kept becomes part of the plain text around it.
            starts = found | tf.concat([[True], found[:-1]], 0) | (place == 0)
            part = tf.cumsum(tf.cast(starts, tf.int32)) - 1
            flat = tf.strings.unsorted_segment_join(flat, part, tf.reduce_sum(tf.cast(starts, tf.int32)))
            row, nrows = tf.boolean_mask(row, starts), parts.nrows()
            parts = tf.RaggedTensor.from_value_rowids(flat, row, nrows=nrows, validate=False)
            found = tf.boolean_mask(found, starts)
        ids = tf.gather(tf.constant(self._ids), number)
        return parts, tf.tensor_scatter_nd_update(tf.fill(tf.shape(found), -1), tf.where(found), ids)

    def _apart(self, parts: tf.RaggedTensor, place: tf.Tensor, number: tf.Tensor, at: tf.Tensor) -> tf.Tensor:
        """Return whether each part found has nothing beside it that its token may not have; `at` are their places among all."""
        length = tf.gather(parts.row_lengths(), tf.gather(parts.value_rowids(), at))
        place = tf.gather(place, at)
        padded = tf.concat([[""], parts.values, ["", ""]], 0)
        # The plain part between two found may be empty.
        before = tf.where(place > 1, tf.gather(padded, at - 1), "") + tf.gather(padded, at)
        after = tf.gather(padded, at + 2) + tf.where(place + 2 < length, tf.gather(padded, at + 3), "")
        kept = tf.fill(tf.shape(at), True)
        for kind, mask in self._kinds.items():
            left, right = BESIDE[kind]
            beside = tf.strings.regex_full_match(before, f"(?s).*(?:{left})")
            beside |= tf.strings.regex_full_match(after, f"(?s)(?:{right}).*")
            kept &= ~(beside & tf.gather(tf.constant(mask), number))
        return kept
