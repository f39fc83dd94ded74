"""A model whose loss looks at a whole batch, while the batch passes through the encoder in parts.

In: an encoder's model, inputs to vectors. Out: the same model, with a training step of its own. The inputs of a
batch (titles and whole texts) are of very different lengths: each part is padded to its own longest only.
"""

from typing import Any

import keras
import tensorflow as tf

PARTS = 2  # of a batch that passes through whole: the shorter half of the inputs and the longer


class InParts(keras.Model):
    """A functional model trained with a loss over all outputs of a batch.

    Args:
        inputs, outputs: as `keras.Model` takes them; inputs are ids and mask, [inputs, tokens].
        cached: 0: the whole batch is kept in memory for its gradients. Else so many inputs at once are: outputs are
            computed first, without gradients, then the loss's gradients with respect to them, then each part once more
            with those (Gao et al. 2021, "Scaling Deep Contrastive Learning Batch Size under Memory Limited Setup"). Dropout
            is the same in both passes; so are the gradients, up to rounding.
    """

    def __init__(self, inputs: Any, outputs: Any, *, cached: int, **options: Any):
        super().__init__(inputs, outputs, **options)
        self.cached = cached

    def train_step(self, data: Any) -> dict[str, Any]:
        """One step on inputs and targets, the latter in the order of the inputs."""
        inputs, targets, _ = keras.utils.unpack_x_y_sample_weight(data)
        order = tf.argsort(tf.reduce_sum(inputs["padding_mask"], 1), stable=True)
        inputs = {name: tf.gather(value, order) for name, value in inputs.items()}
        back = tf.math.invert_permutation(order)
        step = self._cached_gradients if self.cached else self._gradients
        loss, gradients = step(inputs, lambda outputs: self._loss(targets, tf.gather(outputs, back)))
        self._loss_tracker.update_state(loss)
        self.optimizer.apply_gradients(zip(gradients, self.trainable_weights, strict=True))
        return self.get_metrics_result()

    def _loss(self, targets: Any, outputs: tf.Tensor) -> tf.Tensor:
        return self.compute_loss(y=targets, y_pred=outputs, training=True)

    def _gradients(self, inputs: dict[str, tf.Tensor], loss_of: Any) -> tuple[tf.Tensor, list[Any]]:
        rows = tf.shape(inputs["token_ids"])[0]
        with tf.GradientTape() as tape:
            bounds = [rows * i // PARTS for i in range(PARTS + 1)]
            outputs = [self(_part(inputs, *bounds[i : i + 2]), training=True) for i in range(PARTS)]
            loss = loss_of(tf.concat(outputs, 0))
            scaled = self.optimizer.scale_loss(loss)
        return loss, tape.gradient(scaled, self.trainable_weights)

    def _cached_gradients(self, inputs: dict[str, tf.Tensor], loss_of: Any) -> tuple[tf.Tensor, list[Any]]:
        rows = tf.shape(inputs["token_ids"])[0]
        parts = -(-rows // self.cached)
        # Dropout's seeds are the only weights that a pass changes and gradients do not.
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
            scaled = self.optimizer.scale_loss(loss)
        slopes = tf.convert_to_tensor(tape.gradient(scaled, outputs))  # [inputs, ...]; a gather leaves slices

        for seed, value in zip(seeds, before, strict=True):
            seed.assign(value)

        def backward(number: tf.Tensor, *sums: tf.Tensor) -> tuple[tf.Tensor, ...]:
            start = number * self.cached
            with tf.GradientTape() as tape:
                again = outputs_of(number)
                inner = tf.reduce_sum(again * slopes[start : start + self.cached])
            gradients = tape.gradient(inner, self.trainable_weights)
            return (number + 1, *(total + tf.convert_to_tensor(part) for total, part in zip(sums, gradients, strict=True)))

        zeros = [tf.zeros(weight.shape, weight.dtype) for weight in self.trainable_weights]
        _, *sums = tf.while_loop(lambda i, *_: i < parts, backward, (tf.constant(0), *zeros), parallel_iterations=1)
        return loss, sums


def _part(inputs: dict[str, tf.Tensor], start: Any, stop: Any) -> dict[str, tf.Tensor]:
    """Some of the inputs, without the padding that none of them needs."""
    longest = tf.reduce_max(tf.reduce_sum(inputs["padding_mask"][start:stop], 1))
    return {name: value[start:stop, :longest] for name, value in inputs.items()}
