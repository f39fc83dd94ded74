"""Parse files into records and columns, by format.

In: lines of bytes. Out: records (a csv record may span lines) and, from a record, the requested columns
as strings. Malformed input raises ValueError saying what was found; the caller adds file and line.
"""

import contextlib
import csv
import dataclasses
import io
import itertools
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO, Any, Protocol

from kbert.config import SourceConfig
from kbert.data import encodings, three_lines
from kbert.data.conll import SAMPLED, Columns, Reading, Survey, first_line, is_universal, scheme, skipped, survey, tokens_row
from kbert.data.file_settings import ROWS, FileSettings, header_row, repeats
from kbert.data.label_names import hidden
from kbert.data.schemes import Tags
from kbert.data.suspicion import check, check_lists
from kbert.data.tokens import Tokens
from kbert.errors import DataError, UsageError

log = logging.getLogger(__name__)

LONGEST_FIELD = 1 << 24  # characters; a longer field means an unclosed csv quote


class Layout(Protocol):
    """Parser of one file: `records` splits lines into records, `values` extracts the requested columns of a record."""

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]: ...

    def values(self, record: bytes) -> tuple[str, ...]: ...


def layout_of(
    name: str,
    stream: IO[bytes],
    settled: FileSettings,
    config: SourceConfig,
    columns: Sequence[str],
    nested: Sequence[str],
    tokens: Tokens | None,
) -> tuple[Layout, int, int]:
    """Create the layout for a file; also return the bytes before its first row and the lines they span.

    If `tokens` is not None, layouts of tokens have an additional column after the first: the tokens' offsets in
    the text (see `kbert.data.tokens.placed`).
    """
    kind, encoding = settled.format, settled.encoding
    if kind == "squad":
        return Questions("utf-8", columns, nested), 0, 0
    mark = byte_order_mark(encoding)
    stream.seek(0)
    start = len(mark) if mark and stream.read(len(mark)) == mark else 0
    if kind == "jsonl" and tokens is not None:
        stream.seek(start)
        if TokenLists.holds(stream, encoding, columns[0]):
            stream.seek(start)
            return TokenLists.of(name, stream, settled, columns, config, tokens), start, 0
    if kind == "jsonl":
        return JsonLines(encoding, columns, nested), start, 0
    if kind == "conll":
        if any(column != config.label_column for column in columns[1:]):
            raise UsageError(f"{name}: conll holds a text and its tags, but the requested columns are {', '.join(columns)}")
        stream.seek(start)
        return Tokenised.of(name, stream, settled, columns, config, tokens), start, 0
    if kind == "terms":
        if len(columns) > 3 or (len(columns) > 1 and len(config.text_columns) != 2):
            raise UsageError(
                f"{name}: terms have a text, a term and a label (--text_columns=text,aspect), but the "
                f"requested columns are {', '.join(columns)}"
            )
        return Terms(encoding, columns), start, 0
    if kind == "txt":
        if len(columns) != 1:
            raise UsageError(
                f"{name}: plain text has one column, but {', '.join(columns)} are needed; use tsv, csv or jsonl, or if "
                "each line is a token and its tag, --format=conll"
            )
        return Text(encoding), start, 0
    layout = Csv(encoding, settled.delimiter) if kind == "csv" else Tsv(encoding)
    stream.seek(start)
    try:
        first = next(layout.records(iter(stream)), b"")
        if not first:
            raise DataError(f"{name}: the file is empty")
        header = header_row(name, layout.fields(first), settled, columns)
    except ValueError as error:
        raise DataError(f"{name}:1: {error}") from None
    layout.choose(name, header.names, columns, header.source)
    layout.note = header.note
    if header.first:
        layout.header = layout.fields(first)
        start += len(first)
    else:
        layout.header = header.names
    stream.seek(start)
    layout.check_quotes(name, stream)
    return layout, start, first.count(b"\n") if header.first else 0


def byte_order_mark(encoding: str) -> bytes:
    """Return the byte order mark that an encoding may put at the start of a file; empty if it has none.

    Raises:
        UsageError: the encoding's line ends are not single bytes.
    """
    if encodings.check(encoding):
        try:
            return "\ufeff".encode(encoding)
        except UnicodeError:
            return b""
    raise UsageError(f"--encoding={encoding}: not supported, as its line ends are not single bytes; convert the file to utf-8")


