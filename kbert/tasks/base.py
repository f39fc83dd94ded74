"""Define what a task is: the contract between the tasks and everything that trains, measures and serves them.

A line of text goes table -> encode -> batch -> encoder -> head -> decode; the task owns `encode`
(with `supervise` for its gold), the head and its loss (`build`), `decode`, and its scorer. A task that
is `windowed` reads a long row in several windows, each a row to the encoder; `decode` joins them. A task
that is `grouped` does so too, and its loss needs all of a row's inputs at once.

    Servable              a predictor runs it
      Trainable           a run trains it
        TrainableOnRows   on rows of a table, which it is measured on too: a `Stage`
        Storable          and a model directory keeps it: pre-training
          Task            both: what `kbert.finetune` trains

How a task reads and checks its rows is `kbert.tasks.rows.TaskRows`, which needs no TensorFlow.

A method without a default is abstract: a class that lacks one cannot be instantiated.
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
    """Collects gold and predictions of a whole set in compact buffers."""

    def update(self, raw: dict[str, np.ndarray], predicted: dict[str, np.ndarray]) -> None:
        """Add rows: their raw columns (fields and gold), and what `decode` returned for them."""

    def result(self) -> Report: ...


class Examples(Protocol):
    """Numbered examples to train on or measure: rows, windows of rows, or examples made from rows again in each epoch."""

    @property
    def columns(self) -> tuple[str, ...]:
        """Names of the columns read: fields, gold, and others that `encode` and `supervise` need."""

    @property
    def bytes_each(self) -> float:
        """Approximate mean of the bytes of raw text read for an example."""

    def __len__(self) -> int: ...

    def where(self, position: int, seed: int, epoch: int) -> str:
        """Return `FILE:LINE` of the row of the example at a position of an epoch."""

    def read(self, positions: np.ndarray, seed: int, epoch: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """Read the examples at these positions, int64 [n], of an epoch; the same for the same arguments.

        Returns:
            Their raw rows, each column UTF-8 bytes [rows]; for each example the index of its row
            among them, and the number of its window within the row, int32 [n] each.
        """


class Signature(NamedTuple):
    """A function that an exported model serves: the fields it takes, and which outputs of `decode` it returns."""

    fields: tuple[str, ...]
    outputs: tuple[str, ...] | None = None  # None: all
    raw: Callable[[Tensors], Tensors] | None = None  # converts the fields to the task's inputs where they differ
    dimensions: int = 1  # of each field: 1 for strings [rows]
    serialized: bool = False  # whether the fields come as serialized tf.Examples, strings [rows]
    method: Literal["predict", "classify", "regress"] = "predict"  # the API of TensorFlow Serving that calls it
    answer: Callable[[Tensors], Tensors] | None = None  # converts the outputs of `decode`
    trials: tuple[tuple[str, tuple[str, ...]], ...] = ()  # by field that does not take any string: strings that it takes


class Lengths(NamedTuple):
    """The lengths of inputs and how much of them is read: int64 [rows, parts]; each part has its own limit.

    Tokens include [CLS] and [SEP] where the limit counts them, so that a limit of `whole` cuts nothing.
    """

    whole: np.ndarray
    read: np.ndarray
    what: str  # the inputs measured, for a message
    limit: str  # the flag with its value
    beyond: str = ""  # what reads more of them than --max_length can hold, for a message; "" if nothing does

    @property
    def cut(self) -> np.ndarray:
        """Whether each row is read only in part, bool [rows]."""
        return np.asarray((self.whole > self.read).any(1))


@dataclasses.dataclass(frozen=True, kw_only=True)
class Built:
    """A model with its loss and metrics.

    Attributes:
        model: computes the head's outputs from ids and mask; it is trained and stored.
        loss: as `kbert.train.objective.Objective` takes it.
        metrics: metrics of training batches, also for `Objective`.
        answering: the model whose outputs `decode` reads, if it is not `model`; it consists of the layers of `model`.
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
    """A function from raw rows to answers or vectors, which a predictor runs."""

    config: Any  # with `fields`, the raw inputs' names
    tokenizer: Tokenizer

    @property
    def inputs(self) -> tuple[str, ...]:
        """Names of all that `encode` and `decode` read: the fields, and what readers of files add ("" where absent)."""
        fields: tuple[str, ...] = self.config.fields
        return fields

    @abstractmethod
    def encode(self, raw: Tensors) -> Encoded:
        """Encode batched raw strings as ids, with graph operations only.

        Returns:
            `token_ids`, `segment_ids`, int32 of shape [rows, (tokens)], and others that `supervise` and
            `decode` need. Where the task is windowed or grouped, [windows, (tokens)], a row's windows in order, and
            `row`, int32 [windows], the row of each window.
        """

    def encode_bounded(self, raw: Tensors) -> Encoded:
        """Encode as `encode` does, to answer: at most as much of a text as the model's `--max_windows` hold.

        Returns:
            What `encode` does and, where there is such a bound, `truncated`, bool [rows]: whether a text goes beyond it. It
            becomes an output.
        """
        return self.encode(raw)

    @abstractmethod
    def decode(self, outputs: Any, encoded: Encoded, raw: Tensors) -> Tensors:
        """Compute the served outputs, [rows, ...], from the head's outputs, with graph operations only.

        Args:
            outputs: [windows, ...], or, from a head over tokens, ragged [windows, (tokens), ...].
        """

    def decode_ids(self, outputs: Any) -> Tensors:
        """Compute what is served to clients that tokenize: what follows from the head's outputs without the text.

        Args:
            outputs: [inputs, ...], or, from a head over tokens, [inputs, tokens, ...], zeros at padding.
        """
        return {"scores": outputs}

    def signatures(self) -> dict[str, Signature]:
        """Return the functions that an exported model serves, by name, `serving_default` among them."""
        return {"serving_default": Signature(self.config.fields)}


