"""The output layers that a checkpoint was fine-tuned with, and whether they fit what another model is to answer.

In: a checkpoint's `Head`, which says what its outputs are, and the outputs wanted. Out: which output is which, or `Unfit`
with the reason in words. Which of a head's arrays a task takes over, and what has to be the same for that, the task says
(`kbert.tasks.base.Task.take_head`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kbert.checkpoints.names import OUTPUTS

SHOWN = 8  # labels that a message lists


class Unfit(Exception):
    """A head cannot be taken over; the text says why."""


@dataclass(frozen=True)
class Head:
    """What is between the encoder and the answers of a fine-tuned checkpoint.

    Attributes:
        kind: its output layer, as kbert's models call it, for example `classifier`; `vectors` where it has no weights.
        size: how many outputs it has; 0 for `vectors`.
        labels: their names in order, a tagger's with B-, I- and O; of a `score` those that its range is taken from; empty
            where there are none.
        options: how it is read: the task's options of a kbert model, or what a Hugging Face directory states.
        task: the task of a kbert model; None for others.
        max_length: the same of its longest input.
        calibration: thresholds that were found on dev rows, by name.
    """

    kind: str
    size: int
    labels: tuple[str, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    task: str | None = None
    max_length: int | None = None
    calibration: Mapping[str, float] = field(default_factory=dict)

    def __str__(self) -> str:
        kind = {**OUTPUTS, "vectors": "way to make vectors"}.get(self.kind, self.kind.replace("_", " "))
        return f"{kind} of --task={self.task}" if self.task else kind

    @property
    def names(self) -> tuple[str, ...]:
        """The labels, or as Hugging Face calls outputs without names."""
        return self.labels or _numbered(self.size)

    def check_kind(self, *kinds: str) -> None:
        """Raise Unfit unless it is of one of these kinds."""
        if self.kind not in kinds:
            raise Unfit("it answers another task")

    def check_option(self, name: str, wanted: Any, found: Any) -> None:
        """Raise Unfit unless it was trained with the value that is wanted of a flag."""
        if found != wanted:
            raise Unfit(f"it was trained with --{name}={found}, and this run has --{name}={wanted}")


def order(head: Head, labels: Sequence[str]) -> np.ndarray:
    """Return the number of the head's output for each label, int [labels].

    Labels are matched by name; outputs that have numbers only (LABEL_0, LABEL_1, …) by labels that are 0, 1, ….

    Raises:
        Unfit: the labels are not the same.
    """
    found = head.names
    if found == _numbered(head.size) and set(found) != set(labels):
        found = tuple(map(str, range(head.size)))
        if set(found) != set(labels):
            raise Unfit(f"its {head.size} outputs have numbers and no names, and the labels of this run are {_listed(labels)}")
    missing = [label for label in labels if label not in found]
    beyond = [label for label in found if label not in labels]
    if missing:
        raise Unfit(f"its labels are {_listed(found)}, and this run has {_listed(missing)} besides")
    if beyond:
        raise Unfit(f"its labels are {_listed(found)}, and this run lacks {_listed(beyond)}; --labels=FILE can name them all")
    return np.array([found.index(label) for label in labels])


def ordered(arrays: Mapping[str, np.ndarray], layer: str, places: np.ndarray) -> dict[str, np.ndarray]:
    """Return a dense layer's kernel and bias, by path, of the outputs at these places."""
    return {f"{layer}/{name}": arrays[f"{layer}/{name}"][..., places] for name in ("kernel", "bias")}


def _numbered(size: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{i}" for i in range(size))


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
