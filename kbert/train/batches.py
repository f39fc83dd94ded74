"""Read rows of a table as batches to train on, or in the table's own order.

In: a task and a table. Out: `Batches`, whose rows are encoded a chunk at a time, or raw rows in file order.

A task that reads long rows in windows trains on windows: `TableExamples` counts them first, and an epoch has all
windows of the rows in their permuted order. Other tasks make examples of their own.
"""

import functools
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.data.table import READ_BYTES, READ_ROWS, Table
from kbert.model.chunks import INPUTS, padded
from kbert.permutation import FormerSeed, permuted
from kbert.progress import Progress
from kbert.tasks.base import Examples, TrainableOnRows
from kbert.train.batching import Chunk, SortedBatches, padded_to

BLUR = 0.1  # share by which lengths are blurred before sorting, so that questions on one context are separated


class TableExamples:
    """The examples of a table: its rows, or the windows they are read in. `len()` counts them.

    An epoch is a seeded permutation of the rows; a row's windows follow one another, so that each row is
    read and encoded once, or twice where a chunk ends within it.
    """

    def __init__(self, task: TrainableOnRows, table: Table):
        self.table = table
        self.columns = _columns(task, table, gold=True)
        self._counts = _windows(task, table) if task.windowed else None  # [rows]
        self._length = len(table) if self._counts is None else int(self._counts.sum())
        self._order = functools.lru_cache(maxsize=2)(self._ordered)

    @property
    def bytes_each(self) -> float:
        return self.table.row_bytes * len(self.table) / len(self)

    def __len__(self) -> int:
        return self._length

    def read(self, positions: np.ndarray, seed: int, epoch: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """See `kbert.tasks.base.Examples`."""
        if self._counts is None:
            rows = permuted(positions, len(self.table), seed, epoch)
            return self._named(rows), np.arange(len(rows), dtype=np.int32), np.zeros(len(rows), np.int32)
        rows, ends = self._order(seed, epoch)
        at = np.searchsorted(ends, positions, side="right")
        window = positions - (ends[at] - self._counts[rows[at]])
        once, place = np.unique(at, return_inverse=True)
        return self._named(rows[once]), place.astype(np.int32), window.astype(np.int32)

    def _named(self, rows: np.ndarray) -> dict[str, np.ndarray]:
        return dict(zip(self.columns, self.table.read(rows).values(), strict=True))

    def where(self, position: int, seed: int, epoch: int) -> str:
        """Return `FILE:LINE` of the row of the example at a position of an epoch's permutation."""
        if self._counts is None:
            return self.table.where(int(permuted(np.array([position]), len(self.table), seed, epoch)[0]))
        rows, ends = self._order(seed, epoch)
        return self.table.where(int(rows[np.searchsorted(ends, position, side="right")]))

    def _ordered(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows in an epoch's order, and the cumulative number of their windows; 8 bytes a row each."""
        assert self._counts is not None
        rows = permuted(np.arange(len(self.table)), len(self.table), seed, epoch)
        return rows, np.cumsum(self._counts[rows])


def _windows(task: TrainableOnRows, table: Table) -> np.ndarray:
    """Count the windows of each row, [rows]."""
    if task.inputs_each is not None:
        return np.full(len(table), task.inputs_each)
    count = graphs.function(
        lambda raw: tf.math.bincount(task.encode(raw)["row"], minlength=tf.size(raw[task.config.fields[0]])),
        input_signature=[{name: tf.TensorSpec([None], tf.string) for name in task.inputs}],
    )
    with Progress(len(table), desc="counting windows", unit="row", leave=False) as bar:
        counts = []
        for raw in raw_rows(task, table, gold=False):
            counts.append(count(raw).numpy())
            bar.update(len(counts[-1]))
    return np.concatenate(counts)


def training_examples(task: TrainableOnRows, table: Table, seed: int, model: keras.Model) -> Examples:
    """Return the examples that a task is trained on; `model` is the task's, with the weights that training starts from."""
    own = task.examples(table, seed, model)
    return TableExamples(task, table) if own is None else own


def _columns(task: TrainableOnRows, table: Table, gold: bool) -> tuple[str, ...]:
    """Return the task's names for a table's columns: fields and, if the table has it, gold."""
    return (task.inputs + task.gold)[: len(table.columns)] if gold else task.inputs


class TableBatches(SortedBatches):
    """`Batches` of a table's examples.

    Inputs are `token_ids`, `segment_ids`, `padding_mask`, int32 [batch, tokens], padded to the batch's longest
    row. Ragged targets are padded with -1; -1 is no target, and has weight 0.

    Args:
        task: encodes them.
        examples: the examples to train on.
        batch_size: rows of a batch; an epoch's last may have fewer.
        seed: of the order.
        length: pad every batch to this many tokens, and an epoch's last to `batch_size` rows of weight 0: TPUs
            compile for each shape. None for no more padding than a batch needs.
    """

    def __init__(self, task: TrainableOnRows, examples: Examples, *, batch_size: int, seed: int, length: int | None = None):
        super().__init__(len(examples), batch_size=batch_size, seed=seed, bytes_each=examples.bytes_each)
        self.task, self.examples, self.length = task, examples, length

    def name(self, position: int, epoch: int) -> str:
        return self.examples.where(position, self.seed, epoch)

    def load(self, number: tf.Tensor) -> Chunk:
        task, size, names = self.task, self.batch_size, self.examples.columns
        types = [tf.int64, tf.int32, tf.int32] + [tf.string] * len(names)
        positions, place, window, *columns = (
            tf.ensure_shape(values, [None]) for values in graphs.numpy_function(self._read, [number], types)
        )
        raw = dict(zip(names, columns, strict=True))
        encoded = task.encode(raw)
        targets = task.supervise(raw, encoded)
        weights = task.weigh(raw, targets)
        if task.windowed:
            chosen = tf.searchsorted(encoded["row"], place) + window
            targets = tf.gather(targets, chosen)
            weights = None if weights is None else tf.gather(weights, chosen)
            encoded = {name: tf.gather(encoded[name], chosen) for name in INPUTS}
        lengths = encoded["token_ids"].row_lengths()
        if task.grouped:
            numbers, rows = tf.range(tf.size(lengths)), tf.size(positions)
            inputs_of = tf.RaggedTensor.from_value_rowids(numbers, encoded["row"], rows, validate=False)
            lengths = tf.reduce_max(tf.gather(lengths, inputs_of), 1)
        drawn = [int(self.seed), tf.cast(number, tf.int32)]
        blurred = tf.cast(lengths, tf.float32) * tf.random.stateless_uniform(tf.shape(lengths), drawn, 1 - BLUR, 1 + BLUR)
        if not isinstance(self.seed, FormerSeed):
            # The rows left over for a short batch are the last of the epoch's permutation, so of any length. Each weighs
            # more than others do; cut from the sorted rows, they would be the longest in every epoch.
            whole = tf.size(blurred) // size * size
            blurred = tf.where(tf.range(tf.size(blurred)) < whole, blurred, np.inf)
        order = tf.argsort(blurred, stable=True)
        count = -(-tf.size(order) // size)
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(count), seed=drawn)

        def batch(rows: tf.Tensor) -> list[Any]:
            chosen = tf.gather(inputs_of, rows).values if task.grouped else rows
            inputs = padded({name: tf.gather(encoded[name], chosen) for name in INPUTS}, task.tokenizer.pad_id)
            gold = tf.nest.map_structure(lambda values: tf.gather(values, chosen), targets)
            weight = None if weights is None else tf.gather(weights, chosen)
            ragged = isinstance(gold, tf.RaggedTensor)
            if ragged:
                gold = gold.to_tensor(-1)
                weight = tf.cast(gold >= 0, tf.float32) if weight is None else weight
            if self.length is not None:
                weight = tf.ones(tf.shape(gold)[:1]) if weight is None else weight
                return self._fixed(inputs, gold, weight, ragged)
            return [inputs, gold] if weight is None else [inputs, gold, weight]

        return Chunk(positions, order, shuffled, batch)

    def _read(self, number: np.ndarray) -> list[np.ndarray]:
        epoch, _, positions = self.place(number)
        columns, places, windows = self.examples.read(positions, self.seed, epoch)
        return [positions, places, windows, *columns.values()]

    def _fixed(self, inputs: dict[str, tf.Tensor], gold: tf.Tensor, weights: tf.Tensor, ragged: bool) -> list[Any]:
        """Pad a batch to `batch_size` rows of `length` tokens; added rows have weight 0."""
        assert self.length is not None
        matrix = [self.batch_size, self.length]
        fixed = matrix if ragged else matrix[:1]
        padding = {"token_ids": self.task.tokenizer.pad_id}
        return [
            {name: padded_to(values, matrix, padding.get(name, 0)) for name, values in inputs.items()},
            padded_to(gold, [*fixed, *gold.shape[len(fixed) :]], -1 if ragged else 0),
            padded_to(weights, [*fixed, *weights.shape[len(fixed) :]]),
        ]


@graphs.builds_dataset
def raw_rows(task: TrainableOnRows, table: Table, gold: bool, others: tuple[str, ...] = ()) -> tf.data.Dataset:
    """Read the table in its own order: dicts of strings [rows], up to `READ_ROWS` rows and `READ_BYTES` bytes at a time.

    They hold the task's fields, its gold if asked for, and the `others` of the table's columns.
    """
    names = (*_columns(task, table, gold), *others)
    cuts = table.chunk_starts(READ_ROWS, READ_BYTES)

    def read(number: np.ndarray) -> list[np.ndarray]:
        rows = range(cuts[number], cuts[number + 1])
        return list(table.read(rows).values())[: len(names)]

    return tf.data.Dataset.range(len(cuts) - 1).map(lambda number: _strings(read, number, names)).prefetch(2)


@graphs.builds_dataset
def measured_rows(task: TrainableOnRows, table: Table) -> tuple[tf.data.Dataset, int]:
    """Read the rows that a task is measured on, with gold, as `raw_rows` does; return them and their number."""
    own = task.measured(table) or table
    if isinstance(own, Table):
        return raw_rows(task, own, gold=True), len(own)
    examples = own
    rows = max(1, min(READ_ROWS, int(READ_BYTES / max(1.0, examples.bytes_each))))

    def read(start: np.ndarray) -> list[np.ndarray]:
        positions = np.arange(int(start), min(int(start) + rows, len(examples)))
        return list(examples.read(positions, 0, 0)[0].values())

    starts = tf.data.Dataset.range(0, len(examples), rows)
    return starts.map(lambda start: _strings(read, start, examples.columns)).prefetch(2), len(examples)


def _strings(read: Callable[[np.ndarray], list[np.ndarray]], number: tf.Tensor, names: tuple[str, ...]) -> dict[str, tf.Tensor]:
    columns = graphs.numpy_function(read, [number], [tf.string] * len(names))
    return {name: tf.ensure_shape(column, [None]) for name, column in zip(names, columns, strict=True)}
