"""Write rows of JSON values as the ending of a file says: csv, tsv, Parquet, else JSON lines.

In: dicts, one a row. Out: the file, whole or not at all. In the three tables an object's values are columns of their own
(`probabilities.positive`), and lists are JSON text; columns are those of all rows, in the order in which they first occur, and
rows without one have an empty cell (in Parquet null). Memory does not grow with the rows, which a temporary file keeps.
"""

import contextlib
import csv
import itertools
import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from kbert.errors import UsageError
from kbert.files import output, whole, whole_binary

log = logging.getLogger(__name__)

TABLES = (".csv", ".tsv", ".parquet")
OTHERS = (".xlsx", ".xls", ".ods", ".gz", ".zip", ".feather", ".arrow")  # where JSON lines would not be expected
GROUP = 10_000  # rows of Parquet held in memory at once
Row = Mapping[str, Any]


def is_table(name: str) -> bool:
    """Return whether the ending of a file says that it is a table.

    Raises:
        UsageError: the ending is that of something that cannot be written.
    """
    ending = Path(name).suffix.lower()
    if ending in OTHERS:
        raise UsageError(f"--output={name}: {ending} cannot be written; .csv, .tsv, .parquet and .jsonl can")
    return ending in TABLES


@contextlib.contextmanager
def row_output(name: str) -> Iterator[Callable[[Row], None]]:
    """Provide a function that writes a row.

    Args:
        name: the file; `-` for JSON lines on standard output.

    Raises:
        DataError: the file cannot be written.
    """
    if not is_table(name):
        with output(name) as file:

            def write_line(row: Row) -> None:
                file.write(_encodable(json.dumps(row, ensure_ascii=False)) + "\n")

            yield write_line
        return
    kinds: dict[str, set[type]] = {}  # column -> types of its values
    with tempfile.TemporaryFile("w+", encoding="utf-8", prefix="kbert-") as kept:

        def write(row: Row) -> None:
            flat = dict(_flat(row))
            for column, value in flat.items():
                kinds.setdefault(column, set()).add(type(value))
            kept.write(json.dumps(flat) + "\n")

        yield write
        kept.seek(0)
        _FORMS[Path(name).suffix.lower()](Path(name), kept, kinds)


def _flat(row: Row, within: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{within}{key}.")
        elif value is not None:
            yield f"{within}{key}", json.dumps(value, ensure_ascii=False) if isinstance(value, list | tuple) else value


def _cell(value: Any) -> str:
    return "" if value is None else _encodable(value) if isinstance(value, str) else json.dumps(value)


def _encodable(text: str) -> str:
    """Replace half of a surrogate pair, which JSON can hold and files in UTF-8 cannot."""
    return text.encode("utf-8", "replace").decode()


def _write_csv(path: Path, rows: IO[str], kinds: Mapping[str, set[type]]) -> None:
    with whole(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(_encodable, kinds))
        for line in rows:
            row = json.loads(line)
            writer.writerow(_cell(row.get(column)) for column in kinds)


def _write_tsv(path: Path, rows: IO[str], kinds: Mapping[str, set[type]]) -> None:
    replaced = 0
    with whole(path) as file:
        file.write("\t".join(map(_one_line, map(_encodable, kinds))) + "\n")
        for line in rows:
            row = json.loads(line)
            cells = [_cell(row.get(column)) for column in kinds]
            written = [_one_line(cell) for cell in cells]
            replaced += written != cells
            file.write("\t".join(written) + "\n")
    if replaced:
        log.warning("%s: tabs and line ends within values are written as blanks, in %d rows; .csv keeps them", path, replaced)


def _one_line(value: str) -> str:
    return value.translate({ord("\t"): " ", ord("\n"): " ", ord("\r"): " "})


def _write_parquet(path: Path, rows: IO[str], kinds: Mapping[str, set[type]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    types = {frozenset((bool,)): pa.bool_(), frozenset((int,)): pa.int64()}
    types |= {frozenset((float,)): pa.float64(), frozenset((int, float)): pa.float64()}
    schema = pa.schema([(_encodable(column), types.get(frozenset(found), pa.string())) for column, found in kinds.items()])
    with whole_binary(path) as file, pq.ParquetWriter(file, schema) as writer:
        while part := [json.loads(line) for line in itertools.islice(rows, GROUP)]:
            fields = zip(kinds, schema.types, strict=True)
            columns = [[_typed(row.get(name), kind, pa) for row in part] for name, kind in fields]
            writer.write_table(pa.table(columns, schema=schema))


def _typed(value: Any, kind: Any, pa: Any) -> Any:
    if value is None:
        return None
    if kind == pa.string():
        return _cell(value)
    return float(value) if kind == pa.float64() else value


_FORMS = {".csv": _write_csv, ".tsv": _write_tsv, ".parquet": _write_parquet}
