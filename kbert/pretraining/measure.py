"""Measure a pre-trained model on held-out examples.

In: a model, batches, and the frequency of each piece in the training text. Out: for the masked LM loss (nats a
prediction), perplexity, accuracy, and the unigram loss, that of guessing by those frequencies alone, which a model that
uses context stays below; for pairs loss and accuracy, and the share of the larger class.
"""

import math
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.pretraining.batches import PretrainingBatches


def unigram(counts: np.ndarray) -> np.ndarray:
    """Return the negative log likelihood, in nats, of each piece under add-one smoothed counts: float64 [vocabulary]."""
    counts = counts.astype(np.float64) + 1.0
    return np.asarray(-np.log(counts / counts.sum()))


def measurer(
    model: keras.Model, batches: PretrainingBatches, count: int, unigram_nll: np.ndarray
) -> Callable[[], dict[str, Any]]:
    """Return a function that computes the current model's figures over the first batches, always the same ones.

    Args:
        model: from inputs to logits by name, "mlm" among them; float32.
        count: number of batches.
        unigram_nll: see `unigram`.
    """

    @graphs.function(reduce_retracing=True)
    def sums(inputs: Any, targets: Any, weights: Any) -> dict[str, list[tf.Tensor]]:
        outputs = model(inputs, training=False)
        outputs = {**outputs, "mlm": outputs["mlm"][..., : len(unigram_nll)]}  # as served: without unused rows
        found = {}
        for name, target in targets.items():
            loss = tf.nn.sparse_softmax_cross_entropy_with_logits(target, outputs[name])
            right = tf.cast(tf.argmax(outputs[name], -1, tf.int32) == target, tf.float32)
            each = (loss, right, tf.ones_like(loss), tf.cast(target > 0, tf.float32))
            found[name] = [tf.reduce_sum(values * weights[name]) for values in each]
        guess = tf.gather(tf.constant(unigram_nll, tf.float32), targets["mlm"])
        return {**found, "guess": [tf.reduce_sum(guess * weights["mlm"])]}

    def measure() -> dict[str, Any]:
        totals: dict[str, Any] = {}
        for batch in batches.dataset(0).take(count):
            for name, values in sums(*batch).items():
                totals[name] = totals.get(name, 0.0) + np.array([float(v) for v in values])
        loss, right, seen, _ = totals["mlm"].tolist()
        mlm = loss / max(seen, 1)
        report: dict[str, Any] = {
            "loss": mlm,
            "mlm": {
                "loss": mlm,
                "perplexity": math.exp(min(mlm, 700.0)),
                "accuracy": right / max(seen, 1),
                "unigram_loss": float(totals["guess"][0]) / max(seen, 1),
                "predictions": int(seen),
            },
        }
        for name in totals.keys() - {"mlm", "guess"}:
            loss, right, seen, not_next = (value / max(totals[name][2], 1) for value in totals[name].tolist())
            larger = max(not_next, 1 - not_next)  # accuracy of a constant prediction
            report[name] = {"loss": loss, "accuracy": right, "larger_class": larger, "pairs": int(totals[name][2])}
            report["loss"] += report[name]["loss"]
        return report

    return measure
