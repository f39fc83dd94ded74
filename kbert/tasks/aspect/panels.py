"""Return the sentences read of texts for display, with their characters and relevance. In the graph."""

import tensorflow as tf

from kbert.tasks.aspect.selecting import ReadSentences
from kbert.tasks.aspect.sentences import Sentences

Tensors = dict[str, tf.Tensor]


def kept_sentences(texts: tf.Tensor, found: Sentences, kept: ReadSentences, relevance: tf.Tensor, group: tf.Tensor) -> Tensors:
    """Return the sentences read for each input.

    Args:
        texts: UTF-8 strings [texts].
        found: the texts' sentences.
        kept: the sentences read for each text and question.
        relevance: float32 [sentences, questions].
        group: index in `kept` of each input, int32 [inputs].

    Returns:
        [inputs, sentences]: `sentences`, their `starts` and `ends` in characters of the text (Python's, from 0, the end
        exclusive) and `relevance`, padded with "", -1 and 0; and their `count` [inputs].
    """
    begins, ends, first = _places(found)
    start = tf.gather(begins, tf.gather(first, kept.sentence.values))
    stop = tf.gather(ends, tf.gather(first, kept.sentence.values) + kept.tokens.values - 1)
    weight = tf.gather_nd(relevance, _questioned(kept, relevance))
    starts, stops, weights = (
        kept.sentence.with_values(values).to_tensor(padding)  # [texts * questions, sentences]
        for values, padding in ((start, -1), (stop, -1), (weight, 0.0))
    )
    # A space is appended, since substr rejects the position after the last character, and an empty text has no first.
    whole = tf.strings.unicode_transcode(texts, "UTF-8", "UTF-8", errors="ignore") + " "
    shape = [tf.size(texts), tf.shape(relevance)[1] * tf.shape(starts)[1]]  # all sentences read of a text
    places, lengths = (tf.reshape(values, shape) for values in (tf.maximum(starts, 0), stops - starts))
    spelt = tf.reshape(tf.strings.substr(whole[:, None], places, lengths, unit="UTF8_CHAR"), tf.shape(starts))
    count = tf.cast(kept.sentence.row_lengths(), tf.int32)
    outputs = {"sentences": spelt, "starts": starts, "ends": stops, "relevance": weights, "count": count}
    return {name: tf.gather(values, group) for name, values in outputs.items()}


def all_sentences(texts: tf.Tensor, found: Sentences, kept: ReadSentences, relevance: tf.Tensor) -> Tensors:
    """Return the sentences of each text, read or not.

    Returns:
        `sentence_start` and `sentence_end` [texts, sentences], padded with -1; `sentence_relevance` and `sentence_read`, the
        fraction of its tokens read, float32 [texts, sentences, questions]; `sentence_count` [texts].
    """
    begins, ends, at = _places(found)
    length = tf.cast(found.begins.row_lengths(), tf.int32)
    start = tf.where(length > 0, tf.gather(begins, at), 0)
    stop = tf.where(length > 0, tf.gather(ends, at + tf.maximum(length - 1, 0)), 0)
    share = kept.tokens.values / tf.gather(length, kept.sentence.values)
    read = tf.scatter_nd(_questioned(kept, relevance), tf.cast(share, tf.float32), tf.shape(relevance))

    def by_text(values: tf.Tensor) -> tf.RaggedTensor:
        rows, count = tf.cast(found.row, tf.int64), tf.size(texts, tf.int64)
        return tf.RaggedTensor.from_value_rowids(values, rows, count, validate=False)

    return {
        "sentence_start": by_text(start).to_tensor(-1),
        "sentence_end": by_text(stop).to_tensor(-1),
        "sentence_relevance": by_text(relevance).to_tensor(),
        "sentence_read": by_text(read).to_tensor(),
        "sentence_count": tf.cast(by_text(start).row_lengths(), tf.int32),
    }


def _places(found: Sentences) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Return where tokens begin and end, padded by one for empty sentences after the last token; and first tokens."""
    begins, ends = (tf.concat([values.values, [0]], 0) for values in (found.begins, found.ends))
    return begins, ends, tf.cast(found.begins.row_starts(), tf.int32)


def _questioned(kept: ReadSentences, relevance: tf.Tensor) -> tf.Tensor:
    """Return sentence and question of each kept sentence, int32 [kept, 2]."""
    question = tf.cast(kept.sentence.value_rowids(), tf.int32) % tf.shape(relevance)[1]
    return tf.stack([kept.sentence.values, question], 1)
