"""Check, score and report rows that have one label each; for every task that classifies."""

import heapq
import logging
import math
from collections.abc import Iterable, Sequence
from typing import Any, ClassVar

import numpy as np

from kbert.data.label_names import LabelNames, not_among
from kbert.errors import DataError
from kbert.tasks import calibration, diagrams, figures, label_metrics, markdown
from kbert.tasks.reports import Lines, Matrix, Report

log = logging.getLogger(__name__)

FEW_TEXTS = 100  # so many with twice as many labels are hardly texts
SHOWN = 30  # characters of a value in a message
FEW_LABELS = 20  # so many of numbers, or with a row each, may be classes
MISTAKES = 50  # mistaken rows in TensorBoard, the most confident ones
MOST_LABELS = 10_000  # more is surely a column of something else
RARE = 0.05  # share of the rows below which a class is rare
HELP = "--class_weights=balanced or --loss=focal give rare classes more weight, --best_metric=macro_f1 selects by all alike"


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
        self.found: dict[str, int] = {}  # label -> rows
        self.rows = 0
        self.empty = 0  # rows without any text
        self.texts: dict[int, str] = {}  # hash -> beginning of the first different ones

    def __call__(self, values: tuple[str, ...]) -> str | None:
        *texts, label = values
        if self.allowed is not None and label not in self.allowed:
            known = f"{figures.listed(tuple(self.allowed))}{not_among(label, self.allowed)}"
            raise ValueError(f"label {label!r} is not among the model's labels: {known}")
        note = self.names.add(label) if self.allowed is None else None
        self.rows += 1
        self.empty += not any(text.strip() for text in texts)
        self.found[label] = self.found.get(label, 0) + 1
        if len(self.texts) <= FEW_TEXTS:
            self.texts[hash(tuple(texts))] = texts[0][:SHOWN]
        if len(self.found) > MOST_LABELS:
            raise DataError(f"{self.source}: more than {MOST_LABELS:,} different labels; is --label_column the right one?")
        return note

    @property
    def labels(self) -> tuple[str, ...]:
        if self.allowed is not None:
            return tuple(self.allowed)
        return in_order(self.found)

    def finish(self) -> None:
        if self.empty:
            log.warning("%s: rows without any text, of which only special tokens are read: %d", self.source, self.empty)

    def check_learnable(self) -> list[str]:
        if len(self.found) < 2:
            only = figures.listed(tuple(self.found))
            raise DataError(f"{self.source}: one label only ({only}); a classifier needs two or more")
        if 2 * len(self.texts) <= len(self.found) > 2 and len(self.texts) <= FEW_TEXTS:
            raise DataError(
                f"{self.source}: {len(self.found):,} different labels ({_shortened(self.found)}) of only {len(self.texts)} "
                f"different texts ({_shortened(self.texts.values())}): are the columns swapped? --columns, "
                "--text_columns and --label_column say which is which"
            )
        if self.allowed is None:
            listed = next((label for label in self.found if label[:1] + label[-1:] == "[]" and "," in label), None)
            if listed:
                raise DataError(
                    f"{self.source}: label {listed!r} is a list; several labels a row are learnt with --objective=multilabel. "
                    "To learn it as a class, name the classes by --labels"
                )
            integers = [label for label in self.found if label.removeprefix("-").isdigit()]
            decimals = [label for label in self.found if _is_number(label) and not label.removeprefix("-").isdigit()]
            if integers and decimals and any(float(a) == float(b) for a in integers for b in decimals):
                raise DataError(
                    f"{self.source}: labels are numbers with and without decimals ({figures.listed(self.labels)}), of which "
                    "some are equal; write them alike, or name the classes by --labels"
                )
        if self.allowed is None and len(self.found) > FEW_LABELS:
            found = f"{self.source}: {len(self.found):,} labels in {self.rows:,} rows"
            if all(map(_is_number, self.found)) and not all(label.removeprefix("-").isdigit() for label in self.found):
                raise DataError(
                    f"{found}, all of them numbers ({figures.listed(self.labels[:5])}, ...), whose order a classifier does not "
                    "know. --objective=regression predicts numbers. To learn each as a class, name them by --labels"
                )
            if 2 * len(self.found) > self.rows:
                raise DataError(
                    f"{found}: most labels have one row, from which no class is learnt; is --label_column the right one? To "
                    "learn them all the same, name them by --labels"
                )
        rarest = min(self.found, key=lambda label: self.found[label])
        share = self.found[rarest] / self.rows
        if share < RARE and share * len(self.found) < 0.5:  # of many classes each has a small share
            rows = f"{self.found[rarest]:,} of {self.rows:,} rows ({share:.1%})"
            return [f"{self.source}: the rarest class, {rarest!r}, has {rows}; {HELP}"]
        return []


def in_order(labels: Any) -> tuple[str, ...]:
    """Sort labels: integers by value, other labels as text."""
    numbers = all(label.isascii() and label.removeprefix("-").isdigit() for label in labels)
    return tuple(sorted(labels, key=lambda label: (int(label), label) if numbers else (0, label)))


def _shortened(names: Iterable[str]) -> str:
    return ", ".join(repr(name[:SHOWN]) for name in sorted(names)[:3])


def _is_number(label: str) -> bool:
    try:
        return math.isfinite(float(label))
    except ValueError:
        return False


