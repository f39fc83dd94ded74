"""Pre-training examples as the batches of a training run.

In: `Examples`. Out: batches of a model's inputs, targets and weights, as `kbert.train.batching` orders them.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.permutation import FormerSeed, permuted
from kbert.pretraining.examples import Examples
from kbert.pretraining.randomness import bits, keys
from kbert.tasks.base import Tensors
from kbert.train.batching import Chunk, SortedBatches, padded_to

LENGTHS = 16  # tokens; batches are as long as a multiple, so that there are few lengths to compile for (`Encoder.compiled`)
ORDER = 24  # stream of random numbers: the order of a chunk's batches
MATRICES = ("token_ids", "segment_ids", "positions", "labels")
FIELDS = ("token_ids", "segment_ids", "lengths", "positions", "labels", "counts", "pair")  # of `Arrays`


class PretrainingBatches(SortedBatches):
    """`Batches` of pre-training examples.

    They are triples of inputs (`token_ids`, `segment_ids`, `padding_mask`, int32 [batch, tokens], and
    `masked_positions`, int32 [batch, predictions], padded with 0), targets (`mlm`, int32 [batch, predictions]:
    what was there; with pairs `nsp` or `sop`, int32 [batch]: 1 where the second segment does not follow the first) and
    their weights, float32: 1 where there is something to learn, else 0.

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
        super().__init__(len(examples), batch_size=batch_size, seed=seed)
        self.examples, self.pairs, self.max_length, self.predictions = examples, pairs, max_length, predictions

    def name(self, position: int, epoch: int) -> str:
        return self.examples.where(int(permuted(np.array([position]), self.count, self.seed, epoch)[0]))

    def load(self, number: tf.Tensor) -> Chunk:
        types = [tf.int64] * 3 + [tf.int32] * len(FIELDS)
        positions, order, batches, *columns = graphs.numpy_function(self._read, [number], types)
        arrays = {
            name: tf.ensure_shape(column, [None, None] if name in MATRICES else [None])
            for name, column in zip(FIELDS, columns, strict=True)
        }

        def batch(rows: tf.Tensor) -> Any:
            found = batched({name: tf.gather(column, rows) for name, column in arrays.items()}, self.pairs, self.max_length)
            return found if self.predictions is None else fixed(found, self.batch_size, self.max_length, self.predictions)

        positions, order, batches = (tf.ensure_shape(values, [None]) for values in (positions, order, batches))
        return Chunk(positions, order, batches, batch)

    def _read(self, number: np.ndarray) -> list[np.ndarray]:
        """Return the positions of a chunk's examples, their order, that of the batches, and the `FIELDS` of the examples."""
        epoch, place, positions = self.place(number)
        arrays = self.examples.read(permuted(positions, self.count, self.seed, epoch), epoch)
        count, whole = -(-len(positions) // self.batch_size), len(positions) // self.batch_size
        # The last batch, which may have fewer rows, stays the last, so that the others are cut where they should be. Its
        # rows are of any length, the last of the permutation: each weighs more than others do.
        sorted_rows = len(positions) if isinstance(self.seed, FormerSeed) else whole * self.batch_size
        by_length = np.argsort(arrays.lengths[:sorted_rows], kind="stable")
        order = np.concatenate([by_length, np.arange(sorted_rows, len(positions))])
        shuffled = np.argsort(bits(keys([self.seed], epoch, place), ORDER, whole)[0])
        batches = np.concatenate([shuffled, np.arange(whole, count)])
        return [positions, order, batches, *(np.asarray(getattr(arrays, name), np.int32) for name in FIELDS)]


def batched(arrays: Tensors, pairs: str | None, max_length: int) -> tuple[Tensors, Tensors, Tensors]:
    """Inputs, targets and weights of examples given by the fields of `Arrays`, padded to a multiple of `LENGTHS` tokens."""
    width = tf.minimum(-(-tf.reduce_max(arrays["lengths"]) // LENGTHS) * LENGTHS, max_length)
    more = [[0, 0], [0, LENGTHS]]
    predictions = tf.maximum(tf.reduce_max(arrays["counts"]), 1)
    inputs = {
        "token_ids": tf.pad(arrays["token_ids"], more)[:, :width],
        "segment_ids": tf.pad(arrays["segment_ids"], more)[:, :width],
        "padding_mask": tf.sequence_mask(arrays["lengths"], width, tf.int32),
        "masked_positions": arrays["positions"][:, :predictions],
    }
    targets = {"mlm": arrays["labels"][:, :predictions]}
    weights = {"mlm": tf.sequence_mask(arrays["counts"], tf.shape(targets["mlm"])[1], tf.float32)}
    if pairs:
        targets[pairs] = tf.maximum(arrays["pair"], 0)
        weights[pairs] = tf.cast(arrays["pair"] >= 0, tf.float32)
    return inputs, targets, weights


def fixed(batch: tuple[Tensors, ...], rows: int, length: int, most: int) -> tuple[Tensors, ...]:
    """The same with zeros behind, up to so many rows, tokens and predictions."""

    def pad(name: str, values: tf.Tensor) -> tf.Tensor:
        return padded_to(values, [rows, most if name in ("masked_positions", "mlm") else length][: len(values.shape)])

    return tuple({name: pad(name, values) for name, values in part.items()} for part in batch)
