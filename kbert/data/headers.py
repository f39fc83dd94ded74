"""Find the column names of a table: from flags, from its first row or from training."""

from collections.abc import Sequence
from typing import NamedTuple

from kbert.data.file_settings import FileSettings
from kbert.data.label_names import shown
from kbert.errors import DataError


class Header(NamedTuple):
    """A table's column names and where they come from; `note` explains the source if it is not obvious."""

    names: Sequence[str]
    first: bool  # whether the first row holds them
    source: str
    note: str = ""


def header_row(name: str, first: Sequence[str], settled: FileSettings, columns: Sequence[str]) -> Header:
    """Return a table's column names, from flags, its first row or training.

    Raises:
        DataError: the first row looks like a header but contradicts the flags.
    """
    given = settled.columns
    if not given:
        if not settled.recorded_columns or set(columns) <= set(first):
            note = "its first row names its columns" if settled.recorded_columns else ""
            return Header(first, True, "its first row names", note)
        given = settled.recorded_columns
    source = "--columns names" if settled.columns else "--columns named in training"
    if not set(columns) <= set(given):
        return Header(given, False, source)  # which is an error in itself
    alike = [_plain(a) == _plain(b) for a, b in zip(first, given, strict=False)]
    if alike and all(alike) and len(first) == len(given):
        return Header(given, True, source, "its first row is a header and is not read as data")
    if any(alike) or (len(first) > 1 and sorted(map(_plain, first)) == sorted(map(_plain, given))):
        raise DataError(
            f"{name}: its first row ({shown(first)[:80]}) looks like a header but differs from what {source}: "
            f"{', '.join(given)}; remove it, or leave --columns out, or give the first row's names"
        )
    if not settled.columns and len(first) == len(given) and settled.label_column in given:
        text, label = first[list(given).index(columns[0])], first[list(given).index(settled.label_column)]
        if text in settled.labels and label and label not in settled.labels:
            raise DataError(
                f"{name}: the columns are {', '.join(given)} as in training, but the first row has a label of the model "
                f"as text ({text!r}) and none as label ({label[:40]!r}); if their order differs, set --columns="
            )
    taken = "" if settled.columns else f"columns are {', '.join(given)} as in training, and the first row is data"
    return Header(given, False, source, taken)


def _plain(name: str) -> str:
    return name.strip().casefold()


def repeats(fields: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether a row repeats the header, as when files with headers were concatenated."""
    return len(fields) > 1 and [_plain(f.removeprefix("\ufeff")) for f in fields] == [*map(_plain, header)]
