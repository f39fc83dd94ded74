"""Layers between the encoder and a task's output."""

from collections.abc import Sequence
from functools import partial
from typing import Any, Literal

import keras
from keras import ops

from kbert.model import pooling as poolings
from kbert.model.encoder import ACTIVATIONS, Encoder, normalised
from kbert.tasks.options import Projection


class Pool(keras.layers.Layer):
    """Pools hidden states into one vector a row: [batch, tokens, hidden] -> [batch, hidden].

    Float32, since means are sums over hundreds of tokens; the pooler's result has the encoder's precision.

    Args:
        encoder: the encoder whose pooler is used, or marked as not trainable if it is not.
        pooling: "pooler" (dense and tanh over [CLS], as BERT's own heads), "cls" (the bare vector) or
            "mean" (over all tokens, including [CLS] and [SEP]).
    """

    def __init__(self, encoder: Encoder, pooling: Literal["pooler", "cls", "mean"]):
        super().__init__(name="pool", dtype=encoder.policy)
        self.pooling = pooling
        self.dense = encoder.backbone.pooled_dense
        if pooling != "pooler":
            self.dense.trainable = False

    def call(self, hidden: Any, padding_mask: Any) -> Any:
        if self.pooling == "pooler":
            return self.dense(hidden[:, 0])
        return poolings.pool(hidden, poolings.counted(padding_mask, special_tokens=True), self.pooling)


def inputs() -> dict[str, keras.KerasTensor]:
    """Return the encoder's inputs, each int32 of shape [batch, tokens]."""
    return {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "segment_ids", "padding_mask")}


def initializer() -> keras.initializers.Initializer:
    """Return BERT's initializer: a normal of standard deviation 0.02, truncated at two deviations."""
    return keras.initializers.TruncatedNormal(stddev=0.02)


def dense_head(features: Any, size: int, *, name: str, dropout: float = 0.0) -> Any:
    """Apply dropout and a dense layer to the encoder's features [..., hidden]; return scores, float32 [..., size].

    Args:
        size: number of scores.
        name: the dense layer's name, which identifies its weights in checkpoints.
        dropout: rate in training.
    """
    if dropout:
        features = keras.layers.Dropout(dropout, dtype="float32", name="head_dropout")(features)
    return keras.layers.Dense(size, kernel_initializer=initializer(), dtype="float32", name=name)(features)


def projected(vectors: Any, projections: Sequence[Projection]) -> Any:
    """Apply dense layers, named `projection_0` and so on, to vectors [rows, size]; float32 [rows, last size]."""
    for number, each in enumerate(projections):
        activation = partial(ops.gelu, approximate=False) if each.activation == "gelu" else each.activation
        layer = keras.layers.Dense(
            each.size,
            "linear" if activation == "identity" else activation,
            each.bias,
            kernel_initializer=initializer(),
            dtype="float32",
            name=f"projection_{number}",
        )
        vectors = layer(vectors)
    return vectors


class MaskedLM(keras.layers.Layer):
    """Computes the vocabulary's logits at some positions: dense, activation, LayerNorm, the tied token embeddings, a bias.

    The weights and sums of google-research/bert `run_pretraining.py` (`get_masked_lm_output`), named as
    KerasHub's `MaskedLMHead` names them. Other positions are not computed.

    Args:
        encoder: whose token embeddings the output is tied to.
    """

    def __init__(self, encoder: Encoder):
        super().__init__(name="mlm_head", dtype=encoder.policy)
        config = encoder.config
        self.embedding = encoder.backbone.token_embedding
        self.activation = ACTIVATIONS[config.activation]
        self.intermediate_dense = keras.layers.Dense(
            config.hidden_dim, kernel_initializer=initializer(), dtype=encoder.policy, name="intermediate_dense"
        )
        self.intermediate_layer_norm = keras.layers.LayerNormalization(
            epsilon=config.layer_norm_epsilon, dtype=encoder.policy, name="intermediate_layer_norm"
        )
        self.sizes = config.hidden_dim, config.vocabulary_size

    def build(self, *_: Any) -> None:
        hidden, vocabulary = self.sizes
        self.intermediate_dense.build((None, hidden))
        self.intermediate_layer_norm.build((None, hidden))
        self.output_bias = self.add_weight(shape=(vocabulary,), initializer="zeros", name="output_bias", autocast=False)

    def logits(self, hidden: Any) -> Any:
        """Compute logits, float32 [rows, vocabulary], of hidden states [rows, hidden]."""
        x = normalised(self.intermediate_layer_norm, self.activation(self.intermediate_dense(hidden)))
        table = ops.convert_to_tensor(self.embedding.embeddings)
        # Softmax over a vocabulary needs float32.
        scores = ops.matmul(x, ops.transpose(ops.cast(table, x.dtype)))
        return ops.cast(scores, "float32") + self.output_bias

    def call(self, hidden: Any) -> Any:
        """Compute logits, float32 [batch, predictions, vocabulary], of hidden states [batch, predictions, hidden]."""
        return ops.reshape(self.logits(ops.reshape(hidden, (-1, self.sizes[0]))), (*ops.shape(hidden)[:2], self.sizes[1]))

    def compute_output_spec(self, hidden: Any) -> keras.KerasTensor:
        return keras.KerasTensor((*hidden.shape[:2], self.sizes[1]), "float32")
