"""Train with a loss over a whole batch while encoding the batch in parts.

In: an encoder's model, inputs to vectors. Out: the same model, which computes a batch's gradients itself. The inputs of a
batch (titles and whole texts) differ much in length: each part is padded only to its own longest.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

LossOf = Callable[[tf.Tensor], tf.Tensor]  # a batch's outputs -> its loss, a scalar

PARTS = 2  # parts of an uncached batch: the shorter and the longer half of the inputs


class GradientCached(keras.Model):
    """A functional model trained with a loss over all outputs of a batch.

    Args:
        inputs, outputs: as for `keras.Model`; inputs are ids and mask, [inputs, tokens].
        cached: 0: keep the whole batch in memory for its gradients. Else the number of inputs to keep at once: outputs are
            computed first, without gradients, then the loss's gradients with respect to them, then each part again
            with those (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). Dropout
            is the same in both passes; so are the gradients, up to rounding.
    """

    def __init__(self, inputs: Any, outputs: Any, *, cached: int, **options: Any):
        super().__init__(inputs, outputs, **options)
        self.cached = cached

    def gradients(self, inputs: dict[str, tf.Tensor], loss_of: LossOf) -> tuple[tf.Tensor, list[Any]]:
        """Return the outputs, in input order, and the gradients of `loss_of` them for the trainable weights."""
        order = tf.argsort(tf.reduce_sum(inputs["padding_mask"], 1), stable=True)
        inputs = {name: tf.gather(value, order) for name, value in inputs.items()}
        back = tf.math.invert_permutation(order)
        step = self._cached if self.cached else self._whole
        outputs, gradients = step(inputs, lambda outputs: loss_of(tf.gather(outputs, back)))
        return tf.gather(outputs, back), gradients

    def _whole(self, inputs: dict[str, tf.Tensor], loss_of: LossOf) -> tuple[tf.Tensor, list[Any]]:
        rows = tf.shape(inputs["token_ids"])[0]
        bounds = [rows * i // PARTS for i in range(PARTS + 1)]
        with tf.GradientTape() as tape:
            outputs = tf.concat([self(_part(inputs, *bounds[i : i + 2]), training=True) for i in range(PARTS)], 0)
            loss = loss_of(outputs)
        return outputs, tape.gradient(loss, self.trainable_variables)

    def _cached(self, inputs: dict[str, tf.Tensor], loss_of: LossOf) -> tuple[tf.Tensor, list[Any]]:
        rows = tf.shape(inputs["token_ids"])[0]
        parts = -(-rows // self.cached)
        # Dropout's seeds are the only weights changed by a pass and not by gradients.
        seeds = [variable for variable in self.non_trainable_variables if variable.path.endswith("seed_generator_state")]
        before = [tf.identity(seed.value) for seed in seeds]

        def outputs_of(number: tf.Tensor) -> tf.Tensor:
            start = number * self.cached
            return self(_part(inputs, start, tf.minimum(start + self.cached, rows)), training=True)

        def forward(number: tf.Tensor, kept: tf.TensorArray) -> tuple[tf.Tensor, tf.TensorArray]:
            return number + 1, kept.write(number, outputs_of(number))

        spec = self.output
        kept = tf.TensorArray(spec.dtype, parts, infer_shape=False, element_shape=tf.TensorShape([None, *spec.shape[1:]]))
        _, kept = tf.while_loop(lambda i, _: i < parts, forward, (tf.constant(0), kept), parallel_iterations=1)
        outputs = kept.concat()
        with tf.GradientTape() as tape:
            tape.watch(outputs)
            loss = loss_of(outputs)
        output_gradients = tf.convert_to_tensor(tape.gradient(loss, outputs))  # [inputs, ...]; a gather leaves slices

        for seed, value in zip(seeds, before, strict=True):
            seed.assign(value)

        def backward(number: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            start = number * self.cached
            with tf.GradientTape() as tape:
                again = outputs_of(number)
                inner = tf.reduce_sum(again * output_gradients[start : start + self.cached])
            gradients = tape.gradient(inner, self.trainable_variables)
            return (number + 1, *(total + tf.convert_to_tensor(part) for total, part in zip(sums, gradients, strict=True)))

        zeros = [tf.zeros(weight.shape, weight.dtype) for weight in self.trainable_variables]
        _, *sums = tf.while_loop(lambda i, *_: i < parts, backward, (tf.constant(0), *zeros), parallel_iterations=1)
        return outputs, sums


def _part(inputs: dict[str, tf.Tensor], start: Any, stop: Any) -> dict[str, tf.Tensor]:
    """Slice some of the inputs, without padding that none of them needs."""
    longest = tf.reduce_max(tf.reduce_sum(inputs["padding_mask"][start:stop], 1))
    return {name: value[start:stop, :longest] for name, value in inputs.items()}
