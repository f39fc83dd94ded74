"""Compute a task's loss and training metrics as sums, which add up over the parts of a batch wherever they are computed.

In: the loss and metrics of a task's `build`. Out: functions of targets, outputs and weights.

A loss is a weighted mean over the whole batch of a step. If it were a mean over each replica's or
part's rows and these means were averaged, rows and tokens would count more, the fewer
others there are in their part (as in Hugging Face's Trainer until 4.46). So the weights are summed first.
"""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

Sums = list[tf.Tensor]
ONLY = ""  # name of the output of a single-output model


class Objective:
    """Loss and training metrics.

    Args:
        loss: a Keras loss or a function (targets, outputs) -> losses of the shape of the weights, [rows] or
            [rows, tokens]; or a dictionary of them by the names of the model's outputs, whose sum is the loss. Targets of one
            output may be several tensors by name.
        metrics: Keras metrics that are sums over rows (means are); lists by name where `loss` is a dictionary.
    """

    def __init__(self, loss: Any, metrics: Any = ()):
        self._single = not isinstance(loss, Mapping)
        self._losses: dict[str, Any] = self._by_output(loss)
        self._metrics: dict[str, list[Any]] = {name: list(some) for name, some in self._by_output(metrics).items()}

    def weights(self, targets: Any, weights: Any = None) -> dict[str, tf.Tensor]:
        """Return the weights of each output's losses: those given, or 1 for each row."""
        found = {}
        for name, target in self._by_output(targets).items():
            given = None if weights is None else self._by_output(weights).get(name)
            rows = tf.shape(tf.nest.flatten(target)[0])[:1]
            found[name] = tf.ones(rows) if given is None else tf.cast(given, tf.float32)
        return found

    def loss(self, targets: Any, outputs: Any, weights: Mapping[str, tf.Tensor], totals: Mapping[str, tf.Tensor]) -> tf.Tensor:
        """Return these rows' share of the loss of a batch whose weights have these totals; a float32 scalar."""
        targets, outputs = self._by_output(targets), self._by_output(outputs)
        loss = tf.zeros(())
        for name, function in self._losses.items():
            call: Callable[[Any, Any], Any] = function.call if isinstance(function, keras.losses.Loss) else function
            values = tf.cast(call(targets[name], outputs[name]), tf.float32)
            values.shape.assert_is_compatible_with(weights[name].shape)
            loss += tf.math.divide_no_nan(tf.reduce_sum(values * weights[name]), totals[name])
        return loss

    def sums(self, targets: Any, outputs: Any, weights: Mapping[str, tf.Tensor]) -> Sums:
        """Return these rows' contribution to the metrics, in which all count alike but those that weigh 0 in the loss."""
        targets, outputs = self._by_output(targets), self._by_output(outputs)
        added: Sums = []
        for name, metrics in self._metrics.items():
            for metric in metrics:
                zeros = [tf.zeros(v.shape, v.dtype) for v in metric.variables]
                counted = tf.cast(weights[name] > 0, tf.float32)
                added += metric.stateless_update_state(zeros, targets[name], outputs[name], sample_weight=counted)
        return added

    def zeros(self) -> Sums:
        """Return the metrics' sums over no rows."""
        return [tf.zeros(v.shape, v.dtype) for metrics in self._metrics.values() for m in metrics for v in m.variables]

    def results(self, sums: Sums) -> dict[str, float]:
        """Compute the metrics by name from sums."""
        found, left = {}, list(sums)
        for metrics in self._metrics.values():
            for metric in metrics:
                count = len(metric.variables)
                found[metric.name] = float(np.asarray(metric.stateless_result(left[:count])))
                left = left[count:]
        return found

    def _by_output(self, value: Any) -> dict[str, Any]:
        return {ONLY: value} if self._single else dict(value)
