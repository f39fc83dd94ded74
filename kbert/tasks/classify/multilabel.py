"""Any number of labels for a row: a sigmoid for each label, and a threshold found on dev."""

import logging
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.checkpoints.head import PROBLEMS, Head, Unfit, order, ordered, problem_of
from kbert.config import ModelConfig
from kbert.tasks import diagrams, figures
from kbert.tasks.base import Tensors
from kbert.tasks.classify import losses, multilabel_metrics
from kbert.tasks.classify.multilabel_gold import numbers
from kbert.tasks.classify.objective import Objective
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.labels import LabelReport, MostConfident
from kbert.tasks.reports import Matrix

log = logging.getLogger(__name__)


class MultilabelReport(LabelReport):
    """`multilabel_metrics.multilabel` of one set of rows, mistaken rows, and the thresholds found on them."""

    SHOWN_BESIDE: ClassVar[tuple[str, ...]] = ("gold", "predicted", "label", "its probability")

    def scalars(self) -> dict[str, float]:
        m = self.metrics
        averages = {f"{average}_f1": m[average]["f1"] for average in multilabel_metrics.AVERAGES}
        plain = {name: m[name] for name in ("subset_accuracy", "hamming_loss")}
        precision = {f"{name}_average_precision": value for name, value in m["average_precision"].items()}
        found = {"loss": m["loss"], **averages, **plain, **precision}
        return {name: value for name, value in found.items() if value is not None}

    def table(self) -> str:
        return multilabel_metrics.table(self.metrics)

    def matrices(self) -> dict[str, Matrix]:
        return {}


class MultilabelScorer:
    """Gold and probabilities of all rows, five bytes a label and row, and the most confident mistakes.

    Which rows are mistaken is known once the thresholds are: kept are the rows with the least probability of a label's gold.

    Args:
        objective: the model's.
        finds: whether to find the thresholds on these rows.
    """

    def __init__(self, objective: "Multilabel", finds: bool):
        self.objective, self.finds = objective, finds
        self.parts: list[tuple[np.ndarray, np.ndarray]] = []
        self.candidates = MostConfident()

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        gold = self.objective.numbers(*(raw[name] for name in self.objective.gold))
        probabilities = predicted["probabilities"]
        self.parts.append((gold.astype(np.int8), probabilities))
        for row, certainty in enumerate(_against(gold, probabilities).max(1).tolist()):
            if self.candidates.wants(certainty):
                texts = [raw[field][row].decode("utf-8", "replace") for field in self.objective.fields]
                self.candidates.add(certainty, (texts, gold[row], probabilities[row]))

    def _mistakes(self, thresholds: np.ndarray) -> list[tuple[str, ...]]:
        labels, found = np.array(self.objective.labels), []
        for texts, gold, probabilities in self.candidates.sorted():
            answered = probabilities >= thresholds
            wrong = (answered != gold) & (gold >= 0)
            if wrong.any():
                worst = int(np.where(wrong, _against(gold, probabilities), -1.0).argmax())
                sides = (", ".join(labels[gold > 0]), ", ".join(labels[answered]))
                found.append((*texts, *sides, str(labels[worst]), f"{probabilities[worst]:.4f}"))
        return found

    def result(self) -> MultilabelReport:
        gold, probabilities = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        labels, how = self.objective.labels, self.objective.options.thresholds
        thresholds, found = self.objective.thresholds, {}
        if self.finds and how != "0.5":
            thresholds = multilabel_metrics.best_thresholds(gold, probabilities, shared=how == "shared")
            found = {f"threshold {number}": float(value) for number, value in enumerate(thresholds)}
        values = multilabel_metrics.multilabel(gold, probabilities, thresholds, labels)
        lines = diagrams.by_label(gold, probabilities, labels) if len(labels) <= diagrams.MOST else {}
        unmeasured = [label for label, column in zip(labels, gold.T, strict=True) if not (column == 1).any()]
        if found and how == "per_label" and unmeasured:
            kept = f"no dev row has {figures.listed(unmeasured)}, whose threshold stays at 0.5"
            values.setdefault("warnings", []).append(kept)
        return MultilabelReport(values, self._mistakes(thresholds), found, lines)


