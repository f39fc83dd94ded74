"""Rows given as Python objects, as JSON lines in a temporary file that `kbert.data.indexing` indexes like any other.

In: a list of dicts, tuples or texts, a pandas DataFrame, a `tf.data.Dataset`, a Hugging Face `Dataset`, or anything else that
gives such rows when iterated over. Out: a `Rows`, which goes wherever the name of a source goes. None of these libraries is
imported: objects are known by their methods.
"""

import json
import math
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import IO, Any

import numpy as np

from kbert.data.bad_rows import BadRows
from kbert.errors import UsageError

NO_VALUE = ("NAType", "NaTType")  # what pandas has for a missing cell, beside NaN


class Rows(str):
    """The name of an argument, which messages and config.json show, with the rows that it was given.

    Args:
        name: of the argument, for example `train_data`. Row 17 is `train_data:17` in messages of the table.
        values: the rows.
    """

    values: Any

    def __new__(cls, name: str, values: Any) -> "Rows":
        if isinstance(values, Mapping):
            keys = ", ".join(map(str, values))
            raise UsageError(
                f"{name}: expected rows, for example a list of dicts, found one {type(values).__name__} ({keys[:80]}); "
                "give the rows of one of these, or the columns as a DataFrame"
            )
        if not isinstance(values, Iterable) and not hasattr(values, "as_numpy_iterator"):
            raise UsageError(f"{name}: expected the name of a file, or rows, found {type(values).__name__}")
        self = super().__new__(cls, name)
        self.values = values
        return self

    def __deepcopy__(self, _: Any) -> "Rows":
        return self

    def spool(self, names: Sequence[str], wanted: Sequence[str], bad: BadRows) -> IO[bytes]:
        """A temporary file with a JSON object a line; the system deletes it when it is closed.

        Args:
            names: of the values of rows that are tuples.
            wanted: the columns that are read; what cannot be written as JSON is left out of the others.
            bad: takes in rows that are no dict, tuple or text, or hold what cannot be written.
        """
        file = tempfile.TemporaryFile(prefix="kbert-")  # noqa: SIM115  (the table keeps it open)
        for number, row in enumerate(_rows(self.values), 1):
            try:
                found = {str(key): _plain(value, str(key) in wanted) for key, value in _named(row, names).items()}
            except ValueError as error:
                bad.add(self, number, str(error), repr(row))
                file.write(b"\n")
                continue
            bad.read += 1
            file.write(json.dumps(found).encode() + b"\n")
        file.flush()
        return file


def _rows(values: Any) -> Iterator[Any]:
    """The rows of a container, one by one."""
    if hasattr(values, "itertuples") and hasattr(values, "columns"):  # pandas
        columns = list(values.columns)
        yield from (dict(zip(columns, row, strict=True)) for row in values.itertuples(index=False, name=None))
    elif hasattr(values, "as_numpy_iterator"):  # tf.data
        yield from values.as_numpy_iterator()
    elif isinstance(features := getattr(values, "features", None), Mapping):  # Hugging Face
        for row in values:
            yield {name: _label(features.get(name), value) for name, value in row.items()}
    else:
        yield from values


def _named(row: Any, names: Sequence[str]) -> dict[Any, Any]:
    """A row as a dict of its columns."""
    if isinstance(row, Mapping):
        return dict(row)
    if isinstance(row, tuple) and len(row) == 2 and isinstance(row[0], Mapping):  # (features, label)
        return {**row[0], names[-1]: row[1]}
    if isinstance(row, str | bytes) or (isinstance(row, list) and len(names) == 1):
        row = (row,)
    if not isinstance(row, tuple | list | np.ndarray):
        raise ValueError(f"expected a dict, a tuple or a text, found {type(row).__name__}")
    if len(row) != len(names):
        raise ValueError(f"{len(row)} value{'s'[: len(row) != 1]}, expected {len(names)} ({', '.join(names)})")
    return dict(zip(names, row, strict=True))


def _label(feature: Any, value: Any) -> Any:
    """A class label by its name, as the features of a Hugging Face dataset say; also lists of them."""
    inner = feature[0] if isinstance(feature, list) and feature else getattr(feature, "feature", None)
    if isinstance(value, list) and inner is not None:
        return [_label(inner, item) for item in value]
    if hasattr(feature, "int2str") and isinstance(value, int) and value >= 0:
        return feature.int2str(value)
    return value


def _plain(value: Any, wanted: bool) -> Any:
    """A value as JSON knows it; None for what is not wanted and cannot be written."""
    if value is None or isinstance(value, str | int | float):
        return value
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, np.generic | np.ndarray):
        return _plain(value.tolist(), wanted)
    if isinstance(value, list | tuple):
        return [_plain(item, wanted) for item in value]
    if isinstance(value, Mapping):
        return {str(key): _plain(item, wanted) for key, item in value.items()}
    if type(value).__name__ in NO_VALUE:
        return math.nan
    if wanted:
        raise ValueError(f"expected a string or a number, found {type(value).__name__}: {str(value)[:60]}")
    return None
