"""Index a SOURCE of rows (tsv, csv, jsonl, txt, conll, squad, gzipped or not, globs, stdin, TFDS, Python's) for random access.

In: the source's name and how to read it. Out: a `Table`, which returns any rows by number.
One pass validates every row and writes the byte range of each to an unnamed temporary file; memory
holds neither the text nor the index. What does not support random access is copied once (`kbert.data.sources`).
"""

import dataclasses
import itertools
import logging
import os
import zlib
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

import numpy as np

from kbert.data import encodings, folders, squad
from kbert.data.bad_rows import AtLine, BadRows, SeveralValues, place
from kbert.data.documents import CONVERTERS, converted
from kbert.data.file_settings import FileSettings, encoding_of_lines, resolve_settings
from kbert.data.formats import Layout, byte_order_mark, layout_of
from kbert.data.json_lines import JsonLines
from kbert.data.label_numbers import LabelNumbers
from kbert.data.rows import Rows
from kbert.data.schemes import Tags
from kbert.data.sources import files_of, opened, reopened, temporary
from kbert.data.token_layouts import Tokenised
from kbert.data.tokens import TokenCounts, Tokens
from kbert.data.transcoding import transcoded
from kbert.errors import DataError, UsageError
from kbert.progress import Progress
from kbert.source import Recorded, SourceConfig

log = logging.getLogger(__name__)

# One row of the index. `key` is a hash of the row's texts, `alike` of one or two of them as the model sees them.
RECORD = np.dtype([("offset", "<u8"), ("length", "<u4"), ("key", "<u4"), ("alike", "<u4", 2), ("file", "<u2")])
MISSING = frozenset(("nan", "NaN", "NaT", "<NA>"))
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
class _File:
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
        files: Sequence[_File],
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
            column[:] = [_utf8(row[c]) for row in values]
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
        if isinstance(found := _where(file.layout, raw, 0), str):
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


