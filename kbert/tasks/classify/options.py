"""The options of `--task=classify`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from kbert.config import Labels
from kbert.settings import flag
from kbert.tasks.options import TaskOptions


@dataclass(frozen=True, kw_only=True)
class ClassifyOptions(TaskOptions):
    """One label for a text or for a pair of texts."""

    ABOUT: ClassVar[str] = "one label for a text, or for a pair of texts"
    ALSO: ClassVar[tuple[str, ...]] = (
        "text-classification",
        "sequence-classification",
        "sentiment",
        "sentiment-analysis",
        "classification",
        "cls",
        "cola",
        "sst2",
        "sst-2",
        "mnli",
        "nli",
        "mrpc",
        "qqp",
        "single",
        "pair",
        "classifier",
    )
    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",), ("text", "text_b"))
    LABELS: ClassVar[Labels] = Labels(2)

    pooling: Literal["pooler", "cls", "mean"] = flag(
        "pooler",
        help="Input of the classifier: the checkpoint's pooler over [CLS], the bare [CLS] vector, or the mean over all tokens,"
        " including [CLS] and [SEP].",
    )
    head_dropout: float = flag(0.1, help="Dropout rate before the classifier.", low=0.0, high=0.9)
