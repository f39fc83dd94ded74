"""What is checked of pairs of a title and a text before any is learnt from, and the labels found on the way.

In: rows, one after the other. Out: the labels, in order; errors about a row or about all of them. No TensorFlow here.
"""

import logging
import math
from collections.abc import Sequence

from kbert.errors import DataError, UsageError

log = logging.getLogger(__name__)

FIELDS = ("title", "text")
BINARY = ("0", "1")
GRADES = 20  # different whole numbers that count as grades and are all listed


class MatchAudit:
    """Collects the labels, if the rows have some, and sees whether there is anything to tell apart."""

    def __init__(self, source: str, allowed: Sequence[str] | None):
        self.source = source
        self.allowed = None if allowed is None else tuple(allowed)
        self.labelled = False
        self.low, self.high = math.inf, -math.inf
        self.numbers: set[float] = set()
        self.first: tuple[str, ...] = ()
        self.varied = [False, False]  # whether titles differ, and texts
        if allowed is not None:
            try:
                numbers = {_number(label) for label in allowed}
            except ValueError as error:
                raise DataError(f"--labels: {error}") from None
            # Two are a range as they stand: 0.0 and 1.0 are grades, 0 and 1 labels.
            self.allowed = tuple(sorted(allowed, key=_number)) if len(allowed) == 2 else _written(numbers)
            if len(numbers) == 1:
                raise DataError(f"--labels: one label only ({self.allowed[0]}); pairs are told apart by two or more")

    def __call__(self, values: tuple[str, ...]) -> None:
        for name, value in zip(FIELDS, values, strict=False):
            if not value.strip():
                raise ValueError(f"the {name} is empty")
        self.first = self.first or values
        self.varied = [varied or a != b for varied, a, b in zip(self.varied, self.first, values, strict=False)]
        if len(values) > len(FIELDS):
            self.labelled = True
            label = _number(values[-1])
            if self.allowed == BINARY and label not in (0, 1):
                raise ValueError(f"label {values[-1]!r} is not among the model's labels: 0, 1")
            self.low, self.high = min(self.low, label), max(self.high, label)
            if len(self.numbers) <= GRADES:
                self.numbers.add(label)

    @property
    def labels(self) -> tuple[str, ...]:
        """The grades in order, or the lowest and the highest of other numbers; none where rows are not labelled."""
        if self.allowed and not self.labelled:
            raise UsageError("--labels: no label is read; name its column in --label_column")
        if self.allowed is not None or not self.labelled:
            return self.allowed or ()
        return _written(self.numbers) if len(self.numbers) <= GRADES else (repr(self.low), repr(self.high))

    def finish(self) -> None:
        if self.labelled and self.low == self.high:
            if self.low not in (0, 1) or (self.allowed and self.allowed != BINARY):
                raise DataError(f"{self.source}: all rows have the grade {self.low:g}; there is no correlation to compute")
            log.warning("%s: all rows have the label %g; roc_auc is undefined", self.source, self.low)
        for kind, varied in zip(FIELDS, self.varied, strict=True):
            if not self.labelled and not varied:
                raise DataError(f"{self.source}: all rows have the same {kind}; there is nothing to tell apart")

    def check_learnable(self) -> list[str]:
        if self.labelled and self.low == self.high:
            raise DataError(
                f"{self.source}: one label only ({self.low:g}); pairs that all belong together are trained on without "
                "--label_column"
            )
        return []


def _written(numbers: set[float]) -> tuple[str, ...]:
    """Whole numbers as they are, all of them; of others the lowest and the highest."""
    if all(number.is_integer() for number in numbers):
        return tuple(str(int(number)) for number in sorted(numbers))
    return tuple(repr(number) for number in sorted({min(numbers), max(numbers)}))


def _number(label: str) -> float:
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"label {label!r} is not a number; expected 0 and 1, grades, or another measure")
    return value
