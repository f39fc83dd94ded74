"""Read any number of labels of a row: from a cell that lists them, or from a column for each. No TensorFlow."""

import ast
import json
import logging
from collections.abc import Sequence

import numpy as np

from kbert.data.label_names import LabelNames, not_among
from kbert.data.label_numbers import UNKNOWN
from kbert.data.table import Table
from kbert.errors import DataError, UsageError
from kbert.source import SourceConfig
from kbert.tasks import figures
from kbert.tasks.classify import class_weights
from kbert.tasks.classify.gold import Gold
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.labels import HELP, MOST_LABELS, RARE, in_order

log = logging.getLogger(__name__)

VALUES = {"1": 1, "0": 0, "1.0": 1, "0.0": 0, "true": 1, "false": 0}  # of a column that is a label


def labels_of(cell: str, separator: str) -> tuple[str, ...] | None:
    """Parse a cell that lists labels, joined by the separator or as a list of JSON or Python; None if it is unknown.

    Raises:
        ValueError: it is a list or an object of something else, or a label between two separators is empty.
    """
    cell = cell.strip(" ") if separator == "\t" else cell.strip()
    if cell in UNKNOWN:
        return None
    if not cell:
        return ()
    if cell[0] + cell[-1] in ("[]", "{}"):
        try:
            found = ast.literal_eval(cell) if "'" in cell and '"' not in cell else json.loads(cell)  # pandas writes Python's
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            found = None
        if not isinstance(found, list) or any(not isinstance(item, str | int) or isinstance(item, bool) for item in found):
            raise ValueError(f'expected a list of labels such as ["a", "b"], found {cell[:60]}')
        return tuple(str(item) for item in found)
    names = tuple(name.strip() for name in cell.split(separator))
    if not all(names):
        raise ValueError(f"an empty label in {cell!r}, whose labels are separated by {separator!r} (--label_separator)")
    return names


def value_of(cell: str, column: str) -> int:
    """Parse a cell of a column that is a label: 1, 0, or -1 for unknown.

    Raises:
        ValueError: it is something else.
    """
    cell = cell.strip()
    if cell in UNKNOWN:
        return -1
    if cell.lower() not in VALUES:
        raise ValueError(f"column {column!r}: expected 1, 0 or ? (unknown), found {cell!r}")
    return VALUES[cell.lower()]


