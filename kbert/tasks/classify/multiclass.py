"""One of several classes for a row: softmax over the classes."""

from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert.checkpoints.head import PROBLEMS, Head, Unfit, order, ordered, problem_of
from kbert.config import ModelConfig
from kbert.tasks.base import Tensors
from kbert.tasks.calibration import Finds
from kbert.tasks.classify import losses
from kbert.tasks.classify.objective import Objective
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.label_metrics import AVERAGES
from kbert.tasks.labels import LabelScorer


class Multiclass(Objective):
    """One class a row; see `Objective` for what each method is for."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("accuracy", "max")
    figures: ClassVar[tuple[str, ...]] = ("loss", "accuracy", *(f"{average}_f1" for average in AVERAGES), "ece")

    def __init__(self, config: ModelConfig, options: ClassifyOptions):
        super().__init__(config, options)
        self.temperature = 1.0
        self.abstains: float | None = None  # the probability below which an answer abstains

    @property
    def size(self) -> int:
        return len(self.labels)

    def targets(self, raw: Tensors) -> tf.Tensor:
        numbers = tf.lookup.KeyValueTensorInitializer(tf.constant(self.labels), tf.range(len(self.labels)))
        return tf.lookup.StaticHashTable(numbers, -1).lookup(raw["label"])

    def weights(self, targets: tf.Tensor, rows: tf.Tensor | None) -> tf.Tensor | None:
        if not self.options.label_weights:
            return rows
        weights = tf.gather(tf.constant(self.options.label_weights, tf.float32), targets)
        return weights if rows is None else weights * rows

    def loss(self, targets: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        options = self.options
        gamma = options.focal_gamma if options.loss == "focal" else 0.0
        return losses.cross_entropy(targets, scores, smoothing=options.label_smoothing, gamma=gamma)

    def metrics(self) -> list[Any]:
        return [keras.metrics.SparseCategoricalAccuracy(name="accuracy")]

    def calibrate(self, values: dict[str, float]) -> None:
        self.temperature = values.get("temperature", self.temperature)
        self.abstains = values.get("abstain_below", self.abstains)

    def decode(self, scores: tf.Tensor) -> Tensors:
        """Compute `label` string [rows], `probabilities` float32 [rows, labels] and, where set, `abstain` bool [rows]."""
        probabilities = tf.nn.softmax(scores if self.temperature == 1.0 else scores / self.temperature)
        found = {"label": tf.gather(tf.constant(self.labels), tf.argmax(scores, -1)), "probabilities": probabilities}
        if self.abstains is not None:
            found["abstain"] = tf.reduce_max(probabilities, -1) < self.abstains
        return found

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        probabilities = decoded["probabilities"][row].tolist()
        abstain = {"abstain": bool(decoded["abstain"][row])} if "abstain" in decoded else {}
        return {
            "label": decoded["label"][row].decode(),
            **abstain,
            "probabilities": dict(zip(self.labels, probabilities, strict=True)),
        }

    def scorer(self, calibrates: bool) -> LabelScorer:
        finds = Finds(self.options.calibrate == "temperature", self.options.abstain)
        return LabelScorer(self.labels, self.fields, finds if calibrates and any(finds) else None, self.abstains)

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if problem_of(head) != PROBLEMS["multiclass"]:
            raise Unfit(f"its problem_type is {problem_of(head)}, and this run learns one label a row")
        return ordered(arrays, "classifier", order(head, self.labels))
