"""Write and read pre-training examples as TFRecord shards, interchangeable with google-research/bert's.

In: `Arrays`. Out: serialised tf.train.Examples with the features of `create_pretraining_data.py`, padded to the longest
input; and from shards `Examples` again. The bytes are built by numpy for many examples at once, since building protocol
buffers one by one in Python would dominate the time.
"""

import contextlib
import glob
import os
import struct
import tempfile
import zlib
from collections.abc import Iterator
from operator import itemgetter
from pathlib import Path

import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.errors import DataError
from kbert.files import replaced
from kbert.permutation import permuted
from kbert.pretraining.examples import Arrays, TextExamples
from kbert.progress import over

BEHIND, AROUND = 4, 16  # bytes of a record's frame: a checksum after it; that, its length and the length's checksum
PLACE = np.dtype([("start", "<u8"), ("size", "<u4"), ("file", "<u4")])
AT_ONCE = 2048  # records
FREQUENCY_ROWS = 20_000  # examples sampled for the frequencies of pieces
ENDING = ".tfrecord"


def serialised(arrays: Arrays, max_length: int, most: int) -> Iterator[bytes]:
    """Serialise each example as a tf.train.Example, padded to `max_length` tokens and `most` predictions; all of one size."""
    count = len(arrays.lengths)

    def wide(values: np.ndarray, width: int) -> np.ndarray:
        if values.shape[1] == width:
            return values
        padded = np.zeros((count, width), np.int32)
        padded[:, : values.shape[1]] = values
        return padded

    integers = {
        "input_ids": wide(arrays.token_ids, max_length),
        "input_mask": np.arange(max_length) < arrays.lengths[:, None],
        "segment_ids": wide(arrays.segment_ids, max_length),
        "masked_lm_positions": wide(arrays.positions, most),
        "masked_lm_ids": wide(arrays.labels, most),
        "next_sentence_labels": np.maximum(arrays.pair, 0)[:, None],
        "pair_weights": (arrays.pair >= 0)[:, None],
    }
    weights = (np.arange(most) < arrays.counts[:, None]).astype("<f4")
    entries = [_entry(name, 3, _varints(values)) for name, values in integers.items()]
    entries.append(_entry("masked_lm_weights", 2, weights.view(np.uint8)))
    head = np.frombuffer(b"\x0a" + _varint(sum(entry.shape[1] for entry in entries)), np.uint8)
    records = np.concatenate([np.broadcast_to(head, (count, len(head))), *entries], 1)
    return map(itemgetter(0), struct.iter_unpack(f"{records.shape[1]}s", records.data))


def _entry(name: str, kind: int, packed: np.ndarray) -> np.ndarray:
    """Encode each example's entry in the map of features, uint8 [examples, bytes].

    Args:
        kind: the field of `Feature` that holds the list.
        packed: the numbers of the list, uint8 [examples, bytes].
    """
    size = packed.shape[1]
    listed = b"\x0a" + _varint(size)  # a tag and the length of what follows, here and below
    feature = bytes([kind << 3 | 2]) + _varint(len(listed) + size) + listed
    entry = b"\x0a" + _varint(len(name)) + name.encode() + b"\x12" + _varint(len(feature) + size) + feature
    head = np.frombuffer(b"\x0a" + _varint(len(entry) + size) + entry, np.uint8)
    return np.concatenate([np.broadcast_to(head, (len(packed), len(head))), packed], 1)


def _varint(value: int) -> bytes:
    found = bytearray()
    while value >= 128:
        found.append(value & 127 | 128)
        value >>= 7
    found.append(value)
    return bytes(found)


def _varints(values: np.ndarray) -> np.ndarray:
    """Encode whole numbers from 0, [rows, numbers], as protocol buffers' varints: uint8 [rows, bytes].

    Each takes as many bytes as the largest needs, which protocol buffers allow, so that rows have one length.
    """
    highest = int(values.max(initial=0))
    width = len(_varint(highest))
    if width == 1:
        return values.astype(np.uint8)
    values = values.astype(np.uint16 if highest < 1 << 16 else np.uint32)
    found = np.empty((*values.shape, width), np.uint8)
    for place in range(width - 1):
        np.bitwise_or(values >> 7 * place, 128, out=found[..., place], casting="unsafe")  # keeps the lowest byte
    found[..., -1] = values >> 7 * (width - 1)
    return found.reshape(len(values), -1)


