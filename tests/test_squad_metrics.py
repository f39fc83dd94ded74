"""Answers' figures against the recorded ones of SQuAD's official script, and CMRC2018's by hand."""

import json
from pathlib import Path

import numpy as np
import pytest

from kbert.tasks.answer import metrics as squad_metrics
from kbert.tasks.answer.report import AnswerScorer

RECORDED = json.loads((Path(__file__).parent / "recorded" / "squad.json").read_text(encoding="utf-8"))


def test_squad_as_recorded():
    for gold, predicted, exact, f1 in RECORDED["pairs"]:
        assert squad_metrics.scores(predicted, gold, "squad") == (exact, pytest.approx(f1)), (gold, predicted)


@pytest.mark.parametrize("recorded", RECORDED["sets"])
def test_the_threshold_finds_the_best_f1_of_the_official_search(recorded):
    """Or a better one: the official search also stops between equal margins, where no threshold is."""
    rows = recorded["rows"]
    has = np.array([any(squad_metrics.normalised(t) for t in gold) for gold, _, _ in rows])
    answered = np.array([squad_metrics.scores(predicted, gold, "squad")[::-1] for gold, predicted, _ in rows])
    abstained = np.repeat(~has[:, None], 2, 1).astype(float)
    margins = np.array([margin for _, _, margin in rows], np.float32)
    threshold = squad_metrics.best_threshold(margins, answered, abstained)

    def f1(limit):
        return 100 * np.where(margins > limit, abstained[:, 0], answered[:, 0]).mean()

    every = max(f1(limit) for limit in [-1e9, *margins.tolist()])
    assert f1(threshold) == pytest.approx(every)
    if len(set(margins.tolist())) == len(margins):
        assert every == pytest.approx(recorded["best_f1"])
    else:
        assert every <= recorded["best_f1"] + 1e-9


def test_a_tie_in_f1_goes_to_the_better_exact_match():
    margins = np.array([0.0, 1.0], np.float32)
    answered = np.array([[0.5, 0.0], [0.5, 0.0]])
    abstained = np.array([[0.5, 1.0], [0.5, 0.0]])
    assert squad_metrics.best_threshold(margins, answered, abstained) < 0.0


@pytest.mark.parametrize(
    ("predicted", "gold", "exact", "f1"),
    [
        ("光荣和ω-force", ["光荣和ω-force"], 1, 1),
        ("《光荣》和ω-Force。", ["光荣和ω-force"], 1, 1),
        ("光荣", ["光荣和ω-force"], 0, 2 * 2 / (2 + 4)),  # 光 荣 和 ωforce
        ("甲乙丙", ["甲丁丙"], 0, 2 * 1 / 6),  # the longest run that both have, not the longest subsequence
        ("1,000 kilometres", ["1,000"], 0, 2 * 1 / 3),
        ("甲……", ["甲"], 0, 2 * 1 / 4),  # the ellipsis is not removed
        ("乙", ["甲", "乙丙"], 0, 2 / 3),
        ("", [], 1, 1),
        ("甲", [], 0, 0),
    ],
)
def test_cmrc_by_hand(predicted, gold, exact, f1):
    assert squad_metrics.scores(predicted, gold, "cmrc") == (exact, pytest.approx(f1))


def scored(rows, rules="auto", threshold=None, calibrates=True):
    scorer = AnswerScorer(rules, threshold, calibrates)
    raw = {
        "question": np.array([b"q|?"] * len(rows), object),
        "context": np.array([b"a dog, dogs, the dogs bark"] * len(rows), object),
        "answers": np.array(
            [json.dumps([{"text": text, "answer_start": 0} for text in gold]).encode() for gold, _, _ in rows], object
        ),
    }
    predicted = {
        "answer": np.array([answer.encode() for _, answer, _ in rows], object),
        "start": np.zeros(len(rows), np.int32),
        "end": np.array([len(answer) for _, answer, _ in rows], np.int32),
        "no_answer": np.array([margin for _, _, margin in rows], np.float32),
    }
    scorer.update(raw, predicted)
    return scorer.result()


