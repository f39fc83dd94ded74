"""The metrics of a hand-counted case."""

import numpy as np

from kbert import metrics


def test_by_hand():
    gold = np.array([0, 0, 0, 1, 1, 2])
    predicted = np.array([0, 0, 1, 1, 0, 0])
    probabilities = np.array([0.5, 0.5, 0.25, 0.5, 0.25, 0.125])
    report = metrics.classification(gold, predicted, probabilities, ("a", "b", "c", "d"))
    assert report["rows"] == 6 and abs(report["accuracy"] - 3 / 6) < 1e-12
    assert abs(report["loss"] - np.log(2) * (1 + 1 + 2 + 1 + 2 + 3) / 6) < 1e-12
    a, b, c = (report["per_class"][name] for name in "abc")
    assert (a["precision"], a["recall"], a["rows"]) == (2 / 4, 2 / 3, 3) and abs(a["f1"] - 4 / 7) < 1e-12
    assert (b["precision"], b["recall"], b["f1"]) == (0.5, 0.5, 0.5)
    assert (c["precision"], c["recall"], c["f1"]) == (0.0, 0.0, 0.0)
    assert abs(report["macro"]["f1"] - (4 / 7 + 0.5) / 4) < 1e-12
    assert abs(report["weighted"]["f1"] - (3 * 4 / 7 + 2 * 0.5) / 6) < 1e-12
    assert abs(report["micro"]["f1"] - 0.5) < 1e-12
    assert report["confusion_matrix"] == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    table = metrics.classification_table(report)
    assert "accuracy 0.5000" in table and "0.5714" in table and "macro" in table


def test_a_probability_of_zero_is_no_infinity():
    report = metrics.classification(np.array([0]), np.array([1]), np.array([0.0], np.float32), ("a", "b"))
    assert np.isfinite(report["loss"]) and report["loss"] > 20
