"""Read any rows of an indexed source by number.

In: files, how each is read, and the index of their rows (`kbert.data.indexing`). Out: columns of values. Memory holds
neither the text nor the index.
"""

import dataclasses
import itertools
import os
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

import numpy as np

from kbert.data import squad
from kbert.data.bad_rows import place
from kbert.data.formats import Layout
from kbert.data.label_numbers import LabelNumbers
from kbert.data.schemes import Tags
from kbert.data.sources import reopened, temporary
from kbert.data.token_layouts import Tokenised
from kbert.data.tokens import TokenCounts, Tokens
from kbert.errors import DataError

# One row of the index. `key` is a hash of the row's texts, `alike` of one or two of them as the model sees them.
RECORD = np.dtype([("offset", "<u8"), ("length", "<u4"), ("key", "<u4"), ("alike", "<u4", 2), ("file", "<u2")])
PLACES = "places of tokens"
CHUNK = 8192  # rows of the index held in memory at once
READ_ROWS = 1024  # rows read at once where all are
READ_BYTES = 1 << 20  # and their bytes, unless a single row has more


class Reader(Protocol):
    """Converts a row's values from the file's conventions to what a task reads."""

    def __call__(self, values: tuple[str, ...]) -> tuple[str, ...]:
        """Convert the row's values; raise ValueError if they are malformed."""

    def finish(self, name: str) -> None:
        """Log what was found over all rows of a source; raise DataError if they were evidently read wrongly."""


@dataclass(frozen=True)
class File:
    """A readable range of bytes: a named file, or a copy of one without random access."""

    name: str  # shown to the user
    copy: IO[bytes] | None
    start: int  # bytes before the first row: byte order mark and header
    layout: Layout
    reader: Reader | None = None
    unplaced: bool = False  # a column of token offsets is requested, but the layout has none
    named: tuple[int, ...] = ()  # columns of labels that may be numbers
    names: LabelNumbers | None = None

    def values(self, record: bytes) -> tuple[str, ...]:
        """Return the values of a record's row; empty if the record is not a row."""
        values = self.layout.values(record)
        if values and self.names:
            values = tuple(self.names(value) if c in self.named else value for c, value in enumerate(values))
        if values and self.reader:
            values = self.reader(values)
        return (values[0], "", *values[1:]) if values and self.unplaced else values

    def place(self, record: bytes, line: int) -> int | str:
        """Return a record's place: its line, or what a document calls it."""
        named = getattr(self.layout, "place", None)
        return named(record) if named else line

    def open(self) -> IO[bytes]:
        return reopened(self.name, self.copy)


