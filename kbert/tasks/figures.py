"""Figures by class: as JSON values and as a table for people, in one form for every task. No TensorFlow here.

A figure that cannot be computed is None: null in JSON, "-" in a table, and part of no mean.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MATRIX_LABELS = 100  # beyond that a confusion matrix is not stored; 2,000 labels would make 44 MB of JSON
MOST_CONFUSED = 1000  # pairs that are stored in its place

Row = Mapping[str, Any]


def table(columns: Sequence[tuple[str, str, int]], classes: Mapping[str, Row], averages: Mapping[str, Row]) -> list[str]:
    """Lines with a row for each class, then one for each average.

    Args:
        columns: of each its key in the rows, its title and its width.
        classes: figures by class. Where one has the name of an average, the average is marked as such.
        averages: figures by the average's name.
    """
    rows = [*classes.items(), *((f"{name} (average)" if name in classes else name, row) for name, row in averages.items())]
    width = max(12, *(len(name) for name, _ in rows))
    lines = [f"{'':<{width}} " + " ".join(f"{title:>{size}}" for _, title, size in columns)]
    for name, row in rows:
        lines.append(f"{name:<{width}} " + " ".join(f"{formatted(row.get(key)):>{size}}" for key, _, size in columns))
    return lines


def formatted(value: float | int | None) -> str:
    """Return a figure or a count as a table has it."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def confusion(key: str, gold: np.ndarray, predicted: np.ndarray, counts: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Return a confusion matrix as JSON values of bounded size.

    Args:
        key: what the matrix is called.
        gold, predicted, counts: label numbers and how often they met, [pairs], each pair once.
        labels: the labels' names.

    Returns:
        Under `key` the matrix, a row for each gold label and a column for each predicted one; of more than
        `MATRIX_LABELS` labels in its place `most_confused`: [gold label, predicted label, count] of the
        `MOST_CONFUSED` most frequent mistakes, the most frequent first.
    """
    if len(labels) <= MATRIX_LABELS:
        matrix = np.zeros((len(labels), len(labels)), np.int64)
        matrix[gold, predicted] = counts
        return {key: matrix.tolist()}
    wrong = np.flatnonzero(gold != predicted)
    first = wrong[np.argsort(-counts[wrong], kind="stable")][:MOST_CONFUSED]
    return {"most_confused": [[labels[gold[i]], labels[predicted[i]], int(counts[i])] for i in first]}


def degenerate(gold: np.ndarray, predicted: np.ndarray, labels: Sequence[str], unit: str = "rows") -> list[str]:
    """Sentences on what makes figures of classes say little: one answer for all rows, or rows of one class.

    Args:
        gold, predicted: label numbers, [rows].
        labels: the labels' names.
        unit: what is counted, in the plural.
    """
    found = []
    if len(gold) > 1 and constant(predicted):
        found.append(f"all {len(gold):,} {unit} were answered {labels[predicted[0]]!r} (one class predicted)")
    if constant(gold):
        found.append(f"all {len(gold):,} {unit} have the label {labels[gold[0]]!r}: the figures say little")
    return found


def constant(values: np.ndarray) -> bool:
    """Return whether all values, [values], one or more, are equal."""
    return bool((values == values[0]).all())
