"""Describe a checkpoint's fine-tuned output layers, and check whether they fit another model's outputs.

In: a checkpoint's `Head`, which describes its outputs, and the outputs wanted. Out: the mapping between them, or `Unfit`
with the reason. Which of a head's arrays a task takes over, and what must match for that, is decided by the task
(`kbert.tasks.base.Task.take_head`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from kbert.checkpoints.names import OUTPUTS

# Hugging Face's `problem_type` by the objective of a kbert model.
PROBLEMS = {
    "multiclass": "single_label_classification",
    "multilabel": "multi_label_classification",
    "regression": "regression",
}
SHOWN = 8  # maximum labels listed in a message


class Unfit(Exception):
    """A head cannot be reused; the text says why."""


@dataclass(frozen=True)
class Head:
    """The output layers between the encoder and the predictions of a fine-tuned checkpoint.

    Attributes:
        kind: the output layer, by the name in kbert's models, for example `classifier`; `vectors` if it has no weights.
        size: number of outputs; 0 for `vectors`.
        labels: their names in order, a tagger's with B-, I- and O; for a `score`, the labels that define its range; empty
            if there are none.
        options: how the head is used: the task's options of a kbert model, or what a Hugging Face directory states: for a
            classifier `pooling`, `problem_type`, `named` (whether it names its class, which classifiers of texts and of tokens
            share their tensors' names without) and `cross_encoder` (of sentence-transformers, the function of its output).
        task: the task of a kbert model; None for others.
        max_length: its longest input; None for others.
        calibration: thresholds found on dev rows, by name.
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
        """The labels, or Hugging Face's default names for outputs without names."""
        return self.labels or _numbered(self.size)

    @property
    def named(self) -> bool:
        """Whether the outputs have names other than numbers."""
        return bool(self.labels) and self.labels != _numbered(self.size)

    def check_kind(self, *kinds: str) -> None:
        """Raise Unfit unless the head is of one of these kinds."""
        if self.kind not in kinds:
            raise Unfit("it belongs to another task")

    def check_option(self, name: str, wanted: Any, found: Any) -> None:
        """Raise Unfit unless it was trained with the wanted value of a flag."""
        if found != wanted:
            raise Unfit(f"it was trained with --{name}={found}, but this run has --{name}={wanted}")


def problem_of(head: Head) -> str:
    """Return what a classifier learnt, by Hugging Face's `problem_type`."""
    stated = head.options.get("problem_type") or PROBLEMS.get(head.options.get("objective", ""))
    return stated or ("regression" if head.size == 1 else PROBLEMS["multiclass"])


def order(head: Head, labels: Sequence[str]) -> np.ndarray:
    """Return the index of the head's output for each label, int [labels].

    Labels are matched by name; outputs with numbers only (LABEL_0, LABEL_1, …) match labels 0, 1, ….

    Raises:
        Unfit: the labels differ.
    """
    found = head.names
    if found == _numbered(head.size) and set(found) != set(labels):
        found = tuple(map(str, range(head.size)))
        if set(found) != set(labels):
            raise Unfit(f"its {head.size} outputs have numbers but no names, and the labels of this run are {_listed(labels)}")
    missing = [label for label in labels if label not in found]
    beyond = [label for label in found if label not in labels]
    if missing:
        raise Unfit(f"its labels are {_listed(found)}, but this run also has {_listed(missing)}")
    if beyond:
        raise Unfit(f"its labels are {_listed(found)}, but this run lacks {_listed(beyond)}; --labels=FILE can list them all")
    return np.array([found.index(label) for label in labels])


def ordered(arrays: Mapping[str, np.ndarray], layer: str, places: np.ndarray) -> dict[str, np.ndarray]:
    """Select outputs of a dense layer's kernel and bias; return the arrays by path."""
    return {f"{layer}/{name}": arrays[f"{layer}/{name}"][..., places] for name in ("kernel", "bias")}


def _numbered(size: int) -> tuple[str, ...]:
    return tuple(f"LABEL_{i}" for i in range(size))


def _listed(labels: Sequence[str]) -> str:
    return ", ".join(labels[:SHOWN]) + (f" and {len(labels) - SHOWN} more" if len(labels) > SHOWN else "")
