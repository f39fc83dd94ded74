"""Keep what an encoder's frozen layers compute, so that a text passes through them once.

In: ids and mask of a batch, in the graph. Out: the hidden states after the frozen layers, read from blocks in memory or on
disk, or computed and kept. Frozen layers run without dropout, so their result depends on the ids alone, whose digest
finds it. Any task's inputs that repeat are found, in training as on dev.

    NNNN.states   a block of hidden states, one input's after the other
    NNNN.npz      the digest, first row and number of rows of each input in it, and the block's checksum

A block is complete once its `.npz` is renamed into place; damaged ones are removed and computed again.
"""

import errno
import hashlib
import logging
import os
import shutil
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tensorflow as tf

from kbert import graphs

log = logging.getLogger(__name__)

BLOCK_BYTES = 1 << 26
RESERVE = 1 << 30  # bytes of disk left free, which checkpoints need
WRITING = ".writing-"
Inputs = Mapping[str, Any]


class StateCache:
    """Hidden states of encoder inputs, by content.

    Args:
        hidden: size of a hidden state.
        dtype: that of the kept states; computed ones are float32.
        memory: bytes of blocks to keep in memory; more go to `folder`.
        folder: where blocks are written; None to keep no more than `memory`.

    Attributes:
        full: whether no more are kept, for lack of memory or disk.
    """

    def __init__(
        self,
        hidden: int,
        *,
        dtype: Literal["float32", "float16"] = "float32",
        memory: int = 1 << 31,
        folder: Path | None = None,
    ):
        self.hidden, self.dtype = hidden, np.dtype(dtype)
        self.memory, self.folder = memory, folder
        self.full = False
        self._rows = BLOCK_BYTES // (hidden * self.dtype.itemsize)
        self._places: dict[bytes, tuple[int, int]] = {}  # block and row
        self._blocks: list[np.ndarray] = []  # [rows, hidden] each
        self._in_memory = 0  # bytes
        self._unwritten: list[tuple[bytes, int, int]] = []  # digest, row and rows of the inputs of the open block
        self._open = self._new_block()
        if folder is not None:
            folder.mkdir(parents=True, exist_ok=True)
            self._read_folder(folder)

    def __len__(self) -> int:
        """Return the number of inputs kept."""
        return len(self._places)

    def __call__(self, inputs: Inputs, compute: Callable[[], tf.Tensor], first_only: bool) -> tf.Tensor:
        """Return the states of a batch, float32 [batch, tokens, hidden]; those of padding may be 0. In the graph.

        Args:
            inputs: `token_ids`, `segment_ids`, `padding_mask`, int32 [batch, tokens].
            compute: returns the states, called where one of the batch is not kept.
            first_only: whether the states are those of [CLS] alone, [batch, 1, hidden].
        """
        given = [tf.constant(first_only), *(inputs[name] for name in ("token_ids", "segment_ids", "padding_mask"))]
        found, states = graphs.numpy_function(self._read, given, [tf.bool, tf.float32])

        def computed() -> tf.Tensor:
            return graphs.numpy_function(self._keep, [*given, compute()], tf.float32)

        states = tf.cond(tf.ensure_shape(found, []), lambda: states, computed)
        rows, tokens = given[1].shape
        return tf.ensure_shape(states, [rows, 1 if first_only else tokens, self.hidden])

    def describe(self, found: int) -> str:
        """Describe what is kept, of which `found` inputs were there before, for the log."""
        open_bytes = self._rows_used() * self.hidden * self.dtype.itemsize
        on_disk = sum(block.nbytes for block in self._blocks) - self._in_memory
        where = [f"{(self._in_memory + open_bytes) / 1e9:.2f} GB in memory"]
        where += [f"{on_disk / 1e9:.2f} GB in {self.folder}"] if on_disk else []
        there = f", {found:,} found" if found else ""
        return f"{len(self):,} inputs{there}, {', '.join(where)}" + ("; the others are computed each time" if self.full else "")

    def close(self) -> None:
        """Write the open block, where blocks are written, and release memory."""
        if self.folder is not None and self._unwritten:
            self._finish_block()
        self._places, self._blocks, self.full = {}, [], True

    def _rows_used(self) -> int:
        return self._unwritten[-1][1] + self._unwritten[-1][2] if self._unwritten else 0

    def _new_block(self) -> np.ndarray:
        return np.empty((self._rows, self.hidden), self.dtype)

    def _read(
        self, first_only: np.bool_, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray
    ) -> tuple[np.bool_, np.ndarray]:
        digests = _digests(first_only, ids, segments, mask)
        places = [self._places.get(digest) for digest, _ in digests]
        if None in places:
            return np.False_, np.zeros((0, 0, self.hidden), np.float32)
        states = np.zeros((len(ids), 1 if first_only else ids.shape[1], self.hidden), np.float32)
        for row, ((block, first), (_, length)) in enumerate(zip(places, digests, strict=True)):  # type: ignore[misc]
            kept = self._open if block == len(self._blocks) else self._blocks[block]
            states[row, :length] = kept[first : first + length]
        return np.True_, states

    def _keep(
        self, first_only: np.bool_, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray, states: np.ndarray
    ) -> np.ndarray:
        states = states.astype(self.dtype)
        for row, (digest, length) in enumerate(_digests(first_only, ids, segments, mask)):
            if digest in self._places or self.full:
                continue
            first = self._rows_used()
            if first + length > self._rows:
                self._finish_block()
                first = 0
                if self.full:
                    continue
            self._open[first : first + length] = states[row, :length]
            self._places[digest] = len(self._blocks), first
            self._unwritten.append((digest, first, length))
        return states.astype(np.float32)

    def _finish_block(self) -> None:
        """Move the open block to memory or disk."""
        block = self._open[: self._rows_used()]
        written = None
        if self._in_memory + block.nbytes > self.memory:
            written = None if self.folder is None else self._written(self.folder, block)
            self.full = written is None  # this block stays in memory, as the last
        if written is None:
            self._in_memory += block.nbytes
        else:
            block = written
        self._blocks.append(block)
        self._unwritten = []
        self._open = self._new_block()

    def _written(self, folder: Path, block: np.ndarray) -> np.ndarray | None:
        """Write a block and return it mapped from disk; None if it cannot be written."""
        name = f"{max((int(path.stem) for path in folder.glob('*.npz')), default=-1) + 1:04d}"
        digests, first, rows = zip(*self._unwritten, strict=True)
        index: dict[str, Any] = {
            "digests": np.frombuffer(b"".join(digests), np.uint8).reshape(-1, 16),
            "first": first,
            "rows": rows,
            "crc32": zlib.crc32(block.tobytes()),
        }
        try:
            if shutil.disk_usage(folder).free - block.nbytes < RESERVE:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            with open(folder / f"{WRITING}{name}.states", "wb") as file:
                file.write(block.tobytes())
            os.replace(file.name, folder / f"{name}.states")
            with open(folder / f"{WRITING}{name}.npz", "wb") as file:
                np.savez(file, **index)
            os.replace(file.name, folder / f"{name}.npz")
        except OSError as error:
            log.warning("%s: %s; no more states of frozen layers are kept, they are computed again", folder, error.strerror)
            for start in (name, f"{WRITING}{name}"):
                for ending in ("states", "npz"):
                    (folder / f"{start}.{ending}").unlink(missing_ok=True)
            return None
        return self._mapped(folder / f"{name}.states")

    def _mapped(self, path: Path) -> np.ndarray:
        return np.memmap(path, self.dtype, mode="r").reshape(-1, self.hidden)

    def _read_folder(self, folder: Path) -> None:
        """Take over the blocks of an earlier run."""
        for path in folder.glob(f"{WRITING}*"):
            path.unlink()
        for path in sorted(folder.glob("*.npz")):
            states = path.with_suffix(".states")
            try:
                with np.load(path) as index:
                    digests, first, rows, crc32 = (index[name] for name in ("digests", "first", "rows", "crc32"))
                block = self._mapped(states)
                if zlib.crc32(block.tobytes()) != int(crc32) or int(first[-1] + rows[-1]) != len(block):
                    raise ValueError("damaged")
            except (OSError, ValueError, KeyError, IndexError, zlib.error) as error:
                log.warning("%s: not usable (%s); its states are computed again", states, error)
                for each in (path, states):
                    each.unlink(missing_ok=True)
                continue
            starts = zip(map(bytes, digests), first.tolist(), strict=True)
            self._places.update({digest: (len(self._blocks), start) for digest, start in starts})
            self._blocks.append(block)


def _digests(first_only: np.bool_, ids: np.ndarray, segments: np.ndarray, mask: np.ndarray) -> list[tuple[bytes, int]]:
    """Return the digest of each input, and how many states it has."""
    found = []
    for row, length in enumerate(mask.sum(1).tolist()):
        content = bytes([bool(first_only)]) + ids[row, :length].tobytes() + segments[row, :length].tobytes()
        found.append((hashlib.blake2b(content, digest_size=16).digest(), 1 if first_only else length))
    return found
