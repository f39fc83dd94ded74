"""Compute exact classification metrics over whole sets of rows, with scikit-learn."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kbert.tasks import figures

AVERAGES = ("macro", "micro", "weighted")


def classification(gold: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Compute accuracy, precision, recall, F1 and the confusion matrix by scikit-learn.

    Averages are over the labels that occur in gold or predicted; others have no figures. For a label
    that occurs, a precision or recall with a zero denominator is 0 (`zero_division=0`).

    Args:
        gold, predicted: label numbers, shape [rows].
        probabilities: the predicted probability of the gold label, shape [rows].
        labels: the labels' names, by number.

    Returns:
        JSON values: `loss` is the mean negative log probability in nats; the averages `macro`, `micro`
        and `weighted` and each of `per_class` hold precision, recall and f1, None for a label that does not occur;
        `confusion_matrix` or `most_confused` (see `kbert.tasks.figures.confusion`); `warnings`, if any.
    """
    from sklearn.metrics import accuracy_score, precision_recall_fscore_support

    present = np.union1d(gold, predicted)

    def scores(average: str | None) -> list[Any]:
        return list(precision_recall_fscore_support(gold, predicted, labels=present, average=average, zero_division=0.0))

    def named(values: Sequence[Any]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(("precision", "recall", "f1"), values, strict=False)}

    per_class: dict[str, dict[str, Any]] = {
        label: {"precision": None, "recall": None, "f1": None, "rows": 0} for label in labels
    }
    for number, *values, rows in zip(present, *scores(None), strict=True):
        per_class[labels[number]] = {**named(values), "rows": int(rows)}
    pairs, counts = np.unique(np.stack([gold, predicted]), axis=1, return_counts=True)
    found = {
        "rows": len(gold),
        "loss": float(-np.log(np.maximum(probabilities.astype(np.float64), 1e-30)).mean()),
        "accuracy": float(accuracy_score(gold, predicted)),
        **{average: named(scores(average)) for average in AVERAGES},
        "per_class": per_class,
        **figures.confusion("confusion_matrix", pairs[0], pairs[1], counts, labels),
    }
    warnings = figures.degenerate(gold, predicted, labels)
    absent = [labels[number] for number in np.setdiff1d(np.arange(len(labels)), gold)]
    if absent and not figures.constant(gold):
        warnings.append(f"no row has the label {figures.listed(absent)}: the figures do not cover it")
    return {**found, "warnings": warnings} if warnings else found


def classification_table(report: dict[str, Any]) -> str:
    """Format the report as a table."""
    columns = [(name, name, 10) for name in ("precision", "recall", "f1")]
    averages = {name: {**report[name], "rows": report["rows"]} for name in AVERAGES}
    lines = figures.table([*columns, ("rows", "rows", 8)], report["per_class"], averages)
    lines.append(f"accuracy {report['accuracy']:.4f}   loss {report['loss']:.4f}")
    if "temperature" in report:
        lines.append(f"temperature {report['temperature']:.4f}, found on these rows")
    if "abstain" in report:
        given = report["abstain"]
        if given["coverage"]:
            answers = f"answers of probability {given['below']:.4f} or more: {given['coverage']:.1%} of the rows"
            lines.append(f"{answers}, error {figures.formatted(given['error'])}")
        else:
            lines.append("all answers abstain")
    return "\n".join(lines)
