"""The options of `--task=match`."""

from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

from kbert.config import Labels


@dataclass(frozen=True, kw_only=True)
class MatchOptions:
    """Whether, or how well, a title and a text belong together."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("title", "text"),)
    LABELS: ClassVar[Labels] = Labels(numbers=True)
    DEFAULTS: ClassVar[dict[str, Any]] = {"text_columns": ("title", "text"), "label_column": ""}

    scorer: Literal["cross", "dual"] = field(
        default="cross",
        metadata={
            "help": "How a pair is scored: one encoder reads title and text together (cross, more exact), or each by "
            "itself, and the cosine of their vectors is the score (dual, fast to search with)."
        },
    )
    loss: Literal["auto", "cross_entropy", "squared_error", "in_batch", "cosine", "contrastive"] = field(
        default="auto",
        metadata={
            "help": "cross: cross_entropy (auto) or squared_error against the label, scaled to 0..1. dual: without labels "
            "in_batch (auto), each title against all texts of the batch and each text against all titles; with labels "
            "cosine (auto), the squared error of the cosine, or contrastive, for labels 0 and 1."
        },
    )
    pooling: Literal["auto", "pooler", "cls", "mean", "max"] = field(
        default="auto",
        metadata={
            "help": "Which vector of the encoder is read: the pooler's over [CLS] (auto for cross), the bare [CLS] vector, the "
            "mean (auto for dual) or the maximum over the tokens."
        },
    )
    long_text: Literal["head", "head_tail", "max", "mean"] = field(
        default="head",
        metadata={
            "help": "What is read of a text longer than --max_length: its beginning; its first quarter and its end; or "
            "windows over it, whose scores (cross) or vectors (dual) are joined by their maximum or mean."
        },
    )
    stride: int = field(default=32, metadata={"help": "Tokens that neighbouring windows of a text share at least.", "low": 0})
    max_windows: int = field(default=8, metadata={"help": "Windows of a text that are read, spread evenly over it.", "low": 2})
    max_title_length: int = field(
        default=64,
        metadata={"help": "cross: tokens of the title kept beside a text that --long_text reads beyond its head.", "low": 1},
    )
    negatives: int = field(
        default=1,
        metadata={"help": "cross without labels: texts of other rows drawn for each title, anew each epoch.", "low": 0},
    )
    hard_negatives: int = field(
        default=0,
        metadata={"help": "Without labels: texts of other rows like the title, drawn for it anew each epoch.", "low": 0},
    )
    mining: Literal["lexical", "model"] = field(
        default="lexical",
        metadata={
            "help": "What makes a text a hard negative: words in common with the title (tf-idf), or a vector near the title's "
            "in the model that training starts from."
        },
    )
    temperature: float = field(default=0.05, metadata={"help": "in_batch: what cosines are divided by.", "low": 1e-4})
    margin: float = field(
        default=0.5,
        metadata={"help": "contrastive: cosine distance that pairs labelled 0 are kept apart by.", "low": 0.0, "high": 2.0},
    )
    gradient_cache: int = field(
        default=0,
        metadata={
            "help": "dual: so many inputs pass through the encoder at once in training, twice each, for the same gradients as "
            "with the whole batch in less memory; 0: the whole batch, once.",
            "low": 0,
        },
    )
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "cross: dropout in front of the score, a fraction.", "low": 0.0, "high": 0.9},
    )
    own_negatives: int = 0  # columns of --text_columns after the title and the text, which hold negatives of training rows

    def check(self, max_length: int) -> None:
        """Any length will do here; what goes together depends on the rows too, and is checked with them."""
