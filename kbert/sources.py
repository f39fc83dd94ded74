"""A SOURCE of rows (tsv, csv, jsonl, txt, gzipped or not, globs, stdin, TFDS) as an indexed table.

In: the source's name and how to read it. Out: a `Table`, which hands out any rows by number.
One pass validates every row and writes the byte range of each to an unnamed temporary file; memory
holds neither the text nor the index. What cannot be read at random (gzip, stdin, TFDS) is copied
once to such a file; the system deletes it when the process ends, however it ends.
"""

import csv
import glob
import gzip
import io
import json
import logging
import os
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

import numpy as np
from tqdm import tqdm

from kbert.config import SourceConfig
from kbert.errors import DataError, UsageError

log = logging.getLogger(__name__)

Format = Literal["tsv", "csv", "jsonl", "txt"]

# One row of the index. `key` is a hash of the row's text, by which `Table.split` keeps equal texts together.
RECORD = np.dtype([("offset", "<u8"), ("length", "<u4"), ("key", "<u4"), ("file", "<u2")])
CHUNK = 8192  # rows of the index held in memory at once
LONGEST_FIELD = 1 << 24  # characters; beyond it a csv quote was surely left open
STDIN = "-"


class Layout(Protocol):
    """How one file's bytes are rows: `records` cuts them, `values` reads the wanted columns of one."""

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]: ...

    def values(self, record: bytes) -> tuple[str, ...]: ...


@dataclass(frozen=True)
class _File:
    """A readable stretch of bytes: a named file, or the copy of one that cannot be read at random."""

    name: str  # as the user knows it
    copy: IO[bytes] | None
    start: int  # bytes in front of the first row: byte order mark and header
    layout: Layout

    def open(self) -> IO[bytes]:
        if self.copy is None:
            return open(self.name, "rb")
        return os.fdopen(os.dup(self.copy.fileno()), "rb")


