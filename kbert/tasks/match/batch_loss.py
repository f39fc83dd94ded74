"""Compute the loss of a batch of pairs.

In: what the model gives of each text, or of each pair that it reads together, and what is known of them. Out: a scalar loss.
"""

import tensorflow as tf

from kbert.model import pooling
from kbert.tasks.match import contrastive
from kbert.tasks.match.options import MatchOptions


def batch_loss(kind: str, options: MatchOptions, outputs: tf.Tensor, known: dict[str, tf.Tensor]) -> tf.Tensor:
    """Return a batch's loss.

    Args:
        kind: one of `kbert.tasks.match.options.LOSSES`.
        options: the task's.
        outputs: float32 [texts, hidden], those of a row together in the order of its columns; of a cross-encoder [pairs, 1].
        known: what `Match.supervise` gives, of each text or pair.
    """
    if kind == "squared_error":
        return tf.reduce_mean(tf.square(outputs[:, 0] - known["label"]))
    if kind == "cross_entropy":
        return tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(known["label"], outputs[:, 0]))
    parts = 1 + tf.reduce_max(known["part"])
    vectors = tf.reshape(pooling.normalized(outputs), [-1, parts, outputs.shape[-1]])  # [rows, parts, hidden]
    known = {name: tf.reshape(values, [-1, parts]) for name, values in known.items()}
    if kind in ("cosine", "contrastive"):
        cosines, labels = tf.reduce_sum(vectors[:, 0] * vectors[:, 1], -1), known["label"][:, 0]
        if kind == "contrastive":
            return contrastive.contrastive(cosines, labels, options.margin)
        return contrastive.cosine(cosines, labels)
    # The rows' own texts first, then their first negatives, and so on.
    texts = tf.reshape(tf.transpose(vectors[:, 1:], [1, 0, 2]), [-1, outputs.shape[-1]])
    title, text = (tf.reshape(tf.transpose(known[name][:, 1:]), [-1]) for name in ("title", "text"))  # [texts]
    same_title = known["title"][:, :1] == title  # [rows, texts]
    same_text = known["text"][:, :1] == text
    # Nor is a text a negative that stands with the title elsewhere in the batch.
    stands = tf.cast(text[:, None] == text, tf.float32)
    clash = same_title | same_text | (tf.cast(same_title, tf.float32) @ stands > 0)
    return contrastive.in_batch(vectors[:, 0], texts, clash, options.temperature)
