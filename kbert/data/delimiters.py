"""Find the delimiter of csv rows, and split rows at it."""

import csv
from collections.abc import Sequence

from kbert.errors import UsageError

TAB = "\t"
OTHERS = (";", TAB, "|")  # delimiters of csv files, beside the comma


def character_of(delimiter: str) -> str:
    """Return the character that a value of --delimiter stands for; raise UsageError if it is none."""
    found = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(delimiter, delimiter)
    if len(found) != 1 or found in '"\r\n':
        raise UsageError(f"--delimiter={delimiter}: expected one character, or tab")
    return found


def cells(lines: Sequence[str], kind: str, delimiter: str) -> list[list[str]]:
    """Split lines of a csv or tsv file into cells; empty if csv's quotes are broken."""
    if kind == "tsv":
        return [line.split("\t") for line in lines]
    try:
        return list(csv.reader((line + "\n" for line in lines), delimiter=delimiter))
    except csv.Error:
        return []


def other_delimiter(head: Sequence[str], given: Sequence[str], columns: Sequence[str]) -> str:
    """Return the one delimiter that gives the columns to read, where commas do not; empty if there is none.

    Args:
        head: the file's first lines.
        given: the names of --columns, if any.
        columns: the columns to read.
    """

    def separates(delimiter: str) -> bool:
        rows = [row for row in cells(head, "csv", delimiter) if row]
        return bool(rows) and (all(len(row) == len(given) for row in rows) if given else set(columns) <= set(rows[0]))

    fitting = [] if len(given) == 1 or separates(",") else [each for each in OTHERS if separates(each)]
    return fitting[0] if len(fitting) == 1 else ""
