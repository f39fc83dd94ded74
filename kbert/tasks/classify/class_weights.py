"""Weights of classes in the loss, from a file or from the training rows. No TensorFlow here."""

import dataclasses
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from kbert.errors import DataError, UsageError
from kbert.tasks import figures
from kbert.tasks.classify.options import ClassifyOptions


def read_weights(path: str) -> dict[str, float]:
    """Read a file of class weights: a label, a tab and a number per line; blank lines are skipped.

    Raises:
        UsageError: the file does not exist; the flag also takes `none` and `balanced`.
        DataError: a line is malformed, a label occurs twice, or a weight is negative or not finite.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise UsageError(f"--class_weights={path}: expected none, balanced or a file; no such file")
    try:
        lines = file.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--class_weights={path}: not readable: {error}") from None
    found: dict[str, float] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        label, tab, value = line.rpartition("\t")
        where = f"--class_weights={path}:{number}"
        try:
            weight = float(value)
        except ValueError:
            weight = math.nan
        if not tab or not math.isfinite(weight) or weight < 0:
            raise DataError(f"{where}: expected a label, a tab and a weight of at least 0, found {line!r}")
        if label.strip() in found:
            raise DataError(f"{where}: {label.strip()!r} is listed twice")
        found[label.strip()] = weight
    if not any(found.values()):
        raise DataError(f"--class_weights={path}: no weight above 0")
    return found


def named_weights(path: str, labels: Sequence[str]) -> tuple[float, ...]:
    """Return the labels' weights by a file, 1 for those that it does not list.

    Raises:
        DataError: the file lists a label that the training data do not have.
    """
    found = read_weights(path)
    unknown = [label for label in found if label not in labels]
    if unknown:
        raise DataError(f"--class_weights={path}: {unknown[0]!r} is not among the labels: {figures.listed(labels)}")
    return tuple(found.get(label, 1.0) for label in labels)


def weighted(options: ClassifyOptions, labels: Sequence[str], balanced: Callable[[], tuple[float, ...]]) -> ClassifyOptions:
    """Return the options with the labels' weights that `--class_weights` gives; `balanced` computes those of the rows."""
    if options.class_weights == "none":
        return options
    if options.class_weights == "balanced":
        return dataclasses.replace(options, label_weights=balanced())
    return dataclasses.replace(options, class_weights="file", label_weights=named_weights(options.class_weights, labels))


def balanced(counts: np.ndarray) -> tuple[float, ...]:
    """Return rows / (classes * rows of the class), scikit-learn's `compute_class_weight("balanced")`.

    Args:
        counts: rows of each class, [classes]; a class without rows weighs 1, as no row asks for its weight.
    """
    present = counts > 0
    weights = counts.sum() / (present.sum() * np.maximum(counts, 1))
    return tuple(np.where(present, weights, 1.0).tolist())


def balanced_positives(positives: np.ndarray, negatives: np.ndarray) -> tuple[float, ...]:
    """Return negatives / positives of each label, [labels]; 1 for a label without either."""
    weights = negatives / np.maximum(positives, 1)
    return tuple(np.where((positives > 0) & (negatives > 0), weights, 1.0).tolist())
