"""Define the options of `--task=tag`."""

import dataclasses
from dataclasses import dataclass
from typing import ClassVar, Literal, Self

from kbert.config import Labels
from kbert.data.schemes import Scheme
from kbert.data.spans import tag_names
from kbert.data.tokens import Tokens
from kbert.errors import UsageError
from kbert.settings import flag
from kbert.tasks.options import TaskOptions


@dataclass(frozen=True, kw_only=True)
class TagOptions(TaskOptions):
    """Entities in a text, with the characters they are at."""

    ABOUT: ClassVar[str] = "entities in a text (persons, places, ...)"
    ALSO: ClassVar[tuple[str, ...]] = (
        "ner",
        "token-classification",
        "tagging",
        "sequence-labeling",
        "sequence-labelling",
        "sequence_labeling",
        "entity",
        "entities",
        "pos",
        "pos-tagging",
        "chunking",
        "conll2003",
    )
    FIELDS: ClassVar[tuple[tuple[str, ...], ...]] = (("text",),)
    LABELS: ClassVar[Labels] = Labels(1)

    decoder: Literal["softmax", "crf"] = flag(
        "softmax",
        help="How tags are chosen: independently for each word (softmax), or as the best valid sequence under a linear-chain "
        "CRF (crf).",
    )
    stride: int | None = flag(
        None,
        help="Minimum number of tokens that neighbouring windows of a text longer than --max_length share.",
        otherwise="32, or half of the tokens of a window where that is less",
        low=0,
    )
    max_windows: int = flag(
        128,
        help="Maximum number of windows of a text in evaluation, prediction and the exported model: what follows is not "
        "read, and the output `truncated` is true. Training reads all.",
        low=1,
    )
    tokens: Tokens = flag(
        "auto",
        help="For texts given as tokens (conll): whether tokens are words, separated by spaces, or characters of unspaced "
        "text; auto infers it from the training data and stores it with the model.",
    )
    # Those of the training rows' tags, in which `kbert.predict` writes tags (`Tag.resolve_options_from_rows`); no flags.
    scheme: Scheme = "IOB2"
    untyped: bool = False
    # The tagger's outputs where they are others than O, B- and I- of each type (`kbert.tasks.tag.outputs`); no flag.
    outputs: tuple[str, ...] = ()
    head_dropout: float = flag(0.1, help="Dropout rate before the tagger.", low=0.0, high=0.9)

    def shared(self, max_length: int) -> int:
        """Return how many tokens neighbouring windows share at least."""
        return min(32, (max_length - 2) // 2) if self.stride is None else self.stride

    def completed(self, max_length: int) -> Self:
        return dataclasses.replace(self, stride=self.shared(max_length))

    def check(self, max_length: int) -> None:
        """Raise UsageError if windows cannot share `stride` tokens."""
        if self.shared(max_length) >= max_length - 2:
            raise UsageError(
                f"--stride={self.stride}: windows of --max_length={max_length} hold {max_length - 2} tokens "
                "of text and must share fewer"
            )

    def outputs_of(self, labels: tuple[str, ...]) -> tuple[str, ...]:
        return self.outputs or tag_names(labels)
