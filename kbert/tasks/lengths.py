"""Measure how long texts are, and how much of them a model does not read.

In: a task and raw rows. Out: the rows that are cut, and a sentence with percentiles of lengths. Lengths are those of
whole texts before cutting, which the encoder's inputs no longer show. Only texts that may be too long are tokenized
again for this: a text has at most as many tokens as bytes, or twice as many if casing and accents are decomposed.
"""

from typing import Any

import numpy as np
import tensorflow as tf

from kbert.data.table import Table
from kbert.permutation import permuted
from kbert.tasks.base import Lengths, Storable

SURVEYED = 2000  # rows sampled for the lengths reported before training
SURVEYED_BYTES = 1 << 25  # and their approximate maximum of bytes
AT_ONCE = 64  # rows tokenized together; they may be long
SHARES = (50, 90, 99)


def lengths_of(task: Storable, raw: dict[str, np.ndarray]) -> Lengths | None:
    """Return the lengths of rows, given as UTF-8 bytes [rows] by field; None if the task always reads whole rows."""
    fields = task.config.fields
    counts: dict[str, list[np.ndarray]] = {name: [] for name in fields}
    for name in fields if task.lengths(dict.fromkeys(fields, np.zeros(1, int))) else ():
        for start in range(0, len(raw[name]), AT_ONCE):
            counts[name].append(task.pieces(tf.constant(raw[name][start : start + AT_ONCE])).row_lengths().numpy())
    return task.lengths({name: np.concatenate([np.zeros(0, int), *parts]) for name, parts in counts.items()})


class CutRows:
    """Detects and counts the rows that a task does not read whole."""

    def __init__(self, task: Storable):
        self.task = task
        self.rows = self.cut = 0
        self.limit = ""

    def __call__(self, raw: dict[str, Any]) -> np.ndarray:
        """Return which rows are cut, bool [rows].

        Args:
            raw: strings [rows] by field, bytes in arrays or tensors.
        """
        columns = {name: np.asarray(raw[name]) for name in self.task.config.fields}
        most = {name: np.array([len(b) * (1 if b.isascii() else 2) for b in column], int) for name, column in columns.items()}
        bound = self.task.lengths(most)
        found = np.zeros(len(next(iter(columns.values()))), bool)
        doubtful = np.flatnonzero(bound.cut if bound else found)
        lengths = lengths_of(self.task, {name: column[doubtful] for name, column in columns.items()}) if len(doubtful) else None
        if lengths:
            found[doubtful] = lengths.cut
            self.limit = lengths.limit
        self.rows, self.cut = self.rows + len(found), self.cut + int(found.sum())
        return found

    def __str__(self) -> str:
        return f"{self.cut:,} of {self.rows:,} rows were cut to {self.limit}"


def survey(task: Storable, table: Table) -> str | None:
    """Measure how long a table's rows are and how much is read, on up to `SURVEYED` rows; None where everything is read."""
    rows = permuted(np.arange(min(SURVEYED, len(table))), len(table), 0, 0)
    parts: list[Lengths] = []
    read = size = 0
    while read < len(rows) and size < SURVEYED_BYTES:
        raw = table.read(rows[read : read + AT_ONCE])
        fields = dict(zip(task.config.fields, raw.values(), strict=False))
        found = lengths_of(task, fields)
        if found is None:
            return None
        parts.append(found)
        read += len(found.whole)
        size += sum(len(text) for column in fields.values() for text in column)
    whole, kept = (np.concatenate([getattr(part, name) for part in parts]) for name in ("whole", "read"))
    each = whole.reshape(-1)
    # The length that this share of the texts does not exceed.
    at = np.percentile(each, SHARES, method="inverted_cdf").astype(int).tolist()
    upto = ", ".join(f"{share} % up to {length:,}" for share, length in zip(SHARES, at, strict=True))
    cut, lost = (whole > kept).any(1).mean(), (whole - kept).sum() / max(1, whole.sum())
    sampled = f" (of {len(whole):,} rows drawn from {len(table):,})" if len(whole) < len(table) else ""
    return (
        f"lengths of {parts[0].what} in tokens: {upto}, the longest {each.max():,}; {parts[0].limit} cuts {100 * cut:.1f} % of "
        f"the rows and loses {100 * lost:.1f} % of the tokens{sampled}"
    )
