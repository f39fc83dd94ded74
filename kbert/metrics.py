"""The field's exact metrics over whole sets of rows, each from its library."""

from collections.abc import Sequence
from typing import Any

import numpy as np


def classification(gold: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Accuracy, precision, recall, F1 and confusion matrix, by scikit-learn.

    Args:
        gold, predicted: label numbers, shape [rows].
        probabilities: the gold label's predicted probability, shape [rows].
        labels: the labels' names; their numbers are their positions.

    Returns:
        JSON values: `loss` is the mean negative log probability in nats; the averages `macro`, `micro`
        and `weighted` and each of `per_class` hold precision, recall and f1 (0 where undefined);
        `confusion_matrix` has a row for each gold label, a column for each predicted one.
    """
    from sklearn.metrics import accuracy_score, confusion_matrix, precision_recall_fscore_support

    numbers = list(range(len(labels)))

    def scores(average: str | None) -> list[Any]:
        return list(precision_recall_fscore_support(gold, predicted, labels=numbers, average=average, zero_division=0.0))

    def named(values: Sequence[Any]) -> dict[str, float]:
        return {name: float(value) for name, value in zip(("precision", "recall", "f1"), values, strict=False)}

    each = scores(None)
    return {
        "rows": len(gold),
        "loss": float(-np.log(np.maximum(probabilities.astype(np.float64), 1e-30)).mean()),
        "accuracy": float(accuracy_score(gold, predicted)),
        **{average: named(scores(average)) for average in ("macro", "micro", "weighted")},
        "per_class": {
            label: {**named([column[i] for column in each[:3]]), "rows": int(each[3][i])} for i, label in enumerate(labels)
        },
        "confusion_matrix": confusion_matrix(gold, predicted, labels=numbers).tolist(),
    }


def classification_table(report: dict[str, Any]) -> str:
    """The same as a table for people."""
    width = max(12, *(len(label) for label in report["per_class"]))
    lines = [f"{'':<{width}} {'precision':>10} {'recall':>10} {'f1':>10} {'rows':>8}"]
    averages = {name: {**report[name], "rows": report["rows"]} for name in ("macro", "micro", "weighted")}
    for name, row in {**report["per_class"], **averages}.items():
        lines.append(f"{name:<{width}} {row['precision']:>10.4f} {row['recall']:>10.4f} {row['f1']:>10.4f} {row['rows']:>8,}")
    lines.append(f"accuracy {report['accuracy']:.4f}   loss {report['loss']:.4f}")
    return "\n".join(lines)
