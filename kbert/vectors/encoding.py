"""A table of texts through an encoder, window by window, into vectors in the order of the table.

In: a table and a predictor of sentence or token vectors. Out: parts of vectors with what they are of, and how
far the table is read after each. A window is as many rows as hold some amount of text, read once; in it, rows go through the
encoder sorted by length (`kbert.serving.Predictor`), and come out in their own order.
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

WINDOW_BYTES = 1 << 18  # of text that is encoded at once: a few seconds' work
TOKEN_WINDOW_BYTES = 1 << 16  # the same where a vector a token is held
WINDOW_ROWS = 8192  # at most

Segmenter = Callable[[str], list[str]]
SENTENCE_COLUMNS, TOKEN_COLUMNS = ("row", "text"), ("row", "token", "start", "end")


def windows(table: Table, start: int, most_bytes: int, title: str) -> Iterator[tuple[int, list[bytes]]]:
    """Yield the table's texts from a row on, some at a time, each time with the number of the first; under a progress bar."""
    cuts = table.chunk_starts(WINDOW_ROWS, most_bytes)
    with Progress(len(table), initial=start, desc=title, unit="row") as bar:
        # A run that continues may have been cut elsewhere.
        for first, stop in itertools.pairwise([start, *cuts[cuts > start].tolist()]):
            (texts,) = table.read(range(first, stop)).values()
            yield first, list(texts)
            bar.update(stop - first)


def sentences(
    predictor: Predictor[SentenceVectors], table: Table, start: int, notes: Counter[str]
) -> Iterator[tuple[Part, int]]:
    """Yield a vector a row, with `SENTENCE_COLUMNS`; the number of rows read after each part.

    Args:
        notes: what there is to say of the texts, counted on.
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
    """Yield a vector a piece, character or word of each row, with `TOKEN_COLUMNS`; the number of rows read after each part."""
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
    """Windows of rows, the number of the first, and for each row its units (name, start, end) with their vectors."""
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
    """Return what the user should know of the texts, as sentences."""
    said = {
        "empty": "have no piece, and the vector of an empty text" if max_length else "have no piece, and no vector",
        "unknown": "consist of pieces that the vocabulary does not know",
        "full": f"fill --max_length={max_length} and may be cut",
    }
    return [f"{notes[name]:,} of {rows:,} texts {sentence}" for name, sentence in said.items() if notes[name]]
