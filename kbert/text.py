"""Text into ids, in the graph: the only code that does it, for training, evaluation and serving.

In: a batch of UTF-8 strings. Out: WordPiece ids, packed as `[CLS] a [SEP] b [SEP]`. The rules are
those of google-research/bert `tokenization.py` (`BasicTokenizer`, then `WordpieceTokenizer` with
`max_input_chars_per_word=200`). They work on one character at a time, so a table from code point to
code points (`unicode_table.npz`, made by `tools/make_unicode_table.py`) carries them into the graph
exactly; no Unicode library of Python, ICU or RE2 has a say. A text that spells "[CLS]" is text: its
brackets are punctuation and are split off.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text as tf_text

from kbert.errors import DataError

UNKNOWN, CLS, SEP, PAD = "[UNK]", "[CLS]", "[SEP]", "[PAD]"
MAX_CHARACTERS = 200  # of a word; longer ones are [UNK], as in the reference
SPACE = 32
HEAD_BYTES = 32  # bytes a word, at first; Chinese needs three, English six


def read_vocabulary(path: Path) -> list[str]:
    """The tokens of a `vocab.txt`, one a line; a token's id is its line, counted from 0.

    Raises:
        DataError: the file is missing, not UTF-8, or lacks [UNK], [CLS], [SEP] or [PAD].
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: not readable as UTF-8 text: {error}") from None
    vocabulary = [line.strip() for line in text.split("\n")]
    while vocabulary and not vocabulary[-1]:
        vocabulary.pop()
    check_vocabulary(vocabulary, str(path))
    return vocabulary


def check_vocabulary(vocabulary: Sequence[str], where: str) -> None:
    """Raise DataError when a special token is missing or a token stands twice."""
    known: dict[str, int] = {}
    for line, token in enumerate(vocabulary, 1):
        if token in known:
            raise DataError(f"{where}:{line}: token {token!r} stands on line {known[token]} already")
        known[token] = line
    for token in (UNKNOWN, CLS, SEP, PAD):
        if token not in known:
            raise DataError(f"{where}: no {token} among its {len(vocabulary):,} tokens; is it a BERT vocabulary?")


