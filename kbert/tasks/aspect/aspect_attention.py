"""Attend from an aspect to a text's tokens: the layer that BERT-Pair-ATT adds to a pair of text and aspect.

Source: see `kbert.tasks.aspect.text_filter`; the attention is a scaled dot product, as in BERT.
"""

from typing import Any

import keras
from keras import ops

from kbert.model import heads


class AspectAttention(keras.layers.Layer):
    """Pools the text's tokens by the aspect's attention, after [CLS]: [batch, tokens, hidden] -> [batch, 2 * hidden], float32.

    The mean of the second segment (the aspect's tokens) is the query; the first segment's tokens are keys and values.
    """

    def __init__(self, hidden_dim: int):
        super().__init__(name="aspect_attention", dtype="float32")
        self.query = keras.layers.Dense(hidden_dim, kernel_initializer=heads.initializer(), dtype="float32", name="query")

    def call(self, hidden: Any, segment_ids: Any, padding_mask: Any) -> Any:
        hidden = ops.cast(hidden, "float32")
        mask = ops.cast(padding_mask, "float32")
        aspect = ops.cast(segment_ids, "float32") * mask
        query = ops.sum(hidden * aspect[:, :, None], 1) / ops.maximum(ops.sum(aspect, 1)[:, None], 1.0)
        scores = ops.sum(hidden * self.query(query)[:, None, :], -1) * hidden.shape[-1] ** -0.5  # [batch, tokens]
        weights = ops.softmax(scores - 1e9 * (1.0 - mask + aspect), -1)
        return ops.concatenate([hidden[:, 0], ops.sum(hidden * weights[:, :, None], 1)], -1)
