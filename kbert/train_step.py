"""One training step: a batch in, the weights moved once.

In: a model, its optimizer and objective. Out: a compiled function from a batch to sums and the batch's loss.
Keras's own `fit` is not used: it cannot start in the middle of an epoch, and averages means (see
`kbert.objective`).
"""

from typing import Any

import keras
import tensorflow as tf

from kbert.objective import Objective, Sums


class TrainStep:
    """Forward, backward, update.

    Called with an iterator of batches (`kbert.pipeline.Batches`) and the sums so far; returns the new sums
    and the loss of the batch, a float32 scalar that may still be computing.
    """

    def __init__(self, model: keras.Model, optimizer: keras.optimizers.Optimizer, objective: Objective):
        self._model, self._optimizer, self._objective = model, optimizer, objective
        self._step = tf.function(self._next)

    def __call__(self, batches: Any, sums: Sums) -> tuple[Sums, tf.Tensor]:
        added, loss = self._step(batches)
        return [total + more for total, more in zip(sums, added, strict=True)], loss

    def zeros(self) -> Sums:
        """Sums over no rows: of the loss by row, of the rows, of the metrics."""
        return [tf.zeros(()), tf.zeros(()), *self._objective.zeros()]

    def results(self, sums: Sums) -> dict[str, float]:
        """Means of metrics and loss, from sums."""
        return {**self._objective.results(sums[2:]), "loss": float(tf.math.divide_no_nan(sums[0], sums[1]))}

    @tf.autograph.experimental.do_not_convert
    def _next(self, batches: Any) -> tuple[Sums, tf.Tensor]:
        inputs, targets, *given = next(batches)
        weights = self._objective.weights(targets, *given)
        totals = {name: tf.reduce_sum(each) for name, each in weights.items()}
        variables = self._model.trainable_variables
        with tf.GradientTape() as tape:
            outputs = self._model(inputs, training=True)
            loss = self._objective.loss(targets, outputs, weights, totals)
            scaled = self._optimizer.scale_loss(loss)
        gradients = tape.gradient(scaled, variables)
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))
        rows = tf.cast(tf.shape(tf.nest.flatten(inputs)[0])[0], tf.float32)
        return [loss * rows, rows, *self._objective.sums(targets, outputs, weights)], loss
