"""What classification reads of a row's label, as a contract: its columns, their check, and what all rows settle.

`kbert.tasks.classify.rows.GOLD` lists them by `--objective`. No TensorFlow.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence

import numpy as np

from kbert.data.table import Table
from kbert.errors import UsageError
from kbert.source import SourceConfig
from kbert.tasks.classify import class_weights
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.labels import LabelAudit
from kbert.tasks.rows import Audit


class Gold(ABC):
    """The gold of one objective."""

    @staticmethod
    def label_columns(source: SourceConfig) -> tuple[str, ...]:
        """Return the columns that list labels one a column; by default none, as one column holds the label.

        Raises:
            UsageError: several columns are named, and the objective has one.
        """
        if len(source.label_columns) > 1:
            raise UsageError(
                f"--label_column={source.label_column}: one column holds the label; several, with 0 or 1 each, are for "
                "--objective=multilabel"
            )
        return ()

    @staticmethod
    @abstractmethod
    def audit(source: str, fields: int, labels: Sequence[str] | None, options: ClassifyOptions) -> Audit:
        """Make an audit of rows: `fields` texts, then gold."""

    @staticmethod
    def fit(table: Table, fields: int, labels: Sequence[str], options: ClassifyOptions) -> ClassifyOptions:
        """Return the options, completed by the gold of the training rows; by default as they are."""
        return options


class OfClasses(Gold):
    """One class a row."""

    @staticmethod
    def audit(source: str, fields: int, labels: Sequence[str] | None, options: ClassifyOptions) -> LabelAudit:
        return LabelAudit(source, labels)

    @staticmethod
    def fit(table: Table, fields: int, labels: Sequence[str], options: ClassifyOptions) -> ClassifyOptions:
        def weights() -> tuple[float, ...]:
            numbers = {label.encode(): i for i, label in enumerate(labels)}
            counts = np.zeros(len(labels), np.int64)
            for _, columns in table.chunks():
                np.add.at(counts, [numbers[label] for label in list(columns.values())[fields]], 1)
            return class_weights.balanced(counts)

        return class_weights.weighted(options, labels, weights)