class Table:
    """Rows of text, by number. Memory does not grow with their count.

    Attributes:
        name: the source as the user wrote it.
        columns: the columns that `read` returns, in order.
    """

    def __init__(self, name: str, columns: tuple[str, ...], files: Sequence[_File], index: IO[bytes]):
        self.name = name
        self.columns = columns
        self._files = files
        self._index = index
        self._open: dict[int, IO[bytes]] = {}

    def __len__(self) -> int:
        return os.fstat(self._index.fileno()).st_size // RECORD.itemsize

    def read(self, rows: Sequence[int] | np.ndarray) -> dict[str, np.ndarray]:
        """The rows of these numbers: column -> UTF-8 bytes, an object array of shape [rows]."""
        records = self._records(rows)
        values: list[tuple[str, ...]] = [()] * len(records)
        # In file order, so that a shuffled chunk still reads its files from front to back.
        for i in np.lexsort((records["offset"], records["file"])):
            record = records[i]
            file = int(record["file"])
            raw = os.pread(self._descriptor(file), int(record["length"]), int(record["offset"]))
            try:
                values[i] = self._files[file].layout.values(raw)
            except ValueError as error:
                raise DataError(f"{self.where(int(rows[i]))}: {error} (did the file change?)") from None
        columns = {}
        for c, name in enumerate(self.columns):
            column = np.empty(len(values), dtype=object)
            column[:] = [_utf8(row[c]) for row in values]
            columns[name] = column
        return columns

    def where(self, row: int) -> str:
        """`FILE:LINE` of a row, lines counted from 1 as editors do."""
        record = self._records([row])[0]
        file = self._files[int(record["file"])]
        line, left = 1, int(record["offset"])
        with file.open() as stream:
            stream.seek(0)
            while left:
                block = stream.read(min(left, 1 << 20))
                line += block.count(b"\n")
                left -= len(block)
        return f"{file.name}:{line}"

    def split(self, fraction: float) -> tuple["Table", "Table"]:
        """Two tables: about `1 - fraction` of the rows, and the rest; equal texts go to one side."""
        sides = _temporary(), _temporary()
        limit = int(fraction * 2**32)
        for start in range(0, len(self), CHUNK):
            records = self._records(range(start, min(start + CHUNK, len(self))))
            small = records["key"] < limit
            sides[0].write(records[~small].tobytes())
            sides[1].write(records[small].tobytes())
        for side in sides:
            side.flush()
        first, second = (Table(self.name, self.columns, self._files, side) for side in sides)
        return first, second

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
    check: Callable[[tuple[str, ...]], None] | None = None,
) -> Table:
    """Index a source, validating every row.

    Args:
        source: files (globs work), `-` for stdin, or `tfds:name[/config]:split`.
        config: names, encoding and format of the columns.
        columns: the columns wanted, in this order; all values are strings.
        keyed_by: how many of the leading columns are text; `Table.split` keeps rows equal in them together.
        check: called with each row's values; its ValueError is reported with the row's file and line.

    Raises:
        DataError: a file is missing, unreadable or not in the encoding, a column is missing, a row is
            malformed (named as FILE:LINE), or there is no row at all.
        UsageError: the format cannot be told from the name, or the flags contradict it.
    """
    files, index = [], _temporary()
    buffer = np.empty(CHUNK, RECORD)
    filled = rows = 0
    for number, (name, copy, kind) in enumerate(_resolve(source, config)):
        with _opened(name, copy) as stream:
            size = os.fstat(stream.fileno()).st_size
            layout, start, skipped = _layout(name, stream, kind, config, columns)
            files.append(_File(name, copy, start, layout))
            offset, line = start, 1 + skipped
            stream.seek(start)
            with tqdm(total=size, unit="B", unit_scale=True, desc=f"reading {name}", delay=1, disable=None) as bar:
                for record in _located(layout.records(iter(stream)), name, line):
                    try:
                        values = layout.values(record)
                        if values and check is not None:
                            check(values)
                    except ValueError as error:
                        raise DataError(f"{name}:{line}: {error}") from None
                    if values:
                        key = zlib.crc32(b"\x1f".join(_utf8(v) for v in values[:keyed_by]))
                        buffer[filled] = (offset, len(record), key, number)
                        filled += 1
                        rows += 1
                        if filled == CHUNK:
                            index.write(buffer.tobytes())
                            filled = 0
                            bar.update(offset - bar.n)
                    offset += len(record)
                    line += record.count(b"\n")
    index.write(buffer[:filled].tobytes())
    index.flush()
    if not rows:
        raise DataError(f"{source}: no rows")
    return Table(source, tuple(columns), files, index)


def _resolve(source: str, config: SourceConfig) -> Iterator[tuple[str, IO[bytes] | None, Format]]:
    """The files of a source as (name, copy of what cannot be read at random, format)."""
    if source.startswith("tfds:"):
        yield source, _spool_tfds(source, config), "jsonl"
        return
    if source == STDIN:
        kind: Format = "txt" if config.format == "auto" else config.format
        yield "<stdin>", _spool("<stdin>", sys.stdin.buffer), kind
        return
    path = os.path.expanduser(source)
    names = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
    if not names:
        raise DataError(f"{source}: no such file")
    if len(names) > np.iinfo(RECORD["file"]).max:
        raise DataError(f"{source}: {len(names):,} files; join them into at most {np.iinfo(RECORD['file']).max:,}")
    for name in names:
        if os.path.isdir(name):
            raise DataError(f"{name}: is a directory; name its files, for example {name.rstrip('/')}/*.tsv")
        kind = _format(name, config)
        if not name.endswith(".gz"):
            yield name, None, kind
            continue
        try:
            with gzip.open(name) as stream:
                copy = _spool(name, stream)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{name}: not readable as gzip: {error}") from None
        yield name, copy, kind


def _format(name: str, config: SourceConfig) -> Format:
    if config.format != "auto":
        return config.format
    ending = Path(name.removesuffix(".gz")).suffix.lower()
    kinds: dict[str, Format] = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".txt": "txt"}
    if ending not in kinds:
        raise UsageError(f"{name}: the ending {ending or '(none)'} says no format; add --format=tsv|csv|jsonl|txt")
    return kinds[ending]


def _temporary() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="kbert-")


