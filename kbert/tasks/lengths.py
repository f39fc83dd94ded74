"""Measure how long texts are, and how much of them a model does not read.

In: a task and raw rows. Out: the rows that are cut, and a sentence with percentiles of lengths and, where many rows are cut,
the flags that read more of them. Lengths are those of whole texts before cutting, which the encoder's inputs no longer
show. Only texts that may be too long are tokenized again for this: a text has at most as many tokens as bytes, or twice as
many if casing and accents are decomposed.
"""

import dataclasses
import logging
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.data.table import Table
from kbert.model.window_bound import TRUNCATED
from kbert.permutation import permuted
from kbert.tasks.base import Lengths, Storable

log = logging.getLogger(__name__)

SURVEYED = 2000  # rows sampled for the lengths reported before training
SURVEYED_BYTES = 1 << 25  # and their approximate maximum of bytes
AT_ONCE = 64  # rows tokenized together; they may be long
SHARES = (50, 90, 99)
HELD = 95  # percent of the rows that a suggested --max_length holds; if so many are read whole, nothing is suggested


def tokens_of(task: Storable, raw: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Count the tokens of rows, given as UTF-8 bytes [rows] by field: int64 [rows] by field."""
    counts: dict[str, list[np.ndarray]] = {name: [np.zeros(0, int)] for name in task.config.fields}
    for name, parts in counts.items():
        for start in range(0, len(raw[name]), AT_ONCE):
            parts.append(task.pieces(tf.constant(raw[name][start : start + AT_ONCE])).row_lengths().numpy())
    return {name: np.concatenate(parts) for name, parts in counts.items()}


class CutRows:
    """Detects and counts the rows that a task does not read whole."""

    def __init__(self, task: Storable):
        self.task = task
        self.rows = self.cut = self.truncated = 0
        self.limit = ""

    def __call__(self, raw: dict[str, Any], answers: dict[str, Any]) -> np.ndarray:
        """Return which rows are cut, bool [rows].

        Args:
            raw: strings [rows] by field, bytes in arrays or tensors.
            answers: what the model returns for them.
        """
        columns = {name: np.asarray(raw[name]) for name in self.task.config.fields}
        most = {name: np.array([len(b) * (1 if b.isascii() else 2) for b in column], int) for name, column in columns.items()}
        bound = self.task.lengths(most)
        found = np.zeros(len(next(iter(columns.values()))), bool)
        doubtful = np.flatnonzero(bound.cut if bound else found)
        cut = {name: column[doubtful] for name, column in columns.items()}
        lengths = self.task.lengths(tokens_of(self.task, cut)) if len(doubtful) else None
        if lengths:
            found[doubtful] = lengths.cut
            self.limit = lengths.limit
        truncated = np.asarray(answers.get(TRUNCATED, np.zeros_like(found)))
        self.rows, self.cut = self.rows + len(found), self.cut + int((found & ~truncated).sum())
        self.truncated += int(truncated.sum())
        return found | truncated

    def log(self, name: str) -> None:
        """Log how many rows of a source are cut, if any are."""
        if self.cut:
            log.info("%s: %s", name, self)
        if self.truncated:
            log.warning(
                "%s: %s of %s rows have more text than the model reads (--max_windows)",
                *(name, f"{self.truncated:,}", f"{self.rows:,}"),
            )

    def __str__(self) -> str:
        return f"{self.cut:,} of {self.rows:,} rows were cut to {self.limit}"


def survey(task: Storable, table: Table) -> str | None:
    """Measure how long a table's rows are and how much is read, on up to `SURVEYED` rows; None where everything is read."""
    fields = task.config.fields
    if task.lengths(dict.fromkeys(fields, np.zeros(1, int))) is None:
        return None
    rows = permuted(np.arange(min(SURVEYED, len(table))), len(table), 0, 0)
    parts: list[dict[str, np.ndarray]] = []
    read = size = 0
    while read < len(rows) and size < SURVEYED_BYTES:
        at_once = rows[read : read + AT_ONCE]
        raw = dict(zip(fields, table.read(at_once).values(), strict=False))
        parts.append(tokens_of(task, raw))
        read += len(at_once)
        size += sum(len(text) for column in raw.values() for text in column)
    tokens = {name: np.concatenate([part[name] for part in parts]) for name in fields}
    lengths = task.lengths(tokens)
    assert lengths is not None
    each = lengths.whole.reshape(-1)
    # The length that this share of the texts does not exceed.
    upto = ", ".join(f"{share} % up to {_percentile(each, share):,}" for share in SHARES)
    lost = (lengths.whole - lengths.read).sum() / max(1, lengths.whole.sum())
    sampled = f" (of {read:,} rows drawn from {len(table):,})" if read < len(table) else ""
    return (
        f"lengths of {lengths.what} in tokens: {upto}, the longest {each.max():,}; {lengths.limit} cuts "
        f"{100 * lengths.cut.mean():.1f} % of the rows and loses {100 * lost:.1f} % of the tokens"
        f"{_suggestion(task, tokens, lengths)}{sampled}"
    )


def _suggestion(task: Storable, tokens: dict[str, np.ndarray], lengths: Lengths) -> str:
    """Say which flags read more of rows with so many tokens, where more than a few are cut; else return ""."""
    few = (100 - HELD) / 100
    if lengths.cut.mean() <= few:
        return ""
    beyond = f"; {lengths.beyond}" if lengths.beyond else ""
    if lengths.limit != f"--max_length={task.config.max_length}":  # something else limits them
        return beyond
    needed, positions = _percentile(lengths.whole.max(1), HELD), task.config.encoder.max_sequence_length
    if needed > positions:
        return f"; {HELD} % of the rows have up to {needed:,}, the checkpoint has positions for {positions:,}{beyond}"
    longer = type(task)(dataclasses.replace(task.config, max_length=needed), task.tokenizer).lengths(tokens)
    if longer is None or longer.cut.mean() > few:  # another flag cuts them too
        return beyond
    return f"; --max_length={needed} would hold {HELD} % of the rows"


def _percentile(lengths: np.ndarray, share: int) -> int:
    return int(np.percentile(lengths, share, method="inverted_cdf"))
