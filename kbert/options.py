"""Each task's own options, as frozen dataclasses: what a task adds to the flags all tasks share.

They are part of the model (changing one after training would change predictions), and are stored
in its `config.json`. `DEFAULTS` are the task's own defaults of flags that all tasks share. No
TensorFlow here: the flags are made from these before anything heavy loads.
"""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """One label for a text or for a pair of texts."""

    pooling: Literal["pooler", "cls", "mean"] = field(
        default="pooler",
        metadata={
            "help": "What the classifier reads: the checkpoint's pooler over [CLS], the bare [CLS] "
            "vector, or the mean over the text's tokens."
        },
    )
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "Dropout in front of the classifier, a fraction.", "low": 0.0, "high": 0.9},
    )


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    """Entities in a text, with the characters they stand at."""

    decoder: Literal["softmax", "crf"] = field(
        default="softmax",
        metadata={
            "help": "How tags are chosen: each word's by itself (softmax), or the best valid sequence of them by a "
            "linear-chain CRF (crf)."
        },
    )
    stride: int = field(
        default=32,
        metadata={"help": "Tokens that neighbouring windows of a text longer than --max_length share at least.", "low": 0},
    )
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "Dropout in front of the tagger, a fraction.", "low": 0.0, "high": 0.9},
    )


@dataclass(frozen=True, kw_only=True)
class AnswerOptions:
    """The part of a context that answers a question."""

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


@dataclass(frozen=True, kw_only=True)
class PretrainOptions:
    """What is learnt from plain text; for `kbert.pretrain`, and so none of `OPTIONS`."""

    objective: Literal["mlm+nsp", "mlm", "mlm+sop"] = field(
        default="mlm+nsp",
        metadata={
            "help": "Masked LM with next-sentence pairs as in BERT's paper, masked LM alone on stretches of whole sentences as "
            "in RoBERTa's, or masked LM with the order of two segments as in ALBERT's."
        },
    )
    n_best: int = field(
        default=5, metadata={"help": "Pieces that are served for each [MASK], best first.", "low": 1, "high": 100}
    )

    @property
    def pairs(self) -> str | None:
        """What is learnt of pairs of segments: "nsp", "sop" or nothing."""
        return self.objective.partition("+")[2] or None


OPTIONS: dict[str, type] = {"classify": ClassifyOptions, "tag": TagOptions, "answer": AnswerOptions}
