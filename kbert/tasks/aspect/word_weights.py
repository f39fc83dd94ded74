"""Score sentences by their words: how much more frequent these are in texts that mention a coarse aspect.

The alternative to the text filter network (`--filter=lexical`). A piece's weight is the log ratio of its probability
in texts that mention the aspect and in texts that do not (naive Bayes with Lidstone's smoothing, counted by text);
the pieces of the aspect's own names weigh as much as the heaviest, except those in nearly all texts, such as "of". A
sentence's score is the mean over its pieces.
"""

from collections.abc import Iterable

import keras
import numpy as np
import tensorflow as tf

COMMON = 0.9  # fraction of texts from which a piece is common
SMOOTHING = 5.0  # pseudo-counts of texts with and without a piece


class WordWeights(keras.layers.Layer):
    """The weights, float32 [vocabulary, coarse aspects]; counted, not trained."""

    def __init__(self, vocabulary_size: int, num_aspects: int):
        super().__init__(name="word_weights", dtype="float32", trainable=False)
        self.table = self.add_weight(shape=(vocabulary_size, num_aspects), initializer="zeros", name="table")
        self.built = True

    def scores(self, token_ids: tf.RaggedTensor) -> tf.Tensor:
        """Average the weights of each sentence's pieces, float32 [sentences, coarse aspects]; 0 without a piece."""
        weights = tf.gather(tf.convert_to_tensor(self.table), token_ids.values)
        sums = tf.math.unsorted_segment_sum(weights, token_ids.value_rowids(), token_ids.nrows())
        return sums / tf.cast(tf.maximum(token_ids.row_lengths(), 1), tf.float32)[:, None]


def counted(texts: Iterable[tuple[list[list[int]], np.ndarray]], own: list[list[int]], vocabulary_size: int) -> np.ndarray:
    """Compute the weights of all pieces, float32 [vocabulary, coarse aspects].

    Args:
        texts: batches of texts, as their pieces' ids, and whether they mention each coarse aspect (1, 0, or -1 for
            unknown), [texts, coarse aspects].
        own: the pieces of each coarse aspect's names.
        vocabulary_size: number of ids.
    """
    having = np.zeros((2, vocabulary_size, len(own)))  # number of texts that have the piece, without and with a mention
    total = np.zeros((2, len(own)))
    for pieces, mentioned in texts:
        for mention in (0, 1):
            told = (mentioned == mention).astype(np.float64)
            total[mention] += told.sum(0)
            for ids, row in zip(pieces, told, strict=True):
                having[mention, np.unique(np.array(ids, np.int64))] += row
    shares = np.log(having + SMOOTHING) - np.log(total + 2 * SMOOTHING)[:, None]
    weights = shares[1] - shares[0]
    weights[:, ~(total > 0).all(0)] = 0.0  # nothing to compare
    common = COMMON * max(1.0, float(total.sum(0).max()))
    for place, ids in enumerate(own):
        telling = [piece for piece in ids if having[:, piece].sum(0).max() <= common] or ids
        weights[telling, place] = max(1.0, weights[:, place].max())
    return weights.astype(np.float32)


def shared(token_ids: tf.RaggedTensor, row: tf.Tensor, terms: tf.RaggedTensor) -> tf.Tensor:
    """Return the share of its text's term that each sentence contains, float32 [sentences, 1].

    A piece of the term counts less the more of the text's sentences contain it.

    Args:
        token_ids: ids of the sentences, int32 [sentences, (tokens)].
        row: the text of each sentence, int32 [sentences].
        terms: ids of the texts' terms, int32 [texts, (tokens)].
    """
    sentence, sentences = token_ids.value_rowids(), token_ids.nrows(tf.int32)
    padded = terms.to_tensor(-1)
    wanted = tf.gather(padded, tf.gather(row, sentence))  # [tokens of all sentences, tokens of the term]
    same = tf.cast(token_ids.values[:, None] == wanted, tf.int32)
    has = tf.cast(tf.maximum(tf.math.unsorted_segment_max(same, sentence, sentences), 0), tf.float32)
    having = tf.math.unsorted_segment_sum(has, row, tf.shape(padded)[0])  # number of the text's sentences with each piece
    return tf.reduce_sum(tf.math.divide_no_nan(has, tf.gather(having, row)), 1, keepdims=True)
