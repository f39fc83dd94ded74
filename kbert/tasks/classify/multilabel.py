"""Any number of labels for a row: a sigmoid for each label, and a threshold found on dev."""

import dataclasses
import json
import logging
from collections.abc import Sequence
from typing import Any, ClassVar, Literal

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.checkpoints.head import PROBLEMS, Head, Unfit, order, ordered, problem_of
from kbert.config import ModelConfig
from kbert.data.label_names import LabelNames, not_among
from kbert.data.table import Table
from kbert.errors import DataError, UsageError
from kbert.source import SourceConfig
from kbert.tasks import diagrams, figures, markdown
from kbert.tasks.base import Tensors
from kbert.tasks.classify import class_weights, losses, multilabel_metrics
from kbert.tasks.classify.objective import Objective
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.labels import HELP, MISTAKES, MOST_LABELS, RARE, in_order
from kbert.tasks.reports import Lines, Report

log = logging.getLogger(__name__)

UNKNOWN = ("?", "null")  # cells without gold
VALUES = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0}  # of a column that is a label


def labels_of(cell: str, separator: str) -> tuple[str, ...] | None:
    """Parse a cell that lists labels, joined by the separator or as a JSON list; None if it is unknown.

    Raises:
        ValueError: it is a malformed JSON list, or a label between two separators is empty.
    """
    cell = cell.strip(" ") if separator == "\t" else cell.strip()
    if cell in UNKNOWN:
        return None
    if not cell:
        return ()
    if cell.startswith("["):
        try:
            found = json.loads(cell)
        except ValueError:
            found = None
        if isinstance(found, list):
            wrong = [item for item in found if not isinstance(item, str | int) or isinstance(item, bool)]
            if wrong:
                raise ValueError(f"expected a list of labels, found {json.dumps(wrong[0], ensure_ascii=False)[:60]} in it")
            return tuple(str(item) for item in found)
    names = tuple(name.strip() for name in cell.split(separator))
    if not all(names):
        raise ValueError(f"an empty label in {cell!r}, whose labels are separated by {separator!r} (--label_separator)")
    return names


def value_of(cell: str, column: str) -> int:
    """Parse a cell of a column that is a label: 1, 0, or -1 for unknown.

    Raises:
        ValueError: it is something else.
    """
    cell = cell.strip()
    if cell in UNKNOWN:
        return -1
    if cell.lower() not in VALUES:
        raise ValueError(f"column {column!r}: expected 1, 0 or ? (unknown), found {cell!r}")
    return VALUES[cell.lower()]


