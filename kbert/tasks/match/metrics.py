"""Measure matching: pairs labelled 0 or 1, graded pairs, and titles that retrieve their text.

In: gold and scores as arrays. Out: JSON values. No TensorFlow here.
"""

from typing import Any

import numpy as np

CUTS = (1, 5, 10)  # of recall@k
BLOCK = 1 << 24  # scores computed at once


def binary(gold: np.ndarray, scores: np.ndarray, threshold: float) -> dict[str, Any]:
    """Compute accuracy; precision, recall and F1 of pairs labelled 1; ROC-AUC; with scikit-learn.

    Args:
        gold: 0 or 1, [rows].
        scores: the higher, the likelier 1, [rows].
        threshold: minimum score classified as 1.

    Returns:
        `confusion_matrix` has a row for each gold label. `roc_auc` is None if all rows have one label, recall and f1
        if none is labelled 1, and precision if none is labelled or classified as 1. As in scikit-learn
        (`zero_division=0`), precision is 0 if pairs are labelled 1 but none is classified as 1.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support, roc_auc_score

    found = scores >= threshold
    precision, recall, f1, _ = precision_recall_fscore_support(gold, found, average="binary", pos_label=1, zero_division=0.0)
    ones = (gold == 1).any()
    return {
        "rows": len(gold),
        "accuracy": float(accuracy_score(gold, found)),
        "precision": float(precision) if ones or found.any() else None,
        "recall": float(recall) if ones else None,
        "f1": float(f1) if ones else None,
        "roc_auc": float(roc_auc_score(gold, scores)) if len(np.unique(gold)) > 1 else None,
        "confusion_matrix": confusion_matrix(gold, found, labels=[0, 1]).tolist(),
    }


def best_threshold(gold: np.ndarray, scores: np.ndarray) -> float:
    """Find the threshold of the best accuracy, halfway between two rows' scores; the lowest of equals."""
    order = np.argsort(scores, kind="stable")
    ordered, ones = scores[order].astype(np.float64), gold[order]
    # With the k lowest classified as 0: right are the zeros among them and the ones after them.
    right = np.concatenate([[0], np.cumsum(ones == 0)]) + ones.sum() - np.concatenate([[0], np.cumsum(ones)])
    bounds = np.concatenate([[ordered[0] - 1], ordered, [ordered[-1] + 1]])
    possible = np.flatnonzero(bounds[1:] > bounds[:-1])  # equal scores fall on one side
    best = possible[np.argmax(right[possible])]
    return float((bounds[best] + bounds[best + 1]) / 2)


def graded(gold: np.ndarray, scores: np.ndarray) -> dict[str, Any]:
    """Compute Pearson's and Spearman's correlation, by SciPy; None if one side is constant."""
    from scipy.stats import pearsonr, spearmanr

    varied = np.ptp(gold) > 0 and np.ptp(scores) > 0
    return {
        "rows": len(gold),
        "pearson": float(pearsonr(gold, scores)[0]) if varied else None,
        "spearman": float(spearmanr(gold, scores)[0]) if varied else None,
    }


def ranks(titles: np.ndarray, texts: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Rank, from 1, the first of each title's texts among all texts, by cosine.

    A text with an equal score counts as ranked before it, so that equal vectors are not a success.

    Args:
        titles: vectors of length 1, float32 [titles, hidden].
        texts: the same of all candidates, [texts, hidden].
        pairs: the texts of each title, int [pairs, 2]: title and text; every title has one.

    Returns:
        int64 [titles].
    """
    pairs = pairs[np.argsort(pairs[:, 0], kind="stable")]
    starts = np.searchsorted(pairs[:, 0], np.arange(len(titles) + 1))
    found = np.empty(len(titles), np.int64)
    block = max(1, BLOCK // len(texts))
    for first in range(0, len(titles), block):
        scores = titles[first : first + block] @ texts.T
        behind = first + len(scores)
        own = pairs[starts[first] : starts[behind]]
        at = own[:, 0] - first, own[:, 1]
        best = np.maximum.reduceat(scores[at], starts[first:behind] - starts[first])
        scores[at] = -np.inf
        found[first:behind] = 1 + (~(scores < best[:, None])).sum(1)  # NaN is not a success
    return found


def retrieval(places: np.ndarray, texts: int) -> dict[str, Any]:
    """Compute recall@1, @5, @10 and mean reciprocal rank.

    Args:
        places: the rank of each title's first text, from `ranks`.
        texts: number of candidates.

    Returns:
        Recall@k is None if there are no more than k texts, and all are if there is one: it would be 1 for any vectors.
    """
    recalls = {f"recall_at_{k}": float((places <= k).mean()) if k < texts else None for k in CUTS}
    return {"titles": len(places), "texts": texts, **recalls, "mrr": float((1.0 / places).mean()) if texts > 1 else None}
