"""Read JSON lines: one object a line.

    {"text": "a fine film", "label": "pos"}
    {"text": "dull", "label": "neg"}
    {"text": "good", "label": "pos"}

In: lines of bytes. Out: the requested values of each object, as strings; ValueError says what is malformed.
Source: https://jsonlines.org, Hugging Face's `Dataset.to_json`, pandas' `to_json(orient="records", lines=True)`.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from kbert.data.bad_rows import SeveralValues
from kbert.data.encodings import decode_line, quote
from kbert.data.label_names import missing_name, shown
from kbert.data.squad import IMPOSSIBLE

WRITE = json.JSONEncoder(allow_nan=False).encode


@dataclass
class JsonLines:
    """One object a line; numbers, booleans and the values of `nested` columns are returned as JSON text."""

    encoding: str
    columns: Sequence[str]
    nested: Sequence[str] = ()
    flag_of: Callable[[str], str | None] = lambda column: None  # the flag that names a column
    complete: bool = False  # whether an object had all columns
    note: str = ""  # which columns are read, where the flags do not say so

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def values(self, record: bytes) -> tuple[str, ...]:
        row = self.row(record)
        return () if row is None else self.of(row)

    def of(self, row: dict[str, Any], columns: Sequence[str] | None = None) -> tuple[str, ...]:
        """Return the requested values of an object, or those of some columns."""
        if row.get("is_impossible") is True and "question" in row:
            row = {**row, **dict.fromkeys(self.nested, json.loads(IMPOSSIBLE))}
        values = tuple([self._value(row, column) for column in (self.columns if columns is None else columns)])
        self.complete = True
        return values

    def row(self, record: bytes) -> dict[str, Any] | None:
        """Return a line's object; None if it is blank."""
        line = decode_line(record, self.encoding)
        if not line.strip():
            return None
        try:
            row = json.loads(line)
        except RecursionError:
            raise ValueError("JSON nested too deeply") from None
        except ValueError as error:
            raise ValueError(f"not JSON ({error}): {quote(record, self.encoding)}") from None
        if not isinstance(row, dict):
            raise ValueError(f"expected a JSON object, found {quote(record, self.encoding)}")
        return row

    def keys(self, record: bytes) -> tuple[str, ...]:
        """Return all keys of an object, including those that `values` does not read."""
        return tuple(self.row(record) or ())

    def _value(self, row: dict[str, Any], column: str) -> str:
        if column not in row:
            flag = None if self.complete else self.flag_of(column)
            other = missing_name(column, [key for key in row if key not in self.columns], flag)
            raise ValueError(f"no key {column!r}; the object has: {shown(row) or 'none'}{other}")
        value = row[column]
        if isinstance(value, dict) and list(value) == ["choices"]:
            value = value["choices"]  # several of Label Studio's, in JSON-MIN
        if isinstance(value, list) and len(value) == 1 and column not in (self.columns[0], *self.nested):
            value = value[0]  # the label of doccano's classes, in a list of labels
        if isinstance(value, str):
            return value
        try:
            if isinstance(value, bool | int | float) or (column in self.nested and isinstance(value, list | dict | None)):
                return WRITE(value)
        except ValueError:
            found = f"{json.dumps(value)[:60]}, which is not a value"
            raise ValueError(f"key {column!r}: {found} (a missing cell from pandas?); remove the row, or fill it") from None
        message = f"key {column!r}: expected a string or a number, found {json.dumps(value)[:60]}"
        if isinstance(value, list) and value and all(isinstance(item, str | int) for item in value):
            raise SeveralValues(message, column)
        raise ValueError(message)


class Converted(JsonLines):
    """Rows copied from a document, each as a line `[place, row]`, or `[place, reason]` where it is malformed; UTF-8."""

    def row(self, record: bytes) -> dict[str, Any]:
        found = json.loads(record)[1]
        if isinstance(found, str):
            raise ValueError(found)
        return dict(found)

    def place(self, record: bytes) -> str:
        """Return a row's place in the document as messages show it."""
        return str(json.loads(record)[0])
