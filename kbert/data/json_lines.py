"""Parse JSON lines: one object a line.

In: lines of bytes. Out: the requested values of each object, as strings; ValueError says what is malformed.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kbert.data.encodings import decode_line, quote


@dataclass
class JsonLines:
    """One object a line; numbers, booleans and the values of `nested` columns are returned as JSON text."""

    encoding: str
    columns: Sequence[str]
    nested: Sequence[str] = ()

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def values(self, record: bytes) -> tuple[str, ...]:
        line = decode_line(record, self.encoding)
        if not line.strip():
            return ()
        try:
            row = json.loads(line)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"not JSON ({error}): {quote(record, self.encoding)}") from None
        if not isinstance(row, dict):
            raise ValueError(f"expected a JSON object, found {quote(record, self.encoding)}")
        return tuple(self._value(row, column) for column in self.columns)

    def keys(self, record: bytes) -> tuple[str, ...]:
        """Return all keys of an object, including those that `values` does not read."""
        return tuple(json.loads(decode_line(record, self.encoding)))

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


class Questions(JsonLines):
    """Rows of `kbert.data.squad`, copied from a document: JSON lines in UTF-8."""

    def place(self, record: bytes) -> str:
        """Identify a row for the user: the question's id."""
        return f"question {json.loads(record)['id']!r}"