class MultilabelAudit:
    """Collects the labels of all rows and counts them, or holds the rows to those given.

    Args:
        source: the rows' source, for messages.
        allowed: labels given; None if the rows define them.
        fields: number of texts before the gold.
        separator: of labels within a cell.
        columns: the columns that are a label each; empty if one cell lists them.
    """

    def __init__(self, source: str, allowed: Sequence[str] | None, fields: int, separator: str, columns: Sequence[str]):
        self.source, self.fields, self.separator, self.columns = source, fields, separator, tuple(columns)
        if self.columns and allowed is not None and set(allowed) != set(columns):
            raise DataError(f"--labels: {', '.join(allowed)}, but the columns of --label_column are {', '.join(columns)}")
        self.allowed = None if allowed is None else dict.fromkeys(allowed)
        self.names = LabelNames()
        self.positives: dict[str, int] = dict.fromkeys(self.columns, 0)
        self.negatives: dict[str, int] = dict.fromkeys(self.columns, 0)
        self.rows = self.known = self.empty = 0
        self.several = False  # whether a row has more than one label

    def __call__(self, values: tuple[str, ...]) -> str | None:
        texts, gold = values[: self.fields], values[self.fields :]
        if len(gold) != max(1, len(self.columns)):
            raise UsageError(
                f"--label_column names {len(gold)} columns, the model has {len(self.columns) or 'one that lists its labels'}"
                + (f": {', '.join(self.columns)}" if self.columns else "")
            )
        if self.columns:
            found = [value_of(cell, column) for cell, column in zip(gold, self.columns, strict=True)]
            self._count(texts)
            for column, value in zip(self.columns, found, strict=True):
                self.positives[column] += value == 1
                self.negatives[column] += value == 0
            self.known += any(value >= 0 for value in found)
            return None
        labels = labels_of(gold[0], self.separator)
        notes = []
        for label in dict.fromkeys(labels or ()):
            if self.allowed is not None and label not in self.allowed:
                known = f"{figures.listed(tuple(self.allowed))}{not_among(label, self.allowed)}"
                raise ValueError(f"label {label!r} is not among the model's labels: {known}")
            notes.append(self.names.add(label) if self.allowed is None else None)
        self._count(texts)
        if labels is None:
            return None
        self.known += 1
        self.several |= len(labels) > 1
        for label in dict.fromkeys(labels):
            self.positives[label] = self.positives.get(label, 0) + 1
        if len(self.positives) > MOST_LABELS:
            raise DataError(f"{self.source}: more than {MOST_LABELS:,} different labels; is --label_column the right one?")
        return "; ".join(filter(None, notes)) or None

    def _count(self, texts: Sequence[str]) -> None:
        self.rows += 1
        self.empty += not any(text.strip() for text in texts)

    @property
    def labels(self) -> tuple[str, ...]:
        if self.columns:
            return self.columns
        return in_order(self.positives) if self.allowed is None else tuple(self.allowed)

    def finish(self) -> None:
        """Raise DataError if no row is labelled: nothing can be measured."""
        if not self.known:
            raise DataError(f"{self.source}: all labels are unknown ({' or '.join(UNKNOWN)}), so nothing can be measured")
        if self.empty:
            log.warning("%s: rows without any text, of which only special tokens are read: %d", self.source, self.empty)

    def check_learnable(self) -> list[str]:
        if not self.known or not any(self.positives.values()):
            raise DataError(f"{self.source}: no row has a label; is --label_column the right one?")
        notes, constant = [], 0
        for label in self.labels:
            positives = self.positives.get(label, 0)
            negatives = self.negatives[label] if self.columns else self.known - positives
            if not positives or not negatives:
                said = "no row has" if not positives else "all rows have"
                if len(self.labels) == 1:
                    raise DataError(f"{self.source}: {said} the label {label!r}, the only one; nothing can be learnt")
                constant += 1
                notes.append(f"{self.source}: {said} the label {label!r}, which cannot be learnt from them")
        if constant == len(self.labels):
            raise DataError(f"{self.source}: every label is the same in all rows where it is known; nothing can be learnt")
        if not self.columns and not self.several and len(self.labels) > 1:
            notes.append(
                f"{self.source}: no row has more than one label; is --label_separator={self.separator} the right one? For "
                "one label a row, --objective=multiclass"
            )
        rarest = min(self.labels, key=lambda label: self.positives.get(label, 0))
        count = self.positives.get(rarest, 0)
        if 0 < count < RARE * self.known and not notes:
            notes.append(f"{self.source}: the rarest label, {rarest!r}, has {count:,} of {self.known:,} rows; {HELP}")
        return notes


def numbers(columns: Sequence[np.ndarray], known: dict[str, int], options: ClassifyOptions) -> np.ndarray:
    """Convert raw gold columns, UTF-8 bytes [rows] each, to 1, 0 and -1 for unknown, int32 [rows, labels]."""
    if options.label_columns:
        return np.array(
            [
                [value_of(cell.decode(), name) for cell in column]
                for name, column in zip(options.label_columns, columns, strict=True)
            ],
            np.int32,
        ).T.reshape(-1, len(known))
    found = np.zeros((len(columns[0]), len(known)), np.int32)
    for row, cell in enumerate(columns[0]):
        labels = labels_of(cell.decode(), options.label_separator)
        if labels is None:
            found[row] = -1
        else:
            found[row, [known[label] for label in labels]] = 1
    return found


class OfSeveralLabels(Gold):
    """Any number of labels a row."""

    @staticmethod
    def label_columns(source: SourceConfig) -> tuple[str, ...]:
        return source.label_columns if len(source.label_columns) > 1 else ()

    @staticmethod
    def audit(source: str, fields: int, labels: Sequence[str] | None, options: ClassifyOptions) -> MultilabelAudit:
        return MultilabelAudit(source, labels, fields, options.label_separator, options.label_columns)

    @staticmethod
    def fit(table: Table, fields: int, labels: Sequence[str], options: ClassifyOptions) -> ClassifyOptions:
        def weights() -> tuple[float, ...]:
            known = {label: number for number, label in enumerate(labels)}
            counts = np.zeros((2, len(labels)), np.int64)
            for _, columns in table.chunks():
                gold = numbers(list(columns.values())[fields : fields + max(1, len(options.label_columns))], known, options)
                counts += np.stack([(gold == 1).sum(0), (gold == 0).sum(0)])
            return class_weights.balanced_positives(*counts)

        return class_weights.weighted(options, labels, weights)
