"""What measuring a set of rows gives: JSON for metrics.json, a table for people, and what TensorBoard shows."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np

Matrix = tuple[np.ndarray, tuple[str, ...]]


class Report(ABC):
    """A scorer's result.

    Args:
        metrics: JSON values, as a checkpoint keeps them.
    """

    percent: ClassVar[bool] = False  # whether the scalars are percentages; else those of 0 to 1 are fractions

    def __init__(self, metrics: dict[str, Any]):
        self.metrics = metrics

    @abstractmethod
    def scalars(self) -> dict[str, float]:
        """Return the figures that are drawn as curves; one of them picks the best checkpoint."""

    @abstractmethod
    def table(self) -> str:
        """Return the figures for people."""

    def warnings(self) -> list[str]:
        """Return warnings on what makes the figures weak, such as one class predicted for all rows; part of the metrics."""
        return list(self.metrics.get("warnings", ()))

    def matrices(self) -> dict[str, Matrix]:
        """Square tables of counts with their labels, gold by predicted; TensorBoard shows them as images."""
        return {}

    def texts(self) -> dict[str, str]:
        """Markdown by title, for TensorBoard: mistaken examples."""
        return {}

    def calibration(self) -> dict[str, float]:
        """Return what was found on these rows and `decode` needs from here on, such as a threshold."""
        return {}
