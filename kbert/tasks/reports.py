"""Represent the result of measuring a set of rows: JSON for metrics.json, a table, and TensorBoard's contents."""

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import numpy as np

Matrix = tuple[np.ndarray, tuple[str, ...]]


class Lines(NamedTuple):
    """Lines of a diagram: points, x and y in 0 to 1, by the line's name."""

    x: str  # the axes' names
    y: str
    points: dict[str, tuple[np.ndarray, np.ndarray]]
    diagonal: bool = False  # whether to draw x = y for comparison


class Report(ABC):
    """The result of a scorer.

    Args:
        metrics: JSON values, as stored with a checkpoint.
    """

    percent: ClassVar[bool] = False  # whether the scalars are percentages; else those in 0 to 1 are fractions

    def __init__(self, metrics: dict[str, Any]):
        self.metrics = metrics

    @abstractmethod
    def scalars(self) -> dict[str, float]:
        """Return the metrics drawn as curves; one of them selects the best checkpoint."""

    @abstractmethod
    def table(self) -> str:
        """Return the metrics as a table."""

    def warnings(self) -> list[str]:
        """Return warnings on what makes the figures weak, such as one class predicted for all rows; part of the metrics."""
        return list(self.metrics.get("warnings", ()))

    def matrices(self) -> dict[str, Matrix]:
        """Return square tables of counts with their labels, gold by predicted; TensorBoard shows them as images."""
        return {}

    def lines(self) -> dict[str, Lines]:
        """Return diagrams by title, which TensorBoard shows as images; only of rows just measured."""
        return {}

    def texts(self) -> dict[str, str]:
        """Return Markdown by title, for TensorBoard: examples of mistakes."""
        return {}

    def calibration(self) -> dict[str, float]:
        """Return values found on these rows that `decode` uses from here on, such as a threshold."""
        return {}