def test_a_set_with_answers():
    report = scored([(["a cat"], "cat", 3.0), (["a dog", "dogs"], "the dogs bark", 5.0)])
    assert report.metrics == {"rows": 2, "exact_match": 50.0, "f1": pytest.approx(100 * (1 + 2 / 3) / 2), "rules": "squad"}
    assert report.calibration() == {}
    assert "| q\\|? | a dog (0–5) / dogs (7–11) | the dogs bark (0–13) |" in report.texts()["mistakes"]
    assert "50.00" in report.table() and report.scalars()["f1"] == report.metrics["f1"]


def test_chinese_is_measured_as_cmrc_does():
    rows = [(["甲乙"], "甲", 0.0)]
    assert scored(rows).metrics["rules"] == "cmrc" and scored(rows).metrics["f1"] == pytest.approx(100 * 2 / 3)
    assert scored(rows, "squad").metrics["f1"] == 0


def test_without_a_threshold_the_best_one_is_found_and_used():
    rows = [([], "cat", 3.0), ([], "dog", -1.0), (["cow"], "cow", 1.0), (["cow"], "cow", 1.0)]
    report = scored(rows)
    assert report.calibration() == {"no_answer_threshold": 2.0}
    assert report.metrics["exact_match"] == 75.0 and report.metrics["unanswerable"]["exact_match"] == 50.0
    assert report.metrics["answerable"] == {"rows": 2, "exact_match": 100.0, "f1": 100.0}
    assert report.texts()["mistakes"].count("\n") == 2  # only the dog
    served = [([], "", 3.0), ([], "dog", -1.0), (["cow"], "cow", 1.0), (["cow"], "", -2.0)]
    kept = scored(served, threshold=2.0)
    assert kept.calibration() == {} and kept.metrics["exact_match"] == 50.0


def test_rows_that_are_only_measured_have_what_is_served():
    rows = [([], "cat", 3.0), (["cow"], "cow", 1.0)]
    assert scored(rows).metrics["exact_match"] == 100.0
    report = scored(rows, calibrates=False)
    assert report.metrics["exact_match"] == 50.0 and report.calibration() == {} and "no_answer_threshold" not in report.metrics


def test_right_answers_that_the_threshold_silences_are_mistakes():
    rows = [*[([], "cat", 3.0)] * 3, (["cow"], "cow", -4.0), (["calf"], "calf", 4.0)]
    assert scored(rows).texts()["mistakes"].splitlines()[2:] == ["| q\\|? | calf | (none) |"]


def test_only_unanswerable_questions():
    report = scored([([], "cat", 3.0)])
    assert report.metrics["f1"] == 100.0 and report.calibration()["no_answer_threshold"] < 3.0
    assert report.metrics["warnings"] == ["no question has an answer: the figures only tell how often the model gives none"]


def test_figures_that_say_little():
    rows = [(["cow"], "", 3.0), (["calf"], "", 3.0), ([], "", 3.0)]
    silent = scored(rows, threshold=1.0).metrics["warnings"]
    assert silent == ["no question is answered: for all of 3 the model says that there is no answer"]
    # A threshold that is found on dev can do that too.
    assert (
        "no question is answered" in scored([(["cow"], "dog", 1.0), ([], "cat", 3.0), ([], "cat", 1.0)]).metrics["warnings"][0]
    )
    same = scored([(["cow"], "dog", 3.0), (["dog"], "dog", 3.0), (["calf"], "dog", 3.0)]).metrics["warnings"]
    assert same == ["one answer for all of the 3 questions that are answered"]
    assert "warnings" not in scored([(["dog"], "dog", 3.0), (["dog"], "dog", 3.0)]).metrics
    assert "warnings" not in scored([(["cow"], "cow", 1.0), (["calf"], "dog", 1.0), ([], "cat", 3.0)]).metrics
