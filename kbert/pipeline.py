"""Rows of a table as batches, in the order an epoch wants them.

In: a task and a table. Out: a `tf.data.Dataset` of training batches, or of raw rows in file order.
An epoch is a seeded permutation of the table, computed and never stored. It is read in windows of
some thousand rows; a window is encoded at once, sorted by about its rows' lengths and cut into batches, so
that rows of like length share a batch and padding is small; the batches then come in shuffled order.

A task that reads long rows in windows trains on windows: `Examples` counts them first, and an epoch has all
windows of the rows in their permuted order.

Every batch has `batch_size` rows (an epoch's last may have fewer), not a constant number of tokens:
the step that the learning rate was chosen for stays the same whatever the texts' lengths.
"""

import functools
import math

import numpy as np
import tensorflow as tf
from tqdm import tqdm

from kbert.sources import Table
from kbert.tasks.base import Encoded, Task

WINDOW_ROWS = 2048  # rows sorted by length together; wider windows pad less and shuffle no better
BLUR = 0.1  # share by which lengths are blurred before sorting, so that questions on one context, alike to a token, part ways
INPUTS = ("token_ids", "segment_ids")
READ_ROWS = 1024  # raw rows handed out at once in evaluation and prediction
READ_BYTES = 1 << 20  # and their bytes, but for a row that has more by itself


