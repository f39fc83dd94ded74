"""Collect the rows of a command's sources that cannot be read: all in one error, or set aside in a file.

In: file, line, reason and text of each. Out: a DataError with the first of them and the number of the others by reason; or,
with `--skip_bad_rows=FILE`, that file: JSON lines with `file`, `line` (in documents `place`), `reason` and `row`.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import IO, Any

from kbert.errors import DataError
from kbert.files import check_output

log = logging.getLogger(__name__)

SHOWN = 20  # rows listed in a message; the others are counted by reason
REASONS = 100  # reasons counted
HOPELESS = 10_000  # rows after which reading stops if none of them could be read
VALUES = re.compile(r"'(?:[^'\\]|\\.)*'|\"(?:[^\"\\]|\\.)*\"|\d[\d.,]*")  # what differs between reasons of one kind


class AtLine(ValueError):
    """A row of several lines is malformed at the line of this number, from 0."""

    def __init__(self, message: str, line: int):
        super().__init__(message)
        self.line = line


class SeveralValues(ValueError):
    """A column has several values where one is read."""

    def __init__(self, message: str, column: str):
        super().__init__(message)
        self.column = column


class BadRows:
    """The rows that cannot be read, of all sources of a command. `finish`, or the end of a `with` block, reports them.

    Args:
        file: the value of `--skip_bad_rows`; None: such rows are an error.
        inputs: the sources by flag, none of which may be `file`.

    Raises:
        UsageError: `file` is one of the sources.
        DataError: `file` cannot be written.
    """

    def __init__(self, file: str | None = None, inputs: Mapping[str, str | None] | None = None):
        self.file = file
        self.found = self.read = 0
        self._shown: list[str] = []
        self._kinds: dict[str, list[Any]] = {}  # reason without values -> the first row with it, how many are not shown
        self._out: IO[str] | None = None
        if file is not None:
            check_output("--skip_bad_rows", file, inputs or {})
            self._out = Path(file).expanduser().open("w", encoding="utf-8")

    def add(self, name: str, where: int | str, reason: str, row: str) -> None:
        """Take in a row.

        Args:
            name: its file.
            where: its line, from 1; in documents, what they call it.
            reason: why it cannot be read.
            row: its text.
        """
        self.found += 1
        shown = f"{place(name, where)}: {reason}"
        kind = VALUES.sub("…", reason)
        first = self._kinds.setdefault(kind if len(self._kinds) < REASONS else "", [shown, 0])
        if self.found <= SHOWN:
            self._shown.append(shown)
        else:
            first[1] += 1
        if self._out is not None:
            line = {"file": name, "line" if isinstance(where, int) else "place": where, "reason": reason, "row": row}
            self._out.write(json.dumps(line, ensure_ascii=False).encode("utf-8", "replace").decode() + "\n")
        elif self.found >= HOPELESS and not self.read:
            raise self.error()

    def error(self) -> DataError:
        """Return the error that reports the rows."""
        if self.found == 1:
            return DataError(self._shown[0])
        others = [f"  and {count:,} more like {first}" for first, count in self._kinds.values() if count]
        listed = "\n".join([*(f"  {line}" for line in self._shown), *others])
        none = self.found >= HOPELESS and not self.read
        which = f"none of the first {self.found:,} rows" if none else f"{self.found:,} of {self.found + self.read:,} rows"
        whether = "can be read" if none else "cannot be read"
        return DataError(f"{which} {whether} (--skip_bad_rows=FILE writes them to FILE and continues without them):\n{listed}")

    def finish(self) -> None:
        """Raise the rows as an error; with `file`, close it and log how many rows it holds."""
        if self._out is None:
            if self.found:
                raise self.error()
            return
        self._out.close()
        if self.found:
            log.warning("%d rows that cannot be read are left out, and written to %s:", self.found, self.file)
            for line in self._shown[:3]:
                log.warning("  %s", line)

    def __enter__(self) -> "BadRows":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, _: object) -> None:
        if error is None or (isinstance(error, DataError) and self.found and self.file is None):
            self.finish()  # what else is wrong may follow from the missing rows


def place(name: str, where: int | str) -> str:
    """Return a row's place as messages show it."""
    return f"{name}:{where}" if isinstance(where, int) else f"{name}: {where}"
