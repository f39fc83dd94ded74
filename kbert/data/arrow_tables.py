"""Read Parquet and Arrow files, and data sets that Hugging Face's library saved.

    text           label
    a fine film    pos
    dull           neg

In: a `.parquet` or `.arrow` file, or a folder of `save_to_disk`. Out: its rows. Class labels that the schema names, as Hugging
Face's does, are their names. Memory holds a batch of rows. Source: https://arrow.apache.org, `Dataset.to_parquet`,
`Dataset.save_to_disk`, pandas' `to_parquet` and `to_feather`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, Any

from kbert.data.folders import STATE
from kbert.source import SourceConfig

BATCH = 1024
FILE_MARK = b"ARROW1"  # of Arrow's file format; its streams have none
Name = Callable[[Any], Any]  # of a value: the label's name, or the value


def parquet(name: str, stream: IO[bytes], encoding: str, config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a Parquet file as (place, row); raise ValueError if it is none, or lacks a column."""
    import pyarrow as pa
    import pyarrow.parquet

    try:
        file = pa.parquet.ParquetFile(stream)
        yield from _rows(file.schema_arrow, file.iter_batches(BATCH, columns=_plain(file.schema_arrow)), columns, 1)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not Parquet ({error})") from None


def arrow(name: str, stream: IO[bytes], encoding: str, config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of an Arrow file or stream as (place, row); raise ValueError if it is none, or lacks a column."""
    yield from _arrow(stream, columns, 1)


def saved(name: str, stream: None, encoding: str, config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a saved data set as (place, row); raise ValueError if its files are not as `state.json` says."""
    path, row = Path(name), 1
    try:
        state = json.loads((path / STATE).read_text(encoding="utf-8"))
        files = [str(each["filename"]) for each in state["_data_files"]]
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{STATE} lists no files ({error})") from None
    if state.get("_indices_data_files"):
        raise ValueError("a selection of rows over a larger table; save it again after flatten_indices()")
    for file in files:
        if Path(file).name != file:
            raise ValueError(f"{STATE} names a file elsewhere: {file}")
        try:
            with (path / file).open("rb") as each:
                for place, found in _arrow(each, columns, row):
                    row += 1
                    yield place, found
        except OSError as error:
            raise ValueError(f"{file}: {error.strerror}") from None


def _arrow(stream: IO[bytes], columns: Sequence[str], first: int) -> Iterator[Any]:
    import pyarrow as pa

    mark = stream.read(len(FILE_MARK))
    stream.seek(0)
    try:
        if mark == FILE_MARK:
            file = pa.ipc.open_file(stream)
            batches: Any = (file.get_batch(i) for i in range(file.num_record_batches))
        else:
            file = batches = pa.ipc.open_stream(stream)
        wanted = _plain(file.schema)
        yield from _rows(file.schema, (batch.select(wanted) for batch in batches), columns, first)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"not Arrow ({error})") from None


def _plain(schema: Any) -> list[str]:
    """Return the columns that JSON can hold: no bytes, such as images."""
    return [field.name for field in schema if "binary" not in str(field.type)]


def _rows(schema: Any, batches: Any, columns: Sequence[str], first: int) -> Iterator[Any]:
    names = {column: name for column, name in _names(schema).items() if name is not None}
    number = first
    for batch in batches:
        for start in range(0, batch.num_rows, BATCH):
            for row in batch.slice(start, BATCH).to_pylist():
                for column, name in names.items():
                    row[column] = name(row[column])
                for column, value in row.items():
                    if not isinstance(value, str | int | float | list | dict | None):
                        row[column] = str(value)
                yield f"row {number}", row
                number += 1


def _names(schema: Any) -> dict[str, Name | None]:
    """Return, for columns of class labels, what names their values."""
    try:
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
    except (TypeError, KeyError, ValueError):
        return {}
    return {column: _name(feature) for column, feature in features.items() if column in schema.names}


def _name(feature: Any) -> Name | None:
    """Return what names the values of a feature; None if they have no names."""
    if isinstance(feature, list) and len(feature) == 1:
        feature = {"_type": "List", "feature": feature[0]}
    if not isinstance(feature, dict):
        return None
    names, kind = feature.get("names"), feature.get("_type")
    if kind == "ClassLabel" and isinstance(names, list):
        return lambda value: names[value] if isinstance(value, int) and 0 <= value < len(names) else value
    inner = _name(feature.get("feature")) if kind in ("Sequence", "List", "LargeList") else None
    return None if inner is None else lambda value: [inner(item) for item in value] if isinstance(value, list) else value
