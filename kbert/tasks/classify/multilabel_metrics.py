"""Compute the metrics of rows with any number of labels, with scikit-learn, and find thresholds. No TensorFlow here."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kbert.tasks import figures

AVERAGES = ("micro", "macro", "weighted", "samples")


def best_thresholds(gold: np.ndarray, probabilities: np.ndarray, *, shared: bool) -> np.ndarray:
    """Find the thresholds with the best F1: of each label, or one with the best micro F1.

    Args:
        gold: 1, 0, or -1 for unknown, [rows, labels].
        probabilities: float32 [rows, labels].

    Returns:
        float32 [labels]; 0.5 for a label without a positive row, as no threshold has an F1 then.
    """
    if shared:
        best = _best(gold.reshape(-1), probabilities.reshape(-1))
        return np.full(gold.shape[1], best, np.float32)
    return np.array([_best(g, p) for g, p in zip(gold.T, probabilities.T, strict=True)], np.float32)


def _best(gold: np.ndarray, probabilities: np.ndarray) -> float:
    given = gold >= 0
    gold, probabilities = gold[given], probabilities[given].astype(np.float64)
    if not (gold == 1).any():
        return 0.5
    order = np.argsort(-probabilities, kind="stable")
    values, hits = probabilities[order], np.cumsum(gold[order] == 1)
    ends = np.flatnonzero(np.append(values[1:] != values[:-1], True))  # rows of equal probability are taken together
    f1 = 2 * hits[ends] / (ends + 1 + hits[-1])
    place = int(np.argmax(f1))
    lower = values[ends[place + 1]] if place + 1 < len(ends) else 0.0
    upper = values[ends[place]]
    middle = np.float32((upper + lower) / 2)  # halfway, so that rounding where it is served moves no row across
    return float(middle if lower < middle else upper)


def multilabel(gold: np.ndarray, probabilities: np.ndarray, thresholds: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Compute F1 and other metrics by scikit-learn; unknown labels count nowhere.

    Averages over labels are over those that occur in gold or predicted, as for one class a row; `samples` is the mean over
    rows, where a row without gold and predicted labels counts as 0 (scikit-learn's default).

    Args:
        gold: 1, 0, or -1 for unknown, [rows, labels].
        probabilities: float32 [rows, labels].
        thresholds: float32 [labels].
        labels: their names.

    Returns:
        JSON values: `loss`, the mean binary cross-entropy of a label in nats; `micro`, `macro`, `weighted`, `samples` and
        each of `per_label` with precision, recall and f1; `subset_accuracy`; `hamming_loss`; `average_precision` (`micro`,
        `macro`); None for what has no value.
    """
    from sklearn.metrics import accuracy_score, average_precision_score, precision_recall_fscore_support

    given = gold >= 0
    rows = given.any(1)
    gold, probabilities, given = gold[rows], probabilities[rows], given[rows]
    # Where gold is unknown neither gold nor predicted counts.
    truth, found = (gold == 1).astype(np.int8), ((probabilities >= thresholds) & given).astype(np.int8)
    present = np.flatnonzero(truth.any(0) | found.any(0))

    def scores(average: str | None) -> list[Any]:
        columns = slice(None) if average == "samples" else present
        t, f = truth[:, columns], found[:, columns]
        if t.shape[1] == 1:  # scikit-learn reads one column as two classes, 0 and 1
            t, f = (np.concatenate([part, np.zeros_like(part)], 1) for part in (t, f))
            values = precision_recall_fscore_support(t, f, labels=[0], average=average, zero_division=0.0)
        else:
            values = precision_recall_fscore_support(t, f, average=average, zero_division=0.0)
        return list(values)

    def named(values: Sequence[Any]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(("precision", "recall", "f1"), values, strict=False)}

    nothing = {"precision": None, "recall": None, "f1": None}
    per_label: dict[str, dict[str, Any]] = {
        label: {**nothing, "average_precision": None, "rows": int(truth[:, i].sum()), "threshold": float(thresholds[i])}
        for i, label in enumerate(labels)
    }
    precisions = []
    for column, *values in zip(present, *scores(None)[:3], strict=True) if len(present) else ():
        per_label[labels[column]] |= named(values)
    for column, label in enumerate(labels):
        some = given[:, column]
        if truth[some, column].any():
            value = float(average_precision_score(truth[some, column], probabilities[some, column]))
            per_label[label]["average_precision"] = value
            precisions.append(value)
    p = np.clip(probabilities.astype(np.float64), 1e-30, 1.0)
    q = np.clip(1.0 - probabilities.astype(np.float64), 1e-30, 1.0)
    losses = -np.where(truth == 1, np.log(p), np.log(q))[given]
    micro = float(average_precision_score(truth[given], probabilities[given])) if truth.any() else None
    report = {
        "rows": len(truth),
        "loss": float(losses.mean()),
        **{average: named(scores(average)) if len(present) else dict(nothing) for average in AVERAGES},
        "subset_accuracy": float(accuracy_score(truth, found)),
        "hamming_loss": float((truth != found)[given].mean()),
        "average_precision": {"micro": micro, "macro": float(np.mean(precisions)) if precisions else None},
        "per_label": per_label,
    }
    warnings = _warnings(truth, found, given, labels)
    return {**report, "warnings": warnings} if warnings else report


def _warnings(truth: np.ndarray, found: np.ndarray, given: np.ndarray, labels: Sequence[str]) -> list[str]:
    warnings = []
    if not truth.any():
        warnings.append("no row has a label: precision, recall and F1 mean nothing")
    if not found.any():
        warnings.append("no label was predicted for any row")
    absent = [label for label, column in zip(labels, truth.T, strict=True) if not column.any()]
    if absent and truth.any():
        warnings.append(f"labels that no row has: {figures.listed(absent)}; they count in no figure unless predicted")
    if len(truth) > 1 and found.any() and (found == found[0]).all():
        named = [label for label, value in zip(labels, found[0], strict=True) if value]
        warnings.append(f"all rows were answered with the same labels: {figures.listed(named)}")
    return warnings


def table(report: dict[str, Any]) -> str:
    """Format the report as a table."""
    columns = [(name, name, 10) for name in ("precision", "recall", "f1")]
    columns += [("average_precision", "avg. prec.", 10), ("threshold", "threshold", 10), ("rows", "rows", 8)]
    averages = {name: {**report[name], "rows": report["rows"]} for name in AVERAGES}
    for name, value in report["average_precision"].items():
        averages[name]["average_precision"] = value
    lines = figures.table(columns, report["per_label"], averages)
    plain = "   ".join(
        f"{name.replace('_', ' ')} {figures.formatted(report[name])}" for name in ("subset_accuracy", "hamming_loss", "loss")
    )
    return "\n".join([*lines, plain])
