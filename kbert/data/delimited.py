"""Read tables of columns between delimiters: tsv, without quoting, and csv.

    text,label
    "a fine film, at last",pos
    dull,neg
    good,pos

In: lines of bytes. Out: records (a csv record may span lines) and, from a record, the requested columns as strings; ValueError
says what is malformed. The first row, or `--columns`, names the columns.
Source: RFC 4180; text/tab-separated-values of IANA.
"""

import contextlib
import csv
import io
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence

from kbert.data.encodings import decode, decode_line, quote
from kbert.data.file_settings import ROWS
from kbert.data.headers import repeats
from kbert.data.label_names import hidden, missing_name, shown
from kbert.errors import DataError

log = logging.getLogger(__name__)

LONGEST_FIELD = 1 << 24  # characters; a longer field means an unclosed csv quote


class Tsv:
    """Unquoted columns separated by tabs; a value cannot contain a tab or a line end."""

    def __init__(self, encoding: str):
        self.encoding = encoding
        self.names: Sequence[str] = ()
        self.chosen: Sequence[int] = ()
        self.header: Sequence[str] = ()  # the column names as the header row spells them
        self.note = ""  # a note for the log on how the file is read

    def choose(
        self, file: str, names: Sequence[str], columns: Sequence[str], source: str, flag_of: Callable[[str], str | None]
    ) -> None:
        """Set which columns `values` returns.

        Args:
            file: the file, for messages.
            names: the names of all columns.
            columns: those to return.
            source: where the names come from.
            flag_of: returns the flag that names a column.
        """
        missing = [c for c in columns if c not in names]
        if missing:
            for each in names:
                if found := hidden(each):
                    raise DataError(f"{file}: the column name {each!r} contains {found}, which is invisible; remove it")
            hint = "" if source.startswith("--") else "; a file without a header row needs --columns=NAME,..."
            known = shown(n if len(n) <= 40 else n[:40] + "…" for n in names[:20])
            other = missing_name(missing[0], [n for n in names if n not in columns], flag_of(missing[0]))
            raise DataError(f"{file}: no column {missing[0]!r}; {source}: {known}{other}{hint}")
        twice = [c for c in columns if names.count(c) > 1]
        if twice:
            raise DataError(f"{file}: column {twice[0]!r} occurs {names.count(twice[0])} times; {source}: {', '.join(names)}")
        self.names = names
        self.chosen = [list(names).index(c) for c in columns]

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def fields(self, record: bytes) -> list[str]:
        return decode_line(record, self.encoding).split("\t")

    def row(self, record: bytes) -> dict[str, str]:
        """Return all columns of a record by name."""
        return dict(zip(self.names, self.fields(record), strict=False))

    def values(self, record: bytes) -> tuple[str, ...]:
        fields = self.fields(record) or [""]
        if len(fields) <= 1 < len(self.names) and not "".join(fields).strip():
            return ()  # skip blank lines; with a single column they are empty texts
        if repeats(fields, self.header):
            raise ValueError(f"the header ({', '.join(self.header)}) again; were files with headers concatenated?")
        if len(fields) != len(self.names):
            raise ValueError(
                f"{len(fields)} columns, expected {len(self.names)} ({', '.join(self.names)}): {quote(record, self.encoding)}"
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
        ended = False

        def decoded() -> Iterator[str]:
            nonlocal ended
            for line in lines:
                taken.append(line)
                yield line.decode(self.encoding, "replace")  # quotes and delimiters are right; `fields` reports the bytes
            ended = True

        csv.field_size_limit(LONGEST_FIELD)
        reader = csv.reader(decoded(), strict=True, delimiter=self.delimiter)
        while True:
            try:
                next(reader)
            except StopIteration:
                return
            except csv.Error as error:
                if ended or len(taken) > ROWS:
                    raise ValueError(_invalid(error)) from None
            # Where a row is invalid, `fields` says so, and the reader continues with the next line.
            yield b"".join(taken)
            taken.clear()

    def fields(self, record: bytes) -> list[str]:
        # newline="" keeps line ends inside quotes unchanged.
        lines = io.StringIO(decode(record, self.encoding), newline="")
        try:
            return next(csv.reader(lines, strict=True, delimiter=self.delimiter), [])
        except csv.Error as error:
            raise ValueError(_invalid(error)) from None


def _invalid(error: csv.Error) -> str:
    return f"not valid csv: {error}; is a quote unclosed, or a line end or quote unquoted?"
