"""Check pairs of a title and a text before training, and collect the labels.

In: rows, one by one. Out: the labels, in order; errors about a row or about all of them. No TensorFlow here.
"""

import math
import zlib
from array import array
from collections.abc import Sequence

import numpy as np

from kbert.errors import DataError, UsageError
from kbert.tasks.match.options import BINARY

FIELDS = ("title", "text")
GRADES = 20  # maximum distinct whole numbers listed as grades


class MatchAudit:
    """Collects the labels, if any, and checks that there is something to distinguish.

    For rows without labels it keeps hashes, eight bytes a row.

    Args:
        source: name of the data, for messages.
        allowed: the labels; None if the rows define them, empty for a model trained without labels.
        measured_drawn: whether each title is evaluated on randomly drawn texts of other rows, not on all texts.
        learnt_drawn: whether texts of other rows are drawn for each title in training.
    """

    def __init__(self, source: str, allowed: Sequence[str] | None, *, measured_drawn: bool = True, learnt_drawn: bool = True):
        self.source, self.measured_drawn, self.learnt_drawn = source, measured_drawn, learnt_drawn
        self.allowed = None if allowed is None else tuple(allowed)
        self.labelled = False
        self.low, self.high = math.inf, -math.inf
        self.numbers: set[float] = set()
        self.minus = 0  # rows labelled -1
        self.pairs = array("Q")  # for rows without labels: hash of the title, and in the lower half, of the text
        if allowed is not None:
            try:
                numbers = {_number(label) for label in allowed}
            except ValueError as error:
                raise DataError(f"--labels: {error}") from None
            # Two labels are a range if written so: 0.0 and 1.0 are grades, 0 and 1 labels.
            self.allowed = tuple(sorted(allowed, key=_number)) if len(allowed) == 2 else _written(numbers)
            if len(numbers) == 1:
                raise DataError(f"--labels: one label only ({self.allowed[0]}); distinguishing pairs needs two or more")

    def __call__(self, values: tuple[str, ...]) -> None:
        for name, value in zip(FIELDS, values, strict=False):
            if not value.strip():
                raise ValueError(f"the {name} is empty")
        if len(values) == len(FIELDS):
            title, text = (zlib.crc32(value.encode("utf-8", "surrogatepass")) for value in values)
            self.pairs.append(title << 32 | text)
        else:
            self.labelled = True
            label = _number(values[-1])
            if self.allowed == BINARY and label not in (0, 1):
                hint = "; -1 may mean a missing label, and such rows cannot be measured" if label == -1 else ""
                raise ValueError(f"label {values[-1]!r} is not among the model's labels: 0, 1{hint}")
            self.low, self.high = min(self.low, label), max(self.high, label)
            self.minus += label == -1
            if len(self.numbers) <= GRADES:
                self.numbers.add(label)

    @property
    def labels(self) -> tuple[str, ...]:
        """The grades in order, or the lowest and highest of other numbers; empty if rows are not labelled."""
        if self.allowed and not self.labelled:
            raise UsageError("--labels: no label column is read; name it in --label_column")
        if self.allowed is not None or not self.labelled:
            return self.allowed or ()
        return _written(self.numbers) if len(self.numbers) <= GRADES else (repr(self.low), repr(self.high))

    def finish(self) -> None:
        graded = self.low not in (0, 1) or (self.allowed and self.allowed != BINARY)
        if self.labelled and self.low == self.high and graded:
            raise DataError(f"{self.source}: all rows have the grade {self.low:g}; there is no correlation to compute")
        self._check_apart(self.measured_drawn)

    def check_learnable(self) -> list[str]:
        self._check_apart(self.learnt_drawn)
        if self.labelled and self.low == self.high:
            raise DataError(
                f"{self.source}: one label only ({self.low:g}); pairs that all belong together are trained on without "
                "--label_column"
            )
        if self.numbers == {-1, 0, 1}:
            return [
                f"{self.source}: {self.minus:,} rows have the label -1 beside 0 and 1, so labels are read as grades "
                "from -1 to 1; GLUE writes -1 for a missing label: remove such rows to read 0 and 1 as labels"
            ]
        return []

    def _check_apart(self, drawn: bool) -> None:
        """Raise DataError unless a title (if texts are `drawn` for each: every title) has a text other than its own."""
        if self.labelled or not self.pairs:
            return
        pairs = np.unique(np.array(self.pairs))
        titles, counts = np.unique(pairs >> np.uint64(32), return_counts=True)
        texts = len(np.unique(pairs & np.uint64(0xFFFFFFFF)))
        for kind, count in (("title", len(titles)), ("text", texts)):
            if count == 1:
                raise DataError(f"{self.source}: all rows have the same {kind}; there is nothing to distinguish")
        alone = titles[counts == texts]  # titles paired with all texts
        if len(alone) == len(titles) or (drawn and len(alone)):
            row = int(np.isin(np.array(self.pairs) >> np.uint64(32), alone).argmax())
            raise DataError(
                f"{self.source}: the title of row {row + 1} is paired with every text of the file ({texts:,}), so no text is "
                "wrong for it; leave its rows out, or label pairs and name --label_column"
            )


def _written(numbers: set[float]) -> tuple[str, ...]:
    """Return all of the numbers if whole; else the lowest and the highest."""
    if all(number.is_integer() for number in numbers):
        return tuple(str(int(number)) for number in sorted(numbers))
    return tuple(repr(number) for number in sorted({min(numbers), max(numbers)}))


def _number(label: str) -> float:
    try:
        value = float(label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError(f"label {label!r} is not a number; expected 0 and 1, grades, or other numbers")
    return value
