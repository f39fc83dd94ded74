"""Run one training step: a batch in, one update of the weights.

In: a model, its optimizer and objective. Out: a compiled function from a batch to sums and the batch's loss.

A batch is computed on one or several replicas, each in one or several parts in turn
(`--accumulation_steps`), which changes only the order of sums: weights, gradients and metrics are
added up over all parts and replicas, and the optimizer runs once, on the gradient of the whole batch.

Keras's own `fit` is not used. It cannot start in the middle of an epoch, takes means of means (see
`kbert.train.objective`), and under `tf.distribute` clips each replica's gradient instead of the batch's, does not
accumulate, and does not run on several workers (Keras 3.15).
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kbert import graphs
from kbert.model.gradient_cache import GradientCached
from kbert.train.objective import Objective, Sums


class TrainStep:
    """Computes forward and backward pass and the update.

    Called with an iterator of batches (`kbert.train.strategies.Devices.batches`) and the sums so far; returns the
    new sums and the loss of the batch, a float32 scalar that may still be computing.

    Args:
        model: created under the strategy.
        optimizer: created and built under the strategy.
        objective: the task's.
        strategy: the strategy of the replicas.
        rows: maximum rows of a batch that a replica computes at once; None for no limit.
        by_row: whether targets have `row`, int32 [inputs], whose inputs are computed together (`kbert.tasks.base.Built`).
    """

    def __init__(
        self,
        model: keras.Model,
        optimizer: keras.optimizers.Optimizer,
        objective: Objective,
        strategy: tf.distribute.Strategy | None = None,
        rows: int | None = None,
        *,
        by_row: bool = False,
    ):
        self._model, self._optimizer, self._objective = model, optimizer, objective
        self._strategy = strategy or tf.distribute.get_strategy()
        self._rows, self._by_row = rows, by_row
        # Keras sums gradients over replicas after clipping; here before, so that the batch's gradient is clipped.
        for each in (optimizer, getattr(optimizer, "inner_optimizer", optimizer)):
            each._all_reduce_sum_gradients = lambda gradients_and_variables: gradients_and_variables
        self._step = graphs.function(self._next)

    def __call__(self, batches: Any, sums: Sums) -> tuple[Sums, tf.Tensor]:
        added, loss = self._step(batches)
        return [total + more for total, more in zip(sums, added, strict=True)], loss

    def zeros(self) -> Sums:
        """Return sums over no rows: of the loss by row, of the rows, of the metrics."""
        return [tf.zeros(()), tf.zeros(()), *self._objective.zeros()]

    def results(self, sums: Sums) -> dict[str, float]:
        """Compute means of metrics and loss from sums."""
        return {**self._objective.results(sums[2:]), "loss": float(tf.math.divide_no_nan(sums[0], sums[1]))}

    def _gradients(self, inputs: Any, loss_of: Callable[[Any], tf.Tensor]) -> tuple[Any, list[Any]]:
        """Compute outputs, and the gradients of `loss_of` them; a model with a loss over a whole batch does it itself."""
        if isinstance(self._model, GradientCached):
            return self._model.gradients(inputs, loss_of)
        with tf.GradientTape() as tape:
            outputs = self._model(inputs, training=True)
            loss = loss_of(outputs)
        return outputs, tape.gradient(loss, self._model.trainable_variables)

    def _next(self, batches: Any) -> Any:
        outcome = self._strategy.run(self._on_replica, args=(next(batches),))
        # Equal on all replicas, each of which has all sums.
        return tf.nest.map_structure(lambda value: self._strategy.experimental_local_results(value)[0], outcome)

    def _on_replica(self, batch: Any) -> tuple[Sums, tf.Tensor]:
        inputs, targets, *given = batch
        weights = self._objective.weights(targets, *given)
        totals = self._summed({name: tf.reduce_sum(each) for name, each in weights.items()})
        variables = self._model.trainable_variables
        first = tf.nest.flatten(inputs)[0]
        rows = tf.shape(first)[0]
        # With several replicas, one may be without rows, unless their number is static.
        if self._rows is None and (self._strategy.num_replicas_in_sync == 1 or first.shape[0] is not None):
            gradients, sums = self._part(inputs, targets, weights, totals)
        else:
            gradients, sums = self._in_parts((inputs, targets, weights), totals, rows)
        reached = [gradient for gradient in gradients if gradient is not None]
        reached, sums, rows = self._summed((reached, sums, tf.cast(rows, tf.float32)))
        # Rows of an embedding table that occur several times form one gradient, whose norm and square the optimizer takes.
        summed = map(tf.convert_to_tensor, reached)
        gradients = [None if gradient is None else next(summed) for gradient in gradients]
        self._optimizer.apply_gradients(zip(gradients, variables, strict=True))
        loss, *metrics = sums
        return [loss * rows, rows, *metrics], loss

    def _part(self, inputs: Any, targets: Any, weights: Any, totals: Any) -> tuple[list[Any], Sums]:
        """Compute the gradients, loss and metrics of these rows."""

        loss: list[tf.Tensor] = []

        def loss_of(outputs: Any) -> tf.Tensor:
            loss[:] = [self._objective.loss(targets, outputs, weights, totals)]
            return self._optimizer.scale_loss(loss[0])

        outputs, gradients = self._gradients(inputs, loss_of)
        return gradients, [*loss, *self._objective.sums(targets, outputs, weights)]

    def _in_parts(self, batch: Any, totals: Any, rows: tf.Tensor) -> tuple[list[Any], Sums]:
        """Compute as `_part`, some rows at a time; a replica may have none."""
        slice_from = _rows
        if self._by_row:
            found, numbers = tf.unique(batch[1]["row"])  # a row's inputs follow one another: numbers ascend
            rows, slice_from = tf.size(found), lambda *part: _inputs_of(numbers, *part)
        size = rows if self._rows is None else self._rows
        variables = self._model.trainable_variables
        reached: list[bool] = []

        def add(start: tf.Tensor, gradients: list[Any], sums: Sums) -> tuple[tf.Tensor, list[Any], Sums]:
            inputs, targets, weights = tf.nest.map_structure(lambda values: slice_from(values, start, size), batch)
            more, added = self._part(inputs, targets, weights, totals)
            reached[:] = [gradient is not None for gradient in more]
            gradients = [g if m is None else g + tf.convert_to_tensor(m) for g, m in zip(gradients, more, strict=True)]
            return start + size, gradients, [total + each for total, each in zip(sums, added, strict=True)]

        zeros = [tf.zeros(v.shape, v.dtype) for v in variables], [tf.zeros(()), *self._objective.zeros()]
        _, gradients, sums = tf.while_loop(lambda start, *_: start < rows, add, (tf.constant(0), *zeros), parallel_iterations=1)
        return [g if was else None for g, was in zip(gradients, reached, strict=True)], sums

    def _summed(self, values: Any) -> Any:
        """Sum over replicas."""
        if self._strategy.num_replicas_in_sync == 1:
            return values
        return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, values)


def _rows(values: tf.Tensor, start: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
    """Slice up to `size` rows; if the number of rows is static, `size` divides it, and that of the result is static too."""
    if values.shape[0] is None:
        return values[start : start + size]
    rank = len(values.shape)
    return tf.slice(values, [start] + [0] * (rank - 1), [size] + [-1] * (rank - 1))


def _inputs_of(numbers: tf.Tensor, values: tf.Tensor, start: tf.Tensor, size: tf.Tensor | int) -> tf.Tensor:
    """Slice the inputs of up to `size` rows; `numbers`: the row of each input, ascending from 0, int32 [inputs]."""
    first, end = tf.unstack(tf.searchsorted(numbers, tf.stack([start, start + size])))
    return values[first:end]
