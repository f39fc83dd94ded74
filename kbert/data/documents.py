"""Copy documents that have no rows of lines to JSON lines, which `kbert.data.indexing` indexes.

In: a file, and how it is read. Out: a temporary file of `[place, row]` lines (see `kbert.data.json_lines.Converted`).
Memory holds a few rows.
"""

import contextlib
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import IO, Any

from kbert.data import arrow_tables, brat, class_folders, json_rows, semeval, spreadsheet
from kbert.data.sources import opened, temporary
from kbert.errors import DataError
from kbert.progress import Progress
from kbert.source import SourceConfig

# Yields (place, row) for each row, or (place, reason) for one that is malformed, of: name, bytes, encoding, settings, columns.
# A folder has no bytes.
Converter = Callable[[str, Any, str, SourceConfig, Sequence[str]], Iterator[tuple[str, dict[str, Any] | str]]]
CONVERTERS: Mapping[str, Converter] = {
    "json": json_rows.rows,
    "squad": json_rows.rows,
    "semeval": semeval.rows,
    "brat": brat.rows,
    "classes": class_folders.rows,
    "parquet": arrow_tables.parquet,
    "arrow": arrow_tables.arrow,
    "saved": arrow_tables.saved,
    "xlsx": spreadsheet.rows,
}


def converted(
    kind: str, name: str, copy: IO[bytes] | None, encoding: str, config: SourceConfig, columns: Sequence[str]
) -> IO[bytes]:
    """Return the copy of a file.

    Raises:
        DataError: the file is not of its kind, or cut off.
    """
    lines = temporary()
    folder = os.path.isdir(name)
    with (
        contextlib.nullcontext() if folder else opened(name, copy) as stream,
        Progress(unit="row", desc=f"copying {name}") as bar,
    ):
        if stream is not None:
            stream.seek(0)
        try:
            for count, (place, row) in enumerate(CONVERTERS[kind](name, stream, encoding, config, columns), 1):
                lines.write(json.dumps([place, row]).encode() + b"\n")
                if count % 1000 == 0:
                    bar.update(1000)
        except ValueError as error:
            raise DataError(f"{name}: {error}") from None
    lines.flush()
    return lines