def open_table(
    source: str,
    config: SourceConfig,
    columns: Sequence[str],
    *,
    keyed_by: int,
    split_by: slice = slice(None),
    alike: Callable[[str], int] | None = None,
    nested: bool = False,
    reader: Reader | None = None,
    check: Callable[[tuple[str, ...]], str | None] | None = None,
    recorded: Recorded | None = None,
    usual: Mapping[str, str] | None = None,
    tokens: Tokens | None = None,
    bad: BadRows | None = None,
    several: str = "",
) -> Table:
    """Index a source, validating every row.

    Args:
        source: files or globs, `-` for stdin, `tfds:name[/config]:split`, or `kbert.data.rows.Rows`.
        config: names, encoding and format of the columns.
        columns: the columns to read, in this order; all values are strings.
        keyed_by: number of leading columns that are text.
        split_by: those of them that `Table.hashes` covers.
        alike: function giving 32 bits of a text as the model sees it; None if not needed.
        nested: whether the later columns may hold JSON lists and objects; their values are the JSON text.
        reader: converts each row's values from the file's conventions; not used for conll and terms, which are unambiguous.
        check: called with each row's values; its ValueError is reported with file and line, and a string that it
            returns is logged as a warning with these.
        recorded: the settings used in training, for what the file does not determine; None if there was no training.
        usual: columns that the task usually reads, with the flag that reads each; one that is present but not read is
            logged in a warning.
        tokens: how to read tokens, for rows that have them; adds a column `PLACES` after the text, with the tokens'
            offsets (see `kbert.data.tokens.placed`), "" in rows without tokens. None: no such column.
        bad: takes in malformed rows, which the table lacks; for callers with several sources. None: `config` says what
            becomes of them.
        several: what to do about rows with several labels where one is read, for messages.

    Raises:
        DataError: a file is missing, unreadable or not in the encoding, a column is missing, rows are
            malformed (named as FILE:LINE), or there are no rows.
        UsageError: the format cannot be determined, or the flags contradict it.
    """
    if len(set(columns)) < len(columns):
        raise UsageError(f"--text_columns and --label_column: a column is listed twice in {', '.join(columns)}")
    files, index, digest = [], temporary(), 0
    buffer = np.empty(CHUNK, RECORD)
    filled = rows = 0
    numbers = None if config.label_names is None else LabelNumbers(config.label_names)
    named = tuple(columns.index(column) for column in config.label_columns if column in columns)
    said: set[str] = set()  # notes already logged, equal for many files
    unread = dict(usual or {})  # columns not found in any file so far
    missing: list[str] = []  # rows whose text is how pandas writes a missing value
    gaps = array("Q")
    alone = bad is None
    bad = bad or BadRows(config.skip_bad_rows, {"the rows": source})
    read = bad.read
    for number, (name, copy) in enumerate(files_of(source, config, columns, bad)):
        if os.path.isdir(name):
            settled = FileSettings(folders.kind(name), encoding_of_lines(config.encoding))
        else:
            with opened(name, copy) as stream:
                if not isinstance(name, Rows) and not name.startswith("tfds:"):
                    copy = transcoded(name, stream, config.encoding, recorded.source.encoding if recorded else None) or copy
            with opened(name, copy) as stream:
                settled = resolve_settings(name, stream, config, recorded, columns, tokens is not None)
        if settled.format in CONVERTERS:
            copy = converted(settled.format, name, copy, settled.encoding, config, columns)
        with opened(name, copy) as stream:
            size = os.fstat(stream.fileno()).st_size
            may_nest = columns[keyed_by:] if nested else ()
            layout, start, skipped = layout_of(name, stream, settled, config, columns, may_nest, tokens)
            mark = b"" if settled.format in CONVERTERS else byte_order_mark(settled.encoding)
            how = "; ".join(filter(None, (settled.note, getattr(layout, "note", ""))))
            if how and how not in said:
                log.info("%s: %s", name, how)
                said.add(how)
            tokenised = isinstance(layout, Tokenised)  # with tags that need no reading
            own = None if settled.format == "terms" or tokenised else reader
            unplaced = tokens is not None and not tokenised
            file = _File(name, copy, start, layout, own, unplaced, named, None if tokenised else numbers)
            files.append(file)
            offset, line, first = start, 1 + skipped, True
            stream.seek(start)
            with Progress(size, unit="B", unit_scale=True, desc=f"reading {name}") as bar:
                records = layout.records(iter(stream))
                while record := _next(records, bad, name, line):
                    try:
                        if mark and (record.startswith(mark) or b"\n" + mark in record):
                            raise ValueError("a byte-order mark (U+FEFF) within the file; were files concatenated? Remove it")
                        values = file.values(record)
                        note = check(values) if values and check is not None else None
                    except ValueError as error:
                        at = line + error.line if isinstance(error, AtLine) else line
                        bad.read = read + rows
                        text = encodings.escaped(record, settled.encoding)
                        labels = isinstance(error, SeveralValues) and error.column in config.label_columns
                        reason = f"{error}; {several}" if several and labels else str(error)
                        bad.add(name, _where(layout, record, at), reason, text)
                        values, note = (), None
                        if not isinstance(name, Rows):
                            gaps.append(rows)
                    if note:
                        log.warning("%s: %s", place(name, _where(layout, record, line)), note)
                    if values and unread and first:
                        there = layout.keys(record) if isinstance(layout, JsonLines) else getattr(layout, "names", ())
                        for column in [column for column in unread if column in there and column not in columns]:
                            log.warning("%s: its column %r is not read; %s reads it", name, column, unread.pop(column))
                        first = False  # one row a file suffices
                    if not values and isinstance(name, Rows):
                        gaps.append(rows)  # `bad` has it already
                    if values:
                        texts = values[:keyed_by][split_by]
                        if any(text in MISSING for text in texts):
                            missing.append(place(name, _where(layout, record, line)))
                        key = zlib.crc32(b"\x1f".join(map(_utf8, texts)))
                        seen = [alike(text) for text in texts] if alike else [0]
                        buffer[filled] = (offset, len(record), key, (seen[0], seen[-1]), number)
                        filled += 1
                        rows += 1
                        if filled == CHUNK:
                            index.write(buffer.tobytes())
                            filled = 0
                            bar.update(offset - bar.done)
                    digest = zlib.crc32(record, digest)
                    offset += len(record)
                    line += record.count(b"\n")
    index.write(buffer[:filled].tobytes())
    index.flush()
    bad.read = read + rows
    if alone:
        bad.finish()
    if not rows:
        raise DataError(f"{source}: no rows")
    if missing:
        shown = ", ".join(missing[:3])
        log.warning("%s: texts that are nan, which is how pandas writes a missing value: %d (%s)", source, len(missing), shown)
    if reader is not None:
        reader.finish(source)
    names = tuple(columns) if tokens is None else (columns[0], PLACES, *columns[1:])
    return Table(source, names, files, index, digest, gaps)


def _next(records: Iterator[bytes], bad: BadRows, name: str, line: int) -> bytes:
    """Return the next record, empty at the end; where the rest of a file cannot be split into rows, that is an error."""
    try:
        return next(records, b"")
    except ValueError as error:
        if bad.file is not None:
            raise DataError(f"{name}:{line}: {error}; this cannot be skipped, as the rest of the file is not read") from None
        bad.add(name, line, str(error), "")
        return b""


def _where(layout: Layout, record: bytes, line: int) -> int | str:
    """Return a record's place: its line, or what a document calls it."""
    named = getattr(layout, "place", None)
    return named(record) if named else line


def _utf8(text: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:  # JSON can encode half a surrogate pair
        return squad.whole(text).encode()