class LabelReport(Report):
    """Figures of one set of rows, and what TensorBoard shows of them.

    Args:
        metrics: `label_metrics.classification`, JSON values.
        mistakes: of each mistaken row the texts, then what `SHOWN_BESIDE` names.
        found: what was found on the rows for `decode`, by name.
        lines: diagrams by title.
    """

    SHOWN_BESIDE: ClassVar[tuple[str, ...]] = ("gold", "predicted", "probability")

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
        averages = {f"{average}_f1": m[average]["f1"] for average in label_metrics.AVERAGES}
        ece = {"ece": m["ece"]} if "ece" in m else {}  # older reports have none
        return {"loss": m["loss"], "accuracy": m["accuracy"], **averages, **ece}

    def table(self) -> str:
        return label_metrics.classification_table(self.metrics)

    def matrices(self) -> dict[str, Matrix]:
        if "confusion_matrix" not in self.metrics:  # too many labels
            return {}
        return {"confusion_matrix": (np.array(self.metrics["confusion_matrix"]), tuple(self.metrics["per_class"]))}

    def texts(self) -> dict[str, str]:
        if not self.mistakes:
            return {}
        fields = ("text", "text_b")[: len(self.mistakes[0]) - len(self.SHOWN_BESIDE)]
        return {"mistakes": markdown.table((*fields, *self.SHOWN_BESIDE), self.mistakes)}

    def lines(self) -> dict[str, Lines]:
        return self._lines

    def calibration(self) -> dict[str, float]:
        return self._found


class MostConfident:
    """Keeps what is made of the `MISTAKES` mistaken rows with the highest probability; of equals the first."""

    def __init__(self) -> None:
        self._kept: list[tuple[float, int, Any]] = []  # a heap
        self._count = 0

    def wants(self, probability: float) -> bool:
        """Return whether a row of this probability is among those so far."""
        return len(self._kept) < MISTAKES or probability > self._kept[0][0]

    def add(self, probability: float, made: Any) -> None:
        """Keep what is made of a wanted row."""
        self._count += 1
        entry = (probability, -self._count, made)
        (heapq.heappush if len(self._kept) < MISTAKES else heapq.heapreplace)(self._kept, entry)

    def sorted(self) -> list[Any]:
        """Return what is kept, the most confident first."""
        return [made for _, _, made in sorted(self._kept, key=lambda entry: entry[:2], reverse=True)]


class LabelScorer:
    """Label numbers and probabilities, of more than `FEW_LABELS` labels two, and the most confident mistakes.

    Args:
        labels: the labels.
        fields: names of the texts, for the mistakes.
        finds: what to find on these rows: calibration and the threshold of abstaining.
        abstains: the model's threshold of abstaining; None if it has none.
    """

    def __init__(
        self,
        labels: Sequence[str],
        fields: Sequence[str] = (),
        finds: calibration.Finds | None = None,
        abstains: float | None = None,
    ):
        self.fields = tuple(fields)
        self.mistakes = MostConfident()
        self.labels = tuple(labels)
        self.whole = len(self.labels) <= FEW_LABELS or (finds is not None and finds.temperature)
        self.numbers = {label.encode(): i for i, label in enumerate(labels)}
        self.finds, self.abstains = finds, abstains
        self.parts: list[tuple[np.ndarray, ...]] = []

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        truth = np.array([self.numbers[label] for label in raw["label"]], np.int32)
        found = np.array([self.numbers[label] for label in predicted["label"]], np.int32)
        given, rows = predicted["probabilities"], np.arange(len(truth))
        self.parts.append((truth, found, given if self.whole else np.stack([given[rows, truth], given[rows, found]], 1)))
        for row in np.flatnonzero(truth != found):
            certainty = float(given[row, found[row]])
            if self.mistakes.wants(certainty):
                texts = (raw[field][row].decode("utf-8", "replace") for field in self.fields)
                names = (self.labels[number[row]] for number in (truth, found))
                self.mistakes.add(certainty, (*texts, *names, f"{certainty:.4f}"))

    def result(self) -> LabelReport:
        gold, predicted, probabilities = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        found: dict[str, float] = {}
        abstains, rows = self.abstains, np.arange(len(gold))
        lines = {}
        if self.finds and self.finds.temperature:
            found["temperature"] = calibration.temperature(gold, probabilities)
            probabilities = calibration.scaled(probabilities, found["temperature"])
        if self.whole:
            lines = diagrams.by_class(gold, probabilities, self.labels) if len(self.labels) <= diagrams.MOST else {}
            probabilities = np.stack([probabilities[rows, gold], probabilities[rows, predicted]], 1)
        of_gold, of_found = probabilities.T
        lines["calibration"] = diagrams.reliability(gold == predicted, of_found)
        if self.finds and self.finds.accuracy:
            found["abstain_below"] = calibration.abstain_below(gold == predicted, of_found, self.finds.accuracy)
            abstains = found["abstain_below"]
        values = label_metrics.classification(gold, predicted, of_gold, self.labels)
        values["ece"] = calibration.expected_error(gold == predicted, of_found)
        if "temperature" in found:
            values["temperature"] = found["temperature"]
        if abstains is not None:
            values["abstain"] = calibration.answered(gold == predicted, of_found, abstains)
            if not values["abstain"]["coverage"]:
                values.setdefault("warnings", []).append(
                    "all answers abstain: no probability has the accuracy of --abstain on dev"
                )
        return LabelReport(values, self.mistakes.sorted(), found, lines)