@dataclass
class Text:
    """One text a line; an empty line is an empty text."""

    encoding: str = "utf-8"

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def values(self, record: bytes) -> tuple[str, ...]:
        return (_line(record, self.encoding),)


class Tsv:
    """Unquoted columns separated by tabs; a value cannot contain a tab or a line end."""

    def __init__(self, encoding: str):
        self.encoding = encoding
        self.names: Sequence[str] = ()
        self.chosen: Sequence[int] = ()
        self.header: Sequence[str] = ()  # the column names as the header row spells them
        self.note = ""  # a note for the log on how the file is read

    def choose(self, file: str, names: Sequence[str], columns: Sequence[str], source: str) -> None:
        """Set which columns `values` returns; `source` says where the names come from."""
        missing = [c for c in columns if c not in names]
        if missing:
            for each in names:
                if found := hidden(each):
                    raise DataError(f"{file}: the column name {each!r} contains {found}, which is invisible; remove it")
            hint = "" if source.startswith("--") else "; a file without a header row needs --columns=NAME,..."
            shown = ", ".join(n if len(n) <= 40 else n[:40] + "…" for n in names[:20])
            raise DataError(f"{file}: no column {missing[0]!r}; {source}: {shown}{hint}")
        twice = [c for c in columns if names.count(c) > 1]
        if twice:
            raise DataError(f"{file}: column {twice[0]!r} occurs {names.count(twice[0])} times; {source}: {', '.join(names)}")
        self.names = names
        self.chosen = [list(names).index(c) for c in columns]

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def fields(self, record: bytes) -> list[str]:
        return _line(record, self.encoding).split("\t")

    def values(self, record: bytes) -> tuple[str, ...]:
        fields = self.fields(record) or [""]
        if len(fields) <= 1 < len(self.names) and not "".join(fields).strip():
            return ()  # skip blank lines; with a single column they are empty texts
        if repeats(fields, self.header):
            raise ValueError(f"the header ({', '.join(self.header)}) again; were files with headers concatenated?")
        if len(fields) != len(self.names):
            raise ValueError(
                f"{len(fields)} columns, expected {len(self.names)} ({', '.join(self.names)}): {_shown(record, self.encoding)}"
            )
        return tuple(fields[i] for i in self.chosen)

    def check_quotes(self, file: str, lines: Iterable[bytes]) -> None:
        """Warn if most cells of a column that is read are in double quotes, which tsv keeps as part of the value."""
        rows = []
        for record in itertools.islice(lines, ROWS):
            with contextlib.suppress(ValueError):  # reported when the row is read
                rows.append(self.values(record))
        for column, cells in zip((self.names[i] for i in self.chosen), zip(*filter(None, rows), strict=True), strict=False):
            quoted = sum(len(cell) > 1 and cell[0] == cell[-1] == '"' for cell in cells)
            if quoted > max(1, len(cells) / 2):
                log.warning(
                    "%s: %d of the first %d cells of its column %r are in double quotes, which tsv keeps as part of the value; "
                    "--format=csv --delimiter=tab strips them",
                    file,
                    quoted,
                    len(cells),
                    column,
                )


class Csv(Tsv):
    """RFC 4180: commas or another delimiter, double quotes, line ends allowed inside quotes."""

    def __init__(self, encoding: str, delimiter: str = ","):
        super().__init__(encoding)
        self.delimiter = delimiter

    def check_quotes(self, file: str, lines: Iterable[bytes]) -> None:
        """Do nothing: csv strips quotes."""

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        taken: list[bytes] = []

        def decoded() -> Iterator[str]:
            for line in lines:
                taken.append(line)
                yield _decode(line, self.encoding)

        csv.field_size_limit(LONGEST_FIELD)
        reader = csv.reader(decoded(), strict=True, delimiter=self.delimiter)
        try:
            for _ in reader:
                yield b"".join(taken)
                taken.clear()
        except csv.Error as error:
            raise ValueError(f"not valid csv: {error}; is a quote unclosed, or a line end or quote unquoted?") from None

    def fields(self, record: bytes) -> list[str]:
        # newline="" keeps line ends inside quotes unchanged.
        lines = io.StringIO(_decode(record, self.encoding), newline="")
        return next(csv.reader(lines, strict=True, delimiter=self.delimiter), [])