class Tokenizer(tf.Module):
    """A vocabulary and BERT's rules, as graph operations over batches.

    Args:
        vocabulary: the tokens in the order of their ids.
        lowercase: lowercase the text, as uncased checkpoints want.
        strip_accents: decompose it and drop accents, which uncased checkpoints want too.
    """

    def __init__(self, vocabulary: Sequence[str], *, lowercase: bool, strip_accents: bool):
        super().__init__(name="tokenizer")
        self.vocabulary = list(vocabulary)
        self.lowercase = lowercase
        self.strip_accents = strip_accents
        ids = {token: i for i, token in enumerate(self.vocabulary)}
        self.cls_id, self.sep_id, self.pad_id = ids[CLS], ids[SEP], ids[PAD]
        with np.load(Path(__file__).with_name("unicode_table.npz"), allow_pickle=False) as table:
            variant = int(lowercase) + 2 * int(strip_accents)
            self._stage1 = table["stage1"][variant].astype(np.int32)
            self._stage2 = table["stage2"].astype(np.int32).reshape(-1)
            self._start, self._length = table["start"], table["length"].astype(np.int32)
            self._codes = table["codes"]
        self._pieces = tf_text.FastWordpieceTokenizer(
            vocab=self.vocabulary,
            unknown_token=UNKNOWN,
            token_out_type=tf.int32,
            no_pretokenization=True,
            max_bytes_per_word=4 * MAX_CHARACTERS,
        )

    def tokenize(self, texts: tf.Tensor, max_words: int | None = None) -> tf.RaggedTensor:
        """Ids of the texts' pieces, without special tokens.

        Args:
            texts: UTF-8 strings of shape [texts]; invalid bytes are ignored.
            max_words: read no further than this many words; a word gives at least one piece.

        Returns:
            int32 ragged tensor of shape [texts, (pieces)].
        """
        words = self._words(texts) if max_words is None else self._first_words(texts, max_words)
        pieces = self._pieces.tokenize(words.values)  # [words, (pieces)]
        return words.with_values(pieces).merge_dims(1, 2)

    def _first_words(self, texts: tf.Tensor, count: int) -> tf.RaggedTensor:
        """`_words(texts)[:, :count]`, without normalising the whole of long texts."""
        limit = HEAD_BYTES * count
        heads = tf.strings.substr(texts, 0, limit)
        words = self._words(heads)
        # One word more than is wanted shows that those before it are whole.
        enough = (tf.strings.length(texts) <= limit) | (words.row_lengths() > count)
        words = tf.cond(tf.reduce_all(enough), lambda: words, lambda: self._words(tf.where(enough, heads, texts)))
        return words[:, :count]

    def _words(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Normalised words and punctuation marks, strings of shape [texts, (words)]."""
        codes = tf.strings.unicode_decode(texts, "UTF-8", errors="ignore")  # [texts, (characters)]
        code = codes.values
        kind = tf.gather(self._stage2, tf.gather(self._stage1, code // 256) * 256 + code % 256)
        length = tf.gather(self._length, kind)  # [characters]: how many code points stand for each
        source = tf.repeat(tf.range(tf.size(code)), length)  # [normalised]
        at = tf.range(tf.size(source)) - tf.gather(tf.cumsum(length, exclusive=True), source)
        out = tf.gather(self._codes, tf.gather(tf.gather(self._start, kind), source) + at)
        out = tf.where(out < 0, tf.gather(code, source), out)
        text = tf.gather(codes.value_rowids(), source)

        kept = tf.where(out != SPACE)[:, 0]
        # A word starts behind a space and at the head of a text.
        before = tf.concat([[SPACE], out[:-1]], 0)
        text_before = tf.concat([[tf.constant(-1, text.dtype)], text[:-1]], 0)
        starts = tf.gather((before == SPACE) | (text != text_before), kept)
        first = tf.where(starts)[:, 0]
        letters = tf.RaggedTensor.from_row_starts(tf.gather(out, kept), first, validate=False)
        words = tf.strings.unicode_encode(letters, "UTF-8")
        words = tf.where(letters.row_lengths() > MAX_CHARACTERS, UNKNOWN, words)
        rows = tf.gather(text, tf.gather(kept, first))
        return tf.RaggedTensor.from_value_rowids(words, rows, nrows=codes.nrows(), validate=False)

    def pack(self, parts: Sequence[tf.RaggedTensor], max_length: int) -> dict[str, tf.RaggedTensor]:
        """`[CLS] a [SEP]` or `[CLS] a [SEP] b [SEP]`, the longer part cut first as the reference does.

        Args:
            parts: one or two ragged id tensors of shape [rows, (pieces)].
            max_length: longest row, in tokens, special tokens included.

        Returns:
            `token_ids` and `segment_ids`, int32 ragged tensors of shape [rows, (tokens)].
        """
        room = max_length - 1 - len(parts)
        lengths = [tf.cast(part.row_lengths(), tf.int32) for part in parts]
        if len(parts) == 1:
            keep = [tf.minimum(lengths[0], room)]
        else:
            # Popping from the longer part, from the second when equal, ends here.
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


def _column(rows: Any, value: int) -> tf.RaggedTensor:
    return tf.RaggedTensor.from_uniform_row_length(tf.fill([rows], value), 1, nrows=rows)


def _head(ragged: tf.RaggedTensor, lengths: tf.Tensor) -> tf.RaggedTensor:
    """The first `lengths[i]` values of each row; lengths are at most the rows' own."""
    starts = tf.cast(ragged.row_starts(), tf.int32)
    index = tf.ragged.range(starts, starts + lengths)
    return index.with_values(tf.gather(ragged.values, index.values))
