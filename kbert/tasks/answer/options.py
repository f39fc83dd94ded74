"""The options of `--task=answer`."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from kbert.config import NO_LABELS, Labels
from kbert.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """The part of a context that answers a question."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("question", "context"),)
    LABELS: ClassVar[Labels] = NO_LABELS
    DEFAULTS: ClassVar[dict[str, Any]] = {
        "text_columns": ("question", "context"),
        "label_column": "answers",
        "max_length": 384,
    }

    max_question_length: int = field(
        default=64,
        metadata={"help": "Longest question, in tokens; the rest is cut.", "low": 1},
    )
    doc_stride: int = field(
        default=128,
        metadata={
            "help": "Tokens that a window of a long context shares with the one before it: an answer of no more lies "
            "whole in one of them. (Hugging Face means the same by it; run_squad.py of google-research/bert the "
            "tokens that a window advances.)",
            "low": 0,
        },
    )
    max_answer_length: int = field(default=30, metadata={"help": "Longest answer, in tokens.", "low": 1})
    n_best: int = field(default=5, metadata={"help": "Answers a question that are served, best first.", "low": 1, "high": 100})
    answer_metric: Literal["auto", "squad", "cmrc"] = field(
        default="auto",
        metadata={
            "help": "Whose exact match and F1 are measured: SQuAD's (words) or CMRC2018's (Chinese characters and "
            "Latin words); auto takes the latter where most gold answers have Chinese characters."
        },
    )

    def check(self, max_length: int) -> None:
        """Raise UsageError where windows cannot hold a question and share `doc_stride` tokens."""
        room = max_length - 3 - self.max_question_length
        if room <= self.doc_stride:
            raise UsageError(
                f"--max_length={max_length} leaves {room} tokens of context beside a question of "
                f"--max_question_length={self.max_question_length}, and --doc_stride={self.doc_stride} has to be less"
            )
