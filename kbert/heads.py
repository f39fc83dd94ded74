"""What stands between the encoder and a task's output: ways to read hidden states."""

from typing import Any

import keras
from keras import ops

from kbert.encoder import Encoder


class Pool(keras.layers.Layer):
    """One vector a row from hidden states: [batch, tokens, hidden] -> [batch, hidden].

    Args:
        encoder: the encoder whose pooler is used, or set aside as not trainable when it is not.
        pooling: "pooler" (dense and tanh over [CLS], as BERT's own heads), "cls" (the bare vector) or
            "mean" (over the tokens that are not padding).
    """

    def __init__(self, encoder: Encoder, pooling: str):
        super().__init__(name="pool", dtype=encoder.policy)
        self.pooling = pooling
        self.dense = encoder.backbone.pooled_dense
        if pooling != "pooler":
            self.dense.trainable = False

    def call(self, hidden: Any, padding_mask: Any) -> Any:
        if self.pooling == "mean":
            mask = ops.cast(padding_mask, hidden.dtype)[:, :, None]
            return ops.sum(hidden * mask, 1) / ops.sum(mask, 1)
        first = hidden[:, 0]
        return self.dense(first) if self.pooling == "pooler" else first


def inputs() -> dict[str, keras.KerasTensor]:
    """The encoder's inputs, each int32 of shape [batch, tokens]."""
    return {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "padding_mask")}


def initializer() -> keras.initializers.Initializer:
    """BERT's own: a normal of standard deviation 0.02 cut at two deviations."""
    return keras.initializers.TruncatedNormal(stddev=0.02)