def write_shard(path: Path, examples: TextExamples, passes: int, positions: range, seed: int) -> int:
    """Write the examples at these positions of a permutation of `passes` epochs as one shard, atomically.

    Returns:
        The number of examples written.
    """
    total = passes * len(examples)
    try:
        with replaced(path) as beside, tf.io.TFRecordWriter(str(beside)) as writer:
            write = super(tf.io.TFRecordWriter, writer).write  # skips the override, which adds nothing
            for start in range(positions.start, positions.stop, AT_ONCE):
                some = permuted(np.arange(start, min(start + AT_ONCE, positions.stop)), total, seed, 0)
                arrays = examples.read(some % len(examples), some // len(examples))
                for record in serialised(arrays, examples.how.max_length, examples.masked.most):
                    write(record)
    except (OSError, tf.errors.OpError) as error:
        raise DataError(f"{path}: cannot be written: {getattr(error, 'message', error)}") from None
    return len(positions)


def is_records(source: str) -> bool:
    """Return whether a source is made of shards, by its own ending or those of its files."""
    return any(ENDING in Path(name).name for name in (source, *glob.glob(os.path.expanduser(source))))


class RecordExamples:
    """Examples of shards, accessible by number; the same in each epoch.

    Args:
        source: the shards, a glob.
        vocabulary_size: the model's; a larger id is an error.
        max_length: maximum tokens of the model; a longer example is an error.
        pairs: whether the model learns pairs.
        skip: omit damaged shards with a warning instead of an error.

    Raises:
        DataError: there are no shards, or one is damaged, truncated, empty, or of other sizes.
    """

    def __init__(self, source: str, *, vocabulary_size: int, max_length: int, pairs: bool, skip: bool = False):
        names = sorted(glob.glob(os.path.expanduser(source)))
        if not names:
            raise DataError(f"{source}: no such file")
        self.vocabulary_size, self.max_length = vocabulary_size, max_length
        self.names: list[str] = []
        self.damaged: list[str] = []
        index = tempfile.TemporaryFile(prefix="kbert-")  # noqa: SIM115 (open as long as it is mapped)
        self.digest = 0
        for name in over(names, desc="checking shards", unit="shard", total=len(names), leave=False):
            try:
                sizes, contents = _surveyed(name)
            except DataError as error:
                if not skip:
                    raise DataError(f"{error}; make it again, or continue without it by --skip_damaged_shards") from None
                self.damaged.append(str(error))
                continue
            places = np.empty(len(sizes), PLACE)
            places["start"] = np.cumsum(sizes + AROUND) - sizes - BEHIND
            places["size"], places["file"] = sizes, len(self.names)
            self.digest = zlib.crc32(contents, zlib.crc32(places.tobytes(), self.digest))
            index.write(places.tobytes())
            self.names.append(name)
        index.flush()
        if not self.names:
            raise DataError(f"{source}: no shard is whole: {self.damaged[0]}")
        self._places: np.ndarray = np.memmap(index, PLACE, "r")
        self._open: dict[int, int] = {}
        numbers = np.unique(np.linspace(0, len(self) - 1, AT_ONCE).astype(np.int64))
        sample = self.read(numbers, 0)
        self.most = self._parsed(numbers)["masked_lm_positions"].shape[1]  # padded length
        if pairs and (sample.pair < 0).all():
            raise DataError(f"{self.names[0]}: its examples are no pairs; they were made for --objective=mlm")

    def __len__(self) -> int:
        return len(self._places)

    def where(self, number: int) -> str:
        file = self._places[number]["file"]
        return f"{self.names[file]}: record {number - int(np.searchsorted(self._places['file'], file)) + 1}"

    def _parsed(self, numbers: np.ndarray) -> dict[str, np.ndarray]:
        """Parse these records, padded to the longest."""
        places = self._places[numbers].tolist()
        records = [os.pread(self._descriptor(file), size, start) for start, size, file in places]
        try:
            return {name: values.numpy() for name, values in _parse(tf.constant(records)).items()}
        except tf.errors.InvalidArgumentError as error:
            where = self.where(int(numbers[0]))
            raise DataError(f"{where} or a later one: not a pre-training example: {error.message}") from None

    def read(self, numbers: np.ndarray, epoch: int | np.ndarray) -> Arrays:
        parsed = self._parsed(numbers)
        lengths = parsed["input_mask"].sum(1)
        counts = (parsed["masked_lm_weights"] > 0).sum(1)
        width, most = int(lengths.max(initial=0)), int(counts.max(initial=0))
        ids, labels = parsed["input_ids"][:, :width], parsed["masked_lm_ids"][:, :most]
        if width > self.max_length:
            where = self.where(int(numbers[lengths.argmax()]))
            raise DataError(f"{where}: has {width} tokens, the model reads --max_length={self.max_length}")
        for values, limit, meant in (
            (ids, self.vocabulary_size, "id {}, but the model has {:,} tokens; was it made with another vocabulary?"),
            (labels, self.vocabulary_size, "masked id {}, but the model has {:,} tokens; was it made with another vocabulary?"),
            (parsed["masked_lm_positions"][:, :most], lengths[:, None], "a masked position {} beyond its tokens"),
            (parsed["segment_ids"], 2, "segment {}, but there are {}"),
        ):
            if (wrong := np.argwhere((values < 0) | (values >= np.maximum(limit, 1)))).size:
                row, column = wrong[0]
                raise DataError(f"{self.where(int(numbers[row]))}: has {meant.format(values[row, column], limit)}")
        pair = np.where(parsed["pair_weights"][:, 0] > 0, parsed["next_sentence_labels"][:, 0], -1)
        return Arrays(
            token_ids=ids.astype(np.int32),
            segment_ids=parsed["segment_ids"][:, :width].astype(np.int32),
            lengths=lengths,
            positions=parsed["masked_lm_positions"][:, :most].astype(np.int32),
            labels=labels.astype(np.int32),
            counts=counts,
            pair=pair.astype(np.int32),
        )

    def frequencies(self) -> np.ndarray:
        counts = np.zeros(self.vocabulary_size, np.int64)
        for start in range(0, min(len(self), FREQUENCY_ROWS), AT_ONCE):
            arrays = self.read(np.arange(start, min(start + AT_ONCE, len(self))), 0)
            there = np.arange(arrays.labels.shape[1]) < arrays.counts[:, None]
            counts += np.bincount(arrays.labels[there], minlength=len(counts))
        return counts

    def _descriptor(self, file: int) -> int:
        if file not in self._open:
            if len(self._open) >= 64:
                os.close(self._open.pop(next(iter(self._open))))
            self._open[file] = os.open(self.names[file], os.O_RDONLY)
        return self._open[file]


def _surveyed(name: str) -> tuple[np.ndarray, bytes]:
    """Return the length of each record of a shard, int64, and a digest of the records; verify all checksums.

    Raises:
        DataError: it is damaged, truncated or empty.
    """
    sizes: list[np.ndarray] = []
    digest = 0
    records = tf.data.TFRecordDataset(name, buffer_size=1 << 20).batch(AT_ONCE)
    try:
        for length, number in records.map(lambda some: (tf.strings.length(some), tf.strings.to_hash_bucket_fast(some, 2**62))):
            sizes.append(length.numpy().astype(np.int64))
            digest = zlib.crc32(number.numpy().tobytes(), digest)
    except (tf.errors.DataLossError, tf.errors.OutOfRangeError):
        whole = sum(map(len, sizes))
        with contextlib.suppress(tf.errors.OpError):
            for _ in tf.data.TFRecordDataset(name).skip(whole):
                whole += 1
        raise DataError(f"{name}: damaged or cut short after record {whole:,}") from None
    except (tf.errors.OpError, OSError) as error:
        raise DataError(f"{name}: not readable: {getattr(error, 'message', error)}") from None
    if not sizes:
        raise DataError(f"{name}: has no record")
    return np.concatenate(sizes), digest.to_bytes(4, "little")


@graphs.function(input_signature=[tf.TensorSpec([None], tf.string)])
def _parse(records: tf.Tensor) -> dict[str, tf.Tensor]:
    integers = ("input_ids", "input_mask", "segment_ids", "masked_lm_positions", "masked_lm_ids")
    found = tf.io.parse_example(
        records,
        {
            **{name: tf.io.RaggedFeature(tf.int64) for name in integers},
            "masked_lm_weights": tf.io.RaggedFeature(tf.float32),
            "next_sentence_labels": tf.io.FixedLenFeature([1], tf.int64),
            # kbert's own: 0 where an example is no pair.
            "pair_weights": tf.io.FixedLenFeature([1], tf.int64, [1]),
        },
    )
    return {name: value.to_tensor() if isinstance(value, tf.RaggedTensor) else value for name, value in found.items()}
