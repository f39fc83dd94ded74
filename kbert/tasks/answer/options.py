"""Define the options of `--task=answer`."""

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from kbert.config import NO_LABELS, Labels
from kbert.errors import UsageError
from kbert.settings import flag
from kbert.tasks.options import TaskOptions


@dataclass(frozen=True, kw_only=True)
class AnswerOptions(TaskOptions):
    """The part of a context that answers a question."""

    ABOUT: ClassVar[str] = "the part of a text that answers a question"
    ALSO: ClassVar[tuple[str, ...]] = (
        "qa",
        "question-answering",
        "question_answering",
        "squad",
        "mrc",
        "reading-comprehension",
        "extractive-qa",
        "cmrc",
    )
    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("question", "context"),)
    LABELS: ClassVar[Labels] = NO_LABELS
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "text_columns": ("question", "context"),
        "label_column": "answers",
        "max_length": 384,
    }

    max_question_length: int = flag(64, help="Maximum question length in tokens; the rest is truncated.", low=1)
    doc_stride: int | None = flag(
        None,
        help="Tokens that consecutive windows of a long context share; an answer of at most this length lies whole in one of "
        "them. (Hugging Face uses the name alike; in google-research/bert's run_squad.py it is the number of tokens that "
        "a window advances.)",
        otherwise="128, or half of the tokens that --max_length leaves for the context where that is less",
        low=0,
    )
    max_windows: int = flag(
        128,
        help="Maximum number of windows of a context in evaluation, prediction and the exported model: what follows is not "
        "read, and the output `truncated` is true. Training reads all.",
        low=1,
    )
    max_answer_length: int = flag(30, help="Maximum answer length in tokens.", low=1)
    n_best: int = flag(5, help="Number of answers to return for each question, best first.", low=1, high=100)
    answer_metric: Literal["auto", "squad", "cmrc"] = flag(
        "auto",
        help="Definition of exact match and F1: SQuAD's (words) or CMRC2018's (Chinese characters and Latin words); auto "
        "selects CMRC2018's if most gold answers contain Chinese characters.",
    )

    def room(self, max_length: int) -> int:
        """Return how many tokens of a context a window holds beside the longest question."""
        return max_length - 3 - self.max_question_length

    def shared(self, max_length: int) -> int:
        """Return how many tokens consecutive windows share."""
        return min(128, max(0, self.room(max_length) // 2)) if self.doc_stride is None else self.doc_stride

    def completed(self, max_length: int) -> Self:
        return dataclasses.replace(self, doc_stride=self.shared(max_length))

    def check(self, max_length: int) -> None:
        """Raise UsageError if windows cannot hold a question and share `doc_stride` tokens."""
        room, shared = self.room(max_length), self.shared(max_length)
        if room <= shared:
            than = f"--doc_stride={shared} must be less" if shared else "needs one or more"
            raise UsageError(
                f"--max_length={max_length} leaves {room} tokens of context beside a question of "
                f"--max_question_length={self.max_question_length}, but {than}"
            )