def _spool(name: str, stream: Any) -> IO[bytes]:
    copy = _temporary()
    with tqdm(unit="B", unit_scale=True, desc=f"copying {name}", delay=1, disable=None) as bar:
        while block := stream.read(1 << 20):
            copy.write(block)
            bar.update(len(block))
    copy.flush()
    return copy


def _opened(name: str, copy: IO[bytes] | None) -> IO[bytes]:
    try:
        return _File(name, copy, 0, _Text()).open()
    except OSError as error:
        raise DataError(f"{name}: {error.strerror}") from None


def _located(records: Iterator[bytes], name: str, line: int) -> Iterator[bytes]:
    """The records; a record that cannot even be cut off is reported with its first line."""
    while True:
        try:
            record = next(records)
        except StopIteration:
            return
        except ValueError as error:
            raise DataError(f"{name}:{line}: {error}") from None
        line += record.count(b"\n")
        yield record


def _layout(
    name: str, stream: IO[bytes], kind: Format, config: SourceConfig, columns: Sequence[str]
) -> tuple[Layout, int, int]:
    """The file's layout, the bytes in front of its first row, and the lines these hold."""
    # What kbert copied from TFDS is UTF-8 JSON, whatever the encoding of the user's files.
    encoding = "utf-8" if name.startswith("tfds:") else config.encoding
    try:
        mark = "\ufeff".encode(encoding) if "\n".encode(encoding) == b"\n" else None
    except LookupError:
        raise UsageError(f"--encoding={encoding}: no such encoding; for example utf-8, gb18030, latin-1") from None
    except UnicodeEncodeError:
        mark = b"\0"  # the encoding has no byte order mark
    if mark is None:
        raise UsageError(f"--encoding={encoding}: not supported, since its line ends are not single bytes; convert to utf-8")
    stream.seek(0)
    start = len(mark) if stream.read(len(mark)) == mark else 0
    if kind == "jsonl":
        return _JsonLines(encoding, columns), start, 0
    if kind == "txt":
        if len(columns) != 1:
            raise UsageError(f"{name}: plain text has one column, but {', '.join(columns)} are needed; use tsv, csv or jsonl")
        return _Text(encoding), start, 0
    layout = _Csv(encoding) if kind == "csv" else _Tsv(encoding)
    if config.columns:
        layout.choose(name, config.columns, columns, "--columns names")
        return layout, start, 0
    stream.seek(start)
    try:
        header = next(layout.records(iter(stream)), b"")
        names = layout.fields(header)
    except ValueError as error:
        raise DataError(f"{name}:1: {error}") from None
    layout.choose(name, names, columns, "its first row names")
    return layout, start + len(header), header.count(b"\n")


@dataclass
class _Text:
    """One text a line; an empty line is an empty text."""

    encoding: str = "utf-8"

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def values(self, record: bytes) -> tuple[str, ...]:
        return (_line(record, self.encoding),)


class _Tsv:
    """Unquoted columns between tabs; a tab or a line end cannot stand inside a value."""

    def __init__(self, encoding: str):
        self.encoding = encoding
        self.names: Sequence[str] = ()
        self.chosen: Sequence[int] = ()

    def choose(self, file: str, names: Sequence[str], columns: Sequence[str], source: str) -> None:
        """Settle which columns `values` returns; `source` says where the names are from."""
        missing = [c for c in columns if c not in names]
        if missing:
            hint = "" if source.startswith("--") else "; a file without a header row needs --columns=NAME,..."
            shown = ", ".join(n if len(n) <= 40 else n[:40] + "…" for n in names[:20])
            raise DataError(f"{file}: no column {missing[0]!r}; {source}: {shown}{hint}")
        self.names = names
        self.chosen = [list(names).index(c) for c in columns]

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def fields(self, record: bytes) -> list[str]:
        return _line(record, self.encoding).split("\t")

    def values(self, record: bytes) -> tuple[str, ...]:
        fields = self.fields(record)
        if fields in ([], [""]) and len(self.names) > 1:
            return ()  # a blank line is no row
        if len(fields) != len(self.names):
            raise ValueError(
                f"{len(fields)} columns, expected {len(self.names)} ({', '.join(self.names)}): {_shown(record, self.encoding)}"
            )
        return tuple(fields[i] for i in self.chosen)


