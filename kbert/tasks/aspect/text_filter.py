"""Score how relevant each sentence is to each coarse aspect: the text filter network.

Wang Kun, Zheng Yi, Fang Shuya, Liu Shouyin 2020, "Aspect-level sentiment analysis of long texts based on text filtering and
improved BERT" (王昆等, 计算机应用 40(10): 2838-2844, DOI 10.11772/j.issn.1001-9081.2020020164): an LSTM with attention selects
the sentences of a long text that concern a coarse aspect. Here a bidirectional LSTM reads each sentence over token
embeddings, and a query of the coarse aspect attends to its states. Sentences have no labels;
texts do, mentioned or not, from which the network learns the relevance of sentences (multiple-
instance learning, Dietterich et al. 1997, "Solving the multiple instance problem with axis-parallel rectangles").
"""

from typing import Any

import keras
from keras import ops

from kbert.model import heads

FIRST_BIAS = -3.0  # most sentences are irrelevant to an aspect


class TextFilter(keras.layers.Layer):
    """Maps ids and mask of sentences, [sentences, tokens], to logits of relevance, float32 [sentences, aspects].

    Args:
        num_aspects: number of coarse aspects.
        vocabulary_size, hidden_dim: shape of the token embeddings, a frozen copy.
        units: units of the LSTM, in each direction.
        dropout: rate on embeddings and sentence vectors in training.
    """

    def __init__(self, num_aspects: int, vocabulary_size: int, hidden_dim: int, units: int, dropout: float):
        super().__init__(name="text_filter", dtype="float32")
        self.num_aspects = num_aspects
        self.embedding = keras.layers.Embedding(vocabulary_size, hidden_dim, trainable=False, dtype="float32", name="embedding")
        # Scaled to about 1: BERT's token embeddings, which BERT normalises too, are so small that an LSTM hardly learns.
        self.norm = keras.layers.LayerNormalization(dtype="float32", name="norm")
        lstm = keras.layers.LSTM(units, return_sequences=True, dtype="float32", name="lstm")
        self.reader = keras.layers.Bidirectional(lstm, dtype="float32", name="reader")
        self.dropout = keras.layers.Dropout(dropout, dtype="float32", name="dropout")
        self.key = keras.layers.Dense(2 * units, activation="tanh", dtype="float32", name="key")
        self.query = keras.layers.Dense(
            num_aspects, use_bias=False, kernel_initializer=heads.initializer(), dtype="float32", name="query"
        )
        self.embedding.build((None, None))
        for layer, width in (
            (self.norm, hidden_dim),
            (self.reader, hidden_dim),
            (self.key, 2 * units),
            (self.query, 2 * units),
        ):
            layer.build((None, None, width))
        shape = (num_aspects, 2 * units)
        self.relevance = self.add_weight(shape=shape, initializer="glorot_uniform", name="relevance")
        self.bias = self.add_weight(shape=shape[:1], initializer=keras.initializers.Constant(FIRST_BIAS), name="bias")
        self.built = True  # creates its weights even if it is not called

    def call(self, token_ids: Any, padding_mask: Any, training: bool = False) -> Any:
        mask = ops.cast(padding_mask, "bool")
        embedded = self.dropout(self.norm(self.embedding(token_ids)), training=training)
        states = self.reader(embedded, mask=mask, training=training)  # [sentences, tokens, 2 * units]
        scores = ops.where(mask[:, :, None], self.query(self.key(states)), -1e9)
        weights = ops.softmax(scores, 1)  # [sentences, tokens, aspects]
        vectors = ops.matmul(ops.transpose(weights, (0, 2, 1)), states)  # [sentences, aspects, 2 * units]
        vectors = self.dropout(vectors, training=training)
        return ops.sum(vectors * self.relevance, -1) + self.bias

    def compute_output_spec(self, token_ids: Any, padding_mask: Any, training: bool = False) -> keras.KerasTensor:
        return keras.KerasTensor((token_ids.shape[0], self.num_aspects), "float32")
