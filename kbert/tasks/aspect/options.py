"""Define the options of `--task=aspect`, and the class of an aspect."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Literal

from kbert.config import Labels
from kbert.errors import UsageError
from kbert.settings import flag
from kbert.tasks.options import TaskOptions


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """One aspect that texts are labelled for.

    Attributes:
        name: its column, or its value in a column of aspects.
        coarse: its coarse aspect, for which sentences are selected.
        readable: what the encoder reads for it.
    """

    name: str
    coarse: str
    readable: str


@dataclass(frozen=True, kw_only=True)
class AspectOptions(TaskOptions):
    """Options of classifying what a long text says of aspects: positive, neutral, negative, or not mentioned."""

    ABOUT: ClassVar[str] = "what a text says of each of its aspects: positive, neutral or negative"
    ALSO: ClassVar[tuple[str, ...]] = (
        "absa",
        "aspect-sentiment",
        "atsc",
        "apc",
        "acsa",
        "aspect-based-sentiment-analysis",
    )
    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",), ("text", "aspect"))
    LABELS: ClassVar[Labels] = Labels(1)

    aspects: tuple[Aspect, ...] = ()  # in serving order; empty if each row names a term of its own
    aspect_names: str | None = flag(
        None,
        help="File of the aspects, one per line: its column name or value, a tab, the text that the model reads for it and, "
        "after another tab, its coarse aspect. By default the model reads the name with spaces for _, and the part before"
        " the first _ is the coarse aspect.",
    )
    filter: Literal["auto", "tfn", "head", "head_tail", "tail", "random", "lexical"] = flag(
        "auto",
        help="How sentences are selected for a coarse aspect when --max_length does not hold the whole text: by a text filter "
        "network (tfn), by words of texts that mention the aspect (lexical), from the head, from both ends, from the "
        "tail, or at random. auto is tfn, or lexical if rows name their own terms.",
    )
    filter_threshold: float = flag(
        0.0,
        help="tfn: minimum relevance of a selected sentence; if no sentence reaches it, the head of the text is read. 0 "
        "selects the most relevant sentences that fit. (A threshold can mislead the classifier: the filter was trained on"
        " the training texts, so nearly all of those that do not mention an aspect show their head, while new texts do "
        "not.)",
        low=0.0,
        high=1.0,
    )
    filter_pooling: Literal["log_sum_exp", "max", "attention"] = flag(
        "log_sum_exp",
        help="tfn: how the relevance of sentences is pooled into that of the text while the filter is trained: a soft maximum,"
        " the maximum, or an attention-weighted mean.",
    )
    filter_units: int = flag(64, help="tfn: LSTM units per direction.", low=1)
    filter_dropout: float = flag(0.3, help="tfn: dropout rate while the filter is trained.", low=0.0, high=0.9)
    filter_epochs: int = flag(
        2, help="tfn: training epochs of the filter; with many it memorises the texts that the classifier is trained on.", low=1
    )
    filter_learning_rate: float = flag(4e-3, help="tfn: peak learning rate.", low=0.0)
    pooling: Literal["cls", "aspect_attention"] = flag(
        "aspect_attention",
        help="Input of the classifier: the [CLS] vector, or that vector concatenated with the text's tokens weighted by "
        "attention from the aspect's tokens.",
    )
    head_dropout: float = flag(0.1, help="Dropout rate before the classifier.", low=0.0, high=0.9)

    def check(self, max_length: int) -> None:
        """Raise UsageError if an input cannot hold an aspect and some text."""
        if max_length < 16:
            raise UsageError(f"--max_length={max_length}: an aspect and the text read for it need 16 tokens or more")

    def segments(self, fields: Sequence[str]) -> int:
        return 2  # a text, and an aspect that need not be a field
