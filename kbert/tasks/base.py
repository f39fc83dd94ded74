"""What a task is: the contract between the tasks and everything that trains, measures and serves them.

A line of text goes table -> encode -> batch -> encoder -> head -> decode; the task owns `encode`
(with `supervise` for its gold), the head and its loss (`build`) and `decode`, and says how it is scored. A task that
is `windowed` reads a long row in several windows, each a row to the encoder; `decode` joins them again. A task
that is `grouped` does so too, and its loss needs all of a row's inputs at once.

    Servable              a predictor runs it
      Trainable           a run trains it
        TrainableOnRows   on rows of a table, which it is measured on too: a `Stage`
        Storable          and a model directory keeps it: pre-training
          Task            both: what `kbert.finetune` trains

A method without a default is abstract: a task that lacks one cannot be made.
"""

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from kbert.checkpoints.head import Head, Unfit
from kbert.config import ModelConfig
from kbert.data.table import Reader, Table
from kbert.data.tokenizer import Tokenizer
from kbert.data.tokens import Tokens
from kbert.errors import UsageError
from kbert.model.encoder import Encoder
from kbert.source import SourceConfig
from kbert.tasks.reports import Report

Tensors = dict[str, tf.Tensor]
Encoded = dict[str, Any]  # tensors and ragged tensors
LOWER_IS_BETTER = ("loss", "mse", "mae", "ece", "perplexity")  # last words of scalars


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


class Scorer(Protocol):
    """Gold and predictions of a whole set in compact buffers."""

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        """Some rows: the raw columns, fields and gold, and what `decode` made of them."""

    def result(self) -> Report: ...


