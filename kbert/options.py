"""Each task's own options, as frozen dataclasses: what a task adds to the flags all tasks share.

They are part of the model (changing one after training would change predictions), and are stored
in its `config.json`. No TensorFlow here: the flags are made from these before anything heavy loads.
"""

from dataclasses import dataclass, field
from typing import Literal


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


OPTIONS: dict[str, type] = {"classify": ClassifyOptions, "tag": TagOptions}
