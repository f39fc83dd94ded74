"""Losses over pairs of vectors encoded separately.

In: vectors of titles and texts, of length 1, float32. Out: a scalar loss.
"""

import tensorflow as tf

MASKED = -1e9  # a score that softmax turns into 0; finite, to avoid NaN


def in_batch(titles: tf.Tensor, texts: tf.Tensor, clash: tf.Tensor, temperature: float) -> tf.Tensor:
    """Contrast each title with all texts of the batch, and each title's own text with all titles.

    The mean of both cross-entropies over cosines divided by the temperature (van den Oord et al. 2018, "Representation
    Learning with Contrastive Predictive Coding"; in both directions as in Radford et al. 2021, figure 3;
    sentence-transformers' MultipleNegativesSymmetricRankingLoss with scale = 1 / temperature).

    Args:
        titles: float32 [rows, hidden].
        texts: float32 [texts, hidden]; the first are the titles' own, in their order; others may follow.
        clash: bool [rows, texts], texts that are not negatives of a title; ignored for its own.
        temperature: lower values weight the nearest negatives more.
    """
    rows = tf.shape(titles)[0]
    own = tf.range(rows)
    scores = tf.matmul(titles, texts, transpose_b=True) / temperature
    beside_own = tf.eye(rows, tf.shape(texts)[0], dtype=tf.bool)
    scores = tf.where(clash & ~beside_own, MASKED, scores)
    to_texts = tf.nn.sparse_softmax_cross_entropy_with_logits(own, scores)
    to_titles = tf.nn.sparse_softmax_cross_entropy_with_logits(own, tf.transpose(scores[:, :rows]))
    return tf.reduce_mean(to_texts + to_titles) / 2


def cosine(cosines: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    """Compute the mean squared error of cosines [rows] against labels in 0..1 [rows] (Reimers and Gurevych 2019, section 3)."""
    return tf.reduce_mean(tf.square(cosines - labels))


def contrastive(cosines: tf.Tensor, labels: tf.Tensor, margin: float) -> tf.Tensor:
    """Pull pairs labelled 1 together, push those labelled 0 apart up to a margin (Hadsell et al. 2006, equation 4).

    Args:
        cosines, labels: float32 [rows]; the distance of a pair is 1 - cosine.
        margin: distance beyond which a pair labelled 0 has no loss.
    """
    distance = 1.0 - cosines
    together = labels * tf.square(distance)
    apart = (1.0 - labels) * tf.square(tf.maximum(margin - distance, 0.0))
    return tf.reduce_mean(together + apart) / 2
