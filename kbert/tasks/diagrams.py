"""Diagrams of classification for TensorBoard: precision and recall, ROC, reliability. No TensorFlow here."""

from collections.abc import Sequence

import numpy as np

from kbert.tasks.calibration import BINS
from kbert.tasks.reports import Lines

MOST = 10  # labels with a line each; more cannot be told apart
POINTS = 500  # of a line


def by_class(gold: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, Lines]:
    """Draw each class against the others; of two classes the second.

    Args:
        gold: class numbers, [rows].
        probabilities: [rows, classes].
    """
    shown = range(1, 2) if len(labels) == 2 else range(len(labels))
    return _curves({labels[i]: ((gold == i).astype(int), probabilities[:, i]) for i in shown})


def by_label(gold: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, Lines]:
    """Draw each label; gold is 1, 0, or -1 for unknown, [rows, labels]."""
    given = gold >= 0
    return _curves({label: (gold[given[:, i], i], probabilities[given[:, i], i]) for i, label in enumerate(labels)})


def reliability(right: np.ndarray, confidence: np.ndarray) -> Lines:
    """Draw the accuracy of answers by their probability, in bins of equal width (Guo et al. 2017, figure 1)."""
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    rows, hits, sums = (np.bincount(bins, weights, BINS) for weights in (None, right.astype(float), confidence.astype(float)))
    used = rows > 0
    points = {"answers": (sums[used] / rows[used], hits[used] / rows[used])}
    return Lines("probability of the answer", "accuracy", points, diagonal=True)


def _curves(columns: dict[str, tuple[np.ndarray, np.ndarray]]) -> dict[str, Lines]:
    from sklearn.metrics import precision_recall_curve, roc_curve

    precision, roc = {}, {}
    for label, (gold, scores) in columns.items():
        if not 0 < gold.sum() < len(gold):  # neither curve is defined
            continue
        p, r, _ = precision_recall_curve(gold, scores)
        false, true, _ = roc_curve(gold, scores)
        precision[label], roc[label] = _thinned(r, p), _thinned(false, true)
    if not roc:
        return {}
    return {
        "precision_recall": Lines("recall", "precision", precision),
        "roc": Lines("false positive rate", "true positive rate", roc, diagonal=True),
    }


def _thinned(x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    places = np.unique(np.linspace(0, len(x) - 1, min(len(x), POINTS)).astype(int))
    return x[places], y[places]
