"""Measure a set of answered questions.

In: gold answers and served outputs, some rows at a time. Out: exact match and F1 in percent, as
the official scripts print them; the no-answer threshold if it is to be found; examples of mistakes.
No TensorFlow here.
"""

import zlib
from typing import Any, ClassVar, Literal

import numpy as np

from kbert.data import squad
from kbert.tasks import markdown
from kbert.tasks.answer import metrics as squad_metrics
from kbert.tasks.answer.metrics import Rules
from kbert.tasks.reports import Report

SHOWN = 50  # mistaken examples in TensorBoard
KEPT = 1000  # candidate mistakes kept until the threshold is known
THRESHOLD = "no_answer_threshold"
NONE = "(none)"

Mistake = tuple[str, str, str]  # question, gold answers, predicted answer


class AnswerReport(Report):
    """Metrics, mistakes and calibration of a set of questions."""

    percent: ClassVar[bool] = True

    def __init__(self, metrics: dict[str, Any], mistakes: list[Mistake], threshold: float | None):
        super().__init__(metrics)
        self._mistakes = mistakes
        self._threshold = threshold

    def scalars(self) -> dict[str, float]:
        m = self.metrics
        parts = {f"{part}_f1": m[part]["f1"] for part in ("answerable", "unanswerable") if part in m}
        return {"exact_match": m["exact_match"], "f1": m["f1"], **parts}

    def table(self) -> str:
        m = self.metrics
        parts: dict[str, dict[str, Any]] = {"all": m, **{part: m[part] for part in ("answerable", "unanswerable") if part in m}}
        lines = [f"{'':<14}{'exact match':>12}{'f1':>8}{'rows':>10}"]
        lines += [f"{name:<14}{p['exact_match']:>12.2f}{p['f1']:>8.2f}{p['rows']:>10,}" for name, p in parts.items()]
        return "\n".join([*lines, f"by the rules of {m['rules']}, in percent"])

    def texts(self) -> dict[str, str]:
        if not self._mistakes:
            return {}
        return {"mistakes": markdown.table(("question", "gold", "predicted"), self._mistakes)}

    def calibration(self) -> dict[str, float]:
        return {} if self._threshold is None else {THRESHOLD: self._threshold}


class AnswerScorer:
    """Collects figures of each question, 44 bytes a row, and the texts of some mistakes.

    Args:
        rules: whose metrics; "auto" takes CMRC2018's if most rows' gold answers have Chinese characters.
        threshold: the model's own for "no answer"; None: the model always answers.
        calibrates: for a model without a threshold, find the best one if some questions have no answer, and use it.
    """

    def __init__(self, rules: Literal["auto", "squad", "cmrc"], threshold: float | None, calibrates: bool):
        wanted: tuple[Rules, ...] = ("squad", "cmrc") if rules == "auto" else (rules,)
        self.rules: dict[Rules, int] = dict(zip(wanted, range(len(wanted)), strict=True))
        self.threshold = threshold
        self.calibrates = calibrates and threshold is None
        self.figures: list[np.ndarray] = []  # [rows, rules, 2]: F1 and exact match of the answer
        self.margins: list[np.ndarray] = []
        self.said: list[np.ndarray] = []  # [rows]: a hash of the answer, 0 for none
        self.answerable: list[bool] = []
        self.chinese = 0
        self.wrong: list[tuple[int, Mistake]] = []  # with their row numbers
        self.right: list[tuple[int, Mistake]] = []  # right now, but wrong if a threshold rejects them

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        # Without a threshold, every question has its best answer here.
        answers = [text.decode() for text in predicted["answer"]]
        places = zip(predicted["start"].tolist(), predicted["end"].tolist(), strict=True)
        figures = np.zeros((len(answers), len(self.rules), 2))
        for i, (answer, place, document) in enumerate(zip(answers, places, raw["answers"], strict=True)):
            known = squad.parse(document.decode())
            gold = [text for text, _ in known]
            for rules, column in self.rules.items():
                exact, f1 = squad_metrics.scores(answer, gold, rules)
                figures[i, column] = f1, exact
            of = self.right if gold and figures[i, :, 1].all() else self.wrong
            if len(of) < KEPT and (of is self.wrong or self.calibrates):
                context = raw["context"][i].decode("utf-8", "ignore")
                starts = [squad.locate(context, text, start) for text, start in known]
                shown = [_shown(text, start, start + len(text)) for (text, _), start in zip(known, starts, strict=True)]
                question = raw["question"][i].decode("utf-8", "replace")
                of.append((len(self.answerable), (question, " / ".join(dict.fromkeys(shown)) or NONE, _shown(answer, *place))))
            self.answerable.append(bool(gold))
            self.chinese += any(squad_metrics.IDEOGRAPH.search(text) for text in gold)
        self.figures.append(figures)
        self.margins.append(predicted["no_answer"])
        self.said.append(np.array([zlib.crc32(answer) for answer in predicted["answer"]], np.uint32))

    def result(self) -> AnswerReport:
        answerable = np.array(self.answerable)
        rules: Rules = "cmrc" if self.rules.get("cmrc") == 0 else "squad"
        if len(self.rules) > 1 and 2 * self.chinese > answerable.sum():
            rules = "cmrc"
        figures = np.concatenate(self.figures)[:, self.rules[rules]]  # [rows, 2]
        margins = np.concatenate(self.margins)
        abstained = np.zeros(len(figures), bool)
        found = None
        if self.calibrates and not answerable.all():
            empty = np.repeat(~answerable[:, None], 2, 1).astype(np.float64)
            found = squad_metrics.best_threshold(margins, figures, empty)
            abstained = margins > found
            figures = np.where(abstained[:, None], empty, figures)

        def part(rows: np.ndarray) -> dict[str, Any]:
            f1, exact = 100 * figures[rows].mean(0)
            return {"rows": int(rows.sum()), "exact_match": float(exact), "f1": float(f1)}

        metrics = {**part(np.ones(len(figures), bool)), "rules": rules}
        if not answerable.all():
            metrics["unanswerable"] = part(~answerable)
            if answerable.any():
                metrics["answerable"] = part(answerable)
        threshold = self.threshold if found is None else found
        if threshold is not None:
            metrics[THRESHOLD] = threshold
        said = np.where(abstained, 0, np.concatenate(self.said))
        warnings = degenerate(said, answerable, bool(figures[:, 1].all()))
        if warnings:
            metrics["warnings"] = warnings
        mistakes = [
            (question, gold, NONE if abstained[row] else answer)
            for row, (question, gold, answer) in sorted(self.wrong + self.right)
            if figures[row, 1] < 1
        ]
        return AnswerReport(metrics, mistakes[:SHOWN], found)


def degenerate(said: np.ndarray, answerable: np.ndarray, right: bool) -> list[str]:
    """Return warnings on degenerate figures.

    Args:
        said: a hash of each question's answer, 0 for none, [rows].
        answerable: whether it has a gold answer, [rows].
        right: whether all answers are right.
    """
    found, given = [], said[said > 0]
    if not answerable.any():
        found.append("no question has an answer: the figures only tell how often the model gives none")
    elif not len(given):
        found.append(f"no question is answered: for all of {len(said):,} the model says that there is no answer")
    if len(given) > 1 and (given == given[0]).all() and not right:
        found.append(f"one answer for all of the {len(given):,} questions that are answered")
    return found


def _shown(text: str, start: int, end: int) -> str:
    """Format an answer with its offsets in the context, if it is found there."""
    if not text:
        return NONE
    return f"{text} ({start}–{end})" if start >= 0 else text
