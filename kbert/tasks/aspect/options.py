"""The options of `--task=aspect`, and what an aspect is."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from kbert.config import Labels
from kbert.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class Aspect:
    """One thing that texts speak of.

    Attributes:
        name: its column, or its value in a column of aspects.
        coarse: the coarse aspect it is part of, for which sentences are picked.
        readable: what the encoder reads for it.
    """

    name: str
    coarse: str
    readable: str


@dataclass(frozen=True, kw_only=True)
class AspectOptions:
    """What a long text says of aspects: positive, neutral, negative, or nothing."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",), ("text", "aspect"))
    LABELS: ClassVar[Labels] = Labels(1)

    aspects: tuple[Aspect, ...] = ()  # in the order they are served; none where each row names a term of its own
    aspect_names: str | None = field(
        default=None,
        metadata={
            "help": "File of the aspects, one a line: its column or value, a tab, what the model reads for it and, behind "
            "another tab, its coarse aspect. By default the name with spaces for _ is read, and what stands before the first _ "
            "is the coarse aspect."
        },
    )
    filter: Literal["auto", "tfn", "head", "head_tail", "tail", "random", "lexical"] = field(
        default="auto",
        metadata={
            "help": "Which sentences of a text are read for a coarse aspect where --max_length does not hold all: those that "
            "a text filter network picks (tfn), those with words of texts that mention it (lexical), or sentences from the "
            "head, from both ends, from the tail or at random. auto is tfn, but lexical where rows name terms of their own."
        },
    )
    filter_threshold: float = field(
        default=0.0,
        metadata={
            "help": "tfn: least relevance of a sentence that is kept; with none above it, the head of the text is. 0 keeps the "
            "best that fit. (Training texts are those the filter knows: with a threshold nearly all of them that do not "
            "mention an aspect show their head, new ones do not, and the classifier takes the difference for the answer.)",
            "low": 0.0,
            "high": 1.0,
        },
    )
    filter_pooling: Literal["log_sum_exp", "max", "attention"] = field(
        default="log_sum_exp",
        metadata={
            "help": "tfn: how what a text mentions follows from its sentences, while that is learnt: a soft maximum, the "
            "maximum, or their mean weighed by attention over them."
        },
    )
    filter_units: int = field(default=64, metadata={"help": "tfn: units of the LSTM in each direction.", "low": 1})
    filter_dropout: float = field(
        default=0.3, metadata={"help": "tfn: dropout while it is trained, a fraction.", "low": 0.0, "high": 0.9}
    )
    filter_epochs: int = field(
        default=2,
        metadata={"help": "tfn: passes over the training data; with more it knows the classifier's texts by heart.", "low": 1},
    )
    filter_learning_rate: float = field(default=4e-3, metadata={"help": "tfn: peak learning rate.", "low": 0.0})
    pooling: Literal["cls", "aspect_attention"] = field(
        default="aspect_attention",
        metadata={
            "help": "What the classifier reads: the [CLS] vector, or it and the text's tokens as the aspect's tokens attend "
            "to them."
        },
    )
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "Dropout in front of the classifier, a fraction.", "low": 0.0, "high": 0.9},
    )

    def check(self, max_length: int) -> None:
        """Raise UsageError where an input does not hold an aspect and some text."""
        if max_length < 16:
            raise UsageError(f"--max_length={max_length}: an aspect and the text read for it need 16 tokens or more")
