"""Tell whether a file looks like rows of the format that training read."""

import json
from collections.abc import Sequence
from typing import Literal

from kbert.data import fasttext, schemes, tagged_lines, tokens
from kbert.data.conll_columns import SEPARATOR, skipped
from kbert.data.delimiters import cells, character_of
from kbert.source import Format, Recorded

BINARY = ("parquet", "arrow", "xlsx")


def fits(kind: Format, head: Sequence[str], recorded: Recorded, columns: Sequence[str]) -> Literal["yes", "no", "unsure"]:
    """Return whether a file's first lines look like rows of training's format.

    Args:
        kind: the format to test.
        head: the file's first lines.
        recorded: the columns and labels used in training.
        columns: the columns to read.
    """
    lines = [line for line in head if line.strip()]
    if not lines:
        return "no"
    if kind == "conll":
        return _is_conll(head, recorded.labels)
    if kind == "fasttext":
        return "yes" if fasttext.fits(lines) else "no"
    if kind == "tagged":
        return "yes" if tagged_lines.fits(lines) else "no"
    if kind in BINARY:
        return "no"
    if kind == "terms":
        return "yes" if "$T$" in lines[0] else "no"
    if kind in ("json", "squad"):
        return "yes" if lines[0].lstrip().startswith("{") and any('"paragraphs"' in line for line in lines) else "no"
    if kind == "jsonl":
        try:
            row = json.loads(lines[0])
        except (ValueError, RecursionError):
            return "no"
        return "yes" if isinstance(row, dict) and set(columns) <= set(row) else "no"
    rows = cells(lines, kind, character_of(recorded.source.delimiter))
    if rows and set(columns) <= set(rows[0]):
        return "yes"  # a header row
    names = recorded.source.columns
    whole = [row for row in rows if len(row) == len(names)]
    if len(names) < 2 or not whole:
        return "no"
    if kind == "csv" and any(cell.startswith(" ") for row in whole for cell in row[1:]):
        return "no"  # the commas of sentences
    return "yes" if len(whole) == len(rows) and (kind == "tsv" or _labelled(whole, recorded)) else "unsure"


def _labelled(rows: Sequence[Sequence[str]], recorded: Recorded) -> bool:
    """Return whether a row has one of the model's labels, or the labels cannot be checked."""
    names, label = recorded.source.columns, recorded.source.label_column
    if label not in names or not recorded.labels:
        return True
    cells = [row[names.index(label)].strip() for row in rows]
    return any(not cell or cell in recorded.labels or cell[0] in "[{-0123456789" for cell in cells)


def _is_conll(head: Sequence[str], labels: Sequence[str]) -> Literal["yes", "no", "unsure"]:
    """Return whether lines are tokens with a model's tags, or tokens alone with blank lines between sentences."""
    kinds = {*labels, schemes.UNTYPED}
    lines = [SEPARATOR.split(line.strip(" \t")) for line in head if not skipped(line)]
    tagged = [line for line in lines if any(c == "O" or schemes.split(schemes.typed(c))[1] in kinds for c in line[1:])]
    if any(len(line) > 1 for line in lines):
        return "yes" if 2 * len(tagged) > len(lines) else "unsure" if _columned(lines) else "no"
    blanks = sum(skipped(line) for line in head)
    short = sum(len(line[0]) == 1 or (len(line[0]) < 20 and not tokens.wide(line[0][0])) for line in lines)
    return "yes" if 2 * blanks < len(lines) and blanks > 0 and 10 * short > 9 * len(lines) else "no"


def _columned(lines: Sequence[Sequence[str]]) -> bool:
    """Return whether lines are columns whose last holds prefixed tags, even of other types."""
    widths, last = {len(line) for line in lines}, [line[-1] for line in lines]
    return len(widths) == 1 and all(tag == "O" or schemes.split(tag)[0] for tag in last) and {*last} != {"O"}
