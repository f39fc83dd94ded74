"""Fit probabilities to outcomes on dev rows, and measure how well they fit. No TensorFlow here."""

from typing import Any, NamedTuple

import numpy as np

BINS = 15  # as in Guo et al. 2017
CONFIDENCE = 0.95  # of the bound on the error of answers that do not abstain


class Finds(NamedTuple):
    """What is found on dev."""

    temperature: bool  # whether a temperature
    accuracy: float  # that of answers which do not abstain; 0 for no threshold


def temperature(gold: np.ndarray, probabilities: np.ndarray) -> float:
    """Find the temperature with the lowest mean negative log probability of gold (Guo et al. 2017, section 4.2).

    Args:
        gold: class numbers, [rows].
        probabilities: float32 [rows, classes], of temperature 1.

    Returns:
        A number from 0.05 to 20.
    """
    from scipy.optimize import minimize_scalar

    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-30))
    rows = np.arange(len(gold))

    def loss(exponent: float) -> float:
        scaled = logs / np.exp(exponent)
        top = scaled.max(1)
        return float(np.mean(top + np.log(np.exp(scaled - top[:, None]).sum(1)) - scaled[rows, gold]))

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.05), np.log(20.0)), method="bounded").x))


def scaled(probabilities: np.ndarray, temperature: float) -> np.ndarray:
    """Return the probabilities that softmax gives at another temperature, [rows, classes]."""
    logs = np.log(np.maximum(probabilities.astype(np.float64), 1e-30)) / temperature
    found = np.exp(logs - logs.max(1, keepdims=True))
    return np.asarray(found / found.sum(1, keepdims=True))


def expected_error(right: np.ndarray, confidence: np.ndarray) -> float:
    """Compute the expected calibration error over 15 bins of equal width (Naeini et al. 2015; Guo et al. 2017).

    Args:
        right: whether each answer is right, bool [rows].
        confidence: its probability, [rows].

    Returns:
        The mean over rows of |accuracy - mean confidence| of their bin, 0 to 1.
    """
    confidence = confidence.astype(np.float64)
    bins = np.clip(np.ceil(confidence * BINS).astype(int) - 1, 0, BINS - 1)
    hits, sums = (np.bincount(bins, values, BINS) for values in (right.astype(np.float64), confidence))
    return float(np.abs(hits - sums).sum() / len(right))


def abstain_below(right: np.ndarray, confidence: np.ndarray, accuracy: float) -> float:
    """Find the lowest probability from which answers have an accuracy, by a bound that holds with 95 % confidence.

    The bound is Clopper and Pearson's on the error of the answers from each threshold; the search takes at most
    log2(rows) of them, over which the 5 % are shared (Geifman and El-Yaniv 2017, "Selective Classification for Deep
    Neural Networks", algorithm 1).

    Args:
        right: whether each answer is right, bool [rows].
        confidence: its probability, [rows].
        accuracy: the one to have, 0 to 1.

    Returns:
        The threshold; above 1 (so that all abstain) if no threshold has it.
    """
    from scipy.stats import beta

    order = np.argsort(-confidence, kind="stable")
    wrong = np.cumsum(~right[order])
    sorted_confidence = confidence[order].astype(np.float32)
    # Answers of equal probability are taken together: the last of each.
    ends = np.flatnonzero(np.append(sorted_confidence[1:] != sorted_confidence[:-1], True))
    share = (1 - CONFIDENCE) / max(1.0, np.ceil(np.log2(len(ends) + 1)))
    low, high, found = 0, len(ends) - 1, -1
    while low <= high:
        middle = (low + high) // 2
        count = ends[middle] + 1
        errors = wrong[ends[middle]]
        bound = 1.0 if errors == count else beta.ppf(1 - share, errors + 1, count - errors)
        if bound <= 1 - accuracy:
            found, low = middle, middle + 1
        else:
            high = middle - 1
    if found < 0:
        return 2.0
    # Halfway to the next lower one, so that rounding where it is served moves no row across.
    lower = sorted_confidence[ends[found + 1]] if found + 1 < len(ends) else 0.0
    return float((float(sorted_confidence[ends[found]]) + float(lower)) / 2)


def answered(right: np.ndarray, confidence: np.ndarray, threshold: float) -> dict[str, Any]:
    """Measure the answers that do not abstain: `coverage`, their share, and `error`, None if there are none."""
    given = confidence >= np.float32(threshold)
    error = float(1 - right[given].mean()) if given.any() else None
    return {"below": float(threshold), "coverage": float(given.mean()), "error": error}
