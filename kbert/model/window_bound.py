"""Bound how much of a text is read in windows, so that one long text does not hold a server.

In: texts, and the most windows of one. Out: their heads, cut before they are tokenized, and of the tokens those that the
windows hold, up to the end of a word. A text with fewer tokens and bytes is read as without a bound. In the graph.
"""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import tensorflow as tf

from kbert.data.tokenizer import HEAD_BYTES

TRUNCATED = "truncated"  # bool [rows]: whether a row is longer than the bound on what is read of it; an output of models
LONGEST = 1 << 20  # bytes of a text over which windows are spread evenly
Tensors = dict[str, tf.Tensor]
Encoded = dict[str, Any]


def tokens_of(windows: int, room: Any, shared: int) -> Any:
    """Return the most tokens of a text in this many windows of `room` tokens, of which neighbours share `shared`."""
    return room + (windows - 1) * (room - shared)


def head(texts: tf.Tensor, size: int) -> tuple[tf.Tensor, tf.Tensor]:
    """Return the first `size` bytes of strings [texts], of which the last character may be incomplete, and which are cut."""
    heads = tf.strings.substr(texts, 0, size)
    return heads, tf.strings.length(heads) < tf.strings.length(texts)


def bytes_of(tokens: int) -> int:
    """Return in how many bytes any usual text has so many tokens."""
    return min(HEAD_BYTES * tokens, tf.int32.max)


def of_heads(encode: Callable[[Tensors], Encoded], raw: Tensors, names: Iterable[str], tokens: int) -> Encoded:
    """Encode texts whose windows are spread evenly, so that they depend on where the text ends: as if it ended with its head.

    Args:
        encode: encodes raw inputs; what it returns has `truncated`.
        raw: the raw inputs.
        names: the texts among them.
        tokens: what windows of a text hold.
    """
    heads = {name: head(raw[name], max(LONGEST, bytes_of(tokens))) for name in names}
    encoded = encode({**raw, **{name: text for name, (text, _) in heads.items()}})
    return {**encoded, TRUNCATED: tf.reduce_any([encoded[TRUNCATED], *(cut for _, cut in heads.values())], 0)}


def bounded(
    parts: Sequence[tf.RaggedTensor], opens_word: tf.Tensor, tokens: int | tf.Tensor, headed: tf.Tensor
) -> tuple[list[tf.RaggedTensor], tf.Tensor]:
    """Keep the first tokens of each text.

    Args:
        parts: what is known of the tokens (ids, offsets), [texts, (tokens)] each.
        opens_word: whether each token opens a word, bool [tokens of all texts].
        tokens: the most tokens of a text; one number, or int32 [texts].
        headed: bool [texts]: whether these are the tokens of a text's head, whose last word may be incomplete.

    Returns:
        Those of the tokens kept, and whether the text goes beyond them, bool [texts].
    """
    lengths = tf.cast(parts[0].row_lengths(), tf.int32)
    most = tf.broadcast_to(tokens, tf.shape(lengths))
    most = tf.where(headed, tf.maximum(tf.minimum(most, lengths - 1), 0), most)
    row = parts[0].value_rowids()
    place = tf.ragged.range(lengths).values
    # A word that is cut is left out: the last that begins within them.
    opening = tf.where(opens_word & (place <= tf.gather(most, row)), place, 0)
    opening = tf.math.unsorted_segment_max(opening, row, tf.size(lengths))
    kept = tf.where(lengths > most, opening, lengths)
    starts = tf.cast(parts[0].row_starts(), tf.int32)
    index = tf.ragged.range(starts, starts + kept, row_splits_dtype=tf.int64)
    return [index.with_values(tf.gather(part.values, index.values)) for part in parts], headed | (kept < lengths)