def _against(gold: np.ndarray, probabilities: np.ndarray) -> np.ndarray:
    """Return the probability of each label's other side than gold, 0 where gold is unknown; [..., labels]."""
    return np.select([gold == 1, gold == 0], [1 - probabilities, probabilities], 0.0)


class Multilabel(Objective):
    """Any number of labels a row; see `Objective` for what each method is for."""

    best: ClassVar[tuple[str, Literal["max", "min"]]] = ("micro_f1", "max")
    figures: ClassVar[tuple[str, ...]] = (
        "loss",
        *(f"{average}_f1" for average in multilabel_metrics.AVERAGES),
        "subset_accuracy",
        "hamming_loss",
        "micro_average_precision",
        "macro_average_precision",
    )

    def __init__(self, config: ModelConfig, options: ClassifyOptions):
        super().__init__(config, options)
        self.thresholds = np.full(len(self.labels), 0.5, np.float32)
        self.known = {label: number for number, label in enumerate(self.labels)}

    @property
    def gold(self) -> tuple[str, ...]:
        return tuple(f"label {name}" for name in self.options.label_columns) or ("label",)

    @property
    def size(self) -> int:
        return len(self.labels)

    def numbers(self, *columns: np.ndarray) -> np.ndarray:
        """Convert raw gold, UTF-8 bytes [rows] a column, to 1, 0 and -1 for unknown, int32 [rows, labels]."""
        return numbers(columns, self.known, self.options)

    def targets(self, raw: Tensors) -> tf.Tensor:
        found = graphs.numpy_function(self.numbers, [raw[name] for name in self.gold], tf.int32)
        return tf.ensure_shape(found, [None, len(self.labels)])

    def weights(self, targets: tf.Tensor, rows: tf.Tensor | None) -> tf.Tensor | None:
        known = tf.cast(targets >= 0, tf.float32)
        return known if rows is None else known * rows[:, None]

    def loss(self, targets: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        options = self.options
        gamma = options.focal_gamma if options.loss == "focal" else 0.0
        positive = tf.constant(options.label_weights, tf.float32) if options.label_weights else 1.0
        return losses.binary_cross_entropy(targets, scores, smoothing=options.label_smoothing, gamma=gamma, positive=positive)

    def metrics(self) -> list[Any]:
        return [keras.metrics.BinaryAccuracy(name="label_accuracy", threshold=0.0)]

    def calibrate(self, values: dict[str, float]) -> None:
        found = [values.get(f"threshold {number}", 0.5) for number in range(len(self.labels))]
        self.thresholds = np.array(found, np.float32)

    def decode(self, scores: tf.Tensor) -> Tensors:
        """Compute what is served.

        Returns:
            `labels` string [rows, most labels of a row], those predicted in the model's order, padded with ""; `count` int32
            [rows]; `probabilities` float32 [rows, labels].
        """
        probabilities = tf.sigmoid(scores)
        predicted = probabilities >= self.thresholds
        names = tf.broadcast_to(tf.constant(self.labels), tf.shape(probabilities))
        found = tf.ragged.boolean_mask(names, predicted)
        return {
            "labels": found.to_tensor(""),
            "count": tf.reduce_sum(tf.cast(predicted, tf.int32), -1),
            "probabilities": probabilities,
        }

    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        found = decoded["labels"][row][: decoded["count"][row]]
        probabilities = decoded["probabilities"][row].tolist()
        return {
            "labels": [label.decode() for label in found],
            "probabilities": dict(zip(self.labels, probabilities, strict=True)),
        }

    def scorer(self, calibrates: bool) -> MultilabelScorer:
        return MultilabelScorer(self, calibrates)

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        if problem_of(head) != PROBLEMS["multilabel"]:
            raise Unfit(f"its problem_type is {problem_of(head)}, and this run learns several labels a row")
        return ordered(arrays, "classifier", order(head, self.labels))
