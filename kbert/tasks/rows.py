"""How a task reads rows and checks them: the part of its contract that needs no TensorFlow.

In: the settings of a source and the task's options. Out: the columns to read, what converts and checks their values, and what
all rows together settle. So mistakes in the data are found before TensorFlow is imported. The rest is `kbert.tasks.base.Task`.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

from kbert.data.table import Reader, Table
from kbert.data.tokens import Tokens
from kbert.errors import UsageError
from kbert.source import SourceConfig


class Audit(Protocol):
    """Checks every row before training or measuring; its ValueError is reported with the row's file and line."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Those found so far, in their final order."""

    def __call__(self, values: tuple[str, ...]) -> str | None:
        """Take in a row; returns a warning, which is logged with its file and line."""

    def finish(self) -> None:
        """Warn of what all rows together are like; raise DataError when they cannot even be measured."""

    def check_learnable(self) -> list[str]:
        """Raise DataError when nothing can be learnt from the rows as a whole; asked of training rows only.

        Returns:
            Sentences about what of them can be learnt badly, for the log.
        """


class TaskRows(ABC):
    """The rows of one task: nothing of it is an object's, all of it the class's."""

    split_by: ClassVar[slice]  # the fields, one or two, of which dev rows set aside share no value with training rows
    former_split_by: ClassVar[slice | None] = None  # those of runs of data order 1, where they were others
    # Columns that its rows usually have, each with the flag that reads it: where one is there and unread, a warning says so.
    usual: ClassVar[dict[str, str]] = {"text": "--text_columns=text", "label": "--label_column=label"}

    several: ClassVar[str] = ""  # what to do about rows with several labels, where the task reads one

    @staticmethod
    @abstractmethod
    def fields(source: SourceConfig) -> tuple[str, ...]:
        """Names of the raw string inputs, which are the serving inputs too; one for each text column."""

    @staticmethod
    @abstractmethod
    def columns(source: SourceConfig) -> tuple[str, ...]:
        """Names of the columns that hold the fields and then the gold."""

    @staticmethod
    def reader(source: SourceConfig) -> Reader | None:
        """What reads the gold column as a file writes it; None: it is taken as it is.

        Raises:
            UsageError: the settings say what places count, and the task has none.
        """
        for name in ("offsets", "ends"):
            if getattr(source, name) is not None:
                raise UsageError(f"--{name}={getattr(source, name)}: the rows of this task have no places in a text")
        return None

    @staticmethod
    def nested(options: dict[str, Any]) -> bool:
        """Whether gold columns may hold JSON lists, objects and null; by default not."""
        return False

    @classmethod
    def learnt_columns(cls, source: SourceConfig, options: dict[str, Any]) -> tuple[str, ...]:
        """Names of the columns that are read of training rows: those of `columns`, then what only training needs."""
        return cls.columns(source)

    @staticmethod
    def check_learnt(values: tuple[str, ...], options: dict[str, Any]) -> None:
        """Raise ValueError if what only training needs of a row, after its other values, is malformed; by default nothing."""
        return

    @staticmethod
    def resolve_options(options: Any, source: SourceConfig) -> Any:
        """The task's options, completed by what the source settings or a file say; they are stored with the model."""
        return options

    @staticmethod
    def tokens(options: dict[str, Any]) -> Tokens | None:
        """How tokens are read of rows that come with them, by the option `tokens`; None: the task does not look at them."""
        return None

    @staticmethod
    def resolve_options_from_rows(table: Table, options: dict[str, Any]) -> dict[str, Any]:
        """The options, completed by what the training rows are like; they are stored with the model."""
        return options

    @staticmethod
    def fit_options(table: Table, fields: int, labels: Sequence[str], options: dict[str, Any]) -> dict[str, Any]:
        """Return the options, completed by the gold of the training rows, once dev rows are set aside; by default as they are.

        Args:
            table: `fields` columns of raw inputs, then gold.
        """
        return options

    @staticmethod
    @abstractmethod
    def audit(
        source: str, fields: tuple[str, ...], labels: Sequence[str] | None, options: dict[str, Any] | None = None
    ) -> Audit:
        """An audit of rows (fields, then gold); `labels` are those allowed, None where they define them.

        `options` are the model's, as `ModelConfig` has them.
        """
