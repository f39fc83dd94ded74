"""The losses of classification, one value a row or a label; means over a batch are `kbert.train.objective`'s.

In: targets and scores. Out: losses in nats.
"""

import tensorflow as tf


def cross_entropy(targets: tf.Tensor, scores: tf.Tensor, *, smoothing: float = 0.0, gamma: float = 0.0) -> tf.Tensor:
    """Compute the cross-entropy, or focal loss, of one class a row: -sum of y (1 - p)^gamma log p over the classes.

    y is 1 - smoothing for the row's class, plus smoothing / classes for each class (Szegedy et al. 2016, section 7). The
    factor with gamma is Lin et al. 2017, "Focal Loss for Dense Object Detection", equation 4.

    Args:
        targets: class numbers, int32 [rows].
        scores: float [rows, classes].

    Returns:
        float32 [rows].
    """
    scores = tf.cast(scores, tf.float32)
    classes = tf.shape(scores)[-1]
    if not smoothing and not gamma:
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, scores)
    wanted = tf.one_hot(targets, classes) * (1.0 - smoothing) + smoothing / tf.cast(classes, tf.float32)
    logs = tf.nn.log_softmax(scores)
    terms = wanted * logs
    if gamma:
        terms *= tf.pow(tf.maximum(1.0 - tf.exp(logs), 1e-7), gamma)  # 0 has no gradient where gamma is below 1
    return -tf.reduce_sum(terms, -1)


def binary_cross_entropy(
    targets: tf.Tensor, scores: tf.Tensor, *, smoothing: float = 0.0, gamma: float = 0.0, positive: tf.Tensor | float = 1.0
) -> tf.Tensor:
    """Compute the cross-entropy, or focal loss, of each label: -(w y (1 - p)^gamma log p + (1 - y) p^gamma log(1 - p)).

    y is target * (1 - smoothing) + smoothing / 2, as in Keras; w is PyTorch's `pos_weight`.

    Args:
        targets: 1, 0, or -1 for unknown (whose loss is to weigh nothing), [rows, labels].
        scores: float [rows, labels].
        positive: weight of the positive term, [labels] or a number.

    Returns:
        float32 [rows, labels].
    """
    scores = tf.cast(scores, tf.float32)
    wanted = tf.cast(tf.maximum(targets, 0), tf.float32) * (1.0 - smoothing) + smoothing / 2
    yes, no = tf.math.log_sigmoid(scores), tf.math.log_sigmoid(-scores)
    if gamma:
        # exp(gamma * log) is a power whose gradient is finite at 0.
        return -(positive * wanted * tf.exp(gamma * no) * yes + (1.0 - wanted) * tf.exp(gamma * yes) * no)
    return -(positive * wanted * yes + (1.0 - wanted) * no)
