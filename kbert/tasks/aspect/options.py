"""Define the options of `--task=aspect`, and the class of an aspect."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from kbert.config import Labels
from kbert.errors import UsageError


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
class AspectOptions:
    """Options of classifying what a long text says of aspects: positive, neutral, negative, or not mentioned."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",), ("text", "aspect"))
    LABELS: ClassVar[Labels] = Labels(1)

    aspects: tuple[Aspect, ...] = ()  # in serving order; empty if each row names a term of its own
    aspect_names: str | None = field(
        default=None,
        metadata={
            "help": "File of the aspects, one a line: its column or value, a tab, what the model reads for it and, after "
            "another tab, its coarse aspect. By default the name is read with spaces for _, and the part before the first _ "
            "is the coarse aspect."
        },
    )
    filter: Literal["auto", "tfn", "head", "head_tail", "tail", "random", "lexical"] = field(
        default="auto",
        metadata={
            "help": "Which sentences of a text are read for a coarse aspect if --max_length does not hold all: those that "
            "a text filter network selects (tfn), those with words of texts that mention it (lexical), or sentences from the "
            "head, from both ends, from the tail or at random. auto is tfn, but lexical if rows name terms of their own."
        },
    )
    filter_threshold: float = field(
        default=0.0,
        metadata={
            "help": "tfn: minimum relevance of a sentence to keep; if none has it, the head of the text is kept. 0 keeps the "
            "best that fit. (The filter has seen the training texts: with a threshold nearly all of them that do not "
            "mention an aspect show their head, unseen ones do not, and the classifier learns this difference.)",
            "low": 0.0,
            "high": 1.0,
        },
    )
    filter_pooling: Literal["log_sum_exp", "max", "attention"] = field(
        default="log_sum_exp",
        metadata={
            "help": "tfn: how sentence scores are pooled into a text's in training: by a soft maximum, the "
            "maximum, or a mean weighted by attention."
        },
    )
    filter_units: int = field(default=64, metadata={"help": "tfn: units of the LSTM in each direction.", "low": 1})
    filter_dropout: float = field(
        default=0.3, metadata={"help": "tfn: dropout in training, a fraction.", "low": 0.0, "high": 0.9}
    )
    filter_epochs: int = field(
        default=2,
        metadata={"help": "tfn: passes over the training data; with more it overfits to the classifier's texts.", "low": 1},
    )
    filter_learning_rate: float = field(default=4e-3, metadata={"help": "tfn: peak learning rate.", "low": 0.0})
    pooling: Literal["cls", "aspect_attention"] = field(
        default="aspect_attention",
        metadata={
            "help": "What the classifier reads: the [CLS] vector, or also the text's tokens, as the aspect's tokens attend "
            "to them."
        },
    )
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "Dropout before the classifier, a fraction.", "low": 0.0, "high": 0.9},
    )

    def check(self, max_length: int) -> None:
        """Raise UsageError if an input cannot hold an aspect and some text."""
        if max_length < 16:
            raise UsageError(f"--max_length={max_length}: an aspect and the text read for it need 16 tokens or more")
