"""How well labels of aspects are told, by scikit-learn. No TensorFlow here.

In: label numbers of gold and prediction. Out: JSON values and a table of them.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from kbert.aspects.labels import NOT_MENTIONED

SENTENCES = "sentence_recall"  # of `kbert.aspects.bearing`
AVERAGED = ("macro_f1", "macro_f1_without_neutral", "mentioned_f1", "accuracy")


def scores(gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str]) -> dict[str, float]:
    """The figures of one aspect, from label numbers [rows].

    Returns:
        `macro_f1` over the classes that are there or predicted, as AI Challenger 2018 takes it; the same over those but
        neutral, where neutral is a label; `mentioned_f1`, of being mentioned at all, where that is one; and `accuracy`.
        A figure of which neither gold nor prediction has a class is left out.
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
    """All figures of a set of rows.

    Args:
        gold, predicted: label numbers [rows, aspects]; gold is -1 where nothing is known.
        probabilities: the gold label's, [rows, aspects].
        names: the aspects'; none where rows name terms of their own and the arrays have one column.
        labels: the labels' names.

    Returns:
        JSON values: `rows`, `loss` (mean negative log probability in nats), how often aspects are `mentioned`, the means of
        `scores` over the aspects that have them, these `per_aspect` with how many rows speak of each, and
        `confusion_matrix` over all aspects, gold by predicted.
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
    return {
        "rows": len(gold),
        "loss": float(-np.log(share).mean()),
        **{name: float(np.mean(values)) for name, values in means.items() if values},
        "mentioned": sum(row["mentioned"] for row in each.values()),
        "per_aspect": each if names else {},
        "confusion_matrix": confusion_matrix(gold[known], predicted[known], labels=range(len(labels))).tolist(),
        "labels": list(labels),
    }


def table(figures: dict[str, Any]) -> str:
    """The same as a table for people."""
    columns = [name for name in AVERAGED if name in figures]
    rows = {**figures["per_aspect"], "mean" if figures["per_aspect"] else "all": figures}
    width = max(12, *map(len, rows))
    titles = [name.replace("macro_f1_without_neutral", "no neutral").replace("_", " ") for name in columns]
    lines = [f"{'':<{width}} " + " ".join(f"{title:>12}" for title in titles) + f" {'mentioned':>10}"]
    for name, row in rows.items():
        lines.append(
            f"{name:<{width}} "
            + " ".join(f"{row[column]:>12.4f}" if column in row else f"{'-':>12}" for column in columns)
            + f" {row['mentioned']:>10,}"
        )
    read = f"   sentences that bear an aspect read {figures[SENTENCES]:.4f}" if SENTENCES in figures else ""
    lines.append(f"loss {figures['loss']:.4f}{read}")
    return "\n".join(lines)
