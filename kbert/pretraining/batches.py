"""Examples as the batches of a training run.

In: `Examples`. Out: batches of a model's inputs, targets and weights, the same wherever a run starts. As in
`kbert.train.batches`, an epoch is a permutation of all examples, read in windows whose rows are sorted by length, so that
rows of like length share a batch; the batches of a window come in shuffled order.
"""

import math
from typing import Any

import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.permutation import FormerSeed, permuted
from kbert.pretraining.examples import Arrays, Examples
from kbert.pretraining.randomness import bits, keys
from kbert.tasks.base import Tensors

WINDOW_ROWS = 2048  # rows sorted by length together
LENGTHS = 16  # tokens; batches are as long as a multiple, so that there are few lengths to compile for (`Encoder.compiled`)
NAMED = 20  # examples of a batch that a message names
ORDER = 24  # stream of random numbers: the order of a window's batches
MATRICES = ("token_ids", "segment_ids", "positions", "labels")
FIELDS = ("token_ids", "segment_ids", "lengths", "positions", "labels", "counts", "pair")  # of `Arrays`


class PretrainingBatches:
    """The batches of all epochs; `per_epoch` of them an epoch.

    Args:
        examples: what they are made of.
        pairs: the name of the target that says which pairs are none; None where none is learnt.
        batch_size: examples a batch; an epoch's last may have fewer.
        seed: of the order.
        max_length: tokens of an example at most.
        predictions: pad every batch to `batch_size` rows of `max_length` tokens and so many predictions, what is added
            weighing nothing: TPUs compile for each shape. None for no more padding than a batch needs.
    """

    def __init__(
        self,
        examples: Examples,
        *,
        pairs: str | None,
        batch_size: int,
        seed: int,
        max_length: int,
        predictions: int | None = None,
    ):
        self.examples, self.pairs, self.batch_size, self.seed = examples, pairs, batch_size, seed
        self.max_length, self.predictions = max_length, predictions
        self.per_epoch = math.ceil(len(examples) / batch_size)
        self._wide = max(8, WINDOW_ROWS // batch_size)  # batches a window

    @graphs.builds_dataset
    def dataset(self, start: int) -> tf.data.Dataset:
        """Batches from this global step on, epoch after epoch, without end.

        Returns:
            Triples of inputs (`token_ids`, `segment_ids`, `padding_mask`, int32 [batch, tokens], and
            `masked_positions`, int32 [batch, predictions], padded with 0), targets (`mlm`, int32 [batch, predictions]:
            what was there; with pairs `nsp` or `sop`, int32 [batch]: 1 where the second segment does not follow the first) and
            their weights, float32: 1 where there is something to learn, else 0.
        """
        epoch, step = divmod(start, self.per_epoch)
        windows = math.ceil(self.per_epoch / self._wide)

        def read(number: np.ndarray) -> list[np.ndarray]:
            _, arrays = self._window(*divmod(int(number), windows))
            return [np.asarray(getattr(arrays, name), np.int32) for name in FIELDS]

        def batches(number: tf.Tensor) -> tf.data.Dataset:
            columns = graphs.numpy_function(read, [number], [tf.int32] * len(FIELDS))
            window = {
                name: tf.ensure_shape(column, [None, None] if name in MATRICES else [None])
                for name, column in zip(FIELDS, columns, strict=True)
            }
            count = -(-tf.size(window["lengths"]) // self.batch_size)

            def batch(place: tf.Tensor) -> Any:
                rows = slice(place * self.batch_size, (place + 1) * self.batch_size)
                found = batched({name: column[rows] for name, column in window.items()}, self.pairs, self.max_length)
                return found if self.predictions is None else fixed(found, self.batch_size, self.max_length, self.predictions)

            return tf.data.Dataset.range(tf.cast(count, tf.int64)).map(lambda place: batch(tf.cast(place, tf.int32)))

        numbers = tf.data.Dataset.range(epoch * windows + step // self._wide, np.iinfo(np.int64).max)
        return numbers.flat_map(batches).skip(step % self._wide).prefetch(16)

    def where(self, step: int) -> str:
        """What the batch of this step was made of, for a message."""
        epoch, within = divmod(step, self.per_epoch)
        window, place = divmod(within, self._wide)
        numbers, _ = self._window(epoch, window)
        batch = numbers[place * self.batch_size : (place + 1) * self.batch_size]
        shown = ", ".join(self.examples.where(int(number)) for number in batch[:NAMED])
        return shown + (f" and {len(batch) - NAMED} more" if len(batch) > NAMED else "")

    def _window(self, epoch: int, place: int) -> tuple[np.ndarray, Arrays]:
        """Numbers and examples of a window in the order of its batches."""
        rows = self._wide * self.batch_size
        positions = np.arange(place * rows, min((place + 1) * rows, len(self.examples)))
        numbers = permuted(positions, len(self.examples), self.seed, epoch)
        arrays = self.examples.read(numbers, epoch)
        count, whole = math.ceil(len(numbers) / self.batch_size), len(numbers) // self.batch_size
        # The last batch, which may have fewer rows, stays the last, so that the others are cut where they should be. Its
        # rows are of any length, the last of the permutation: each weighs more than others do.
        sorted_rows = len(numbers) if isinstance(self.seed, FormerSeed) else whole * self.batch_size
        by_length = np.argsort(arrays.lengths[:sorted_rows], kind="stable")
        by_length = np.concatenate([by_length, np.arange(sorted_rows, len(numbers))])
        order = np.argsort(bits(keys([self.seed], epoch, place), ORDER, whole)[0])
        order = np.concatenate([order, np.arange(whole, count)])
        in_order = np.concatenate([by_length[i * self.batch_size : (i + 1) * self.batch_size] for i in order])
        return numbers[in_order], taken(arrays, in_order)


def taken(arrays: Arrays, rows: np.ndarray) -> Arrays:
    """Some of the examples."""
    return Arrays(**{name: getattr(arrays, name)[rows] for name in FIELDS})


def batched(window: Tensors, pairs: str | None, max_length: int) -> tuple[Tensors, Tensors, Tensors]:
    """Inputs, targets and weights of examples given by the fields of `Arrays`, padded to a multiple of `LENGTHS` tokens."""
    width = tf.minimum(-(-tf.reduce_max(window["lengths"]) // LENGTHS) * LENGTHS, max_length)
    more = [[0, 0], [0, LENGTHS]]
    predictions = tf.maximum(tf.reduce_max(window["counts"]), 1)
    inputs = {
        "token_ids": tf.pad(window["token_ids"], more)[:, :width],
        "segment_ids": tf.pad(window["segment_ids"], more)[:, :width],
        "padding_mask": tf.sequence_mask(window["lengths"], width, tf.int32),
        "masked_positions": window["positions"][:, :predictions],
    }
    targets = {"mlm": window["labels"][:, :predictions]}
    weights = {"mlm": tf.sequence_mask(window["counts"], tf.shape(targets["mlm"])[1], tf.float32)}
    if pairs:
        targets[pairs] = tf.maximum(window["pair"], 0)
        weights[pairs] = tf.cast(window["pair"] >= 0, tf.float32)
    return inputs, targets, weights


def fixed(batch: tuple[Tensors, ...], rows: int, length: int, most: int) -> tuple[Tensors, ...]:
    """The same with zeros behind, up to so many rows, tokens and predictions."""

    def pad(name: str, values: tf.Tensor) -> tf.Tensor:
        shape = [rows, most if name in ("masked_positions", "mlm") else length][: len(values.shape)]
        edges = [[0, size - tf.shape(values)[axis]] for axis, size in enumerate(shape)]
        return tf.ensure_shape(tf.pad(values, edges), shape)

    return tuple({name: pad(name, values) for name, values in part.items()} for part in batch)
