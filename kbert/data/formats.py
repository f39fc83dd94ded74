"""Choose the parser of a file by its format.

In: a file's first lines and settings. Out: its `Layout`, which splits lines of bytes into records and extracts the requested
columns as strings. Malformed input raises ValueError saying what was found; the caller adds file and line.
"""

import re
from collections.abc import Iterator, Sequence
from typing import IO, Protocol

from kbert.data import encodings, tagged_lines
from kbert.data.delimited import Csv, Tsv
from kbert.data.documents import CONVERTERS
from kbert.data.fasttext import FastText
from kbert.data.file_settings import FileSettings
from kbert.data.headers import header_row
from kbert.data.json_lines import Converted, JsonLines
from kbert.data.plain_text import Text
from kbert.data.three_lines import Terms
from kbert.data.token_layouts import Tokenised
from kbert.data.token_lists import TokenLists
from kbert.data.token_table import TokenTable, places_of
from kbert.data.tokens import Tokens
from kbert.data.usual_columns import found_columns
from kbert.errors import DataError, UsageError
from kbert.source import SourceConfig

SEPARATOR_LINE = re.compile(rb'"?sep=([^"\r\n])"?\r?\n')  # Excel's way to state the delimiter


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
    if kind in CONVERTERS:
        stream.seek(0)
        return _objects(name, stream, Converted("utf-8", columns, nested), settled, config, tokens), 0, 0
    mark = byte_order_mark(encoding)
    stream.seek(0)
    start = len(mark) if mark and stream.read(len(mark)) == mark else 0
    if kind == "jsonl":
        stream.seek(start)
        return _objects(name, stream, JsonLines(encoding, columns, nested, config.flag_of), settled, config, tokens), start, 0
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
    if kind == "fasttext":
        return FastText(encoding, columns, config.label_column, config.label_column in nested), start, 0
    if kind == "tagged":
        stream.seek(start)
        tagged = config.label_column in columns
        return tagged_lines.layout_of(name, stream, encoding, tagged, config, tokens), start, 0
    if kind == "txt":
        if len(columns) != 1:
            raise UsageError(
                f"{name}: plain text has one column, but {', '.join(columns)} are needed; use tsv, csv or jsonl, or if "
                "each line is a token and its tag, --format=conll"
            )
        return Text(encoding), start, 0
    stream.seek(start)
    told = stream.readline() if kind == "csv" and config.delimiter == "," else b""
    told = told if (separator := SEPARATOR_LINE.fullmatch(told)) else b""
    delimiter = separator[1].decode() if separator else settled.delimiter
    layout = Csv(encoding, delimiter) if kind == "csv" else Tsv(encoding)
    start, skipped = start + len(told), told.count(b"\n")
    stream.seek(start)
    try:
        first = next(layout.records(iter(stream)), b"")
        if not first:
            raise DataError(f"{name}: the file is empty")
        header = header_row(name, layout.fields(first), settled, columns)
    except ValueError as error:
        raise DataError(f"{name}:1: {error}") from None
    if header.first:
        layout.header = layout.fields(first)
        start, skipped = start + len(first), skipped + first.count(b"\n")
    else:
        layout.header = header.names
    stream.seek(start)
    read_as_tokens = tokens is not None or (len(columns) == 1 and columns[0] not in header.names)
    if read_as_tokens and (places := places_of(name, header.names, columns, config.label_column)):
        return TokenTable(layout, header.names, places, tokens).surveyed(name, stream, config), start, skipped
    layout.choose(name, header.names, columns, header.source, config.flag_of)
    layout.note = header.note
    layout.check_quotes(name, stream)
    return layout, start, skipped


def _objects(
    name: str, stream: IO[bytes], lines: JsonLines, settled: FileSettings, config: SourceConfig, tokens: Tokens | None
) -> Layout:
    """Return the layout of objects, whose texts may be lists of tokens."""
    start, tagged = stream.tell(), config.label_column in lines.columns[1:2]
    try:
        first = next(filter(None, map(lines.row, stream)), {})
    except ValueError:
        first = {}  # reported when the row is read
    if tokens is not None:
        lines.columns, lines.note = found_columns(name, first, lines.columns, config.label_column)
        lines.nested = tuple(lines.columns[len(lines.columns) - len(lines.nested) :])
    elif len(lines.columns) > 1:
        return lines
    else:
        lines.columns, lines.note = found_columns(name, first, lines.columns, "")
    if not isinstance(first.get(lines.columns[0]), list):
        return lines
    stream.seek(start)
    return TokenLists(lines, tagged, tokens, config.label_names is not None).surveyed(name, stream, config)


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
