"""Parse labels of aspects, and convert rows of them to numbers.

In: gold columns as strings. Out: label numbers, int32 [rows, aspects], -1 for unknown. No TensorFlow here.
"""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from kbert.tasks.aspect.options import Aspect

NOT_MENTIONED = "not mentioned"
WRITTEN = {"-1": "negative", "0": "neutral", "1": "positive", "-2": NOT_MENTIONED}  # as in ASAP and AI Challenger 2018
LABELS = tuple(WRITTEN.values())  # in the order of a model's labels
ALLOWED = ", ".join(f"{number} or {label}" for number, label in WRITTEN.items())
GOLD = "label"  # gold column if rows name their aspect


def gold_columns(aspects: Sequence[Aspect], wide: bool) -> tuple[str, ...]:
    """Return the names of the raw gold columns: one for each aspect, or that of the row's aspect."""
    return tuple(f"{GOLD} {aspect.name}" for aspect in aspects) if wide else (GOLD,)


def label_of(value: str) -> str:
    """Parse a label; raise ValueError if it is not allowed."""
    label = WRITTEN.get(value.strip(), value.strip().lower())
    if label not in LABELS:
        raise ValueError(f"{value!r}, allowed are {ALLOWED}")
    return label


def numbers(raw: Mapping[str, np.ndarray], aspects: Sequence[Aspect], labels: Sequence[str], wide: bool) -> np.ndarray:
    """Convert labels to numbers, int32 [rows, aspects]; -1 for aspects that a row does not cover.

    Rows with terms of their own, where no aspects are known, have one column.

    Args:
        raw: raw columns, UTF-8 bytes [rows].
        aspects: the model's; empty if rows name terms.
        labels: the model's.
        wide: whether each aspect has a column.
    """
    known: dict[Any, int] = {label: number for number, label in enumerate(labels)}

    def read(column: np.ndarray) -> np.ndarray:
        return np.array([known[label_of(value.decode())] for value in column], np.int32)

    columns = gold_columns(aspects, wide)
    if wide:
        return np.stack([read(raw[column]) for column in columns], 1)
    values = read(raw[GOLD])
    if not aspects:
        return values[:, None]
    places = {aspect.name.encode(): place for place, aspect in enumerate(aspects)}
    found = np.full((len(values), len(aspects)), -1, np.int32)
    found[np.arange(len(values)), [places[name] for name in raw["aspect"]]] = values
    return found


class TextLabels:
    """What rows about one aspect each say of their texts, joined by text: some hundred bytes a text."""

    def __init__(self, aspects: Sequence[Aspect], labels: Sequence[str]):
        self.aspects, self.labels = aspects, labels
        self.known: dict[bytes, np.ndarray] = {}  # text hash -> label numbers, int32 [aspects]

    def add(self, raw: Mapping[str, np.ndarray]) -> list[bytes]:
        """Add rows; return the keys of their texts."""
        keys = [_key(text) for text in raw["text"]]
        absent = self.labels.index(NOT_MENTIONED) if NOT_MENTIONED in self.labels else len(self.labels)
        for key, found in zip(keys, numbers(raw, self.aspects, self.labels, wide=False), strict=True):
            was = self.known.get(key, found)
            # If rows contradict each other, a sentiment takes precedence over "not mentioned".
            silent = (was == absent) & (found >= 0), (found == absent) & (was >= 0)
            self.known[key] = np.select([silent[1], silent[0]], [was, found], np.maximum(was, found))
        return keys

    def of(self, raw: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return what is known of the rows' texts, in the form of `numbers`."""
        return np.stack([self.known[_key(text)] for text in raw["text"]])


def _key(text: bytes) -> bytes:
    return hashlib.blake2b(text, digest_size=16).digest()


def mentions(found: np.ndarray, aspects: Sequence[Aspect], labels: Sequence[str]) -> np.ndarray:
    """Return whether coarse aspects are mentioned: 1, 0, or -1 for unknown; int32 [rows, coarse aspects].

    Args:
        found: label numbers, [rows, aspects].
    """
    absent = labels.index(NOT_MENTIONED) if NOT_MENTIONED in labels else len(labels)
    each = np.where(found < 0, -1, (found != absent).astype(np.int32))
    groups = coarse_aspects(aspects)
    if not groups:
        return each
    return np.stack([each[:, [a.coarse == coarse for a in aspects]].max(1) for coarse in groups], 1).astype(np.int32)


def coarse_aspects(aspects: Sequence[Aspect]) -> tuple[str, ...]:
    """List the coarse aspects in order of first occurrence."""
    return tuple(dict.fromkeys(aspect.coarse for aspect in aspects))
