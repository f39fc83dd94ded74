"""Index a SOURCE of rows (tsv, csv, jsonl, txt, conll, squad, gzipped or not, globs, stdin, TFDS, Python's) for random access.

In: the source's name and how to read it. Out: a `Table`, which returns any rows by number.
One pass validates every row and writes the byte range of each to an unnamed temporary file; memory
holds neither the text nor the index. What does not support random access is copied once (`kbert.data.sources`).
"""

import logging
import os
import struct
import zlib
from array import array
from collections.abc import Callable, Iterator, Mapping, Sequence

from kbert.data import encodings, folders
from kbert.data.bad_rows import AtLine, BadRows, SeveralValues, place
from kbert.data.documents import CONVERTERS, converted
from kbert.data.file_settings import FileSettings, encoding_of_lines, resolve_settings
from kbert.data.formats import byte_order_mark, layout_of
from kbert.data.json_lines import JsonLines
from kbert.data.label_numbers import LabelNumbers
from kbert.data.rows import Rows
from kbert.data.sources import files_of, opened, temporary
from kbert.data.table import CHUNK, PLACES, File, Reader, Table, utf8
from kbert.data.token_layouts import Tokenised
from kbert.data.tokens import Tokens
from kbert.data.transcoding import transcoded
from kbert.errors import DataError, UsageError
from kbert.progress import Progress
from kbert.source import Recorded, SourceConfig

log = logging.getLogger(__name__)

PACK = struct.Struct("<QIIIIH").pack  # a `RECORD`
MISSING = frozenset(("nan", "NaN", "NaT", "<NA>"))


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
    separator: str | None = None,
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
        separator: of the labels in a cell, where it may have several; each may be a number of `--label_names`.

    Raises:
        DataError: a file is missing, unreadable or not in the encoding, a column is missing, rows are
            malformed (named as FILE:LINE), or there are no rows.
        UsageError: the format cannot be determined, or the flags contradict it.
    """
    if len(set(columns)) < len(columns):
        raise UsageError(f"--text_columns and --label_column: a column is listed twice in {', '.join(columns)}")
    files, index, digest = [], temporary(), 0
    buffer: list[bytes] = []
    rows = 0
    numbers = None if config.label_names is None else LabelNumbers(config.label_names, separator)
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
            file = File(name, copy, start, layout, own, unplaced, named, None if tokenised else numbers)
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
                        bad.add(name, file.place(record, at), reason, text)
                        values, note = (), None
                        if not isinstance(name, Rows):
                            gaps.append(rows)
                    if note:
                        log.warning("%s: %s", place(name, file.place(record, line)), note)
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
                            missing.append(place(name, file.place(record, line)))
                        key = zlib.crc32(b"\x1f".join(map(utf8, texts)))
                        seen = [alike(text) for text in texts] if alike else [0]
                        buffer.append(PACK(offset, len(record), key, seen[0], seen[-1], number))
                        rows += 1
                        if len(buffer) == CHUNK:
                            index.write(b"".join(buffer))
                            buffer.clear()
                            bar.update(offset - bar.done)
                    digest = zlib.crc32(record, digest)
                    offset += len(record)
                    line += record.count(b"\n")
    index.write(b"".join(buffer))
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
