"""Compute one vector a piece, and a vector a character, word or segment from those of its pieces.

In: raw `text`. Out: the pieces of all rows in order, `vector` float32 [pieces, size], `start` and `end` int32
[pieces], characters of the text, ends exclusive; and `count` int32 [rows]. Texts longer than the maximum input
are read in windows; a piece gets its vector from the window with the most context on both sides.
"""

import re
from collections.abc import Callable
from typing import Literal, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from kbert.data.tokenizer import Tokenizer
from kbert.model import heads
from kbert.model.encoder import Encoder
from kbert.model.windows import framed, windows
from kbert.tasks.base import Encoded, Servable, Tensors
from kbert.vectors.sentences import VectorConfig

Granularity = Literal["piece", "character", "word"]


class TokenVectors(Servable):
    """Computes one vector a piece; see `kbert.vectors.sentences.SentenceVectors` for the methods.

    Args:
        by_row: return the served form, one row a text: `vector` [rows, pieces, size], `piece` as
            strings, `start` and `end`, [rows, pieces] each, padded with 0, "" and -1 after `count`.
    """

    def __init__(self, config: VectorConfig, tokenizer: Tokenizer, *, by_row: bool = False):
        self.config = config
        self.tokenizer = tokenizer
        self.by_row = by_row

    def encode(self, raw: Tensors) -> Encoded:
        ids, starts, ends = self.tokenizer.tokenize_with_offsets(raw["text"])
        cut = windows(tf.cast(ids.row_lengths(), tf.int32), self.config.max_length - 2, self.config.stride)
        pieces = cut.token.with_values(tf.gather(ids.values, cut.token.values))
        return {
            **self.tokenizer.pack([pieces], self.config.max_length),
            "owned": framed(cut.owned, False),
            "piece": ids,
            "start": starts,
            "end": ends,
        }

    def build(self, encoder: Encoder) -> keras.Model:
        encoder.backbone.pooled_dense.trainable = False
        inputs = heads.inputs()
        states = [ops.cast(hidden, "float32") for hidden in encoder(inputs, layers=self.config.layers)]
        joined = ops.concatenate(states, -1) if self.config.layer_mode == "concat" else sum(states) / len(states)
        return keras.Model(inputs, joined, name="token_vectors")

    def decode(self, outputs: tf.RaggedTensor, encoded: Encoded, raw: Tensors) -> Tensors:
        vector = tf.boolean_mask(outputs.values, encoded["owned"].values)
        found = {"vector": vector, **{name: encoded[name].values for name in ("piece", "start", "end")}}
        if self.by_row:
            found["piece"] = tf.gather(tf.constant(self.tokenizer.vocabulary), found["piece"])
            rows = encoded["piece"].row_splits
            found = {
                name: tf.RaggedTensor.from_row_splits(values, rows, validate=False).to_tensor(
                    default_value=-1 if name in ("start", "end") else None
                )
                for name, values in found.items()
            }
        return {**found, "count": tf.cast(encoded["piece"].row_lengths(), tf.int32)}


class Occurrences(NamedTuple):
    """The units of one text that have pieces, and the pieces of each: `first` to `last`, exclusive; int [units]."""

    start: np.ndarray  # characters of the text
    end: np.ndarray
    first: np.ndarray
    last: np.ndarray


def occurrences(
    text: str,
    continues: np.ndarray,
    starts: np.ndarray,
    ends: np.ndarray,
    granularity: Granularity,
    segmenter: Callable[[str], list[str]] | None = None,
) -> Occurrences:
    """Find the pieces, characters or words of a text.

    A word is as BERT's own rules split it (each Chinese character is one), or as the segmenter does. A
    character within a piece has that piece; a word has all pieces that share a character with it.

    Args:
        text: decoded, without invalid bytes.
        continues: whether each piece continues the word of the piece before it, bool [pieces].
        starts: where its pieces start, in characters, int [pieces].
        ends: where they end, exclusive.
    """
    if granularity == "word" and segmenter is None:
        first = np.flatnonzero(~continues)
        last = np.append(first[1:], len(starts))[: len(first)]
        return Occurrences(starts[first], ends[last - 1], first, last)
    if granularity == "piece":
        first = np.arange(len(starts))
        return Occurrences(starts, ends, first, first + 1)
    lengths = [1] * len(text) if segmenter is None else [len(word) for word in segmenter(text)]
    end = np.cumsum(np.array(lengths, np.int64))
    start = end - lengths
    first, last = np.searchsorted(ends, start, side="right"), np.searchsorted(starts, end, side="left")
    # Spaces between pieces have no piece; spaces inside a piece are not characters of it.
    blank = np.array([not text[s:e].strip() for s, e in zip(start, end, strict=True)], bool)
    kept = (first < last) & ~blank
    return Occurrences(start[kept], end[kept], first[kept], last[kept])


def means(vectors: np.ndarray, first: np.ndarray, last: np.ndarray) -> np.ndarray:
    """Average each unit's pieces: float32 [pieces, size] -> [units, size]; a single piece keeps its exact value."""
    if not len(first):
        return np.zeros((0, vectors.shape[1]), np.float32)
    padded = np.concatenate([vectors, np.zeros_like(vectors[:1])])
    sums = np.add.reduceat(padded, np.stack([first, last], 1).reshape(-1))[::2]
    return np.asarray(sums / (last - first)[:, None], np.float32)


def surface(text: str, start: int, end: int) -> str:
    """Return a unit as written in the text, spaces replaced by underscores, so that it is one name in every format."""
    return re.sub(r"\s", "_", text[start:end])
