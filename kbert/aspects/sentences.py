"""Texts into sentences, in the graph, with the characters each stands at.

A sentence ends behind Chinese marks (。！？；…), behind ! and ?, behind a full stop or semicolon that a space follows, each
with the closing quotes and brackets behind it, and at a line's end. One that is longer than `LONGEST` tokens (a text
without punctuation is one) is cut into parts of about equal length, which are sentences from then on.
"""

from typing import NamedTuple

import tensorflow as tf

from kbert.text import Tokenizer

LONGEST = 32  # tokens of a sentence
CUT = b"\xff"  # a byte that UTF-8 text does not have
CLOSING = r"[\"'”’」』）)》】\]]*"
SPACE = r"[\s\x{3000}]"
END = (
    rf"(?:[.;]*[!?。！？；…][.;!?。！？；…]*{CLOSING}{SPACE}*"  # they end a sentence whatever follows
    rf"|[.;]+{CLOSING}{SPACE}+"  # 3.5 and a.m. go on
    rf"|{SPACE}*\n{SPACE}*)"
)


class Sentences(NamedTuple):
    """The sentences of some texts, one text's after another's and in their order; a text has one at least.

    Attributes:
        row: the text each is of, int32 [sentences].
        token_ids: int32 ragged [sentences, (tokens)]; a text without a token has a sentence without.
        begins, ends: where in the text each token stands, int32 ragged, alike: in characters from 0, as Python counts them,
            the end exclusive; invalid bytes are not among them.
    """

    row: tf.Tensor
    token_ids: tf.RaggedTensor
    begins: tf.RaggedTensor
    ends: tf.RaggedTensor


def sentences(tokenizer: Tokenizer, texts: tf.Tensor) -> Sentences:
    """The sentences of UTF-8 strings [texts]."""
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
    parts = tf.strings.split(tf.strings.regex_replace(texts, END, b"\\0" + CUT), CUT)  # [texts, (parts)]
    row = tf.cast(parts.value_rowids(), tf.int32)
    characters = tf.cumsum(tf.strings.length(parts.values, "UTF8_CHAR"), exclusive=True)
    first = tf.gather(parts.row_starts(), row)
    offset = characters - tf.gather(characters, first)  # [parts]: the character of its text each begins at
    ids, begins, ends = tokenizer.tokenize_with_offsets(parts.values)

    length = tf.cast(ids.row_lengths(), tf.int32)
    silent = tf.math.unsorted_segment_sum(length, row, parts.nrows(tf.int32)) == 0
    only = tf.gather(silent, row) & (tf.range(tf.size(row)) == tf.cast(first, tf.int32))
    count = tf.maximum(-(-length // LONGEST), tf.cast(only, tf.int32))  # sentences of each part
    part = tf.repeat(tf.range(tf.size(length)), count)
    number = tf.range(tf.size(part)) - tf.gather(tf.cumsum(count, exclusive=True), part)
    length, count = tf.gather(length, part), tf.gather(count, part)
    number, length, count = (tf.cast(values, tf.int64) for values in (number, length, count))  # their products are large
    share = (number + 1) * length // count - number * length // count

    def cut(values: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_row_lengths(values, share, validate=False)

    shift = tf.gather(offset, ids.value_rowids())
    return Sentences(tf.gather(row, part), cut(ids.values), cut(begins.values + shift), cut(ends.values + shift))