class MultilabelAudit:
    """Collects the labels of all rows and counts them, or holds the rows to those given.

    Args:
        source: the rows' source, for messages.
        allowed: labels given; None if the rows define them.
        fields: number of texts before the gold.
        separator: of labels within a cell.
        columns: the columns that are a label each; empty if one cell lists them.
    """

    def __init__(self, source: str, allowed: Sequence[str] | None, fields: int, separator: str, columns: Sequence[str]):
        self.source, self.fields, self.separator, self.columns = source, fields, separator, tuple(columns)
        if self.columns and allowed is not None and set(allowed) != set(columns):
            raise DataError(f"--labels: {', '.join(allowed)}, but the columns of --label_column are {', '.join(columns)}")
        self.allowed = None if allowed is None else dict.fromkeys(allowed)
        self.names = LabelNames()
        self.positives: dict[str, int] = dict.fromkeys(self.columns, 0)
        self.negatives: dict[str, int] = dict.fromkeys(self.columns, 0)
        self.rows = self.known = self.empty = 0
        self.several = False  # whether a row has more than one label

    def __call__(self, values: tuple[str, ...]) -> str | None:
        texts, gold = values[: self.fields], values[self.fields :]
        if len(gold) != max(1, len(self.columns)):
            raise UsageError(
                f"--label_column names {len(gold)} columns, the model has {len(self.columns) or 'one that lists its labels'}"
                + (f": {', '.join(self.columns)}" if self.columns else "")
            )
        if self.columns:
            found = [value_of(cell, column) for cell, column in zip(gold, self.columns, strict=True)]
            self._count(texts)
            for column, value in zip(self.columns, found, strict=True):
                self.positives[column] += value == 1
                self.negatives[column] += value == 0
            self.known += any(value >= 0 for value in found)
            return None
        labels = labels_of(gold[0], self.separator)
        notes = []
        for label in dict.fromkeys(labels or ()):
            if self.allowed is not None and label not in self.allowed:
                known = f"{figures.listed(tuple(self.allowed))}{not_among(label, self.allowed)}"
                raise ValueError(f"label {label!r} is not among the model's labels: {known}")
            notes.append(self.names.add(label) if self.allowed is None else None)
        self._count(texts)
        if labels is None:
            return None
        self.known += 1
        self.several |= len(labels) > 1
        for label in dict.fromkeys(labels):
            self.positives[label] = self.positives.get(label, 0) + 1
        if len(self.positives) > MOST_LABELS:
            raise DataError(f"{self.source}: more than {MOST_LABELS:,} different labels; is --label_column the right one?")
        return "; ".join(filter(None, notes)) or None

    def _count(self, texts: Sequence[str]) -> None:
        self.rows += 1
        self.empty += not any(text.strip() for text in texts)

    @property
    def labels(self) -> tuple[str, ...]:
        if self.columns:
            return self.columns
        return in_order(self.positives) if self.allowed is None else tuple(self.allowed)

    def finish(self) -> None:
        """Raise DataError if no row is labelled: nothing can be measured."""
        if not self.known:
            raise DataError(f"{self.source}: all labels are unknown ({' or '.join(UNKNOWN)}), so nothing can be measured")
        if self.empty:
            log.warning("%s: rows without any text, of which only special tokens are read: %d", self.source, self.empty)

    def check_learnable(self) -> list[str]:
        if not self.known or not any(self.positives.values()):
            raise DataError(f"{self.source}: no row has a label; is --label_column the right one?")
        notes = []
        for label in self.labels:
            positives = self.positives.get(label, 0)
            negatives = self.negatives[label] if self.columns else self.known - positives
            if not positives or not negatives:
                said = "no row has" if not positives else "all rows have"
                if len(self.labels) == 1:
                    raise DataError(f"{self.source}: {said} the label {label!r}, the only one; nothing can be learnt")
                notes.append(f"{self.source}: {said} the label {label!r}, which cannot be learnt from them")
        if not self.columns and not self.several and len(self.labels) > 1:
            notes.append(
                f"{self.source}: no row has more than one label; is --label_separator={self.separator} the right one? For "
                "one label a row, --objective=multiclass"
            )
        rarest = min(self.labels, key=lambda label: self.positives.get(label, 0))
        count = self.positives.get(rarest, 0)
        if 0 < count < RARE * self.known and not notes:
            notes.append(f"{self.source}: the rarest label, {rarest!r}, has {count:,} of {self.known:,} rows; {HELP}")
        return notes


class MultilabelReport(Report):
    """`multilabel_metrics.multilabel` of one set of rows, some mistaken rows, and the thresholds found on them."""

    def __init__(
        self,
        metrics: dict[str, Any],
        mistakes: Sequence[tuple[str, ...]] = (),
        found: dict[str, float] | None = None,
        lines: dict[str, Lines] | None = None,
    ):
        super().__init__(metrics)
        self.mistakes = mistakes
        self._found, self._lines = found or {}, lines or {}

    def scalars(self) -> dict[str, float]:
        m = self.metrics
        averages = {f"{average}_f1": m[average]["f1"] for average in multilabel_metrics.AVERAGES}
        plain = {name: m[name] for name in ("subset_accuracy", "hamming_loss")}
        precision = {f"{name}_average_precision": value for name, value in m["average_precision"].items()}
        found = {"loss": m["loss"], **averages, **plain, **precision}
        return {name: value for name, value in found.items() if value is not None}

    def table(self) -> str:
        return multilabel_metrics.table(self.metrics)

    def texts(self) -> dict[str, str]:
        if not self.mistakes:
            return {}
        fields = ("text", "text_b")[: len(self.mistakes[0]) - 2]
        return {"mistakes": markdown.table((*fields, "gold", "predicted"), self.mistakes)}

    def lines(self) -> dict[str, Lines]:
        return self._lines

    def calibration(self) -> dict[str, float]:
        return self._found


