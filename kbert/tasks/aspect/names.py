"""Parse the aspects of a model: their names, what the model reads for them, and their coarse aspects.

In: names of columns or the lines of a file. Out: `Aspect`s in order. No TensorFlow here.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from kbert.errors import DataError
from kbert.tasks.aspect.options import Aspect

SEPARATOR = re.compile("[_#]")  # ASAP has Food#Taste, SemEval-2016 FOOD#QUALITY


def aspect_of(name: str) -> Aspect:
    """Derive an aspect from its name: `service_parking_convenience` or `Service#Parking` reads "service parking convenience",
    "Service Parking", coarse `service`, `Service`."""
    coarse, *_ = SEPARATOR.split(name)
    return Aspect(name=name, coarse=coarse or name, readable=SEPARATOR.sub(" ", name).strip() or name)


def read_names(file: str) -> tuple[Aspect, ...]:
    """Read the aspects from a file of lines: name, tab, what the model reads for it, and optionally a tab and a coarse aspect.

    Raises:
        DataError: the file is not readable, or a line is malformed or repeats an aspect.
    """
    where = f"--aspect_names={file}"
    try:
        lines = Path(file).expanduser().read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"{where}: not readable: {error}") from None
    found: dict[str, Aspect] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        columns = [column.strip() for column in line.split("\t")]
        if len(columns) > 3 or not all(columns):
            raise DataError(
                f"{where}:{number}: expected a name and, after tabs, what is read for it and its coarse aspect, found {line!r}"
            )
        if columns[0] in found:
            raise DataError(f"{where}:{number}: aspect {columns[0]!r} is listed twice")
        plain = aspect_of(columns[0])
        found[columns[0]] = Aspect(
            name=columns[0],
            readable=columns[1] if len(columns) > 1 else plain.readable,
            coarse=columns[2] if len(columns) > 2 else plain.coarse,
        )
    if not found:
        raise DataError(f"{where}: no aspect is listed")
    return _distinct(tuple(found.values()), where)


def named(columns: Sequence[str], file: str | None) -> tuple[Aspect, ...]:
    """Return the aspects of these columns, as described in a file if one is given.

    Raises:
        DataError: the file lacks an aspect.
    """
    if file is None:
        return _distinct(tuple(map(aspect_of, columns)), f"--label_column={','.join(columns)}")
    known = {aspect.name: aspect for aspect in read_names(file)}
    missing = [column for column in columns if column not in known]
    if missing:
        raise DataError(f"--aspect_names={file}: no line for aspect {missing[0]!r}; it lists {', '.join(known)}")
    return tuple(known[column] for column in columns)


def _distinct(aspects: tuple[Aspect, ...], where: str) -> tuple[Aspect, ...]:
    """Return the aspects; raise DataError if one reads like another's name or reading, since they would be ambiguous."""
    called = {aspect.name: aspect for aspect in aspects}
    for aspect in aspects:
        other = called.setdefault(aspect.readable, aspect)
        if other is not aspect:
            raise DataError(f"{where}: aspects {other.name!r} and {aspect.name!r} are both read or called {aspect.readable!r}")
    return aspects
