"""Read a number of a row. No TensorFlow."""

import dataclasses
import logging
import math
from collections.abc import Sequence

import numpy as np

from kbert.data.table import Table
from kbert.errors import DataError
from kbert.tasks.classify.gold import Gold
from kbert.tasks.classify.options import LARGEST, ClassifyOptions

log = logging.getLogger(__name__)


class TargetAudit:
    """Checks that gold is a finite number."""

    def __init__(self, source: str, labels: Sequence[str] | None):
        if labels:
            raise DataError(f"--labels: {', '.join(labels[:3])}, …: --objective=regression has no labels")
        self.source = source
        self.rows = self.empty = 0
        self.low, self.high = math.inf, -math.inf

    def __call__(self, values: tuple[str, ...]) -> None:
        *texts, gold = values
        number = number_of(gold)
        self.rows += 1
        self.empty += not any(text.strip() for text in texts)
        self.low, self.high = min(self.low, number), max(self.high, number)

    @property
    def labels(self) -> tuple[str, ...]:
        return ()

    def finish(self) -> None:
        if self.empty:
            log.warning("%s: rows without any text, of which only special tokens are read: %d", self.source, self.empty)

    def check_learnable(self) -> list[str]:
        if self.low == self.high:
            raise DataError(f"{self.source}: all {self.rows:,} targets are {self.low:g}; nothing can be learnt")
        return []


def number_of(value: str) -> float:
    """Parse a target; raise ValueError unless it is a finite number."""
    try:
        number = float(value)
    except ValueError:
        number = math.nan
    if not abs(number) <= LARGEST or "_" in value or not value.isascii():  # Python reads more than TensorFlow
        raise ValueError(f"expected a number for --objective=regression, found {value!r}")
    return number


class OfNumbers(Gold):
    """A number a row."""

    @staticmethod
    def audit(source: str, fields: int, labels: Sequence[str] | None, options: ClassifyOptions) -> TargetAudit:
        return TargetAudit(source, labels)

    @classmethod
    def fit(cls, table: Table, fields: int, labels: Sequence[str], options: ClassifyOptions) -> ClassifyOptions:
        count, total = 0, 0.0
        columns = lambda: (list(read.values())[fields].astype(np.float64) for _, read in table.chunks())  # noqa: E731
        for values in columns():
            count, total = count + len(values), total + float(values.sum())
        mean = total / count
        deviation = math.sqrt(sum(float(np.square(values - mean).sum()) for values in columns()) / count)
        return dataclasses.replace(options, target_mean=mean, target_deviation=deviation or 1.0)
