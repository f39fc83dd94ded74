"""Compute one vector a text: the encode, build and decode steps for a `kbert.serving.Predictor`.

In: raw `text`. Out: `vector`, float32 [rows, size]: pooled hidden states of some layers, whitened and scaled
to length 1 if configured.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import keras
import tensorflow as tf
from keras import ops

from kbert.config import EncoderConfig, Precision, TextConfig
from kbert.data.tokenizer import Tokenizer
from kbert.errors import UsageError
from kbert.model import heads
from kbert.model.encoder import Encoder
from kbert.model.pooling import counted, normalized, pool
from kbert.tasks.base import Encoded, Servable, Tensors
from kbert.tasks.options import Projection
from kbert.vectors.whitening import Whitening

LayerMode = Literal["concat", "mean"]


@dataclass(frozen=True, kw_only=True)
class VectorConfig:
    """Everything except the weights that determines a vector.

    Attributes:
        fields: the raw inputs.
        layers: the layers whose hidden states are read, 0 for the embeddings; see `layer_numbers`.
        layer_mode: whether several layers' vectors are concatenated or averaged.
        max_length: longest input in tokens, special tokens included.
        stride: tokens that windows of a longer text share; for token vectors.
        pooling: names whose vectors are concatenated; those of `kbert.model.pooling`, or "pooler"; for sentence vectors.
        special_tokens: whether pooling includes [CLS] and [SEP].
        projections: dense layers over the pooled vector.
        normalize: whether vectors are scaled to length 1.
    """

    encoder: EncoderConfig
    text: TextConfig
    layers: tuple[int, ...]
    layer_mode: LayerMode
    max_length: int
    precision: Precision
    fields: tuple[str, ...] = ("text",)
    stride: int = 0
    pooling: tuple[str, ...] = ()
    special_tokens: bool = False
    projections: tuple[Projection, ...] = ()
    normalize: bool = False


def layer_numbers(given: Sequence[str], num_layers: int) -> tuple[int, ...]:
    """Parse `--layers` into layer numbers from 0, the embeddings, to `num_layers`; -1 is the last.

    Raises:
        UsageError: not a number, out of range, or a layer is listed twice.
    """
    numbers = []
    for text in given:
        try:
            number = int(text)
        except ValueError:
            raise UsageError(f"--layers={','.join(given)}: {text!r} is not a whole number") from None
        if not -num_layers - 1 <= number <= num_layers:
            raise UsageError(
                f"--layers={','.join(given)}: {number} is out of range; the checkpoint has layers 1 to {num_layers} "
                f"(0 for the embeddings), or -1 to -{num_layers} from the top"
            )
        numbers.append(number if number >= 0 else num_layers + 1 + number)
    if not numbers:
        raise UsageError("--layers is empty; -1 is the last layer")
    twice = next((n for n in numbers if numbers.count(n) > 1), None)
    if twice is not None:
        raise UsageError(f"--layers={','.join(given)}: layer {twice} is listed twice")
    return tuple(numbers)


class SentenceVectors(Servable):
    """One vector a text.

    Args:
        whitening: applied to the pooled vectors.
        survey: whether to return also the number of `pieces` of each text, int32 [rows], and how many are `unknown`.
    """

    def __init__(self, config: VectorConfig, tokenizer: Tokenizer, whitening: Whitening | None = None, *, survey: bool = False):
        self.config = config
        self.tokenizer = tokenizer
        self.whitening = whitening
        self.survey = survey

    def encode(self, raw: Tensors) -> Encoded:
        length = self.config.max_length
        return self.tokenizer.pack([self.tokenizer.tokenize(raw["text"], max_words=length)], length)

    def build(self, encoder: Encoder) -> keras.Model:
        inputs = heads.inputs()
        pooled = PooledLayers(encoder, self.config)
        vectors = heads.projected(pooled(pooled.states(inputs), inputs["padding_mask"]), self.config.projections)
        return keras.Model(inputs, vectors, name="sentence_vectors")

    def decode(self, outputs: tf.Tensor, encoded: Encoded, raw: Tensors) -> Tensors:
        found = self.decode_ids(outputs)
        if self.survey:
            ids = encoded["token_ids"]
            unknown = tf.cast(ids == self.tokenizer.unknown_id, tf.int32)
            found |= {"pieces": tf.cast(ids.row_lengths() - 2, tf.int32), "unknown": tf.reduce_sum(unknown, 1)}
        return found

    def decode_ids(self, outputs: tf.Tensor) -> Tensors:
        return {"vector": self.finish(outputs)}

    def finish(self, vectors: tf.Tensor) -> tf.Tensor:
        """Whiten and normalise pooled vectors, [rows, size], as configured."""
        if self.whitening is not None:
            vectors = tf.matmul(vectors - self.whitening.mean, self.whitening.kernel)
        return normalized(vectors) if self.config.normalize else vectors


class PooledLayers(keras.layers.Layer):
    """Pools hidden states of some layers, each [rows, tokens, hidden], into one vector a row, float32 [rows, size]."""

    def __init__(self, encoder: Encoder, config: VectorConfig):
        super().__init__(name="pooled_layers", dtype=encoder.policy)
        self.encoder, self.config = encoder, config
        self.dense = encoder.backbone.pooled_dense
        if "pooler" not in config.pooling:
            self.dense.trainable = False

    def states(self, inputs: Any) -> list[Any]:
        """Return the hidden states that `call` reads; if it reads only [CLS] of the last layer, compute no more there."""
        if self.config.layers == (self.config.encoder.num_layers,) and set(self.config.pooling) <= {"cls", "pooler"}:
            return [self.encoder(inputs, first_only=True)]
        found: list[Any] = self.encoder(inputs, layers=self.config.layers)
        return found

    def call(self, states: list[Any], padding_mask: Any) -> Any:
        counts = counted(padding_mask, self.config.special_tokens)
        vectors = [ops.concatenate([self._pooled(hidden, counts, p) for p in self.config.pooling], -1) for hidden in states]
        return ops.concatenate(vectors, -1) if self.config.layer_mode == "concat" else sum(vectors) / len(vectors)

    def _pooled(self, hidden: Any, counts: Any, pooling: Any) -> Any:
        if pooling == "pooler":
            return ops.cast(self.dense(hidden[:, 0]), "float32")
        return pool(hidden, counts, pooling)
