"""The metrics of hand-counted cases, of classes called like averages, and of rows that say little."""

import json
import re

import numpy as np
from sklearn.metrics import recall_score

from kbert.tasks import label_metrics as metrics
from kbert.tasks.aspect import metrics as aspect_metrics
from kbert.tasks.figures import MOST_CONFUSED
from kbert.tasks.labels import LabelReport
from kbert.tasks.tag import entity_metrics


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
    assert report["per_class"]["d"] == {"precision": None, "recall": None, "f1": None, "rows": 0}
    assert abs(report["macro"]["f1"] - (4 / 7 + 0.5) / 3) < 1e-12  # "d" occurs in neither
    assert abs(report["macro"]["recall"] - recall_score(gold, predicted, average="macro")) < 1e-12
    assert abs(report["weighted"]["f1"] - (3 * 4 / 7 + 2 * 0.5) / 6) < 1e-12
    assert abs(report["micro"]["f1"] - 0.5) < 1e-12
    assert report["confusion_matrix"] == [[2, 1, 0, 0], [1, 1, 0, 0], [1, 0, 0, 0], [0, 0, 0, 0]]
    table = metrics.classification_table(report)
    assert "accuracy 0.5000" in table and "0.5714" in table and "macro" in table and re.search(r"^d( +-){3} +0$", table, re.M)
    assert report["warnings"] == ["no row has the label 'd': the figures do not cover it"]


def test_a_probability_of_zero_is_no_infinity():
    report = metrics.classification(np.array([0]), np.array([1]), np.array([0.0], np.float32), ("a", "b"))
    assert np.isfinite(report["loss"]) and report["loss"] > 20


def test_a_class_called_like_an_average_keeps_its_row():
    names = ("macro", "micro", "weighted", "mean")
    gold, predicted = np.array([0, 1, 2, 3, 3]), np.array([0, 1, 1, 3, 0])
    report = metrics.classification(gold, predicted, np.ones(5), names)
    lines = metrics.classification_table(report).splitlines()[1:-1]
    assert [line.split("  ")[0] for line in lines] == [*names, *(f"{name} (average)" for name in names[:3])]
    assert lines[0].split()[1:] == ["0.5000", "1.0000", "0.6667", "1"] and lines[4].split()[-1] == "5"
    aspects = aspect_metrics.report(
        gold[:, None] // 2, predicted[:, None] // 2, np.ones((5, 1)), ["mean"], ("positive", "negative")
    )
    lines = aspect_metrics.table(aspects).splitlines()
    assert lines[1].startswith("mean  ") and lines[2].startswith("mean (average)")
    counts = entity_metrics.Counts(("macro", "micro"))
    counts.add("x", [(0, 1, "micro")], [(0, 1, "macro")])
    rows = [line.split("  ")[0] for line in entity_metrics.table(counts.report()).splitlines()[1:-1]]
    assert rows == ["macro", "micro", "macro (average)", "micro (average)"]


def test_a_type_that_does_not_occur_has_no_figures_and_many_types_no_matrix():
    counts = entity_metrics.Counts(("a", "b"))
    counts.add("x", [(0, 1, "a")], [(0, 1, "a")])
    report = counts.report()
    assert report["per_type"]["b"] == {**entity_metrics.ABSENT, "gold": 0, "predicted": 0} and report["macro"]["f1"] == 1
    assert re.search(r"^b( +-){3} +0 +0$", entity_metrics.table(report), re.M)
    many = entity_metrics.Counts([f"type {number}" for number in range(500)])
    many.add("x", [(0, 1, "type 3")], [(0, 1, "type 4"), (1, 2, "type 5")])
    report = many.report()
    assert "confusion" not in report and report["most_confused"] == [["O", "type 5", 1], ["type 3", "type 4", 1]]


def test_one_answer_for_all_rows_and_rows_of_one_label_are_warned_of():
    rows, one, two = np.arange(4) % 2, np.zeros(4, int), ("a", "b")
    answered = metrics.classification(rows, one, np.ones(4), two)
    assert answered["warnings"] == ["all 4 rows were answered 'a' (one class predicted)"]
    assert LabelReport(answered).warnings() == answered["warnings"]
    labelled = metrics.classification(one, rows, np.ones(4), two)["warnings"]
    assert labelled == ["all 4 rows have the label 'a': the figures mean little"]

    def aspects(gold, predicted):
        sides = (np.stack(columns, 1) for columns in (gold, predicted))
        return aspect_metrics.report(*sides, np.ones((4, len(gold))), ["x", "y"], two).get("warnings", [])

    assert aspects([rows, rows], [rows, rows]) == []
    assert aspects([rows, rows], [one, one])[0].startswith("all 8 labels of rows and aspects were answered 'a'")
    assert aspects([rows, one], [1 - one, rows]) == [
        "one class predicted for all rows of 'x'",
        "all rows have the same label of 'y': its figures mean little",
    ]


def test_the_confusion_of_very_many_labels_is_kept_small():
    """A matrix of 2,000 labels would be four million numbers in each checkpoint.json."""
    labels, rng = [f"label {number}" for number in range(2000)], np.random.default_rng(0)
    gold = rng.integers(0, 2000, 30_000)
    predicted = np.where(rng.random(30_000) < 0.5, gold, rng.integers(0, 2000, 30_000))
    predicted[:7], gold[:7] = 3, 4
    report = metrics.classification(gold, predicted, np.ones(30_000), labels)
    assert "confusion_matrix" not in report and len(report["most_confused"]) == MOST_CONFUSED
    assert report["most_confused"][0][:2] == ["label 4", "label 3"] and report["most_confused"][0][2] >= 7
    assert all(gold != answer for gold, answer, _ in report["most_confused"])
    assert len(json.dumps(report, indent=2)) < 1_000_000
    kept = json.loads(json.dumps(report))
    assert LabelReport(kept).matrices() == {} and len(LabelReport(kept).table().splitlines()) == 2005
    # As it was written before.
    dense = LabelReport({**kept, "confusion_matrix": np.eye(2000).tolist()})
    assert dense.matrices()["confusion_matrix"][0].shape == (2000, 2000)
