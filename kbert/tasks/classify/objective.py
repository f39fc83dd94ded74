"""What classification learns of a row's label, as a contract: its targets, loss, decoding and metrics.

`kbert.tasks.classify.task.OBJECTIVES` lists them by `--objective`.
"""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Literal

import numpy as np
import tensorflow as tf

from kbert.checkpoints.head import Head
from kbert.config import ModelConfig
from kbert.tasks.base import Scorer, Tensors
from kbert.tasks.classify.options import ClassifyOptions


class Objective(ABC):
    """One way to learn labels.

    Args:
        config: the model's.
        options: the task's.

    Attributes:
        best: the scalar that selects the best checkpoint by default, and whether a higher or a lower one is better.
        figures: all scalars of its reports.
    """

    best: ClassVar[tuple[str, Literal["max", "min"]]]
    figures: ClassVar[tuple[str, ...]]
    method: ClassVar[Literal["classify", "regress"]] = "classify"  # TensorFlow Serving's API for its answers

    def __init__(self, config: ModelConfig, options: ClassifyOptions):
        self.options, self.labels, self.fields = options, config.labels, config.fields

    @property
    def gold(self) -> tuple[str, ...]:
        """Names of the raw gold columns."""
        return ("label",)

    @property
    @abstractmethod
    def size(self) -> int:
        """Number of scores of a row."""

    @abstractmethod
    def targets(self, raw: Tensors) -> tf.Tensor:
        """Convert raw gold to targets, [rows] or [rows, scores]."""

    @abstractmethod
    def weights(self, targets: tf.Tensor, rows: tf.Tensor | None) -> tf.Tensor | None:
        """Return the weights of the losses, float32 of the losses' shape, given those of the rows, [rows]; None: 1 each."""

    @abstractmethod
    def loss(self, targets: tf.Tensor, scores: tf.Tensor) -> tf.Tensor:
        """Compute the losses, float32 [rows] or [rows, scores], of scores [rows, scores]."""

    def metrics(self) -> list[Any]:
        """Return Keras metrics of training batches; by default none."""
        return []

    def calibrate(self, values: dict[str, float]) -> None:
        """Take what was found on dev; by default nothing."""
        return

    @abstractmethod
    def decode(self, scores: tf.Tensor) -> Tensors:
        """Compute what is served from scores, float32 [rows, scores]."""

    def in_its_form(self, decoded: Tensors) -> Tensors:
        """Convert what is served to the outputs of TensorFlow Serving's `method`: here every label with its probability.

        Returns:
            `classes` string and `scores` float32, [rows, labels] each, in the model's order.
        """
        scores = decoded["probabilities"]
        return {"classes": tf.broadcast_to(tf.constant(self.labels), tf.shape(scores)), "scores": scores}

    @abstractmethod
    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        """Convert one row of what is served to JSON values."""

    @abstractmethod
    def scorer(self, calibrates: bool) -> Scorer:
        """Make a scorer; `calibrates`: find on its rows what the options ask for and the model lacks."""

    @abstractmethod
    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return kernel and bias of the classifier by path from a head; raise Unfit if it does not fit."""
