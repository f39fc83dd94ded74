"""Examples as the batches of a run, the same ones wherever the run starts.

In: numbered examples. Out: `Batches` to train on, from any step on.
An epoch is a seeded permutation of the examples, computed and never stored. It is read in chunks of some thousand
examples, or of long ones fewer; the examples of a chunk are sorted by length, or about, and cut into batches, so that
those of like length share a batch and padding is small; the batches then come in shuffled order.

Every batch has `batch_size` examples (an epoch's last may have fewer), not a constant number of tokens:
the step that the learning rate was chosen for stays the same whatever the texts' lengths.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.permutation import FormerSeed

CHUNK_ROWS = 2048  # examples sorted by length together; larger chunks pad less and shuffle no better
CHUNK_BYTES = 1 << 22  # and their bytes, about: encoding takes 45 times as much for a moment
NAMED = 20  # examples of a batch that a message names


class Batches(Protocol):
    """What `kbert.train.run.Run` trains on: the same batches, wherever a run starts.

    Steps are counted from 0 over the whole run, epoch after epoch.
    """

    per_epoch: int  # training steps of an epoch

    def dataset(self, start: int) -> tf.data.Dataset:
        """Make the endless dataset of the batches from this step on.

        Returns:
            (inputs, targets) or (inputs, targets, weights), nested as the model's inputs and outputs are. The
            first axis of each tensor is the batch's, so that any selection of rows is a smaller batch. Losses
            are means weighted by `weights`, which have the shape of the targets' values (1 each by default); metrics are
            means over the values that weigh more than 0.
        """

    def where(self, step: int) -> str:
        """Return what the batch of this step was made of, for a message: files and lines."""


class Chunk(NamedTuple):
    """Examples that are sorted and cut into batches together; in the graph."""

    positions: tf.Tensor  # int64 [examples]: their places in the epoch's permutation
    order: tf.Tensor  # integers [examples]: the examples by length; each batch is the next `batch_size` of them
    batches: tf.Tensor  # integers [batches]: the numbers of the batches, in the order they come in
    batch: Callable[[tf.Tensor], Sequence[Any]]  # makes a batch of examples given by their numbers in the chunk


class SortedBatches(ABC):
    """`Batches` of examples that are read, sorted by length and shuffled in chunks.

    Args:
        count: examples of an epoch.
        batch_size: examples of a batch; an epoch's last may have fewer.
        seed: of the order.
        bytes_each: what reading an example takes, on average.
    """

    def __init__(self, count: int, *, batch_size: int, seed: int, bytes_each: float = 1.0):
        self.count, self.batch_size, self.seed = count, batch_size, seed
        self.per_epoch = math.ceil(count / batch_size)
        self._per_chunk = max(8, CHUNK_ROWS // batch_size)  # batches
        if not isinstance(seed, FormerSeed):
            fit = int(CHUNK_BYTES / (batch_size * max(1.0, bytes_each)))
            self._per_chunk = max(1, min(self._per_chunk, fit))
        self._chunks = math.ceil(self.per_epoch / self._per_chunk)

    @abstractmethod
    def load(self, number: tf.Tensor) -> Chunk:
        """Read the chunk of this number, int64, which counts the chunks of all epochs; see `place`."""

    @abstractmethod
    def name(self, position: int, epoch: int) -> str:
        """Return `FILE:LINE` of the example at a position of an epoch's permutation."""

    def place(self, number: Any) -> tuple[int, int, np.ndarray]:
        """Return the epoch of the chunk of this number, its number in the epoch, and its positions, int64 [examples]."""
        epoch, place = divmod(int(number), self._chunks)
        size = self._per_chunk * self.batch_size
        return epoch, place, np.arange(place * size, min((place + 1) * size, self.count))

    @graphs.builds_dataset
    def dataset(self, start: int) -> tf.data.Dataset:
        """See `Batches`."""
        return self._placed(start).map(lambda _, *batch: batch).prefetch(16)

    def where(self, step: int) -> str:
        """See `Batches`."""
        positions = next(iter(self._placed(step)))[0].numpy()
        names = ", ".join(self.name(int(position), step // self.per_epoch) for position in positions[:NAMED])
        return names + (f" and {len(positions) - NAMED} more" if len(positions) > NAMED else "")

    @graphs.builds_dataset
    def _placed(self, start: int) -> tf.data.Dataset:
        """Make the dataset of the batches, each after the positions of its examples, int64 [batch]."""
        epoch, step = divmod(start, self.per_epoch)
        chunk, skipped = divmod(step, self._per_chunk)
        chunks = tf.data.Dataset.range(epoch * self._chunks + chunk, np.iinfo(np.int64).max)
        return chunks.flat_map(self._cut).skip(skipped)

    def _cut(self, number: tf.Tensor) -> tf.data.Dataset:
        chunk, size = self.load(number), self.batch_size

        def batch(place: tf.Tensor) -> tuple[Any, ...]:
            examples = chunk.order[place * size : (place + 1) * size]
            return tf.gather(chunk.positions, examples), *chunk.batch(examples)

        return tf.data.Dataset.from_tensor_slices(chunk.batches).map(batch)


def padded_to(values: tf.Tensor, shape: Sequence[int], value: int = 0) -> tf.Tensor:
    """Pad a tensor at the ends of its axes to a shape that is known when the graph is traced."""
    edges = [[0, size - tf.shape(values)[axis]] for axis, size in enumerate(shape)]
    return tf.ensure_shape(tf.pad(values, edges, constant_values=tf.cast(value, values.dtype)), shape)