class Examples(Protocol):
    """What a task learns from or is measured on, by number: rows, windows of rows, or what is made of rows anew each epoch."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of what is read: fields, gold, and what else `encode` and `supervise` look at."""

    @property
    def bytes_each(self) -> float:
        """Bytes of raw text that are read for an example, on average and about."""

    def __len__(self) -> int: ...

    def where(self, position: int, seed: int, epoch: int) -> str:
        """`FILE:LINE` of the row that the example at a position of an epoch is of."""

    def read(self, positions: np.ndarray, seed: int, epoch: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The examples at these positions, int64 [n], of an epoch; the same for the same arguments.

        Returns:
            The raw rows they are of, each column UTF-8 bytes [rows]; for each example the place of its row
            there, and which window of the row it is, int32 [n] each.
        """


class Signature(NamedTuple):
    """One of the functions that an exported model serves: what it takes and, of what `decode` makes of it, returns."""

    fields: tuple[str, ...]
    outputs: tuple[str, ...] | None = None  # None: all
    raw: Callable[[Tensors], Tensors] | None = None  # makes the task's inputs of the fields where these are others
    dimensions: int = 1  # of each field: 1 for strings [rows]


class Lengths(NamedTuple):
    """How long inputs are, and how much of them is read: int64 [rows, parts], where each part has a limit of its own.

    Tokens are counted with [CLS] and [SEP] where the limit counts them, so that one of `whole` would cut nothing.
    """

    whole: np.ndarray
    read: np.ndarray
    what: str  # whose lengths they are, for a message
    limit: str  # the flag with its value
    beyond: str = ""  # what reads more of them than --max_length can hold, for a message; "" if nothing does

    @property
    def cut(self) -> np.ndarray:
        """Whether a row is not read whole, bool [rows]."""
        return np.asarray((self.whole > self.read).any(1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """A model with what belongs to it, made together.

    Attributes:
        model: from ids and mask to the head's outputs; what is trained and stored.
        loss: as `kbert.train.objective.Objective` takes it.
        metrics: figures of training batches, for the same.
        answering: the model whose outputs `decode` reads, where it is another one, made of the layers of `model`.
        by_row: whether a row has several inputs, and its loss needs these and no others. Targets then have `row`, int32
            [inputs], so that a batch can be divided between rows.
    """

    model: keras.Model
    loss: Any
    metrics: Any = ()
    answering: keras.Model | None = None
    by_row: bool = False

    @property
    def served(self) -> keras.Model:
        """The model whose outputs `decode` reads."""
        return self.model if self.answering is None else self.answering


class Servable(ABC):
    """What a predictor runs: the part of a task that answers, or a way to make vectors."""

    config: Any  # with `fields`, the raw inputs' names
    tokenizer: Tokenizer

    @property
    def inputs(self) -> tuple[str, ...]:
        """All that `encode` and `decode` may read of rows: the fields, and what readers of files add ("" where they do not)."""
        fields: tuple[str, ...] = self.config.fields
        return fields

    @abstractmethod
    def encode(self, raw: Tensors) -> Encoded:
        """Ids from raw strings, batched, graph only.

        Returns:
            `token_ids`, `segment_ids`, int32 of shape [rows, (tokens)], and what else `supervise` and
            `decode` need. Where the task is windowed or grouped, [windows, (tokens)], a row's windows in order, and
            `row`, int32 [windows], the row each is of.
        """

    @abstractmethod
    def decode(self, outputs: Any, encoded: Encoded, raw: Tensors) -> Tensors:
        """What is served, [rows, ...], from the head's outputs; in the graph.

        Args:
            outputs: [windows, ...], or, from a head over tokens, ragged [windows, (tokens), ...].
        """

    def signatures(self) -> dict[str, Signature]:
        """What an exported model serves, by name; `serving_default` is among them."""
        return {"serving_default": Signature(self.config.fields)}


class Trainable(Servable):
    """What a run trains, on batches and by figures that come from elsewhere."""

    config: ModelConfig

    @property
    @abstractmethod
    def best(self) -> tuple[str, Literal["max", "min"]]:
        """The scalar that picks the best checkpoint by default, and whether a higher or a lower one is better."""

    @property
    @abstractmethod
    def figures(self) -> tuple[str, ...]:
        """Names of all scalars that reports on dev may have."""

    def best_by(self, name: str | None) -> tuple[str, Literal["max", "min"]]:
        """Return the scalar that picks the best checkpoint of a run with this `--best_metric`.

        Raises:
            UsageError: the task has no such scalar.
        """
        if name is None or name == self.best[0]:
            return self.best
        if name not in self.figures:
            close = difflib.get_close_matches(name, self.figures, n=1)
            hint = f" (did you mean {close[0]}?)" if close else ""
            raise UsageError(f"--best_metric={name}: --task={self.config.task} has {', '.join(self.figures)}{hint}")
        return name, "min" if name.split("_")[-1] in LOWER_IS_BETTER else "max"


class TrainableOnRows(Trainable):
    """What is trained and measured on the rows of tables."""

    windowed: ClassVar[bool]  # whether `encode` may give several rows for one

    @property
    @abstractmethod
    def gold(self) -> tuple[str, ...]:
        """Raw gold columns, beside the fields."""

    @property
    def inputs_each(self) -> int | None:
        """How many rows `encode` of a windowed task gives for each; None where that depends on the row, and is counted."""
        return None

    @property
    def grouped(self) -> bool:
        """Whether `encode` may give several rows for one, and the loss needs all of them."""
        return False

    def examples(self, table: Table, seed: int, model: keras.Model) -> Examples | None:
        """What is trained on; None: the table's rows, or their windows.

        Args:
            table: the training rows.
            seed: of what is random.
            model: the built one, with the weights that training starts from.
        """
        return None

    def measured(self, table: Table) -> Examples | Table | None:
        """What is measured, in place of the table's rows: some of them, or what is made of them."""
        return None

    @abstractmethod
    def supervise(self, raw: Tensors, encoded: Encoded) -> Any:
        """Targets from raw gold strings, [windows, ...], or several by name; ragged ones, [windows, (tokens)], are padded
        with -1."""

    def weigh(self, raw: Tensors, targets: Any) -> tf.Tensor | None:
        """Weights of the losses, float32 of their shape, from raw gold and targets; None: 1 each, 0 for targets of -1."""
        return None

    @abstractmethod
    def scorer(self, calibrates: bool) -> Scorer:
        """A new scorer; `calibrates`: thresholds that the model lacks are found on what it is given, as on dev."""


class Stage(NamedTuple):
    """Something that is learnt in a run of its own before a task's model is trained, and stays as it is from then on."""

    name: str  # of its folder in the model directory, and in messages
    task: TrainableOnRows
    built: Built  # of layers that the task's model has too
    settings: dict[str, Any]  # those of a `RunConfig` that differ from the run's
    rows: Table | None = None  # what is learnt from, where it is not all of the run's rows


class Storable(Trainable):
    """What a model directory keeps, and commands answer with."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        self.config = config
        self.tokenizer = tokenizer

    @abstractmethod
    def build(self, encoder: Encoder) -> Built:
        """Make the model on an encoder, with its loss; once for each task object, whose `decode` may read its weights."""

    def calibrate(self, values: dict[str, float]) -> None:
        """Take what a checkpoint's dev report found (`Report.calibration`), before `decode` is traced; by default nothing."""
        return

    def pieces(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """The ids of whole texts, int32 [texts, (pieces)], as the task splits them."""
        return self.tokenizer.tokenize(texts)

    def lengths(self, tokens: dict[str, np.ndarray]) -> Lengths | None:
        """What is read of rows whose fields have so many tokens, int64 [rows] each; None: all of them, however many."""
        return None

    @abstractmethod
    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        """One row of decoded outputs as JSON values, for `kbert.predict`."""

    @staticmethod
    @abstractmethod
    def report(metrics: dict[str, Any]) -> Report:
        """The report that has these metrics, as a checkpoint stores them."""


class Task(TrainableOnRows, Storable):
    """One task on one model, fine-tuned on tables and measured on them."""

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

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """What the built model takes over of the head of the checkpoint that training starts from.

        Called once at most, before `prepare`, which leaves alone what is taken over.

        Args:
            head: the checkpoint's.
            arrays: its weights by variable path.

        Returns:
            Values of the model's variables, by path.

        Raises:
            Unfit: it is of another task, of other labels, or read in another way.
        """
        raise Unfit("it answers another task")

    def check_trainable(self) -> None:
        """Raise DataError where the settings together leave something that cannot be learnt; by default nothing."""
        return

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that `prepare` gives."""
        return ()

    def prepare(self, table: Table) -> Iterator[Stage]:
        """What has to be learnt of the training rows before the model is trained on them.

        Called with the weights that training starts from; a stage has been trained when the next is asked for. `encode`
        may use what was learnt, which has to be among the model's weights.
        """
        yield from ()

    def survey(self, rows: Iterable[Tensors]) -> list[str]:
        """What encoding makes of all training rows, raw with gold, as sentences for the log; asked of windowed tasks."""
        return []
