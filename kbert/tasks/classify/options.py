"""The options of `--task=classify`."""

from dataclasses import dataclass, field
from typing import ClassVar, Literal

from kbert.config import Labels


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions:
    """One label for a text or for a pair of texts."""

    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",), ("text", "text_b"))
    LABELS: ClassVar[Labels] = Labels(2)

    pooling: Literal["pooler", "cls", "mean"] = field(
        default="pooler",
        metadata={
            "help": "What the classifier reads: the checkpoint's pooler over [CLS], the bare [CLS] "
            "vector, or the mean over all tokens, [CLS] and [SEP] too."
        },
    )
    head_dropout: float = field(
        default=0.1,
        metadata={"help": "Dropout in front of the classifier, a fraction.", "low": 0.0, "high": 0.9},
    )

    def check(self, max_length: int) -> None:
        """Any length will do."""
