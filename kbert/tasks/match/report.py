"""The figures of a set of pairs, as it is: labelled 0 and 1, graded, or pairs that belong together.

In: gold and what the model made of the pairs, some rows at a time. Out: metrics of the one kind that the rows
allow; for labels, the threshold where the model has none yet. No TensorFlow here.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from kbert.tasks import figures
from kbert.tasks.match import metrics as match_metrics
from kbert.tasks.reports import Matrix, Report

THRESHOLD = "threshold"
# The figures of each kind of rows, in the order of the table.
FIGURES = {
    "labels": ("accuracy", "precision", "recall", "f1", "roc_auc"),
    "grades": ("pearson", "spearman"),
    "retrieval": ("recall_at_1", "recall_at_5", "recall_at_10", "mrr"),
}


class MatchReport(Report):
    """Metrics of one set of pairs; `metrics["kind"]` is a key of `FIGURES`."""

    def __init__(self, metrics: dict[str, Any], threshold: float | None = None):
        super().__init__(metrics)
        self._threshold = threshold

    def scalars(self) -> dict[str, float]:
        return {name: value for name, value in self._figures().items() if value is not None}

    def _figures(self) -> dict[str, float | None]:
        return {name: self.metrics[name] for name in FIGURES[self.metrics["kind"]]}

    def table(self) -> str:
        m = self.metrics
        lines = [f"{name:<14}{figures.formatted(value):>8}" for name, value in self._figures().items()]
        if m["kind"] == "retrieval":
            lines.append(f"{m['titles']:,} titles, each among all {m['texts']:,} texts")
        if THRESHOLD in m:
            found = ", found on this set" if self._threshold is not None else ""
            lines.append(f"pairs are taken to match from a score of {m[THRESHOLD]:.4f}{found}")
        return "\n".join(lines)

    def matrices(self) -> dict[str, Matrix]:
        if self.metrics["kind"] != "labels":
            return {}
        return {"confusion_matrix": (np.array(self.metrics["confusion_matrix"]), ("0", "1"))}

    def calibration(self) -> dict[str, float]:
        return {} if self._threshold is None else {THRESHOLD: self._threshold}


class MatchScorer:
    """Label and score of a labelled row, eight bytes; of other rows the vectors of every different title and text.

    Args:
        threshold: the least score of a pair that matches; None: the one of the best accuracy is found.
        graded: whether the model's labels are grades, even where those of a set are 0 and 1 alone.
    """

    def __init__(self, threshold: float | None, graded: bool = False):
        self.threshold, self.graded = threshold, graded
        self.labelled: list[np.ndarray] = []  # float32 [rows, 2]: label and score
        self.titles, self.texts = _Vectors(), _Vectors()
        self.pairs: list[np.ndarray] = []  # [rows, 2]: the number of a title and of its text

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        if "label" in raw:
            self.labelled.append(np.stack([raw["label"].astype(np.float32), predicted["score"]], 1))
            return
        titles = self.titles.numbers(raw["title"], predicted["title_vector"])
        texts = self.texts.numbers(raw["text"], predicted["text_vector"])
        self.pairs.append(np.stack([titles, texts], 1))

    def result(self) -> MatchReport:
        if not self.labelled:
            places = match_metrics.ranks(self.titles.array(), self.texts.array(), np.concatenate(self.pairs))
            return MatchReport(_warned({"kind": "retrieval", **match_metrics.retrieval(places, len(self.texts.known))}))
        gold, scores = np.concatenate(self.labelled).T
        if self.graded or not np.isin(gold, (0, 1)).all():
            alike = [f"all {len(gold):,} pairs have the same score"] if len(gold) > 1 and figures.constant(scores) else []
            return MatchReport(_warned({"kind": "grades", **match_metrics.graded(gold, scores)}, alike))
        threshold = match_metrics.best_threshold(gold, scores) if self.threshold is None else self.threshold
        metrics = {"kind": "labels", **match_metrics.binary(gold, scores, threshold), THRESHOLD: threshold}
        found = (scores >= threshold).astype(int)
        warnings = figures.degenerate(gold.astype(int), found, ("0", "1"), "pairs")
        if self.threshold is None and figures.constant(gold):
            warnings.append("the least score of a match was found on pairs of one label, and so separates nothing")
        return MatchReport(_warned(metrics, warnings), threshold if self.threshold is None else None)


def _warned(metrics: dict[str, Any], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Metrics with `warnings`, where there are some, among them what could not be computed."""
    undefined = [name for name in FIGURES[metrics["kind"]] if metrics[name] is None]
    said = [*warnings, *([f"cannot be computed on these rows: {', '.join(undefined)}"] if undefined else [])]
    return {**metrics, "warnings": said} if said else metrics


class _Vectors:
    """The vectors of different texts, each kept once; a text is known by sixteen bytes of its hash."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}
        self.kept: list[np.ndarray] = []

    def numbers(self, texts: np.ndarray, vectors: np.ndarray) -> list[int]:
        """Return each text's number; the vectors [texts, hidden] of those not seen before are kept."""
        numbers, new = [], []
        for i, text in enumerate(texts):
            key = hashlib.blake2b(text, digest_size=16).digest()
            if key not in self.known:
                self.known[key] = len(self.known)
                new.append(i)
            numbers.append(self.known[key])
        self.kept.append(vectors[new])
        return numbers

    def array(self) -> np.ndarray:
        """Return the vectors in the order of the numbers."""
        return np.concatenate(self.kept)
