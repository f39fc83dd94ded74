"""Select the sentences of a text to read if not all of them fit, in the graph.

In: a score for each sentence and question (a coarse aspect, or the only one). Out: the best-scored sentences, in
the text's order, as many as fit a token budget; the last one taken is truncated to the remaining room.
"""

from typing import NamedTuple

import tensorflow as tf

POSITIONAL = ("head", "head_tail", "tail", "random")  # filters whose scores depend on positions only


class ReadSentences(NamedTuple):
    """The sentences kept for each text and question, [texts * questions], grouped by text.

    Attributes:
        sentence: numbers of sentences, ascending, int32 ragged [texts * questions, (kept)].
        tokens: number of tokens read of each, int32 ragged, same shape; 1 or more.
    """

    sentence: tf.RaggedTensor
    tokens: tf.RaggedTensor


def positions(row: tf.Tensor, texts: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Return each sentence's index in its text and the number of that text's sentences, int32 [sentences] each.

    Args:
        row: the text of each sentence, ascending, int32 [sentences].
        texts: number of texts.
    """
    count = tf.math.unsorted_segment_sum(tf.ones_like(row), row, texts)
    return tf.range(tf.size(row)) - tf.gather(tf.cumsum(count, exclusive=True), row), tf.gather(count, row)


def positional_scores(how: str, row: tf.Tensor, texts: tf.Tensor) -> tf.Tensor:
    """Return the scores by which a filter in `POSITIONAL` keeps sentences, float32 [sentences, 1].

    "head_tail" takes sentences from both ends in turn, "random" an order that depends on a sentence's index and the
    number of sentences, and is thus reproducible.
    """
    place, count = positions(row, texts)
    if how == "head":
        score = -place
    elif how == "tail":
        score = place
    elif how == "head_tail":
        score = -tf.minimum(2 * place, 2 * (count - 1 - place) + 1)
    else:
        score = tf.strings.to_hash_bucket_fast(tf.strings.as_string(place) + "/" + tf.strings.as_string(count), 1 << 20)
    return tf.cast(score, tf.float32)[:, None]


def keep(
    scores: tf.Tensor, lengths: tf.Tensor, row: tf.Tensor, texts: tf.Tensor, room: tf.Tensor, threshold: float | None
) -> ReadSentences:
    """Select the best sentences that fit.

    Args:
        scores: float32 [sentences, questions].
        lengths: number of tokens of each sentence, int32 [sentences].
        row: the text of each, ascending, int32 [sentences].
        texts: number of texts.
        room: maximum tokens to read of a text, int32, one number or [texts].
        threshold: drop sentences that score less; if all do, keep the head of the text. None: keep all.
    """
    questions = tf.shape(scores)[1]
    groups = texts * questions
    sentence = tf.repeat(tf.range(tf.size(row)), questions)
    group = tf.reshape(row[:, None] * questions + tf.range(questions), [-1])
    score, length = tf.reshape(scores, [-1]), tf.gather(lengths, sentence)
    if threshold is not None:
        said = tf.gather(tf.math.unsorted_segment_max(score, group, groups) >= threshold, group)
        taken = ~said | (score >= threshold)
        score = tf.where(said, score, -tf.cast(sentence, tf.float32))
        sentence, group, score, length = (tf.boolean_mask(values, taken) for values in (sentence, group, score, length))

    best_first = tf.argsort(score, direction="DESCENDING", stable=True)
    order = tf.gather(best_first, tf.argsort(tf.gather(group, best_first), stable=True))
    sentence, group, length = (tf.gather(values, order) for values in (sentence, group, length))
    spent = tf.cumsum(length, exclusive=True)
    first = tf.searchsorted(group, group)  # [sentences]: start of its group
    left = tf.gather(tf.repeat(tf.broadcast_to(room, [texts]), questions), group) - (spent - tf.gather(spent, first))
    tokens = tf.clip_by_value(length, 0, tf.maximum(left, 0))

    read = tokens > 0
    sentence, group, tokens = (tf.boolean_mask(values, read) for values in (sentence, group, tokens))
    in_order = tf.argsort(tf.cast(group, tf.int64) * tf.cast(tf.size(row), tf.int64) + tf.cast(sentence, tf.int64))
    groups, rows = tf.cast(groups, tf.int64), tf.cast(tf.gather(group, in_order), tf.int64)

    def ragged(values: tf.Tensor) -> tf.RaggedTensor:
        return tf.RaggedTensor.from_value_rowids(tf.gather(values, in_order), rows, nrows=groups, validate=False)

    return ReadSentences(ragged(sentence), ragged(tokens))


def joined(values: tf.RaggedTensor, kept: ReadSentences) -> tf.RaggedTensor:
    """Gather the sentences' token values, [sentences, (tokens)], for the kept tokens, [texts * questions, (tokens)]."""
    starts = tf.cast(tf.gather(values.row_starts(), kept.sentence.values), tf.int32)
    index = tf.ragged.range(starts, starts + kept.tokens.values, row_splits_dtype=tf.int64)
    return kept.sentence.with_values(index.with_values(tf.gather(values.values, index.values))).merge_dims(1, 2)
