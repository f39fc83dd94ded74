"""Measure labels of aspects with scikit-learn. No TensorFlow here.

In: label numbers of gold and prediction. Out: JSON values and a table of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kbert.tasks import figures
from kbert.tasks.aspect.labels import NOT_MENTIONED

SENTENCES = "sentence_recall"  # of `kbert.tasks.aspect.sentence_recall`
AVERAGED = ("macro_f1", "macro_f1_without_neutral", "mentioned_f1", "accuracy")
LISTED = 10  # maximum aspects listed in a warning


def scores(gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """Compute the metrics of one aspect from label numbers [rows].

    Returns:
        `macro_f1` over the classes that occur in gold or predicted (scikit-learn, AI Challenger 2018); the same without
        neutral, if a label; `mentioned_f1`, of being mentioned at all, if "not mentioned" is a label; and `accuracy`.
        Metrics without a class in gold and prediction are omitted.
    """
    from sklearn.metrics import accuracy_score, f1_score

    present = sorted({*gold.tolist(), *predicted.tolist()})

    def macro(classes: Sequence[int]) -> float:
        return float(f1_score(gold, predicted, labels=classes, average="macro", zero_division=0.0))

    found = {"macro_f1": macro(present)}
    others = [label for label in present if labels[label] != "neutral"]
    if "neutral" in labels and others:
        found["macro_f1_without_neutral"] = macro(others)
    absent = labels.index(NOT_MENTIONED) if NOT_MENTIONED in labels else None
    if absent is not None and present != [absent]:
        found["mentioned_f1"] = float(f1_score(gold != absent, predicted != absent, zero_division=0.0))
    return {**found, "accuracy": float(accuracy_score(gold, predicted))}


def report(
    gold: np.ndarray, predicted: np.ndarray, probabilities: np.ndarray, names: Sequence[str], labels: Sequence[str]
) -> dict[str, Any]:
    """Compute all metrics of a set of rows.

    Args:
        gold, predicted: label numbers [rows, aspects]; gold is -1 where unknown.
        probabilities: those of the gold labels, [rows, aspects].
        names: the aspects' names; empty if rows name terms of their own and the arrays have one column.
        labels: the labels' names.

    Returns:
        JSON values: `rows`, `loss` (mean negative log probability in nats), the share of aspects `mentioned`, the means of
        `scores` over the aspects that have them, these `per_aspect` with the number of rows that cover each,
        `confusion_matrix` over all aspects, gold by predicted; and `warnings`, if any.
    """
    from sklearn.metrics import confusion_matrix

    known = gold >= 0
    each = {}
    for place, told in enumerate(known.T):
        if told.any():
            mine = gold[told, place]
            absent = labels.index(NOT_MENTIONED) if NOT_MENTIONED in labels else -1
            name = names[place] if names else ""
            each[name] = {
                **scores(mine, predicted[told, place], labels),
                "rows": len(mine),
                "mentioned": int((mine != absent).sum()),
            }
    share = np.maximum(probabilities[known].astype(np.float64), 1e-30)
    means = {name: [row[name] for row in each.values() if name in row] for name in AVERAGED}
    found = {
        "rows": len(gold),
        "loss": float(-np.log(share).mean()),
        **{name: float(np.mean(values)) for name, values in means.items() if values},
        "mentioned": sum(row["mentioned"] for row in each.values()),
        "per_aspect": each if names else {},
        "confusion_matrix": confusion_matrix(gold[known], predicted[known], labels=range(len(labels))).tolist(),
        "labels": list(labels),
    }
    warnings = _degenerate(gold, predicted, names, labels)
    return {**found, "warnings": warnings} if warnings else found


def _degenerate(gold: np.ndarray, predicted: np.ndarray, names: Sequence[str], labels: Sequence[str]) -> list[str]:
    """Return warnings on degenerate figures; arguments as for `report`."""
    known = gold >= 0
    found = figures.degenerate(gold[known], predicted[known], labels, "labels of rows and aspects" if names else "rows")
    if found or not names:
        return found
    several = [(name, gold[told, i], predicted[told, i]) for i, (name, told) in enumerate(zip(names, known.T, strict=True))]
    several = [(name, *sides) for name, *sides in several if len(sides[0]) > 1]
    one_answer = [name for name, told, answers in several if figures.constant(answers) and not figures.constant(told)]
    one_label = [name for name, told, _ in several if figures.constant(told)]
    if one_answer:
        found.append(f"one class predicted for all rows of {_listed(one_answer)}")
    if one_label:
        found.append(f"all rows have the same label of {_listed(one_label)}: its figures mean little")
    return found


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - LISTED:,} more aspects" if len(names) > LISTED else ""
    return ", ".join(map(repr, names[:LISTED])) + more


def table(report: dict[str, Any]) -> str:
    """Format the report as a table."""
    titles = {name: name.replace("macro_f1_without_neutral", "no neutral").replace("_", " ") for name in AVERAGED}
    columns = [(name, title, 12) for name, title in titles.items() if name in report]
    averages = {"mean" if report["per_aspect"] else "all": report}
    lines = figures.table([*columns, ("mentioned", "mentioned", 10)], report["per_aspect"], averages)
    read = f"   sentences about an aspect read {report[SENTENCES]:.4f}" if SENTENCES in report else ""
    return "\n".join([*lines, f"loss {report['loss']:.4f}{read}"])