class Trainable(Servable):
    """What a run trains; its batches and its dev figures come from elsewhere."""

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
    """What is trained on the rows of tables, and measured on them."""

    windowed: ClassVar[bool]  # whether `encode` may return several windows for a row

    @property
    @abstractmethod
    def gold(self) -> tuple[str, ...]:
        """Names of the raw gold columns."""

    @property
    def inputs_each(self) -> int | None:
        """How many windows `encode` of a windowed task returns for each row; None where it depends on the row."""
        return None

    @property
    def grouped(self) -> bool:
        """Whether `encode` may return several inputs for a row, and the loss needs all of them."""
        return False

    @property
    def repeats(self) -> bool:
        """Whether the encoder's inputs are the same in every epoch."""
        return True

    def examples(self, table: Table, seed: int, model: keras.Model) -> Examples | None:
        """Return the examples to train on; None for the table's rows, or their windows.

        Args:
            table: the training rows.
            seed: of random choices.
            model: the built model, with the weights that training starts from.
        """
        return None

    def measured(self, table: Table) -> Examples | Table | None:
        """Return what to measure instead of the table's rows: some of them, or examples made from them; None for all rows."""
        return None

    @abstractmethod
    def supervise(self, raw: Tensors, encoded: Encoded) -> Any:
        """Convert raw gold strings to targets, [windows, ...], or several by name; ragged targets, [windows, (tokens)], are
        later padded with -1."""

    def weigh(self, raw: Tensors, targets: Any) -> tf.Tensor | None:
        """Return weights of the losses, float32 of their shape; None for 1 each, and 0 for targets of -1."""
        return None

    @abstractmethod
    def scorer(self, calibrates: bool) -> Scorer:
        """Create a scorer; if it `calibrates`, it finds thresholds that the model lacks on its own rows, as on dev."""


class Stage(NamedTuple):
    """Weights trained in a separate run before a task's model, and kept fixed afterwards."""

    name: str  # of its folder in the model directory, and in messages
    task: TrainableOnRows
    built: Built  # made of layers of the task's model
    settings: dict[str, Any]  # those of a `RunConfig` that differ from the run's
    rows: Table | None = None  # rows to train on; None for all of the run's


class Storable(Trainable):
    """What a model directory stores, and commands answer with."""

    def __init__(self, config: ModelConfig, tokenizer: Tokenizer):
        self.config = config
        self.tokenizer = tokenizer

    @abstractmethod
    def build(self, encoder: Encoder) -> Built:
        """Build the model on an encoder, with its loss; called once for a task object, whose `decode` may read its weights."""

    def calibrate(self, values: dict[str, float]) -> None:
        """Set what a checkpoint's dev report found (`Report.calibration`), before `decode` is traced; by default nothing."""
        return

    def pieces(self, texts: tf.Tensor) -> tf.RaggedTensor:
        """Tokenize whole texts as the task does, int32 [texts, (pieces)]."""
        return self.tokenizer.tokenize(texts)

    def lengths(self, tokens: dict[str, np.ndarray]) -> Lengths | None:
        """Return how much is read of rows with these numbers of tokens, int64 [rows] by field; None if there is no limit."""
        return None

    @abstractmethod
    def present(self, decoded: dict[str, np.ndarray], row: int) -> dict[str, Any]:
        """Convert a row of decoded outputs to JSON values, for `kbert.predict`."""

    @staticmethod
    @abstractmethod
    def report(metrics: dict[str, Any]) -> Report:
        """Create the report of these metrics, as a checkpoint stores them."""


class Task(TaskRows, TrainableOnRows, Storable):
    """A task with one model, fine-tuned on tables and measured on them."""

    def take_head(self, head: Head, arrays: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return weights of the checkpoint's head for the built model to start from.

        Called at most once, before `prepare`, which does not change them.

        Args:
            head: the checkpoint's head.
            arrays: its weights by variable path.

        Returns:
            Values of the model's variables, by path.

        Raises:
            Unfit: the head is of another task, of other labels, or reads the encoder differently.
        """
        raise Unfit("it answers another task")

    def check_trainable(self) -> None:
        """Raise DataError if the combined settings leave something that cannot be learnt; by default nothing."""
        return

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of the stages that `prepare` yields."""
        return ()

    def prepare(self, table: Table) -> Iterator[Stage]:
        """Yield the stages to train on the training rows before the model itself.

        Called with the weights that training starts from; a stage is trained before the next is requested. `encode`
        may use its weights, which must be among the model's.
        """
        yield from ()

    def survey(self, rows: Iterable[Tensors]) -> list[str]:
        """Describe the encoding of all training rows (raw, with gold) for the log; called for windowed tasks."""
        return []
