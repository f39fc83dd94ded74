"""The options of `kbert.pretrain`."""

from dataclasses import dataclass
from typing import ClassVar, Literal

from kbert.config import NO_LABELS, Labels
from kbert.pretrain_config import PretrainConfig
from kbert.settings import flag
from kbert.tasks.options import TaskOptions


@dataclass(frozen=True, kw_only=True)
class PretrainOptions(TaskOptions):
    """What is learnt from plain text; for `kbert.pretrain`, and so none of `OPTIONS`."""

    ABOUT: ClassVar[str] = "what is learnt from plain text"
    ALSO: ClassVar[tuple[str, ...]] = (
        "mlm",
        "masked-lm",
        "masked_lm",
        "fill-mask",
        "lm",
        "language-modeling",
        "pretraining",
        "pre-training",
        "nsp",
    )
    TRAINED_BY: ClassVar[type] = PretrainConfig
    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",),)
    LABELS: ClassVar[Labels] = NO_LABELS

    objective: Literal["mlm+nsp", "mlm", "mlm+sop"] = flag(
        "mlm+nsp",
        help="Masked LM with next-sentence prediction as in BERT, masked LM alone on runs of whole sentences as in RoBERTa, or"
        " masked LM with the order of two segments as in ALBERT.",
    )
    n_best: int = flag(5, help="Number of pieces to return for each [MASK], best first.", low=1, high=100)

    @property
    def pairs(self) -> str | None:
        """What is learnt of pairs of segments: "nsp", "sop" or nothing."""
        return self.objective.partition("+")[2] or None
