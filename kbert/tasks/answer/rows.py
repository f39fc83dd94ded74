"""Read rows of questions, contexts and answers, and check them before training. No TensorFlow."""

import logging
from collections import Counter
from collections.abc import Sequence
from typing import Any, ClassVar

from kbert.data import squad
from kbert.data.offsets import Places
from kbert.errors import DataError, UsageError
from kbert.source import Offsets, SourceConfig
from kbert.tasks.rows import TaskRows

log = logging.getLogger(__name__)

OTHER_UNITS: tuple[Offsets, ...] = ("utf16", "bytes")


class AnswerAudit:
    """Checks that the gold answers are in their contexts, and counts the questions with misplaced answers.

    A training row (`training`) needs one answer found in its context, or an empty list; for
    evaluation, any gold text will do.
    """

    labels: tuple[str, ...] = ()

    def __init__(self, source: str, training: bool):
        self.source = source
        self.training = training
        self.questions = self.answered = self.moved = self.nowhere = 0
        self.unplaced = self.repeated = 0  # questions with answers without an offset, and where these occur more than once
        self.unsaid = 0  # questions without an answer that are not marked as having none
        self.elsewhere: Counter[Offsets] = Counter()  # moved answers that another offset unit would place right

    def __call__(self, values: tuple[str, ...]) -> None:
        _, context, document = values
        context, gold = squad.whole(context), squad.parse(document)
        places = [squad.locate(context, text, start) for text, start in gold]
        if gold and max(places) < 0 and self.training:
            raise ValueError(
                f"the answer {gold[0][0][:60]!r} is not found in the context; correct it or leave the question out"
            )
        self.questions += 1
        self.answered += bool(gold)
        self.unsaid += not gold and not squad.impossible(document)
        self.nowhere += -1 in places
        unplaced = [text for text, start in gold if start == squad.UNPLACED]
        self.unplaced += bool(unplaced)
        self.repeated += any(context.find(text, context.find(text) + 1) > context.find(text) for text in unplaced)
        moved = [
            (text, start)
            for place, (text, start) in zip(places, gold, strict=True)
            if place not in (-1, start) and start != squad.UNPLACED
        ]
        self.moved += bool(moved)
        for unit in OTHER_UNITS if moved else ():
            counted = Places(context, unit)
            self.elsewhere[unit] += all(
                context.startswith(text, counted.character(max(start, 0), last=True)) for text, start in moved
            )

    def finish(self) -> None:
        if not self.answered and self.unsaid:
            raise DataError(
                f"{self.source}: none of {self.questions} questions has a gold answer, so nothing can be measured. "
                f"kbert.predict answers them; mark a question known to have none (is_impossible, or {squad.IMPOSSIBLE})"
            )
        if self.moved:
            unit, fit = max(self.elsewhere.items(), key=lambda item: item[1])
            hint = f"; --offsets={unit} would place those of {fit} right" if fit > self.moved / 2 else ""
            log.warning(
                "%s: %d of %d questions have an answer that is not at its answer_start; the nearest occurrence is taken%s",
                *(self.source, self.moved, self.questions, hint),
            )
        if self.unplaced:
            log.warning(
                "%s: %d of %d questions have answers without answer_start, which are looked up in the context; those of %d "
                "occur more than once there, and the first occurrence is taken",
                *(self.source, self.unplaced, self.questions, self.repeated),
            )
        if self.nowhere:
            log.warning(
                "%s: %d of %d questions have an answer that is not found in their context; a model can only come near it",
                *(self.source, self.nowhere, self.questions),
            )

    def check_learnable(self) -> list[str]:
        if not self.answered:
            raise DataError(f"{self.source}: no question has an answer in --label_column; there is nothing to learn")
        return []


class AnswerRows(TaskRows):
    """The rows of `answer`; see `kbert.tasks.rows.TaskRows` for the methods."""

    split_by: ClassVar[slice] = slice(1, None)  # questions on one context stay together
    usual: ClassVar[dict[str, str]] = {
        **dict.fromkeys(("question", "context"), "--text_columns=question,context"),
        "answers": "--label_column=answers",
    }

    @staticmethod
    def nested(options: dict[str, Any]) -> bool:
        return True

    @staticmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        if len(source.text_columns) != 2:
            raise UsageError(f"--text_columns={','.join(source.text_columns)}: expected two, the question and the context")
        return ("question", "context")

    @staticmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        return (*source.text_columns, source.label_column)

    @staticmethod
    def reader(source: SourceConfig) -> squad.AnswerReader | None:
        if source.ends is not None:
            raise UsageError(f"--ends={source.ends}: answers have an answer_start but no end")
        return squad.AnswerReader(source.offsets) if source.offsets in OTHER_UNITS else None

    @staticmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> AnswerAudit:
        if labels:
            raise UsageError("--labels: answers are found in the context; --task=answer has no labels")
        return AnswerAudit(source, training=labels is None)


ROWS = AnswerRows
