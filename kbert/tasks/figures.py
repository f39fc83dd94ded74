"""Format metrics by class, as JSON values and as a table, alike for every task. No TensorFlow here.

An undefined metric is None: null in JSON, "-" in a table, and excluded from means.
"""

import unicodedata
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

MATRIX_LABELS = 100  # maximum labels of a stored confusion matrix; 2,000 labels would make 44 MB of JSON
NEARLY = 0.95  # share of rows with one answer from which a warning says so
MOST_CONFUSED = 1000  # pairs stored instead

Row = Mapping[str, Any]


def table(columns: Sequence[tuple[str, str, int]], classes: Mapping[str, Row], averages: Mapping[str, Row]) -> list[str]:
    """Format a row for each class, then one for each average.

    Args:
        columns: key in the rows, title and width of each column.
        classes: metrics by class. A class with the name of an average makes the average's name be marked.
        averages: metrics by the average's name.
    """
    rows = [*classes.items(), *((f"{name} (average)" if name in classes else name, row) for name, row in averages.items())]
    width = max(12, *(display_width(name) for name, _ in rows))
    lines = [f"{'':<{width}} " + " ".join(f"{title:>{size}}" for _, title, size in columns)]
    for name, row in rows:
        filled = name + " " * (width - display_width(name))
        lines.append(f"{filled} " + " ".join(f"{formatted(row.get(key)):>{size}}" for key, _, size in columns))
    return lines


def display_width(text: str) -> int:
    """Return how many columns of a terminal a text takes: two for a Chinese character, none for a combining mark."""
    shown = [c for c in text if unicodedata.category(c) not in ("Mn", "Me", "Cf")]
    return len(shown) + sum(unicodedata.east_asian_width(c) in "WF" for c in shown)


def formatted(value: float | int | None) -> str:
    """Format a metric or a count for a table."""
    if value is None:
        return "-"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def confusion(key: str, gold: np.ndarray, predicted: np.ndarray, counts: np.ndarray, labels: Sequence[str]) -> dict[str, Any]:
    """Represent a confusion matrix as JSON values of bounded size.

    Args:
        key: the matrix's name.
        gold, predicted, counts: label numbers and frequencies, [pairs], each pair once.
        labels: the labels' names.

    Returns:
        Under `key` the matrix, a row for each gold label and a column for each predicted one; for more than
        `MATRIX_LABELS` labels, `most_confused` instead: [gold label, predicted label, count] of the
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
    """Return warnings on degenerate metrics: one class predicted for all rows, or rows of one class.

    Args:
        gold, predicted: label numbers, [rows].
        labels: the labels' names.
        unit: the counted unit, in the plural.
    """
    found = []
    if len(gold) > 1 and constant(predicted):
        found.append(f"all {len(gold):,} {unit} were answered {labels[predicted[0]]!r} (one class predicted)")
    elif len(gold) >= 20 and np.bincount(predicted).max() >= NEARLY * len(gold):
        most = labels[int(np.bincount(predicted).argmax())]
        found.append(f"{NEARLY:.0%} of the {unit} or more were answered {most!r}; other classes are hardly predicted")
    if constant(gold):
        found.append(f"all {len(gold):,} {unit} have the label {labels[gold[0]]!r}: the figures mean little")
    return found


def listed(names: Sequence[str]) -> str:
    """List names for a message, at most 20 of them."""
    return ", ".join(map(repr, names[:20])) + (f" and {len(names) - 20:,} more" if len(names) > 20 else "")


def constant(values: np.ndarray) -> bool:
    """Return whether all values, [values], one or more, are equal."""
    return bool((values == values[0]).all())
