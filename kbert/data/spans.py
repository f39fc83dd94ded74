"""Read entities as character spans in a column of JSON rows.

    {"text": "Ada lives in Oslo", "label": [{"start": 0, "end": 3, "type": "PER"}]}
    {"text": "Ada sings", "label": [[0, 3, "PER"]]}
    {"text": "Oslo", "label": [{"start_offset": 0, "end_offset": 4, "label": "LOC"}]}

In: the JSON text of a row's gold column. Out: sorted `(start, end, type)`, characters counted as Python
counts them, ends exclusive. The layouts are distinguished by their values:

    [{"start": 0, "end": 2, "type": "name"}, ...]    ends exclusive; also [[0, 2, "name"], ...], doccano's older exports
    [{"start_offset": 0, "end_offset": 2, "label": "name"}]    doccano's exports with relations; ends exclusive
    [{"start": 0, "end": 2, "labels": ["name"], "text": "Jo"}]    Label Studio's JSON-MIN; ends exclusive
    {"entities": [[0, 2, "name"]]}                   spaCy's training data; ends exclusive
    {"name": {"彭小军": [[0, 2]]}, ...}               CLUENER's: by type and surface, ends inclusive
    {"start": [0], "end": [2], "type": ["name"]}     as TFDS hands out a sequence; ends exclusive

Source: doccano's and Label Studio's (JSON-MIN) exports, spaCy's training data, CLUENER2020.

A text's tags over its words are IOB2, as numbers: 0 outside, 1 + 2 t a word that begins an entity of
type number t, 2 + 2 t a further word of it.
"""

import itertools
import json
from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

Span = tuple[int, int, str]
STARTS, ENDS = ("start", "start_offset"), ("end", "end_offset")
KINDS = ("type", "label", "labels")


class Entity(NamedTuple):
    """One entity as it is written; `surface` where its text is written too, `inclusive`: `end` names what is last in it."""

    start: int
    end: int
    kind: str
    surface: str | None = None
    inclusive: bool = False


class Written(str):
    """JSON text of entities, with the entities that it holds, sorted, so that checks need not parse it again."""

    spans: list[Span]

    def __new__(cls, text: str, spans: list[Span]) -> "Written":
        self = super().__new__(cls, text)
        self.spans = spans
        return self


def entities(gold: str | bytes) -> list[Entity]:
    """Return the entities of a gold column's JSON text, as they are written.

    Raises:
        ValueError: it is in none of the layouts.
    """
    try:
        value = json.loads(gold)
    except (ValueError, RecursionError):
        raise ValueError(f"expected a JSON list of entities, found {_shown(gold)}") from None
    try:
        return list(_entities(value))
    except (TypeError, ValueError, KeyError):
        raise ValueError(
            'expected entities as [{"start": 0, "end": 2, "type": "name"}] with ends exclusive, or '
            f'{{"name": {{"surface": [[0, 1]]}}}} with ends inclusive, found {_shown(gold)}'
        ) from None


def read_spans(gold: str | bytes) -> list[Span]:
    """Return the entities of a gold column's JSON text, sorted by place, ends exclusive; its places are characters.

    Raises:
        ValueError: it is in none of the layouts.
    """
    if isinstance(gold, Written):
        return gold.spans
    return sorted((entity.start, entity.end + entity.inclusive, entity.kind) for entity in entities(gold))


def check_spans(spans: Sequence[Span], text: str) -> None:
    """Raise ValueError unless the spans, sorted, are inside the text, not empty, and do not overlap."""
    for start, end, kind in spans:
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f"entity {kind!r} at characters {start} to {end} (exclusive); the text has {len(text)}, "
                "and an entity must start inside it and end after its start"
            )
    for (start, end, kind), (start_b, end_b, kind_b) in itertools.pairwise(spans):
        if start_b < end:
            raise ValueError(
                f"entities overlap: {kind!r} {text[start:end]!r} at {start} to {end} and {kind_b!r} {text[start_b:end_b]!r} "
                f"at {start_b} to {end_b} (exclusive); each character can be part of one entity only"
            )


