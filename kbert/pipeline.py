"""Rows of a table as batches, in the order an epoch wants them.

In: a task and a table. Out: a `tf.data.Dataset` of training batches, or of raw rows in file order.
An epoch is a seeded permutation of the table, computed and never stored. It is read in windows of
some thousand rows; a window is encoded at once, sorted by length and cut into batches, so that rows
of like length share a batch and padding is small; the batches then come in shuffled order.

Every batch has `batch_size` rows (an epoch's last may have fewer), not a constant number of tokens:
the step that the learning rate was chosen for stays the same whatever the texts' lengths.
"""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.sources import Table
from kbert.tasks.base import Task

WINDOW_ROWS = 2048  # rows sorted by length together; wider windows pad less and shuffle no better
READ_ROWS = 1024  # raw rows handed out at once in evaluation and prediction


def steps(rows: int, batch_size: int) -> int:
    """Training steps of an epoch."""
    return math.ceil(rows / batch_size)


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


def training_batches(task: Task, table: Table, *, batch_size: int, seed: int, epochs: range) -> tf.data.Dataset:
    """The batches of these epochs, one epoch after the other; an epoch's are the same wherever a run starts.

    Returns:
        Pairs of model inputs (`token_ids`, `segment_ids`, `padding_mask`, int32 [batch, tokens], padded
        to the batch's longest row) and targets. `steps(len(table), batch_size)` batches an epoch.
    """
    window = batch_size * max(8, WINDOW_ROWS // batch_size)
    windows = math.ceil(len(table) / window)
    names = task.config.fields + task.gold

    def read(number: np.ndarray) -> list[np.ndarray]:
        epoch, place = divmod(int(number), windows)
        positions = np.arange(place * window, min((place + 1) * window, len(table)))
        return list(table.read(permuted(positions, len(table), seed, epoch)).values())

    def encode(number: tf.Tensor) -> tf.data.Dataset:
        raw = _strings(read, number, names)
        encoded = task.encode(raw)
        targets = task.supervise(raw)
        order = tf.argsort(encoded["token_ids"].row_lengths(), stable=True)
        count = -(-tf.size(order) // batch_size)
        shuffled = tf.random.experimental.stateless_shuffle(tf.range(count), seed=[seed, tf.cast(number, tf.int32)])

        def batch(place: tf.Tensor) -> tuple[dict[str, tf.Tensor], tf.Tensor]:
            rows = order[place * batch_size : (place + 1) * batch_size]
            return padded({k: tf.gather(v, rows) for k, v in encoded.items()}, task.tokenizer.pad_id), tf.gather(targets, rows)

        return tf.data.Dataset.from_tensor_slices(shuffled).map(batch)

    return tf.data.Dataset.range(epochs.start * windows, epochs.stop * windows).flat_map(encode).prefetch(16)


def raw_rows(task: Task, table: Table, gold: bool) -> tf.data.Dataset:
    """The table in its own order: dicts of strings [rows], `READ_ROWS` at a time."""
    names = task.config.fields + (task.gold if gold else ())

    def read(start: np.ndarray) -> list[np.ndarray]:
        rows = range(int(start), min(int(start) + READ_ROWS, len(table)))
        return list(table.read(rows).values())[: len(names)]

    return tf.data.Dataset.range(0, len(table), READ_ROWS).map(lambda start: _strings(read, start, names)).prefetch(2)


def padded(encoded: dict[str, tf.RaggedTensor], pad_id: int) -> dict[str, tf.Tensor]:
    """The model's inputs, int32 [rows, tokens], from ragged ids; padded to the longest row."""
    ids = encoded["token_ids"]
    return {
        "token_ids": ids.to_tensor(pad_id),
        "segment_ids": encoded["segment_ids"].to_tensor(),
        "padding_mask": tf.sequence_mask(ids.row_lengths(), dtype=tf.int32),
    }


def _strings(read: Any, number: tf.Tensor, names: Sequence[str]) -> dict[str, tf.Tensor]:
    columns = tf.numpy_function(read, [number], [tf.string] * len(names))
    return {name: tf.ensure_shape(column, [None]) for name, column in zip(names, columns, strict=True)}
