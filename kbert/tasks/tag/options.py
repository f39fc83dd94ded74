"""The options of `--task=tag`."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from kbert.config import Labels
from kbert.data.schemes import Scheme
from kbert.data.tokens import Tokens
from kbert.errors import UsageError


@dataclass(frozen=True, kw_only=True)
class TagOptions:
    """Entities in a text, with the characters they are at."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",),)
    LABELS: ClassVar[Labels] = Labels(1)

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
    tokens: Tokens = field(
        default="auto",
        metadata={
            "help": "Where texts come as tokens (conll), whether these are words, with spaces between, or characters of "
            "unspaced text; auto goes by the training data, and what it finds is kept with the model."
        },
    )
    # Those of the training rows' tags, in which `kbert.predict` writes tags (`Tag.resolve_options_from_rows`); no flags.
    scheme: Scheme = "IOB2"
    untyped: bool = False
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "Dropout in front of the tagger, a fraction.", "low": 0.0, "high": 0.9},
    )

    def check(self, max_length: int) -> None:
        """Raise UsageError where windows cannot share `stride` tokens."""
        if self.stride >= max_length - 2:
            raise UsageError(
                f"--stride={self.stride}: windows of --max_length={max_length} hold {max_length - 2} tokens "
                "of text and have to share fewer"
            )
