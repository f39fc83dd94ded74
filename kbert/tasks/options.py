"""What the options of all tasks have: what has to be known of a task before its class, and TensorFlow, is imported."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple, Self

from kbert.config import Labels, TrainConfig
from kbert.settings import within


@dataclass(frozen=True, kw_only=True)
class Projection:
    """A dense layer over a text's vector, as sentence-transformers' `Dense`: its size, and the function of its output."""

    size: int = within(low=1)
    activation: Literal["identity", "tanh", "relu", "gelu", "sigmoid"] = "identity"
    bias: bool = True

    def __str__(self) -> str:
        return f"a dense layer to {self.size}" + ("" if self.activation == "identity" else f" with {self.activation}")


class TextVector(NamedTuple):
    """How a model makes the vector of a text."""

    pooling: str  # a name of `kbert.model.pooling`, or "pooler"; special tokens count
    long_text: str  # what is read of a text that is too long; "head" for its beginning
    normalize: bool = True  # whether it is scaled to length 1
    projections: tuple[Projection, ...] = ()  # applied in this order before


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """The base of a task's options, a frozen dataclass.

    Attributes:
        ABOUT: what it does, for `--help`.
        ALSO: what other toolkits call it.
        FIELDS: the raw inputs that the task's models can have.
        LABELS: how many labels they have.
        DEFAULTS: the task's own defaults of shared flags.
        TRAINED_BY: the configuration of a run that trains them.
    """

    ABOUT: ClassVar[str]
    ALSO: ClassVar[tuple[str, ...]] = ()
    FIELDS: ClassVar[tuple[tuple[str, ...], ...]]
    LABELS: ClassVar[Labels]
    DEFAULTS: ClassVar[dict[str, Any]] = {}
    TRAINED_BY: ClassVar[type] = TrainConfig

    def completed(self, max_length: int) -> Self:
        """Return the options with those set whose default follows from `--max_length`; by default all are set."""
        return self

    @property
    def allowed_labels(self) -> Labels:
        """How many labels a model with these options has."""
        return self.LABELS

    def check(self, max_length: int) -> None:
        """Raise UsageError, before anything is read, for what does not go with a `--max_length`; by default nothing."""
        return

    def segments(self, fields: Sequence[str]) -> int:
        """Return how many segments the encoder has to know for these raw inputs; by default one for each."""
        return len(fields)

    def outputs_of(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        """Return the names of the head's outputs, in order, of a model with these labels; by default the labels."""
        return labels

    def text_vector(self) -> TextVector | None:
        """Return how the model makes a vector of a text; None, the default, where it makes none."""
        return None
