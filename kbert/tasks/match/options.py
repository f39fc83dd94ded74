"""Define the options of `--task=match`."""

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Self

from kbert.config import Labels
from kbert.errors import UsageError
from kbert.settings import flag
from kbert.tasks.options import Projection, TaskOptions, TextVector

BINARY = ("0", "1")  # labels that say whether a pair matches
# What may be learnt, by scorer and whether the rows are labelled; the first is "auto".
LOSSES: dict[tuple[str, bool], tuple[str, ...]] = {
    ("cross", True): ("cross_entropy", "squared_error"),
    ("cross", False): ("cross_entropy", "squared_error"),
    ("dual", True): ("cosine", "contrastive"),
    ("dual", False): ("in_batch",),
}


@dataclass(frozen=True, kw_only=True)
class MatchOptions(TaskOptions):
    """Whether, or how well, a title and a text belong together."""

    ABOUT: ClassVar[str] = "whether two texts belong together, or how well; also search"
    ALSO: ClassVar[tuple[str, ...]] = (
        "similarity",
        "sts",
        "sts-b",
        "stsb",
        "sentence-similarity",
        "retrieval",
        "search",
        "ranking",
        "rerank",
        "reranker",
        "dual",
        "bi-encoder",
        "cross-encoder",
        "semantic-search",
        "paraphrase",
        "matching",
        "simcse",
    )
    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("title", "text"),)
    LABELS: ClassVar[Labels] = Labels(numbers=True)
    DEFAULTS: ClassVar[dict[str, Any]] = {"text_columns": ("title", "text"), "label_column": ""}

    scorer: Literal["cross", "dual"] = flag(
        "cross",
        help="How a pair is scored: one encoder reads title and text together (cross, more accurate), or each separately, and "
        "the score is the cosine of their vectors (dual, fast to search with).",
    )
    loss: Literal["auto", "cross_entropy", "squared_error", "in_batch", "cosine", "contrastive"] = flag(
        "auto",
        help="cross: cross_entropy (auto) or squared_error against the label, scaled to 0..1. dual without labels: in_batch "
        "(auto), each title against all texts of the batch and each text against all titles. dual with labels: cosine "
        "(auto), the squared error of the cosine, or contrastive, for labels 0 and 1.",
    )
    pooling: Literal["auto", "pooler", "cls", "mean", "max"] = flag(
        "auto",
        help="Vector to read from the encoder: the pooler's over [CLS] (auto for cross), the bare [CLS] vector, the mean (auto"
        " for dual) or the maximum over the tokens.",
    )
    long_text: Literal["head", "head_tail", "max", "mean"] = flag(
        "head",
        help="What to read of a text longer than --max_length: its head; its head for a quarter of the length and its tail for"
        " the rest (head_tail); or windows over it, whose scores (cross) or vectors (dual) are combined by maximum or "
        "mean.",
    )
    stride: int | None = flag(
        None,
        help="Minimum number of tokens that neighbouring windows of a text share.",
        otherwise="32, or half of the tokens of a text in a window where that is less",
        low=0,
    )
    max_windows: int = flag(8, help="Maximum number of windows of a text, spread evenly over it.", low=2)
    max_title_length: int = flag(
        64, help="cross: maximum title length in tokens when --long_text reads more of the text than its head.", low=1
    )
    negatives: int = flag(
        1, help="cross without labels: texts of other rows to sample for each title, resampled each epoch.", low=0
    )
    hard_negatives: int = flag(
        0,
        help="Without labels: texts of other rows that resemble the title, to sample for each title, resampled each epoch.",
        low=0,
    )
    mining: Literal["lexical", "model"] = flag(
        "lexical",
        help="How hard negatives are found: by words in common with the title (tf-idf), or by vectors near the title's in the "
        "model that training starts from.",
    )
    temperature: float = flag(0.05, help="in_batch: temperature that cosines are divided by.", low=1e-4)
    margin: float = flag(
        0.5, help="contrastive: cosine distance beyond which pairs labelled 0 are not pushed further apart.", low=0.0, high=2.0
    )
    gradient_cache: int = flag(
        0,
        help="dual: number of inputs to pass through the encoder at once in training, twice each; gradients are those of the "
        "whole batch, with less memory. 0: the whole batch, once.",
        low=0,
    )
    head_dropout: float = flag(0.1, help="cross: dropout rate before the score.", low=0.0, high=0.9)
    # Of a model that sentence-transformers trained: dense layers over its vectors, and whether these are served with length 1.
    projections: tuple[Projection, ...] = ()
    normalize: bool = True
    own_negatives: int = 0  # columns of --text_columns after the title and the text, which hold negatives of training rows

    def room(self, max_length: int) -> int:
        """Return how many tokens of a text an input holds, beside the longest title where both are in one."""
        return max_length - (2 if self.scorer == "dual" else 3 + self.max_title_length)

    def shared(self, max_length: int) -> int:
        """Return how many tokens neighbouring windows share at least."""
        return min(32, max(1, self.room(max_length) // 2)) if self.stride is None else self.stride

    def check_labels(self, labels: Sequence[str], max_length: int) -> None:
        """Raise UsageError unless the options go together, for rows with these labels, which may be none."""
        allowed = LOSSES[self.scorer, bool(labels)]
        kind = "labelled rows" if labels else "rows without labels"
        if self.loss not in ("auto", *allowed):
            raise UsageError(f"--loss={self.loss}: --scorer={self.scorer} on {kind} has {' and '.join(allowed)}")
        if self.loss == "contrastive" and labels != BINARY:
            raise UsageError(f"--loss=contrastive: needs labels 0 and 1, found {', '.join(labels)}")
        if labels and self.hard_negatives:
            raise UsageError(f"--hard_negatives={self.hard_negatives}: the rows are labelled; no negatives are drawn")
        if self.scorer == "cross" and not (labels or self.negatives + self.hard_negatives + self.own_negatives):
            raise UsageError("--negatives=0: --scorer=cross on rows without labels needs negatives")
        room, shared = self.room(max_length), self.shared(max_length)
        least = shared if self.long_text in ("max", "mean") else 1
        if self.long_text != "head" and room <= least:
            title = "" if self.scorer == "dual" else f" beside a title of --max_title_length={self.max_title_length}"
            than = f"--stride={shared} has to be less" if least == shared > 1 else "it needs two or more"
            raise UsageError(f"--max_length={max_length} leaves {room} tokens of text{title}; {than}")

    def completed(self, max_length: int) -> Self:
        return dataclasses.replace(self, stride=self.shared(max_length))

    def segments(self, fields: Sequence[str]) -> int:
        return 1 if self.scorer == "dual" else len(fields)

    def text_vector(self) -> TextVector | None:
        if self.scorer != "dual":
            return None
        pooling = "mean" if self.pooling == "auto" else self.pooling
        return TextVector(pooling, self.long_text, self.normalize, self.projections)