def tag_numbers(
    spans: Sequence[Sequence[Span]], types: dict[str, int], starts: np.ndarray, ends: np.ndarray, words: np.ndarray
) -> tuple[np.ndarray, int, int]:
    """Return tags of the words of some rows, and how far the spans fit them.

    A span takes every word that it touches, so that one which begins or ends inside a word is widened to
    it. A word that two spans touch is the first one's.

    Args:
        spans: each row's entities, sorted.
        types: the number of each type.
        starts, ends: the characters where words begin and end (exclusive), of all rows in order.
        words: how many words each row has, shape [rows].

    Returns:
        Tag numbers, int32 like `starts`; how many spans were widened; how many got no word at all.
    """
    tags = np.zeros(len(starts), np.int32)
    flat = [(row, start, end, types[kind]) for row, found in enumerate(spans) for start, end, kind in found]
    if not flat or not len(starts):
        return tags, 0, len(flat)
    row, start, end, kind = np.array(flat, np.int64).T
    # One axis for all rows: a row's characters, then the next one's.
    width = max(int(ends.max()), int(end.max())) + 1
    offset = np.repeat(np.arange(len(words), dtype=np.int64) * width, words)
    from_, to = start + row * width, end + row * width
    first = np.searchsorted(ends + offset, from_, side="right")  # the first word that ends after the span's start
    behind = np.searchsorted(starts + offset, to, side="left")  # the first that starts at its end or later
    taken = np.concatenate([[0], np.maximum.accumulate(behind)[:-1]])
    clear = np.maximum(first, taken)
    kept = clear < behind
    inside = kept & (first < len(starts))
    at, last = np.minimum(first, len(starts) - 1), np.maximum(behind, 1) - 1
    fits = inside & (clear == first) & ((starts + offset)[at] == from_) & ((ends + offset)[last] == to)
    lengths = (behind - clear)[kept]
    places = np.repeat(clear[kept], lengths) + np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
    tags[places] = np.repeat(2 + 2 * kind[kept], lengths)
    tags[clear[kept]] = 1 + 2 * kind[kept]
    return tags, int((kept & ~fits).sum()), int((~kept).sum())


def tag_names(types: Sequence[str]) -> tuple[str, ...]:
    """Return the tags of these types in the order of their numbers: O, B-…, I-…, B-…, I-…"""
    return ("O", *(f"{prefix}-{kind}" for kind in types for prefix in "BI"))


def _columns(value: dict[str, Any]) -> bool:
    return {"start", "end", "type"} <= set(value) and all(isinstance(column, list) for column in value.values())


def _entities(value: Any) -> Iterable[Entity]:
    if isinstance(value, list):
        for item in value:
            if isinstance(item, dict):
                yield _entity(_one(item, STARTS), _one(item, ENDS), _one(item, KINDS), item.get("text"))
            else:
                yield _entity(*item)
    elif isinstance(value, dict) and _columns(value):
        surfaces = value.get("text", [None] * len(value["start"]))
        for parts in zip(value["start"], value["end"], value["type"], surfaces, strict=True):
            yield _entity(*parts)
    elif isinstance(value, dict) and isinstance(value.get("entities"), list):
        yield from _entities(value["entities"])
    elif isinstance(value, dict):
        for kind, surfaces in value.items():
            if not isinstance(surfaces, dict):
                raise TypeError
            for surface, places in surfaces.items():
                for start, last in places:
                    yield _entity(start, last, kind, surface, True)
    else:
        raise TypeError


def _one(item: dict[str, Any], names: Sequence[str]) -> Any:
    """Return the value that an object has under one of these names; raise KeyError if it has none, or several."""
    found = [item[name] for name in names if name in item]
    if len(found) != 1:
        raise KeyError
    return found[0][0] if isinstance(found[0], list) and len(found[0]) == 1 else found[0]


def _entity(start: Any, end: Any, kind: Any, surface: Any = None, inclusive: bool = False) -> Entity:
    return Entity(_number(start), _number(end), _text(kind), surface if isinstance(surface, str) else None, inclusive)


def _number(value: Any) -> int:
    if type(value) is not int:
        raise TypeError
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value:
        raise TypeError
    return value


def _shown(gold: str | bytes) -> str:
    text = gold.decode("utf-8", "replace") if isinstance(gold, bytes) else gold
    return text if len(text) <= 80 else text[:80] + "…"
