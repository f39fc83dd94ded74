"""Run ragged inputs through a model with a bounded number of tokens at a time.

In: ids of any number of inputs, of any lengths. Out: the model's outputs in input order. Inputs are processed sorted
by length, to minimise padding, in chunks of a token budget, so that memory does not depend on the number of inputs.
In the graph.
"""

from collections.abc import Callable
from typing import Any

import tensorflow as tf

INPUTS = ("token_ids", "segment_ids")


def padded(encoded: dict[str, Any], pad_id: int) -> dict[str, tf.Tensor]:
    """Pad ragged ids to the longest row; return the model's inputs, int32 [rows, tokens]."""
    ids = encoded["token_ids"]
    return {
        "token_ids": ids.to_tensor(pad_id),
        "segment_ids": encoded["segment_ids"].to_tensor(),
        "padding_mask": tf.sequence_mask(ids.row_lengths(), dtype=tf.int32),
    }


def in_chunks(
    model: Callable[[dict[str, tf.Tensor]], tf.Tensor], spec: Any, encoded: dict[str, Any], pad_id: int, budget: int
) -> Any:
    """Compute the outputs of `model` for all inputs.

    Args:
        model: maps padded inputs, [rows, tokens] each, to outputs.
        spec: shape and type of the outputs: [rows, ...], or [rows, tokens, ...] from a head over tokens.
        encoded: `token_ids` and `segment_ids`, int32 ragged [inputs, (tokens)].
        pad_id: the padding's.
        budget: maximum tokens of a chunk, padding included; a longer input is a chunk of its own.

    Returns:
        [inputs, ...], or, from a head over tokens, ragged [inputs, (tokens), ...].
    """
    inputs = {name: encoded[name] for name in INPUTS}
    lengths = inputs["token_ids"].row_lengths()
    order = tf.argsort(lengths, stable=True)
    rows = tf.size(order)
    sorted_lengths = tf.cast(tf.gather(lengths, order), tf.int32)
    by_token = len(spec.shape) == 3  # [rows, tokens, ...]

    def stop_of(start: tf.Tensor) -> tf.Tensor:
        counts = tf.range(1, rows - start + 1)
        fits = tf.reduce_sum(tf.cast(counts * sorted_lengths[start:] <= budget, tf.int32))
        return start + tf.maximum(fits, 1)

    def chunk(start: tf.Tensor, number: tf.Tensor, kept: tf.TensorArray) -> tuple[tf.Tensor, tf.Tensor, tf.TensorArray]:
        stop = stop_of(start)
        part = padded({name: tf.gather(value, order[start:stop]) for name, value in inputs.items()}, pad_id)
        outputs = model(part)
        # Chunks have different padded lengths, so a head's outputs over tokens are stored without padding.
        return stop, number + 1, kept.write(number, tf.boolean_mask(outputs, part["padding_mask"]) if by_token else outputs)

    first = tf.constant(0), tf.constant(0)
    # Counted first: an array that grows needs an attribute that servers before 2.13 do not have.
    _, chunks = tf.while_loop(lambda start, _: start < rows, lambda start, number: (stop_of(start), number + 1), first)
    outputs = tf.TensorArray(
        spec.dtype,
        size=chunks,
        infer_shape=False,
        element_shape=tf.TensorShape([None, *spec.shape[2 if by_token else 1 :]]),
    )
    _, _, outputs = tf.while_loop(lambda start, *_: start < rows, chunk, (*first, outputs), parallel_iterations=1)
    joined = outputs.concat()
    if by_token:
        joined = tf.RaggedTensor.from_row_lengths(joined, sorted_lengths, validate=False)
    return tf.gather(joined, tf.argsort(order))
