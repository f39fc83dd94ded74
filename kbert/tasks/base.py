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

How a task reads and checks its rows is `kbert.tasks.rows.TaskRows`, which needs no TensorFlow.

A method without a default is abstract: a task that lacks one cannot be made.
"""

import dataclasses
import difflib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from typing import Any, ClassVar, Literal, NamedTuple, Protocol

import keras
import numpy as np
import tensorflow as tf

from kbert.checkpoints.head import Head, Unfit
from kbert.config import ModelConfig
from kbert.data.table import Table
from kbert.data.tokenizer import Tokenizer
from kbert.errors import UsageError
from kbert.model.encoder import Encoder
from kbert.tasks.reports import Report
from kbert.tasks.rows import TaskRows

Tensors = dict[str, tf.Tensor]
Encoded = dict[str, Any]  # tensors and ragged tensors
LOWER_IS_BETTER = ("loss", "mse", "mae", "ece", "perplexity")  # last words of scalars


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

    @property
    def repeats(self) -> bool:
        """Whether the encoder's inputs are the same in every epoch."""
        return True

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


class Task(TaskRows, TrainableOnRows, Storable):
    """One task on one model, fine-tuned on tables and measured on them."""

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
