"""Find the columns of tokens and of entities under the names that data sets usually give them, where no flag names columns.

In: the first row of a file, and the columns to read. Out: the columns that hold them. `text` may be `tokens` or `words`
(lists), `label` may be `ner_tags`, `tags`, `entities` or `labels` (lists). Several of these in one row are an error.
"""

from collections.abc import Mapping, Sequence
from typing import Any

from kbert.errors import DataError

TEXTS = ("tokens", "words")
GOLD = ("ner_tags", "tags", "entities", "labels")


def found_columns(name: str, row: Mapping[str, Any], columns: Sequence[str], label_column: str) -> tuple[tuple[str, ...], str]:
    """Return the columns of a file to read as `columns`, and a note if they have other names.

    Raises:
        DataError: several columns may be meant.
    """
    found, notes = list(columns), []
    for at, (column, default, flag, others) in enumerate(
        ((columns[0], "text", "--text_columns", TEXTS), (label_column, "label", "--label_column", GOLD))
    ):
        if column != default or column in row or column not in columns:
            continue
        there = [other for other in others if isinstance(row.get(other), list | dict)]
        if len(there) > 1:
            raise DataError(
                f"{name}: no column {column!r}; {' and '.join(map(repr, there))} may be meant: {flag}={there[0]} or another"
            )
        if there:
            found[columns.index(column)] = there[0]
            notes.append(f"{('tokens', 'tags or entities')[at]} are read from {there[0]!r}")
    return tuple(found), "; ".join(notes)
