"""Check, score and report rows that have one label each; for every task that classifies."""

import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np

from kbert.data.label_names import LabelNames, not_among
from kbert.errors import DataError
from kbert.tasks import label_metrics, markdown
from kbert.tasks.reports import Matrix, Report

log = logging.getLogger(__name__)

FEW_TEXTS = 100  # so many with twice as many labels are hardly texts
SHOWN = 30  # characters of a value in a message
FEW_LABELS = 20  # so many of numbers, or with a row each, may be classes
MISTAKES = 50  # mistaken rows in TensorBoard
MOST_LABELS = 10_000  # more is surely a column of something else


class LabelAudit:
    """Collect the labels of rows, or check the rows against those allowed.

    Args:
        source: what is read, for messages.
        allowed: the labels; None to collect them.
    """

    def __init__(self, source: str, allowed: Sequence[str] | None):
        self.source = source
        if allowed is not None and len(allowed) < 2:
            raise DataError(f"--labels: {len(allowed)} labels; a classifier needs two or more, one a line")
        self.allowed = None if allowed is None else dict.fromkeys(allowed)
        self.names = LabelNames()
        self.found: set[str] = set()
        self.rows = 0
        self.empty = 0  # rows without any text
        self.texts: dict[int, str] = {}  # hash -> beginning of the first different ones

    def __call__(self, values: tuple[str, ...]) -> str | None:
        *texts, label = values
        if self.allowed is not None and label not in self.allowed:
            known = f"{_listed(tuple(self.allowed))}{not_among(label, self.allowed)}"
            raise ValueError(f"label {label!r} is not among the model's labels: {known}")
        note = self.names.add(label) if self.allowed is None else None
        self.rows += 1
        self.empty += not any(text.strip() for text in texts)
        self.found.add(label)
        if len(self.texts) <= FEW_TEXTS:
            self.texts[hash(tuple(texts))] = texts[0][:SHOWN]
        if len(self.found) > MOST_LABELS:
            raise DataError(f"{self.source}: more than {MOST_LABELS:,} different labels; is --label_column the right one?")
        return note

    @property
    def labels(self) -> tuple[str, ...]:
        if self.allowed is not None:
            return tuple(self.allowed)
        numbers = all(label.isascii() and label.removeprefix("-").isdigit() for label in self.found)
        return tuple(sorted(self.found, key=lambda label: (int(label), label) if numbers else (0, label)))

    def finish(self) -> None:
        if self.empty:
            log.warning("%s: rows without any text, of which only special tokens are read: %d", self.source, self.empty)

    def check_learnable(self) -> list[str]:
        if len(self.found) < 2:
            raise DataError(f"{self.source}: one label only ({_listed(tuple(self.found))}); a classifier needs two or more")
        if 2 * len(self.texts) <= len(self.found) > 2 and len(self.texts) <= FEW_TEXTS:
            raise DataError(
                f"{self.source}: {len(self.found):,} different labels ({_shortened(self.found)}) of only {len(self.texts)} "
                f"different texts ({_shortened(self.texts.values())}): are the columns swapped? --columns, "
                "--text_columns and --label_column say which is which"
            )
        if self.allowed is None and len(self.found) > FEW_LABELS:
            found = f"{self.source}: {len(self.found):,} labels in {self.rows:,} rows"
            if all(map(_is_number, self.found)) and not all(label.removeprefix("-").isdigit() for label in self.found):
                raise DataError(
                    f"{found}, all of them numbers ({_listed(self.labels[:5])}, ...), whose order a classifier does not know. "
                    "To predict numbers is regression: for pairs of texts --task=match learns from grades; for single texts "
                    "kbert has no task. To learn each as a class, name them by --labels"
                )
            if 2 * len(self.found) > self.rows:
                raise DataError(
                    f"{found}: most labels have one row, from which no class is learnt; is --label_column the right one? To "
                    "learn them all the same, name them by --labels"
                )
        return []


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


def _shortened(names: Iterable[str]) -> str:
    return ", ".join(repr(name[:SHOWN]) for name in sorted(names)[:3])


def _listed(labels: tuple[str, ...]) -> str:
    return ", ".join(map(repr, labels[:20])) + (f" and {len(labels) - 20:,} more" if len(labels) > 20 else "")


class LabelReport(Report):
    """Figures of one set of rows (`label_metrics.classification`), and some mistaken rows.

    Args:
        metrics: the figures, JSON values.
        mistakes: texts, gold label, predicted label and its probability of each mistaken row.
    """

    def __init__(self, metrics: dict[str, Any], mistakes: Sequence[tuple[str, ...]] = ()):
        super().__init__(metrics)
        self.mistakes = mistakes

    def scalars(self) -> dict[str, float]:
        m = self.metrics
        averages = {f"{average}_f1": m[average]["f1"] for average in label_metrics.AVERAGES}
        return {"loss": m["loss"], "accuracy": m["accuracy"], **averages}

    def table(self) -> str:
        return label_metrics.classification_table(self.metrics)

    def matrices(self) -> dict[str, Matrix]:
        if "confusion_matrix" not in self.metrics:  # too many labels
            return {}
        return {"confusion_matrix": (np.array(self.metrics["confusion_matrix"]), tuple(self.metrics["per_class"]))}

    def texts(self) -> dict[str, str]:
        if not self.mistakes:
            return {}
        fields = ("text", "text_b")[: len(self.mistakes[0]) - 3]
        return {"mistakes": markdown.table((*fields, "gold", "predicted", "probability"), self.mistakes)}


class LabelScorer:
    """Collect gold and predicted labels, twelve bytes a row, and the first mistaken rows.

    Takes `label` from the raw rows, `label` and `probabilities` from the decoded ones.

    Args:
        labels: the labels' names, by number.
        fields: raw columns that mistaken rows are shown with.
    """

    def __init__(self, labels: Sequence[str], fields: Sequence[str] = ()):
        self.fields = tuple(fields)
        self.mistakes: list[tuple[str, ...]] = []
        self.labels = tuple(labels)
        self.numbers = {label.encode(): i for i, label in enumerate(labels)}
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        truth = np.array([self.numbers[label] for label in raw["label"]], np.int32)
        found = np.array([self.numbers[label] for label in predicted["label"]], np.int32)
        self.parts.append((truth, found, predicted["probabilities"][np.arange(len(truth)), truth]))
        for row in np.flatnonzero(truth != found)[: MISTAKES - len(self.mistakes)]:
            texts = (raw[field][row].decode("utf-8", "replace") for field in self.fields)
            names = (self.labels[number[row]] for number in (truth, found))
            self.mistakes.append((*texts, *names, f"{predicted['probabilities'][row, found[row]]:.4f}"))

    def result(self) -> LabelReport:
        gold, predicted, probabilities = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        return LabelReport(label_metrics.classification(gold, predicted, probabilities, self.labels), self.mistakes)
