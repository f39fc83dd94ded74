"""Split texts into sentences, in the graph, with character offsets.

A sentence ends after Chinese marks (。｡！？；…), after ! and ?, after a full stop or semicolon followed by a space, each
including closing quotes and brackets, and at a line's end. One longer than `LONGEST` tokens (such as a text
without punctuation) is cut as late as possible after a comma or the like, else before a word; the parts then
count as sentences. A comma or colon inside a number or a time (1,000, 12:30) does not count.
"""

from typing import NamedTuple

import tensorflow as tf

from kbert.data.tokenizer import Tokenizer

LONGEST = 32  # maximum tokens of a sentence
SHORTEST = 8  # minimum tokens of a part cut off at a comma
COMMAS = frozenset("，、：；—）")
NARROW = frozenset(",:;–)")  # if not directly followed by the next token
CUT = b"\xff"  # a byte that UTF-8 text does not have
CLOSING = r"[\"'”’」』）)》】\]]*"
SPACE = r"[\s\x{3000}]"
LINE = r"[\n\r\x{85}\x{2028}\x{2029}]"
END = (
    rf"(?:[.;．]*[!?。｡！？；…][.;．!?。｡！？；…]*{CLOSING}{SPACE}*"  # these always end a sentence
    rf"|[.;．]+{CLOSING}{SPACE}+"  # not in 3.5 and a.m.
    rf"|{SPACE}*{LINE}(?:{SPACE}|{LINE})*)"
)


class Sentences(NamedTuple):
    """The sentences of some texts, in order; each text has at least one.

    Attributes:
        row: the text of each, int32 [sentences].
        token_ids: int32 ragged [sentences, (tokens)]; a text without tokens has one empty sentence.
        begins, ends: offsets of each token in the text, int32 ragged, same shape: in characters from 0, as Python counts them,
            end exclusive; invalid bytes are not counted.
    """

    row: tf.Tensor
    token_ids: tf.RaggedTensor
    begins: tf.RaggedTensor
    ends: tf.RaggedTensor


def sentences(tokenizer: Tokenizer, texts: tf.Tensor) -> Sentences:
    """Split UTF-8 strings [texts] into sentences."""
    texts = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore")
    parts = tf.strings.split(tf.strings.regex_replace(texts, END, b"\\0" + CUT), CUT)  # [texts, (parts)]
    row = tf.cast(parts.value_rowids(), tf.int32)
    characters = tf.cumsum(tf.strings.length(parts.values, "UTF8_CHAR"), exclusive=True)
    first = tf.gather(parts.row_starts(), row)
    offset = characters - tf.gather(characters, first)  # [parts]: the character of its text each begins at
    ids, begins, ends = tokenizer.tokenize_with_offsets(parts.values)

    length = tf.cast(ids.row_lengths(), tf.int32)
    apart = tf.concat([begins.values[1:] > ends.values[:-1], tf.ones_like(ids.values[:1], tf.bool)], 0)
    starts = _starts(tokenizer, ids, apart)  # [sentences that have a token]
    edges = tf.concat([starts, [tf.size(ids.values)]], 0)
    of_part = tf.gather(tf.cast(ids.value_rowids(), tf.int32), starts)
    silent = tf.math.unsorted_segment_sum(length, row, parts.nrows(tf.int32)) == 0
    only = tf.gather(silent, row) & (tf.range(tf.size(row)) == tf.cast(first, tf.int32))
    count = tf.maximum(tf.math.bincount(of_part, minlength=tf.size(row)), tf.cast(only, tf.int32))  # sentences of each part
    part = tf.repeat(tf.range(tf.size(length)), count)
    told = tf.gather(length, part) > 0
    share = tf.tensor_scatter_nd_update(tf.zeros_like(part), tf.where(told), edges[1:] - edges[:-1])  # tokens of each sentence

    def cut(values: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_row_lengths(values, tf.cast(share, tf.int64), validate=False)

    shift = tf.gather(offset, ids.value_rowids())
    return Sentences(tf.gather(row, part), cut(ids.values), cut(begins.values + shift), cut(ends.values + shift))


def _starts(tokenizer: Tokenizer, parts: tf.RaggedTensor, apart: tf.Tensor) -> tf.Tensor:
    """Return the first tokens of sentences, ascending, int32 [sentences], splitting parts at `LONGEST` tokens.

    The end of a sentence from each token on is computed for all tokens at once; those reached from the beginnings of
    parts are then found by pointer doubling.

    Args:
        parts: ids, int32 ragged [parts, (tokens)].
        apart: whether each token is separated from the next, bool [tokens].
    """
    ids = parts.values
    total = tf.size(ids)
    here = tf.range(total)
    behind = tf.gather(tf.cast(parts.row_limits(), tf.int32), parts.value_rowids())  # end of each token's part
    spelt = tokenizer.vocabulary
    wide, narrow = (tf.gather(tf.constant([piece in marks for piece in spelt]), ids) for marks in (COMMAS, NARROW))
    comma = wide | (narrow & apart)
    word = ~tf.gather(tf.constant([piece.startswith("##") for piece in spelt]), ids)

    def last(places: tf.Tensor) -> tf.Tensor:
        """Return the last of some positions at which a sentence from each token on may end."""
        found = tf.searchsorted(places, here + LONGEST, side="right") - 1
        return tf.gather(tf.concat([[-1], places], 0), found + 1)

    at_comma = last(tf.cast(tf.where(comma)[:, 0], tf.int32) + 1)
    at_word = last(tf.cast(tf.where(word)[:, 0], tf.int32))
    end = tf.where(at_word > here, at_word, here + LONGEST)
    end = tf.where(at_comma >= here + SHORTEST, at_comma, end)
    end = tf.where(behind - here <= LONGEST, behind, tf.minimum(end, behind))
    step = tf.concat([tf.where(end < behind, end, total), [total]], 0)  # the next beginning; after the last, nothing
    begins = tf.boolean_mask(tf.cast(parts.row_starts(), tf.int32), parts.row_lengths() > 0)
    reached = tf.scatter_nd(begins[:, None], tf.ones_like(begins), [total + 1])

    def double(step: tf.Tensor, reached: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        more = tf.math.unsorted_segment_max(reached, step, total + 1)
        return tf.gather(step, step), tf.maximum(reached, more)

    _, reached = tf.while_loop(lambda step, _: tf.reduce_any(step < total), double, (step, reached))
    return tf.cast(tf.where(reached[:-1] > 0)[:, 0], tf.int32)