class Examples:
    """What a task trains on: a table's rows, or the windows it reads them in. `len()` counts them.

    An epoch is a seeded permutation of the rows; a row's windows follow one another, so that each row is
    read and encoded once, or twice where a chunk ends within it.
    """

    def __init__(self, task: Task, table: Table):
        self.task, self.table = task, table
        self._counts = _windows(task, table) if task.windowed else None  # [rows]
        self._length = len(table) if self._counts is None else int(self._counts.sum())
        self._order = functools.lru_cache(maxsize=2)(self._ordered)

    def __len__(self) -> int:
        return self._length

    def read(self, positions: np.ndarray, seed: int, epoch: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
        """The examples at these positions of an epoch: their raw rows, each once, and by example the place of its row there
        and which of its windows it is."""
        if self._counts is None:
            rows = permuted(positions, len(self.table), seed, epoch)
            return self.table.read(rows), np.arange(len(rows), dtype=np.int32), np.zeros(len(rows), np.int32)
        rows, ends = self._order(seed, epoch)
        at = np.searchsorted(ends, positions, side="right")
        window = positions - (ends[at] - self._counts[rows[at]])
        once, place = np.unique(at, return_inverse=True)
        return self.table.read(rows[once]), place.astype(np.int32), window.astype(np.int32)

    def _ordered(self, seed: int, epoch: int) -> tuple[np.ndarray, np.ndarray]:
        """The rows in an epoch's order, and how many windows they and those before them have; 8 bytes a row each."""
        assert self._counts is not None
        rows = permuted(np.arange(len(self.table)), len(self.table), seed, epoch)
        return rows, np.cumsum(self._counts[rows])


def _windows(task: Task, table: Table) -> np.ndarray:
    """How many windows each row is read in, [rows]."""
    count = tf.function(
        lambda raw: tf.math.bincount(task.encode(raw)["row"], minlength=tf.size(raw[task.config.fields[0]])),
        input_signature=[{name: tf.TensorSpec([None], tf.string) for name in task.config.fields}],
    )
    with tqdm(total=len(table), desc="counting windows", unit="row", leave=False, delay=1, disable=None) as bar:
        counts = []
        for raw in raw_rows(task, table, gold=False):
            counts.append(count(raw).numpy())
            bar.update(len(counts[-1]))
    return np.concatenate(counts)


def steps(examples: int, batch_size: int) -> int:
    """Training steps of an epoch."""
    return math.ceil(examples / batch_size)


def permuted(positions: np.ndarray, rows: int, seed: int, epoch: int) -> np.ndarray:
    """The row numbers at these positions of an epoch's permutation of `range(rows)`.

    A four-round Feistel network over the next even power of two, walked until it lands inside the
    range (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"): no memory, any position.
    """
    half = max(1, (max(rows - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    keys = np.random.SeedSequence([seed, epoch]).generate_state(4, np.uint64)
    values = np.asarray(positions, np.uint64).copy()
    outside = np.ones(len(values), bool)
    while outside.any():
        left, right = values[outside] >> shift, values[outside] & mask
        for key in keys:
            left, right = right, left ^ (_mixed(right, key) & mask)
        values[outside] = (left << shift) | right
        outside = values >= rows
    return values.astype(np.int64)


def _mixed(values: np.ndarray, key: np.uint64) -> np.ndarray:
    """SplitMix64's finisher (Steele et al. 2014), keyed; arithmetic is modulo 2**64."""
    z = values + key
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return np.asarray(z ^ (z >> np.uint64(31)))


def training_batches(examples: Examples, *, batch_size: int, seed: int, epochs: range) -> tf.data.Dataset:
    """The batches of these epochs, one epoch after the other; an epoch's are the same wherever a run starts.

    Returns:
        Pairs of model inputs (`token_ids`, `segment_ids`, `padding_mask`, int32 [batch, tokens], padded
        to the batch's longest row) and targets. `steps(len(examples), batch_size)` batches an epoch.
    """
    task = examples.task
    chunk = batch_size * max(8, WINDOW_ROWS // batch_size)
    chunks = math.ceil(len(examples) / chunk)
    names = task.config.fields + task.gold

    def read(number: np.ndarray) -> list[np.ndarray]:
        epoch, place = divmod(int(number), chunks)
        positions = np.arange(place * chunk, min((place + 1) * chunk, len(examples)))
        columns, places, windows = examples.read(positions, seed, epoch)
        return [*columns.values(), places, windows]

    def encode(number: tf.Tensor) -> tf.data.Dataset:
        *columns, place, window = tf.numpy_function(read, [number], [tf.string] * len(names) + [tf.int32] * 2)
        raw = {name: tf.ensure_shape(column, [None]) for name, column in zip(names, columns, strict=True)}
        encoded = task.encode(raw)
        targets = task.supervise(raw, encoded)
        if task.windowed:
            firsts = tf.searchsorted(encoded["row"], tf.ensure_shape(place, [None]))
            chosen = firsts + tf.ensure_shape(window, [None])
            targets = tf.gather(targets, chosen)
            encoded = {name: tf.gather(encoded[name], chosen) for name in INPUTS}
        lengths = tf.cast(encoded["token_ids"].row_lengths(), tf.float32)
        drawn = [seed, tf.cast(number, tf.int32)]
        order = tf.argsort(lengths * tf.random.stateless_uniform(tf.shape(lengths), drawn, 1 - BLUR, 1 + BLUR), stable=True)
        count = -(-tf.size(order) // batch_size)
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(count), seed=drawn)

        def batch(place: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            rows = order[place * batch_size : (place + 1) * batch_size]
            gold = tf.gather(targets, rows)
            gold = gold.to_tensor(-1) if isinstance(gold, tf.RaggedTensor) else gold
            return padded({name: tf.gather(encoded[name], rows) for name in INPUTS}, task.tokenizer.pad_id), gold

        return tf.data.Dataset.from_tensor_slices(shuffled).map(batch)

    return tf.data.Dataset.range(epochs.start * chunks, epochs.stop * chunks).flat_map(encode).prefetch(16)


def raw_rows(task: Task, table: Table, gold: bool, others: tuple[str, ...] = ()) -> tf.data.Dataset:
    """The table in its own order: dicts of strings [rows], up to `READ_ROWS` rows and `READ_BYTES` bytes at a time.

    They hold the task's fields, its gold if asked for, and the `others` of the table's columns.
    """
    names = task.config.fields + (task.gold if gold else ()) + others
    cuts = table.stretches(READ_ROWS, READ_BYTES)

    def read(number: np.ndarray) -> list[np.ndarray]:
        rows = range(cuts[number], cuts[number + 1])
        return list(table.read(rows).values())[: len(names)]

    def strings(number: tf.Tensor) -> dict[str, tf.Tensor]:
        columns = tf.numpy_function(read, [number], [tf.string] * len(names))
        return {name: tf.ensure_shape(column, [None]) for name, column in zip(names, columns, strict=True)}

    return tf.data.Dataset.range(len(cuts) - 1).map(strings).prefetch(2)


def padded(encoded: Encoded, pad_id: int) -> dict[str, tf.Tensor]:
    """The model's inputs, int32 [rows, tokens], from ragged ids; padded to the longest row."""
    ids = encoded["token_ids"]
    return {
        "token_ids": ids.to_tensor(pad_id),
        "segment_ids": encoded["segment_ids"].to_tensor(),
        "padding_mask": tf.sequence_mask(ids.row_lengths(), dtype=tf.int32),
    }