class Table:
    """Rows of text, by number. Memory use does not grow with their count.

    Attributes:
        name: the source as given by the user.
        columns: the columns that `read` returns, in order.
        digest: CRC-32 of the source's rows.
    """

    def __init__(
        self,
        name: str,
        columns: tuple[str, ...],
        files: Sequence[File],
        index: IO[bytes],
        digest: int,
        gaps: Sequence[int] = (),
    ):
        self.name = name
        self.columns = columns
        self.digest = digest
        self._files = files
        self._index = index
        self._gaps = gaps  # of each row left out, how many rows before it were not
        self._open: dict[int, IO[bytes]] = {}

    def __len__(self) -> int:
        return os.fstat(self._index.fileno()).st_size // RECORD.itemsize

    def read(self, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """Read the rows of these numbers: column -> UTF-8 bytes, an object array of shape [rows]."""
        records = self._records(rows)
        values: list[tuple[str, ...]] = [()] * len(records)
        # In file order, so that a shuffled chunk still reads its files from front to back.
        for i in np.lexsort((records["offset"], records["file"])):
            record = records[i]
            file = int(record["file"])
            raw = os.pread(self._descriptor(file), int(record["length"]), int(record["offset"]))
            try:
                values[i] = self._files[file].values(raw)
                if not values[i]:
                    raise ValueError("no row found")
            except ValueError as error:
                raise DataError(f"{self.where(int(rows[i]))}: {error} (did the file change?)") from None
        columns = {}
        for c, name in enumerate(self.columns):
            column = np.empty(len(values), dtype=object)
            column[:] = [utf8(row[c]) for row in values]
            columns[name] = column
        return columns

    def whole(self, rows: Sequence[int] | np.ndarray | range) -> list[dict[str, Any]]:
        """Read all columns of rows as the file names and holds them; empty where its columns have no names."""
        found = []
        for record in self._records(rows):
            file = int(record["file"])
            raw = os.pread(self._descriptor(file), int(record["length"]), int(record["offset"]))
            read = getattr(self._files[file].layout, "row", None)
            found.append({} if read is None else dict(read(raw)))
        return found

    def where(self, row: int) -> str:
        """Return `FILE:LINE` of a row, lines counted from 1 as in editors; in SQuAD documents, the question's id."""
        record = self._records([row])[0]
        file = self._files[int(record["file"])]
        raw = os.pread(self._descriptor(int(record["file"])), int(record["length"]), int(record["offset"]))
        if isinstance(found := file.place(raw, 0), str):
            return place(file.name, found)
        line, left = 1, int(record["offset"])
        with file.open() as stream:
            stream.seek(0)
            while left and (block := stream.read(min(left, 1 << 20))):
                line += block.count(b"\n")
                left -= len(block)
        return f"{file.name}:{line}"

    def number(self, row: int) -> int:
        """Return the number of a row in its source, from 1; rows that were left out count."""
        return row + 1 + bisect_right(self._gaps, row)

    @property
    def row_bytes(self) -> float:
        """Average bytes of a row in the source."""
        parts = range(0, len(self), CHUNK)
        sizes = (self._records(range(start, min(start + CHUNK, len(self))))["length"].sum(dtype=np.int64) for start in parts)
        return float(sum(sizes) / max(1, len(self)))

    def chunk_starts(self, rows: int, size: int) -> np.ndarray:
        """Divide the table into chunks of consecutive rows: return their first rows and, last, the table's length.

        Args:
            rows: the maximum number of rows of a chunk.
            size: the maximum bytes of a chunk in the source; a single larger row is a chunk of its own.
        """
        cuts, first, held = [0], 0, 0
        for start in range(0, len(self), CHUNK):
            for row, length in enumerate(self._records(range(start, min(start + CHUNK, len(self))))["length"].tolist(), start):
                if row > first and (row - first >= rows or held + length > size):
                    cuts.append(row)
                    first, held = row, 0
                held += length
        return np.array([*cuts, len(self)])

    def chunks(self) -> Iterator[tuple[range, dict[str, np.ndarray]]]:
        """Read all rows in order, up to `READ_ROWS` at a time: yield their numbers and what `read` returns of them."""
        for start, stop in itertools.pairwise(self.chunk_starts(READ_ROWS, READ_BYTES)):
            yield range(start, stop), self.read(range(start, stop))

    def deduplicated(self) -> "Table":
        """Keep the first of the rows whose texts are equal (by a 32-bit hash)."""
        first = np.sort(np.unique(self.hashes("key"), return_index=True)[1])
        index = temporary()
        for start in range(0, len(first), CHUNK):
            index.write(self._records(first[start : start + CHUNK]).tobytes())
        index.flush()
        return Table(self.name, self.columns, self._files, index, self.digest)

    def narrowed(self, columns: int) -> "Table":
        """Drop this number of trailing columns."""
        return Table(self.name, self.columns[: len(self.columns) - columns], self._files, self._index, self.digest)

    def hashes(self, name: Literal["key", "alike"]) -> np.ndarray:
        """Return hashes: `key` of each row's texts, uint32 [rows], or `alike`, of one or two as models see them, [rows, 2]."""
        parts = (self._records(range(start, min(start + CHUNK, len(self)))) for start in range(0, len(self), CHUNK))
        return np.concatenate([part[name] for part in parts])

    def split(self, aside: np.ndarray) -> tuple["Table", "Table"]:
        """Split into two tables: the rows where `aside`, bool [rows], is false, and those where it is true."""
        sides = temporary(), temporary()
        for start in range(0, len(self), CHUNK):
            records = self._records(range(start, min(start + CHUNK, len(self))))
            chosen = aside[start : start + CHUNK]
            sides[0].write(records[~chosen].tobytes())
            sides[1].write(records[chosen].tobytes())
        for side in sides:
            side.flush()
        first, second = (Table(self.name, self.columns, self._files, side, self.digest) for side in sides)
        return first, second

    def resolve_tokens(self) -> Tokens:
        """Decide for all rows at once whether tokens are words or characters of unspaced text, and read them accordingly.

        Returns:
            The decision; "auto" if no row has tokens.
        """
        counts = TokenCounts()
        layouts = [file.layout for file in self._files if isinstance(file.layout, Tokenised)]
        for layout in layouts:
            counts.add_all(layout.reading.counts)
        kind: Tokens = counts.kind() if counts.tokens else "auto"
        for layout in layouts:
            layout.reading = dataclasses.replace(layout.reading, tokens=kind)
        return kind

    @property
    def separator(self) -> str:
        """What separates rows, where that is not the line, for messages that there are few."""
        blocks = any(type(file.layout) is Tokenised for file in self._files)
        return "; a row is a sentence, and a blank line ends it" if blocks else ""

    def scheme(self) -> Tags | None:
        """Return the tag scheme of the first file with tags; None if there is none."""
        readings = [file.layout.reading for file in self._files if isinstance(file.layout, Tokenised)]
        return next((reading.tags for reading in readings if reading.tags is not None), None)

    def _records(self, rows: Sequence[int] | np.ndarray | range) -> np.ndarray:
        size, index = RECORD.itemsize, self._index.fileno()
        if isinstance(rows, range) and rows.step == 1:
            return np.frombuffer(os.pread(index, len(rows) * size, rows.start * size), RECORD)
        return np.frombuffer(b"".join(os.pread(index, size, int(row) * size) for row in rows), RECORD)

    def _descriptor(self, file: int) -> int:
        if file not in self._open:
            if len(self._open) >= 64:
                self._open.pop(next(iter(self._open))).close()
            self._open[file] = self._files[file].open()
        return self._open[file].fileno()


def utf8(text: str) -> bytes:
    """Encode a text, half surrogate pairs as U+FFFD."""
    try:
        return text.encode()
    except UnicodeEncodeError:  # JSON can encode half a surrogate pair
        return squad.whole(text).encode()