class _Csv(_Tsv):
    """RFC 4180: commas, double quotes, line ends allowed inside quotes."""

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        taken: list[bytes] = []

        def decoded() -> Iterator[str]:
            for line in lines:
                taken.append(line)
                yield _decode(line, self.encoding)

        csv.field_size_limit(LONGEST_FIELD)
        reader = csv.reader(decoded(), strict=True)
        try:
            for _ in reader:
                yield b"".join(taken)
                taken.clear()
        except csv.Error as error:
            raise ValueError(f"not valid csv ({error}); is a quote left open?") from None

    def fields(self, record: bytes) -> list[str]:
        # newline="" keeps the line ends inside quotes as they are.
        lines = io.StringIO(_decode(record, self.encoding), newline="")
        return next(csv.reader(lines, strict=True), [])


@dataclass
class _JsonLines:
    """One object a line; numbers and booleans are taken as their JSON text."""

    encoding: str
    columns: Sequence[str]

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def values(self, record: bytes) -> tuple[str, ...]:
        line = _line(record, self.encoding)
        if not line.strip():
            return ()
        try:
            row = json.loads(line)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"not JSON ({error}): {_shown(record, self.encoding)}") from None
        if not isinstance(row, dict):
            raise ValueError(f"expected a JSON object, found {_shown(record, self.encoding)}")
        return tuple(self._value(row, column) for column in self.columns)

    def _value(self, row: dict[str, Any], column: str) -> str:
        if column not in row:
            raise ValueError(f"no key {column!r}; the object has: {', '.join(row) or 'none'}")
        value = row[column]
        if isinstance(value, str):
            return value
        if isinstance(value, bool | int | float):
            return json.dumps(value)
        raise ValueError(f"key {column!r}: expected a string or a number, found {json.dumps(value)[:60]}")


def _decode(record: bytes, encoding: str) -> str:
    try:
        return record.decode(encoding)
    except UnicodeDecodeError as error:
        found = record[error.start : error.start + 4].hex(" ")
        raise ValueError(f"bytes {found} are not {encoding}; name the file's encoding with --encoding=") from None


def _line(record: bytes, encoding: str) -> str:
    return _decode(record, encoding).removesuffix("\n").removesuffix("\r")


def _shown(record: bytes, encoding: str) -> str:
    line = _line(record, encoding)
    return repr(line if len(line) <= 60 else line[:60] + "…")


def _utf8(text: str) -> bytes:
    # JSON can spell lone surrogates, which UTF-8 proper has not; the tokenizer drops these bytes as invalid.
    return text.encode("utf-8", "surrogatepass")


def _spool_tfds(source: str, config: SourceConfig) -> IO[bytes]:
    """The rows of a TFDS split as JSON lines; class labels by their names."""
    import tensorflow_datasets as tfds

    name, _, split = source.removeprefix("tfds:").partition(":")
    if not name or not split:
        raise UsageError(f"{source}: expected tfds:name[/config]:split")
    folder = None if config.tfds_dir is None else os.path.expanduser(config.tfds_dir)
    try:
        builder = tfds.builder(name, data_dir=folder)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise DataError(
            f"{source}: TFDS has no data set {name!r} prepared under {folder or 'its default folder'}, and none "
            f"it could download by that name ({str(error).splitlines()[0]}); kbert's demo sets are made by tools/fetch_demo.py"
        ) from None
    try:
        if not builder.is_prepared():
            builder.download_and_prepare()
        data = builder.as_dataset(split=split)
    except Exception as error:  # TFDS has no base class for what downloading and split names can raise
        raise DataError(f"{source}: {str(error).splitlines()[0]}") from None
    features = builder.info.features
    copy = _temporary()
    for row in tqdm(tfds.as_numpy(data), desc=f"copying {source}", delay=1, disable=None):
        plain = {column: _plain(features[column], value) for column, value in row.items()}
        copy.write(json.dumps(plain, ensure_ascii=False).encode() + b"\n")
    copy.flush()
    return copy


def _plain(feature: Any, value: Any) -> Any:
    if hasattr(feature, "int2str") and np.ndim(value) == 0 and value >= 0:
        return feature.int2str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    return value.item() if np.ndim(value) == 0 else None
