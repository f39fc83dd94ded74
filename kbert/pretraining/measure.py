"""A pre-trained model's figures on held-out examples.

In: a model, batches, and how often each piece is in the training text. Out: for the masked LM loss (nats a
prediction), perplexity, accuracy, and the loss of a guess from those frequencies alone, which a model that has learnt
anything of context is below; for pairs loss and accuracy, and the larger class's share of them.
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
    """Return the nats of each piece under its frequency, with one added to each count: float64 [vocabulary]."""
    counts = counts.astype(np.float64) + 1.0
    return np.asarray(-np.log(counts / counts.sum()))


def measurer(
    model: keras.Model, batches: PretrainingBatches, count: int, unigram_nll: np.ndarray
) -> Callable[[], dict[str, Any]]:
    """Return a function that gives the model's figures as it is now, over the first batches, always the same.

    Args:
        model: from inputs to logits by name, "mlm" among them; float32.
        count: batches.
        unigram_nll: see `unigram`.
    """

    @graphs.function(reduce_retracing=True)
    def sums(inputs: Any, targets: Any, weights: Any) -> dict[str, list[tf.Tensor]]:
        outputs = model(inputs, training=False)
        outputs = {**outputs, "mlm": outputs["mlm"][..., : len(unigram_nll)]}  # what is served: no unused row of the table
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
            larger = max(not_next, 1 - not_next)  # what always the same answer reaches
            report[name] = {"loss": loss, "accuracy": right, "larger_class": larger, "pairs": int(totals[name][2])}
            report["loss"] += report[name]["loss"]
        return report

    return measure
