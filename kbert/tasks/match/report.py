"""Measure a set of pairs according to its kind: labelled 0 and 1, graded, or only matching pairs.

In: gold and model outputs, some rows at a time. Out: metrics of the one kind that the rows
allow; for labels, the threshold if the model has none yet. No TensorFlow here.
"""

import hashlib
from collections.abc import Sequence
from typing import Any

import numpy as np

from kbert.tasks import figures
from kbert.tasks.match import metrics as match_metrics
from kbert.tasks.reports import Matrix, Report

THRESHOLD = "threshold"
# The metrics of each kind of rows, in table order.
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
            lines.append(f"pairs match from a score of {m[THRESHOLD]:.4f}{found}")
        return "\n".join(lines)

    def matrices(self) -> dict[str, Matrix]:
        if self.metrics["kind"] != "labels":
            return {}
        return {"confusion_matrix": (np.array(self.metrics["confusion_matrix"]), ("0", "1"))}

    def calibration(self) -> dict[str, float]:
        return {} if self._threshold is None else {THRESHOLD: self._threshold}


class MatchScorer:
    """Collects label and score of labelled rows, eight bytes a row; of other rows the vectors of every distinct title and text.

    Args:
        threshold: minimum score of a match; None: find the one with the best accuracy.
        graded: whether the model's labels are grades, even if a set only has 0 and 1.
    """

    def __init__(self, threshold: float | None, graded: bool = False):
        self.threshold, self.graded = threshold, graded
        self.labelled: list[np.ndarray] = []  # float32 [rows, 2]: label and score
        self.titles, self.texts = _Vectors(), _Vectors()
        self.pairs: list[np.ndarray] = []  # [rows, 2]: indices of a title and its text

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
            warnings.append("the threshold was found on pairs of one label, so it separates nothing")
        return MatchReport(_warned(metrics, warnings), threshold if self.threshold is None else None)


def _warned(metrics: dict[str, Any], warnings: Sequence[str] = ()) -> dict[str, Any]:
    """Add `warnings` to metrics, if any, including which metrics are undefined."""
    undefined = [name for name in FIGURES[metrics["kind"]] if metrics[name] is None]
    said = [*warnings, *([f"cannot be computed on these rows: {', '.join(undefined)}"] if undefined else [])]
    return {**metrics, "warnings": said} if said else metrics


class _Vectors:
    """The vectors of distinct texts, each stored once; a text is identified by a 16-byte hash."""

    def __init__(self) -> None:
        self.known: dict[bytes, int] = {}
        self.kept: list[np.ndarray] = []

    def numbers(self, texts: np.ndarray, vectors: np.ndarray) -> list[int]:
        """Return each text's index; store the vectors [texts, hidden] of new texts."""
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
        """Return the vectors in index order."""
        return np.concatenate(self.kept)