@dataclass
class JsonLines:
    """One object a line; numbers, booleans and the values of `nested` columns are returned as JSON text."""

    encoding: str
    columns: Sequence[str]
    nested: Sequence[str] = ()

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

    def keys(self, record: bytes) -> tuple[str, ...]:
        """Return all keys of an object, including those that `values` does not read."""
        return tuple(json.loads(_line(record, self.encoding)))

    def _value(self, row: dict[str, Any], column: str) -> str:
        if column not in row:
            raise ValueError(f"no key {column!r}; the object has: {', '.join(row) or 'none'}")
        value = row[column]
        if isinstance(value, str):
            return value
        try:
            if isinstance(value, bool | int | float) or (column in self.nested and isinstance(value, list | dict)):
                return json.dumps(value, allow_nan=False)
        except ValueError:
            found = f"{json.dumps(value)[:60]}, which is not a value"
            raise ValueError(f"key {column!r}: {found} (a missing cell from pandas?); remove the row, or fill it") from None
        raise ValueError(f"key {column!r}: expected a string or a number, found {json.dumps(value)[:60]}")


class Tokenised:
    """One sentence a block of lines: a token and its tag a line, then a blank line; see `kbert.data.conll`.

    The columns are the text, the tokens' offsets if requested, and the gold.
    """

    def __init__(self, encoding: str, reading: Reading, placed: bool):
        self.encoding, self.reading, self.placed = encoding, reading, placed
        self.note = ""  # which columns are taken from training

    @classmethod
    def of(
        cls,
        name: str,
        stream: IO[bytes],
        settled: FileSettings,
        columns: Sequence[str],
        config: SourceConfig,
        tokens: Tokens | None,
    ) -> "Tokenised":
        """Create the layout of one file, reading it once to inspect its tags and tokens.

        Args:
            stream: positioned at the file's first line.

        Raises:
            DataError: a line is malformed or tags mix schemes (named as FILE:LINE), or the columns look
                as if they were chosen by mistake.
            UsageError: a column chosen by flags does not exist.
        """

        def decoded() -> Iterator[str]:
            for number, line in enumerate(stream, 1):
                try:
                    yield _line(line, settled.encoding)
                except ValueError as error:
                    raise DataError(f"{name}:{number}: {error}") from None

        start = stream.tell()
        universal = is_universal(first_line(decoded()))
        tagged = len(columns) > 1
        chosen = Columns.chosen(
            name,
            settled.columns or settled.recorded_columns,
            config.text_columns[0],
            config.label_column if tagged else None,
            universal=universal,
            lenient=settled.lenient,
            taken=settled.taken - {"label_column"},  # a wrong label column shows as tags unknown to the model
        )
        stream.seek(start)
        seen = survey(name, decoded(), chosen)
        try:
            tags = scheme(name, seen.followed) if tagged else None
        except DataError:
            check(name, seen, Tags("bare"))  # report the likely cause: wrong columns
            raise
        check(name, seen, tags)
        found = cls(settled.encoding, Reading(seen.columns, tags, tokens or "auto", seen.counts), tokens is not None)
        words, tag = config.text_columns[0], config.label_column if tagged else ""
        numbers = [
            f"{what} in column {spec}"
            for key, what, spec in (("text_columns", "tokens", words), ("label_column", "tags", tag))
            if key in settled.taken and re.fullmatch(r"-?\d+", spec)
        ]
        found.note = f"{', '.join(numbers)} as in training" if numbers else ""
        return found

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        block: list[bytes] = []
        ended = False
        for line in lines:
            blank = skipped(_line(line, self.encoding))
            if ended and not blank:
                yield b"".join(block)
                block = []
            ended = blank
            block.append(line)
        if block:
            yield b"".join(block)

    def values(self, record: bytes) -> tuple[str, ...]:
        found = self.reading.sentence(_decode(record, self.encoding).split("\n"))
        if found is None:
            return ()
        text, places, gold = found
        return (text, *([places] if self.placed else []), *([gold] if self.reading.tags else []))


