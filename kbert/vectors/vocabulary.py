"""Compute one vector for each distinct character or word of a text: rows for a downstream model's embedding layer.

In: a table of texts. Out: names by descending frequency, their counts, and a vector each: the row of
the encoder's embedding table (the mean of several for a word of several pieces), or the mean of the hidden states
of its occurrences. Memory holds the distinct names, and for the latter their sums, whatever the text's size.
"""

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.data.table import Table
from kbert.data.tokenizer import Tokenizer
from kbert.data.vocabulary import numbered
from kbert.errors import DataError
from kbert.serving import Predictor
from kbert.vectors.encoding import WINDOW_BYTES, Segmenter, token_windows, windows
from kbert.vectors.formats import Part
from kbert.vectors.store import Progress, VectorStore
from kbert.vectors.tokens import Granularity, TokenVectors, means, occurrences, surface

COLUMNS = ("token", "count")
CHUNK = 4096  # names at once
KEEPING = 0.1  # maximum share of the time spent on saving the sums


class Vocabulary:
    """The distinct names of a table, most frequent first.

    Attributes:
        names: as written in the text, or pieces as in the vocabulary.
        counts: frequency of each.
        pieces: ids of each, ragged: `pieces[ends[i-1]:ends[i]]`.

    Raises:
        DataError: there are no names.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        table: Table,
        granularity: Granularity,
        segmenter: Segmenter | None,
        min_count: int = 1,
    ):
        found, written = _count(tokenizer, table, granularity, segmenter)
        chosen = [(name, count) for name, count in found.most_common() if count >= min_count]  # ties: first occurrence
        if granularity == "piece":
            ids = numbered(tokenizer.vocabulary)
            rows = [[ids[name]] for name, _ in chosen]
        else:
            tokenize = graphs.function(tokenizer.tokenize, input_signature=[tf.TensorSpec([None], tf.string)])
            rows = []
            for start in range(0, len(chosen), CHUNK):
                rows += tokenize(tf.constant([written.get(name, name) for name, _ in chosen[start : start + CHUNK]])).to_list()
            # Characters that BERT deletes, and accents that it strips, have no piece.
            chosen = [pair for pair, row in zip(chosen, rows, strict=True) if row]
            rows = [row for row in rows if row]
        if not chosen:
            few = f" that occurs {min_count} times" if min_count > 1 else ""
            raise DataError(f"{table.name}: no {granularity}{few} in its texts")
        self.names, self.counts = [name for name, _ in chosen], [count for _, count in chosen]
        self.pieces = np.array([i for row in rows for i in row], np.int32)
        self.ends = np.cumsum([len(row) for row in rows])
        unknown = tokenizer.unknown_id
        self.unknown = sum(all(i == unknown for i in row) for row in rows)

    def __len__(self) -> int:
        return len(self.names)

    def _parts(self, vectors: Any) -> Iterator[Part]:
        for start in range(0, len(self), CHUNK):
            stop = min(start + CHUNK, len(self))
            yield list(zip(self.names[start:stop], self.counts[start:stop], strict=True)), vectors(start, stop)

    def embedded(self, embeddings: np.ndarray) -> Iterator[Part]:
        """Yield rows of an embedding table, float32 [vocabulary, size]; for a name of several pieces their mean."""

        def vectors(start: int, stop: int) -> np.ndarray:
            first = self.ends[start - 1] if start else 0
            last = self.ends[start:stop] - first
            rows = embeddings[self.pieces[first : self.ends[stop - 1]]]
            return means(rows, np.concatenate([[0], last[:-1]]), last)

        return self._parts(vectors)

    def contextual(self, sums: np.ndarray) -> Iterator[Part]:
        """Yield means over occurrences from the result of `sum_occurrences`."""
        return self._parts(
            lambda start, stop: (sums[start:stop, :-1] / np.maximum(sums[start:stop, -1:], 1)).astype(np.float32)
        )


def _count(
    tokenizer: Tokenizer, table: Table, granularity: Granularity, segmenter: Segmenter | None
) -> tuple[Counter[str], dict[str, str]]:
    """Count each name, and record how the text writes names that are shown differently.

    Characters and segments come from the text itself, other names from pieces.
    """
    continues = np.array([token.startswith("##") for token in tokenizer.vocabulary])
    locate = graphs.function(tokenizer.tokenize_with_offsets, input_signature=[tf.TensorSpec([None], tf.string)])
    pieces = graphs.function(tokenizer.tokenize, input_signature=[tf.TensorSpec([None], tf.string)])
    found: Counter[str] = Counter()
    written: dict[str, str] = {}
    for _, texts in windows(table, 0, WINDOW_BYTES, "counting"):
        if granularity == "piece":
            for number, count in Counter(pieces(tf.constant(texts, tf.string)).values.numpy().tolist()).items():
                found[tokenizer.vocabulary[number]] += count
        elif granularity == "word" and segmenter is None:
            rows = [values.to_list() for values in locate(tf.constant(texts, tf.string))]
            for text, *places in zip(texts, *rows, strict=True):
                ids, starts, ends = (np.array(values, np.int64) for values in places)
                shown = text.decode("utf-8", "ignore")
                units = occurrences(shown, continues[ids], starts, ends, granularity)
                found.update(surface(shown, s, e) for s, e in zip(units.start, units.end, strict=True))
        else:
            for text in texts:
                shown = text.decode("utf-8", "ignore")
                units_of = shown if segmenter is None else segmenter(shown)
                for unit in filter(str.strip, units_of):
                    name = surface(unit, 0, len(unit))
                    found[name] += 1
                    if name != unit:
                        written.setdefault(name, unit)
    return found, written


def sum_occurrences(
    predictor: Predictor[TokenVectors],
    table: Table,
    vocabulary: Vocabulary,
    granularity: Granularity,
    segmenter: Segmenter | None,
    size: int,
    store: VectorStore | None,
) -> np.ndarray:
    """Sum the vectors of each name's occurrences and, last, count them: float64 [names, size + 1].

    With a store the sums are saved regularly, and an interrupted run resumes from there.
    """
    shape = (len(vocabulary), size + 1)
    sums = store.sums(shape) if store else np.zeros(shape)
    numbers = {name: i for i, name in enumerate(vocabulary.names)}
    start = store.progress.rows if store else 0
    kept, cost = time.monotonic(), 0.0
    for first, rows in token_windows(predictor, table, start, granularity, segmenter, "encoding"):
        for units, vectors in rows:
            at = np.array([numbers.get(name, -1) for name, _, _ in units], np.int64)
            np.add.at(sums[:, :-1], at[at >= 0], vectors[at >= 0])
            np.add.at(sums[:, -1], at[at >= 0], 1)
        read = first + len(rows)
        now = time.monotonic()
        if store and (read == len(table) or now - kept > cost / KEEPING):
            store.keep_sums(sums, Progress(rows=read))
            kept, cost = time.monotonic(), time.monotonic() - now
    return sums
