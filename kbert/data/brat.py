"""Read brat's standoff documents: a text in `NAME.txt`, its entities in `NAME.ann`.

    Ada lives in Oslo.
    T1	PER 0 3	Ada
    T2	LOC 13 17	Oslo

In: an `.ann` file, or a folder of them. Out: a row for each document: the text and its entities. Offsets count characters, ends
are exclusive; each entity's text is compared. Relations, events, attributes and notes are not read.
Source: https://brat.nlplab.org/standoff.html.
"""

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kbert.source import SourceConfig

ENTITY = re.compile(r"T\S+\t(?P<kind>\S+) (?P<start>\d+) (?P<end>\d+)\t(?P<text>.*)")


def rows(name: str, stream: Any, encoding: str, config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the row of each document as (place, row), or (place, reason) if it is malformed."""
    path = Path(name)
    for file in sorted(path.glob("*.ann")) if path.is_dir() else [path]:
        place = file.name
        try:
            text, entities = document(file, encoding)
        except ValueError as error:
            yield place, str(error)
        except OSError as error:
            yield place, f"{error.filename}: {error.strerror}"
        else:
            yield place, {config.text_columns[0]: text, config.label_column: entities, "file": place}


def document(file: Path, encoding: str) -> tuple[str, list[tuple[int, int, str]]]:
    """Return the text of a document and its entities.

    Raises:
        ValueError: an entity is malformed, in several parts, or not at its place in the text.
        OSError: a file is missing.
    """
    text = file.with_suffix(".txt").read_bytes().decode(encoding)
    given = []
    for number, line in enumerate(file.read_bytes().decode(encoding).splitlines(), 1):
        if not line.startswith("T"):
            continue
        found = ENTITY.fullmatch(line)
        if found is None:
            parts = "an entity in several parts" if ";" in "".join(line.split("\t")[1:2]) else "not an entity"
            raise ValueError(f"line {number}: {parts}, expected `T1<tab>TYPE START END<tab>TEXT`: {line[:60]!r}")
        given.append((number, int(found["start"]), int(found["end"]), found["kind"], found["text"]))
    for read in (text, text.replace("\r\n", "\n")):  # brat's own editor counts a line end as one character
        wrong = [each for each in given if _flat(read[each[1] : each[2]]) != _flat(each[4])]
        if not wrong:
            return read, sorted((start, end, kind) for _, start, end, kind, _ in given)
    number, start, end, kind, surface = wrong[0]
    there = read[start:end]
    raise ValueError(f"line {number}: entity {kind!r} {surface!r} is at {start} to {end}, where the text has {there!r}")


def _flat(text: str) -> str:
    return re.sub(r"\s", " ", text)
