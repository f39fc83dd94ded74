"""Split long texts into several encoder inputs, and merge their words' scores into one sequence.

In: ids of whole texts, ragged. Out: windows of them, as long as allowed, that share at least `stride` tokens with the
next: evenly spaced, or each `stride` tokens before the end of the last. Every token is owned by one window, the one
with the most context on both of its sides: windows meet in the middle of their overlap.
"""

from typing import Any, NamedTuple

import tensorflow as tf


class Windows(NamedTuple):
    """Windows of some texts, in order."""

    row: tf.Tensor  # int32 [windows]: the text of each
    token: tf.RaggedTensor  # int32 [windows, (tokens)]: indices, over all texts, of each one's tokens
    owned: tf.RaggedTensor  # bool, same shape: whether the window owns the token
    first: tf.Tensor  # int32 [windows]: index in its text of each one's first token


def windows(lengths: tf.Tensor, room: int | tf.Tensor, stride: int, most: int | None = None, *, even: bool = True) -> Windows:
    """Split texts into windows, at least one each.

    Every run of at most `stride + 1` tokens is inside some window, unless `most` forbids it.

    Args:
        lengths: number of tokens of each text, int32 [texts].
        room: maximum tokens of a window, more than `stride`; one number, or int32 [texts].
        stride: minimum tokens that neighbouring windows share.
        most: maximum windows of a text; if it would have more, they share fewer tokens, or skip some.
        even: whether windows are spaced evenly over the text; else neighbours share exactly `stride` tokens, and the last
            window may be shorter.
    """
    rooms = tf.broadcast_to(room, tf.shape(lengths))
    count = 1 + tf.maximum(-((rooms - lengths) // (rooms - stride)), 0)  # [texts]; rounds up
    if most is not None:
        count = tf.minimum(count, most)
    row = tf.repeat(tf.range(tf.size(lengths)), count)
    number = tf.range(tf.size(row)) - tf.gather(tf.cumsum(count, exclusive=True), row)
    length, last, room = tf.gather(lengths, row), tf.gather(count, row) - 1, tf.gather(rooms, row)

    def start_of(number: tf.Tensor) -> tf.Tensor:
        if not even:
            return number * (room - stride)
        # In 64 bits, for the product of a text's length and its windows.
        wide = tf.cast(number, tf.int64) * tf.cast(length - room, tf.int64) // tf.cast(tf.maximum(last, 1), tf.int64)
        return tf.cast(tf.where(last > 0, wide, 0), tf.int32)

    start = start_of(number)
    stop = tf.minimum(start + room, length)
    owned_from = tf.where(number > 0, (start + start_of(number - 1) + room) // 2, 0)
    owned_to = tf.where(number < last, (start_of(number + 1) + start + room) // 2, stop)
    token = tf.ragged.range(start, stop, row_splits_dtype=tf.int64)
    within = token.values
    window = token.value_rowids()
    owned = (within >= tf.gather(owned_from, window)) & (within < tf.gather(owned_to, window))
    first = tf.gather(tf.cumsum(lengths, exclusive=True), tf.gather(row, window))
    return Windows(row, token.with_values(within + first), token.with_values(owned), start)


def framed(tokens: tf.RaggedTensor, edge: Any) -> tf.RaggedTensor:
    """Gather values for the windows' tokens, [windows, (tokens)], with `edge` at the positions of [CLS] and [SEP]."""
    frame = tf.fill([tokens.nrows(), 1], edge)
    return tf.concat([frame, tokens, frame], 1)