class TokenLists(Tokenised):
    """JSON lines whose text is a list of tokens and whose gold is a list of their tags."""

    def __init__(self, encoding: str, reading: Reading, placed: bool, columns: Sequence[str], tagged: bool):
        super().__init__(encoding, reading, placed)
        self.lines, self.tagged = JsonLines(encoding, columns, columns[: 1 + tagged]), tagged

    @classmethod
    def holds(cls, stream: IO[bytes], encoding: str, column: str) -> bool:
        """Return whether the text of the first row is a list."""
        try:
            row = json.loads(_decode(next((line for line in stream if line.strip()), b""), encoding))
        except (ValueError, RecursionError):
            return False
        return isinstance(row, dict) and isinstance(row.get(column), list)

    @classmethod
    def of(
        cls,
        name: str,
        stream: IO[bytes],
        settled: FileSettings,
        columns: Sequence[str],
        config: SourceConfig,
        tokens: Tokens | None,
    ) -> "TokenLists":
        """Create the layout of one file, reading it once to inspect its tags and tokens.

        Args:
            stream: positioned at the file's first line.

        Raises:
            DataError: a row is malformed or tags mix schemes (named as FILE:LINE).
        """
        seen, followed = Survey(Columns()), dict[tuple[str, str], list[int]]()
        counts = seen.counts
        tagged = tuple(columns[1:2]) == (config.label_column,)
        found = cls(settled.encoding, Reading(Columns(), None, tokens or "auto", counts), tokens is not None, columns, tagged)
        for number, line in enumerate(stream, 1):
            try:
                words, tags, _ = found.lists(line)
            except ValueError as error:
                raise DataError(f"{name}:{number}: {error}") from None
            for word in words:
                counts.add(word)
            seen.tags.update(tags)
            if len(seen.lines) < SAMPLED:
                rows = zip(words, tags, strict=True) if tagged else ()
                seen.lines.extend((number, place, list(row)) for place, row in enumerate(rows))
            for pair in itertools.pairwise(["", *tags, ""]):
                followed.setdefault(pair, [0, number])[0] += 1
        if tagged:
            seen.widths[2] = counts.tokens
            kind = scheme(name, followed)
            check_lists(name, seen, kind)
            found.reading = dataclasses.replace(found.reading, tags=kind)
        return found

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def lists(self, record: bytes) -> tuple[list[str], list[str], tuple[str, ...]]:
        """Return a row's tokens, its tags, and its other columns."""
        values = self.lines.values(record)
        if not values:
            return [], [], ()
        words = self._strings(values[0], "tokens")
        if not self.tagged:
            return words, [], values[1:]
        tags = self._strings(values[1], "tags")
        if len(words) != len(tags):
            raise ValueError(f"{len(words)} tokens, but {len(tags)} tags")
        return words, tags, values[2:]

    def values(self, record: bytes) -> tuple[str, ...]:
        words, tags, others = self.lists(record)
        if not words:
            return ()
        text, places, gold = tokens_row(words, tags, self.reading.tags, self.reading.tokens)
        return (text, *([places] if self.placed else []), *([gold] if self.tagged else []), *others)

    @staticmethod
    def _strings(value: str, what: str) -> list[str]:
        try:
            found = json.loads(value)
        except ValueError:
            found = value
        if not isinstance(found, list) or not all(isinstance(item, str) and item for item in found):
            hint = "; map numeric tags to their names, which the data set's features hold" if what == "tags" else ""
            raise ValueError(f"expected a list of {what}, non-empty strings, found {value[:80]}{hint}")
        return found


@dataclass
class Terms:
    """Three lines a row: the text with `$T$`, its term and the label; see `kbert.data.three_lines`.

    The columns are text, term and label, whatever their names.
    """

    encoding: str
    columns: Sequence[str]

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return three_lines.records(lines)

    def values(self, record: bytes) -> tuple[str, ...]:
        return three_lines.example(_decode(record, self.encoding))[: len(self.columns)]


class Questions(JsonLines):
    """Rows of `kbert.data.squad`, copied from a document: JSON lines in UTF-8."""

    def place(self, record: bytes) -> str:
        """Identify a row for the user: the question's id."""
        return f"question {json.loads(record)['id']!r}"


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
