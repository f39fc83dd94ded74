"""Select what to read of texts that are longer than the encoder's inputs.

In: ids of whole texts, ragged. Out: ids of inputs that fit, a text's in order: its head, its tail, both, or windows.
"""

from typing import Literal

import tensorflow as tf

from kbert.model.windows import windows

LongText = Literal["head", "tail", "head_tail", "windows"]


def inputs_of(
    pieces: tf.RaggedTensor, room: int | tf.Tensor, how: LongText, stride: int, most: int
) -> tuple[tf.Tensor, tf.RaggedTensor]:
    """Return the text of each input, int32 [inputs], and its pieces, int32 [inputs, (pieces)].

    Head and tail are a quarter and three quarters of the room, as Sun et al. 2019, "How to Fine-Tune BERT for Text
    Classification", keep 128 and 382 of 510.

    Args:
        pieces: ids of the texts, int32 [texts, (pieces)].
        room: maximum pieces of an input; one number, or int32 [texts].
        how: one input a text, or "windows".
        stride, most: pieces that neighbouring windows share, and maximum windows of a text.
    """
    lengths = tf.cast(pieces.row_lengths(), tf.int32)
    if how == "windows":
        found = windows(lengths, room, stride, most)
        return found.row, found.token.with_values(tf.gather(pieces.values, found.token.values))
    first = tf.minimum(lengths, {"head": room, "tail": 0, "head_tail": room // 4}[how])
    last = tf.minimum(lengths - first, room - first)
    starts = tf.cast(pieces.row_starts(), tf.int32)
    ends = starts + (first + last if how == "head" else lengths)
    index = tf.concat([tf.ragged.range(starts, starts + first), tf.ragged.range(ends - last, ends)], 1)
    return tf.range(tf.size(lengths)), index.with_values(tf.gather(pieces.values, index.values))
