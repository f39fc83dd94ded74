"""Define how a task reads and checks rows: the part of its contract that needs no TensorFlow.

In: the settings of a source and the task's options. Out: the columns to read, the converters and checks of their values, and
options that all rows together decide. So mistakes in the data are found before TensorFlow is imported. The rest of the
contract is `kbert.tasks.base.Task`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from kbert.checkpoints.head import Head
from kbert.data.table import Reader, Table
from kbert.data.tokens import Tokens
from kbert.errors import UsageError
from kbert.source import SourceConfig


class Audit(Protocol):
    """Checks every row before training or measuring; its ValueError is reported with the row's file and line."""

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels found so far, in their final order."""

    def __call__(self, values: tuple[str, ...]) -> str | None:
        """Check a row; return a warning to log with its file and line, or None."""

    def finish(self) -> None:
        """Log warnings about the rows as a whole; raise DataError if they cannot be measured."""

    def check_learnable(self) -> list[str]:
        """Raise DataError if nothing can be learnt from the rows as a whole; called for training rows only.

        Returns:
            Warnings for the log about what the rows teach badly.
        """


class TaskRows(ABC):
    """The rows of a task; all methods are of the class, not of an object."""

    split_by: ClassVar[slice]  # the fields, one or two, whose values held-out dev rows do not share with training rows
    former_split_by: ClassVar[slice | None] = None  # those of runs of data order 1, where they differ
    # Columns that its rows usually have, each with the flag that reads it; an unread one is a warning.
    usual: ClassVar[dict[str, str]] = {"text": "--text_columns=text", "label": "--label_column=label"}

    several: ClassVar[str] = ""  # what to do about rows with several labels, where the task reads one

    @staticmethod
    @abstractmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        """Return the names of the raw string inputs, also those of serving; one for each text column."""

    @staticmethod
    @abstractmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        """Return the names of the columns that hold the fields and then the gold."""

    @staticmethod
    def reader(source: SourceConfig) -> Reader | None:
        """Return the function that converts the gold column from a file's notation; None if it needs no conversion.

        Raises:
            UsageError: the settings define how places in a text are counted, and the task has no places.
        """
        for name in ("offsets", "ends"):
            if getattr(source, name) is not None:
                raise UsageError(f"--{name}={getattr(source, name)}: the rows of this task have no places in a text")
        return None

    @staticmethod
    def nested(options: dict[str, Any]) -> bool:
        """Return whether gold columns may hold JSON lists, objects and null; by default False."""
        return False

    @staticmethod
    def separator(options: dict[str, Any]) -> str | None:
        """Return what separates the labels of a cell; None, the default, where a cell is one label."""
        return None

    @classmethod
    def learnt_columns(cls, source: SourceConfig, options: dict[str, Any]) -> tuple[str, ...]:
        """Return the names of the columns read of training rows: `columns`, then those that only training needs."""
        return cls.columns(source)

    @staticmethod
    def check_learnt(values: tuple[str, ...], options: dict[str, Any]) -> None:
        """Raise ValueError if the values that only training needs, after a row's others, are malformed; by default nothing."""
        return

    @staticmethod
    def resolve_options(options: Any, source: SourceConfig) -> Any:
        """Complete the task's options from the source settings or a file; they are stored with the model."""
        return options

    @staticmethod
    def tokens(options: dict[str, Any]) -> Tokens | None:
        """Return how tokens given with rows are read, by the option `tokens`; None if the task does not use them."""
        return None

    @staticmethod
    def resolve_options_from_rows(table: Table, options: dict[str, Any]) -> dict[str, Any]:
        """Complete the options from the training rows; they are stored with the model."""
        return options

    @staticmethod
    def fit_options(table: Table, fields: int, labels: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
        """Complete the options from the gold of the training rows, without held-out dev rows; by default unchanged.

        Args:
            table: `fields` columns of raw inputs, then gold.
        """
        return options

    @staticmethod
    def fit_to_head(head: Head, labels: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
        """Complete the options so that the task can keep a checkpoint's head with these labels; by default unchanged."""
        return options

    @staticmethod
    @abstractmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> Audit:
        """Create an audit of rows (fields, then gold).

        Args:
            source: of the rows, for messages.
            fields: names of the raw inputs.
            labels: the allowed labels; None if the rows define them.
            options: the model's, as in `ModelConfig`.
        """