class MultilabelScorer:
    """Gold and probabilities of all rows, five bytes a label and row.

    Args:
        objective: the model's.
        finds: whether to find the thresholds on these rows.
    """

    def __init__(self, objective: "Multilabel", finds: bool):
        self.objective, self.finds = objective, finds
        self.parts: list[tuple[np.ndarray, np.ndarray]] = []
        self.mistakes: list[tuple[str, ...]] = []

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        gold = self.objective.numbers(*(raw[name] for name in self.objective.gold))
        found = predicted["probabilities"] >= self.objective.thresholds
        self.parts.append((gold.astype(np.int8), predicted["probabilities"]))
        wrong = np.flatnonzero(((found != gold) & (gold >= 0)).any(1))
        for row in wrong[: MISTAKES - len(self.mistakes)]:
            texts = (raw[field][row].decode("utf-8", "replace") for field in self.objective.fields)
            named = (", ".join(np.array(self.objective.labels)[values[row] > 0]) for values in (gold, found))
            self.mistakes.append((*texts, *named))

    def result(self) -> MultilabelReport:
        gold, probabilities = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        labels, how = self.objective.labels, self.objective.options.thresholds
        thresholds, found = self.objective.thresholds, {}
        if self.finds and how != "0.5":
            thresholds = multilabel_metrics.best_thresholds(gold, probabilities, shared=how == "shared")
            found = {f"threshold {number}": float(value) for number, value in enumerate(thresholds)}
        values = multilabel_metrics.multilabel(gold, probabilities, thresholds, labels)
        lines = diagrams.by_label(gold, probabilities, labels) if len(labels) <= diagrams.MOST else {}
        return MultilabelReport(values, self.mistakes, found, lines)


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

    @staticmethod
    def label_columns(source: SourceConfig) -> tuple[str, ...]:
        return source.label_columns if len(source.label_columns) > 1 else ()

    @staticmethod
    def audit(source: str, fields: int, labels: Sequence[str] | None, options: ClassifyOptions) -> MultilabelAudit:
        return MultilabelAudit(source, labels, fields, options.label_separator, options.label_columns)

    @staticmethod
    def fit(table: Table, fields: int, labels: Sequence[str], options: ClassifyOptions) -> ClassifyOptions:
        if options.class_weights == "none":
            return options
        if options.class_weights != "balanced":
            named = class_weights.named_weights(options.class_weights, labels)
            return dataclasses.replace(options, class_weights="file", label_weights=named)
        known = {label: number for number, label in enumerate(labels)}
        counts = np.zeros((2, len(labels)), np.int64)
        for _, columns in table.chunks():
            gold = numbers(list(columns.values())[fields : fields + max(1, len(options.label_columns))], known, options)
            counts += np.stack([(gold == 1).sum(0), (gold == 0).sum(0)])
        return dataclasses.replace(options, label_weights=class_weights.balanced_positives(*counts))

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


def numbers(columns: Sequence[np.ndarray], known: dict[str, int], options: ClassifyOptions) -> np.ndarray:
    """Convert raw gold columns, UTF-8 bytes [rows] each, to 1, 0 and -1 for unknown, int32 [rows, labels]."""
    if options.label_columns:
        return np.array(
            [
                [value_of(cell.decode(), name) for cell in column]
                for name, column in zip(options.label_columns, columns, strict=True)
            ],
            np.int32,
        ).T.reshape(-1, len(known))
    found = np.zeros((len(columns[0]), len(known)), np.int32)
    for row, cell in enumerate(columns[0]):
        labels = labels_of(cell.decode(), options.label_separator)
        if labels is None:
            found[row] = -1
        else:
            found[row, [known[label] for label in labels]] = 1
    return found
