"""Encode a table of texts, window by window, into vectors in the table's order.

In: a table and a predictor of sentence or token vectors. Out: parts of vectors with their index entries, and the number of
rows read after each. A window holds as many rows as fit a number of bytes, read once; within it, rows are
encoded sorted by length (`kbert.serving.Predictor`) and returned in their own order.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.data.table import Table
from kbert.progress import Progress
from kbert.serving import Predictor
from kbert.vectors.formats import Part
from kbert.vectors.sentences import SentenceVectors
from kbert.vectors.tokens import Granularity, TokenVectors, means, occurrences, surface

WINDOW_BYTES = 1 << 18  # text encoded at once: a few seconds' work
TOKEN_WINDOW_BYTES = 1 << 16  # the same for token vectors
WINDOW_ROWS = 8192  # maximum rows of a window

Segmenter = Callable[[str], list[str]]
SENTENCE_COLUMNS, TOKEN_COLUMNS = ("row", "text"), ("row", "token", "start", "end")


def windows(table: Table, start: int, most_bytes: int, title: str) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the table's texts from a row on in windows, each with its first row's number; shows a progress bar."""
    cuts = table.chunk_starts(WINDOW_ROWS, most_bytes)
    with Progress(len(table), initial=start, desc=title, unit="row") as bar:
        # A resumed run may have had other window borders.
        for first, stop in itertools.pairwise([start, *cuts[cuts > start].tolist()]):
            (texts,) = table.read(range(first, stop)).values()
            yield first, list(texts)
            bar.update(stop - first)


def sentences(
    predictor: Predictor[SentenceVectors], table: Table, start: int, notes: Counter[str]
) -> Iterator[tuple[Part, int]]:
    """Yield a vector a row, with `SENTENCE_COLUMNS`, and the number of rows read after each part.

    Args:
        notes: counts of what to report about the texts, updated here.
    """
    room = predictor.task.config.max_length - 2
    for first, texts in windows(table, start, WINDOW_BYTES, "encoding"):
        found = _run(predictor, texts)
        pieces, unknown = found["pieces"], found["unknown"]
        notes["empty"] += int((pieces == 0).sum())
        notes["unknown"] += int(((pieces > 0) & (unknown == pieces)).sum())
        notes["full"] += int((pieces >= room).sum())
        shown = [text.decode("utf-8", "replace") for text in texts]
        yield (list(enumerate(shown, first + 1)), found["vector"]), first + len(texts)


def tokens(
    predictor: Predictor[TokenVectors],
    table: Table,
    start: int,
    notes: Counter[str],
    granularity: Granularity,
    segmenter: Segmenter | None,
) -> Iterator[tuple[Part, int]]:
    """Yield a vector a piece, character or word of each row, with `TOKEN_COLUMNS`, and the rows read after each part."""
    for first, rows in token_windows(predictor, table, start, granularity, segmenter, "encoding"):
        entries = [(number, *entry) for number, (units, _) in enumerate(rows, first + 1) for entry in units]
        notes["empty"] += sum(not units for units, _ in rows)
        yield (entries, np.concatenate([vectors for _, vectors in rows])), first + len(rows)


def token_windows(
    predictor: Predictor[TokenVectors],
    table: Table,
    start: int,
    granularity: Granularity,
    segmenter: Segmenter | None,
    title: str,
) -> Iterator[tuple[int, list[tuple[list[tuple[str, int, int]], np.ndarray]]]]:
    """Yield windows of rows: the first row's number, and for each row its units (name, start, end) with their vectors."""
    vocabulary = predictor.task.tokenizer.vocabulary
    continues = np.array([token.startswith("##") for token in vocabulary])
    for first, texts in windows(table, start, TOKEN_WINDOW_BYTES, title):
        found = _run(predictor, texts)
        stops = np.cumsum(found["count"])
        rows = []
        for text, begin, stop in zip(texts, stops - found["count"], stops, strict=True):
            ids, starts, ends, vectors = (found[name][begin:stop] for name in ("piece", "start", "end", "vector"))
            shown = text.decode("utf-8", "ignore")
            units = occurrences(shown, continues[ids], starts, ends, granularity, segmenter)
            if granularity == "piece":
                names = [vocabulary[i] for i in ids]
            else:
                names = [surface(shown, s, e) for s, e in zip(units.start, units.end, strict=True)]
            entries = list(zip(names, units.start.tolist(), units.end.tolist(), strict=True))
            rows.append((entries, means(vectors, units.first, units.last)))
        yield first, rows


def _run(predictor: Predictor[Any], texts: list[bytes]) -> dict[str, np.ndarray]:
    return {name: value.numpy() for name, value in predictor({"text": tf.constant(texts, tf.string)}).items()}


def say(notes: Counter[str], rows: int, max_length: int | None) -> list[str]:
    """Summarise the notes on the texts as sentences for the user."""
    said = {
        "empty": "have no piece, and get the vector of an empty text" if max_length else "have no piece, and no vector",
        "unknown": "consist only of pieces unknown to the vocabulary",
        "full": f"fill --max_length={max_length} and may be cut",
    }
    return [f"{notes[name]:,} of {rows:,} texts {sentence}" for name, sentence in said.items() if notes[name]]
