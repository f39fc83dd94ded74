"""Recognise the format of a file by its first lines, where its ending does not tell (.txt, none).

In: lines, and the columns to read. Out: the one format that they are in; no format is a guess: several are an error.
"""

import csv
import json
from collections.abc import Callable, Mapping, Sequence

from kbert.data import fasttext, tagged_lines
from kbert.data.conll_columns import SEPARATOR, skipped
from kbert.data.three_lines import PLACE
from kbert.errors import UsageError
from kbert.source import Format

MANY = 20  # tokens, all of them with a tag, that are no plain text by chance


def recognised(name: str, head: Sequence[str], columns: Sequence[str], tokenised: bool) -> Format | None:
    """Return the format of a file; None if it is none of those that are recognised.

    Args:
        name: the file, for messages.
        head: its first lines.
        columns: the columns to read.
        tokenised: whether the task reads tokens.

    Raises:
        UsageError: several formats are possible.
    """
    lines = [line for line in head if line.strip()]
    several = len(columns) > 1  # plain text has one column
    many = sum(len(line.split()) for line in lines) >= MANY
    tests: Mapping[Format, Callable[[], bool]] = {
        "fasttext": lambda: fasttext.fits(lines),
        "tagged": lambda: (tokenised or (not several and many)) and tagged_lines.fits(lines),
        "conll": lambda: tokenised and several and _columns(head),
        "terms": lambda: several and any(PLACE in line for line in lines[:1]),
        "jsonl": lambda: several and _objects(lines, columns),
        "tsv": lambda: several and _header(lines, columns, "\t"),
        "csv": lambda: several and _header(lines, columns, ","),
    }
    found = [kind for kind, fits in tests.items() if lines and fits()]
    if len(found) > 1:
        raise UsageError(f"{name}: its first rows may be {' or '.join(found)}; add --format={found[0]} or --format={found[1]}")
    return found[0] if found else None


def _columns(head: Sequence[str]) -> bool:
    """Return whether lines are tokens with tags: of one width, with O among the last column's, and blank lines between."""
    lines = [SEPARATOR.split(line.strip(" \t")) for line in head if not skipped(line) and not line.startswith("#")]
    return len({len(line) for line in lines}) == 1 and len(lines[0]) > 1 and any(line[-1] in ("O", "o") for line in lines)


def _objects(lines: Sequence[str], columns: Sequence[str]) -> bool:
    try:
        row = json.loads(lines[0])
    except (ValueError, RecursionError):
        return False
    return isinstance(row, dict) and set(columns) <= set(row)


def _header(lines: Sequence[str], columns: Sequence[str], delimiter: str) -> bool:
    return set(columns) <= set(next(csv.reader(lines[:1], delimiter=delimiter), ()))
