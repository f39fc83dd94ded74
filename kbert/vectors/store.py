"""Store the work of an unfinished run of kbert.encode in a folder beside the output, so that the same command resumes it.

    settings.json   the input and the settings
    vectors.f32     vectors, one after the other
    index.jsonl     the index entry of each, a JSON list a line
    sums-N.npy      or instead, for means over occurrences, the sums after N rows
    progress.json   how much of the input these cover

A window's vectors are on disk before progress.json records them, and progress.json is renamed into place: after a
crash at any moment, data beyond the counts in progress.json is cut off, and nothing before it is lost.
"""

import json
import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from kbert.errors import DataError, UsageError
from kbert.files import read_json, write_json
from kbert.lock import Held, Lock
from kbert.settings import from_json
from kbert.vectors.formats import Part

CHUNK = 4096  # vectors read at once


@dataclass(frozen=True)
class Progress:
    """The progress of a run.

    Attributes:
        rows: rows of the input processed.
        vectors: vectors written.
        vector_bytes: size of the vectors.
        index_bytes: size of the index entries.
        notes: counts of what to report at the end.
    """

    rows: int = 0
    vectors: int = 0
    vector_bytes: int = 0
    index_bytes: int = 0
    notes: dict[str, Any] = field(default_factory=dict)


class VectorStore:
    """An open work folder, created if missing.

    Attributes:
        progress: how much it holds.

    Raises:
        UsageError: it belongs to a run with other settings, and `overwrite` is false.
        DataError: it cannot be written, is damaged, or another process is using it.
    """

    def __init__(self, output: Path, settings: dict[str, Any], *, overwrite: bool):
        self.path = output.with_name(f".{output.name}.encoding")
        try:
            self.path.mkdir(exist_ok=True)
            self._lock = Lock(self.path / "lock")  # held until the run ends
        except Held as holder:
            raise DataError(f"--output={output}: another process is writing it ({holder})") from None
        except OSError as error:
            raise DataError(f"--output={output}: cannot be written: {error.strerror}") from None
        self.progress = Progress()
        if (self.path / "settings.json").exists() and not overwrite:
            self._check(output, settings)
            if (self.path / "progress.json").exists():
                self.progress = from_json(Progress, read_json(self.path / "progress.json"), str(self.path / "progress.json"))
        else:
            for name in ("progress.json", "settings.json", "vectors.f32", "index.jsonl"):
                (self.path / name).unlink(missing_ok=True)
            write_json(self.path / "settings.json", settings)
        self._vectors = self._continued("vectors.f32", self.progress.vector_bytes)
        self._index = self._continued("index.jsonl", self.progress.index_bytes)

    def _check(self, output: Path, settings: dict[str, Any]) -> None:
        found = read_json(self.path / "settings.json")
        if not isinstance(found, dict):
            raise DataError(f"{self.path / 'settings.json'}: damaged; --overwrite starts over")
        for name in sorted({*found, *settings}):
            if found.get(name) != settings.get(name):
                raise UsageError(
                    f"--output={output}: an interrupted run with other settings left its work in {self.path.name}: {name} was "
                    f"{found.get(name)!r}, now {settings.get(name)!r}; --overwrite starts over"
                )

    def _continued(self, name: str, size: int) -> IO[bytes]:
        path = self.path / name
        if (path.stat().st_size if path.exists() else 0) < size:
            raise DataError(f"{path}: is shorter than progress.json says; --overwrite starts over")
        stream = open(path, "ab")  # noqa: SIM115  (closed by `remove`)
        stream.truncate(size)
        return stream

    def append(self, entries: Sequence[Sequence[Any]], vectors: np.ndarray, progress: Progress) -> None:
        """Append vectors, float32 [vectors, size], and their index entries; they are on disk when this returns.

        Args:
            progress: rows and notes up to here; the sizes are filled in.
        """
        self._index.write("".join(json.dumps(list(entry), ensure_ascii=False) + "\n" for entry in entries).encode())
        self._vectors.write(np.ascontiguousarray(vectors, "<f4").tobytes())
        for stream in (self._index, self._vectors):
            stream.flush()
            os.fsync(stream.fileno())
        self._commit(
            Progress(
                rows=progress.rows,
                vectors=self.progress.vectors + len(vectors),
                vector_bytes=self._vectors.tell(),
                index_bytes=self._index.tell(),
                notes=progress.notes,
            )
        )

    def keep_sums(self, sums: np.ndarray, progress: Progress) -> None:
        """Replace the stored sums, [words, size + 1] float64."""
        name = f"sums-{progress.rows}.npy"
        with open(self.path / name, "wb") as stream:
            np.save(stream, sums, allow_pickle=False)
            stream.flush()
            os.fsync(stream.fileno())
        self._commit(progress)
        for old in self.path.glob("sums-*.npy"):
            if old.name != name:
                old.unlink()

    def sums(self, shape: tuple[int, int]) -> np.ndarray:
        """Return the stored sums; zeros at first."""
        if not self.progress.rows:
            return np.zeros(shape)
        path = self.path / f"sums-{self.progress.rows}.npy"
        try:
            found = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path}: damaged ({error}); --overwrite starts over") from None
        if found.shape != shape:
            raise DataError(f"{path}: has shape {found.shape}, expected {shape}; --overwrite starts over")
        return np.asarray(found)

    def _commit(self, progress: Progress) -> None:
        write_json(self.path / "progress.json", vars(progress))
        self.progress = progress

    def parts(self, size: int) -> Iterator[Part]:
        """Yield all vectors in order with their index entries, in parts."""
        with open(self.path / "vectors.f32", "rb") as vectors, open(self.path / "index.jsonl", encoding="utf-8") as index:
            for start in range(0, self.progress.vectors, CHUNK):
                count = min(CHUNK, self.progress.vectors - start)
                found = np.fromfile(vectors, "<f4", count * size).reshape(count, size)
                yield [tuple(json.loads(next(index))) for _ in range(count)], found

    def remove(self) -> None:
        """Remove the folder, once the output is complete."""
        self._vectors.close()
        self._index.close()
        self._lock.release()
        shutil.rmtree(self.path, ignore_errors=True)
