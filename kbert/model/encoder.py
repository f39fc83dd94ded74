"""The KerasHub BERT backbone as a Keras layer with freezable lower layers.

In: `token_ids`, `segment_ids`, `padding_mask`, each [batch, tokens]. Out: hidden states of the last layer, or of
the requested layers, float32 [batch, tokens, hidden]. The backbone owns the weights; this layer determines how they
run: with the checkpoint's own activation, frozen layers without dropout and gradients. In mixed
precision, products, attention weights and activations are narrow; embeddings, the residual stream and
layer norm are float32, as in PyTorch's autocast.
"""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import keras
import keras_nlp
import numpy as np
import tensorflow as tf
from keras import ops

from kbert.config import EncoderConfig
from kbert.errors import DataError, UsageError
from kbert.model import fused
from kbert.model.state_cache import StateCache

ACTIVATIONS = {
    # As in PyTorch; Keras's own uses erfc, which TensorFlow computes half as fast on a CPU.
    "gelu": lambda x: 0.5 * x * (1.0 + ops.erf(x * 0.7071067811865476)),
    "gelu_approximate": lambda x: keras.activations.gelu(x, approximate=True),
    "relu": keras.activations.relu,
}


class Encoder(keras.layers.Layer):
    """A BERT encoder.

    Args:
        config: its sizes and activation.
        dtype: a Keras dtype policy, for example "float32" or "mixed_bfloat16".
        name: of the layer.

    Attributes:
        has_pooler: whether the pooler's weights mean something; if not they are zero, and are not stored.
        compiled: whether XLA compiles the activations of a training step, which then take a fourth of the time. It recompiles
            for each length of a batch (tenths of a second), so it suits batches of few lengths.
        packed: whether inference leaves padding out of everything but attention. On a CPU a batch then costs little more than
            its real tokens; an accelerator prefers fixed shapes.
        cache: keeps what the frozen layers compute; set it before the graph is traced that is to use it.
    """

    has_pooler = True
    compiled = False
    packed = False
    cache: StateCache | None = None

    def __init__(self, config: EncoderConfig, dtype: Any = "float32", name: str = "encoder"):
        super().__init__(name=name, dtype="float32")  # nothing is cast but where `_transform` does
        self.config = config
        self.policy = keras.dtype_policies.get(dtype)
        self.backbone = keras_nlp.models.BertBackbone(
            vocabulary_size=config.vocabulary_size,
            num_layers=config.num_layers,
            num_heads=config.num_heads,
            hidden_dim=config.hidden_dim,
            intermediate_dim=config.intermediate_dim,
            dropout=max(config.dropout, config.attention_rate),  # KerasHub has one for both; a layer without has no seeds
            max_sequence_length=config.max_sequence_length,
            num_segments=config.num_segments,
            dtype=dtype,
            name="backbone",
        )
        b = self.backbone
        self.embedding_layers = (b.token_embedding, b.position_embedding, b.segment_embedding, b.embeddings_layer_norm)
        b.embeddings_dropout.rate = config.dropout
        b.embeddings_layer_norm.epsilon = config.layer_norm_epsilon
        for layer in b.transformer_layers:
            layer._self_attention_layer_norm.epsilon = layer._feedforward_layer_norm.epsilon = config.layer_norm_epsilon
            layer._self_attention_dropout.rate = layer._feedforward_dropout.rate = config.dropout
            layer._self_attention_layer._dropout_layer.rate = config.attention_rate
        self.num_frozen = 0
        self._joined: list[Any] | None = None
        self.frozen_embeddings = False
        activation = ACTIVATIONS[config.activation]
        self._activated = fused.compiled(lambda flat, bias: tf.cast(activation(tf.cast(flat, tf.float32) + bias), flat.dtype))

    def freeze_lower(self, num_layers: int, embeddings: bool = False) -> None:
        """Freeze the lowest `num_layers` layers and the embeddings below them, or the embeddings alone.

        Frozen parts run without dropout: dropout regularises weights that are trained, and
        only adds noise to those that are not. Call it before `compile`.

        Raises:
            UsageError: the encoder has fewer layers.
        """
        depth = self.config.num_layers
        if not 0 <= num_layers <= depth:
            raise UsageError(f"--freeze_layers={num_layers}: the checkpoint has {depth} layers; 0 to {depth} can be frozen")
        self.num_frozen = num_layers
        self.frozen_embeddings = embeddings or num_layers > 0
        b = self.backbone
        for layer in self.embedding_layers:
            layer.trainable = not self.frozen_embeddings
        for i, layer in enumerate(b.transformer_layers):
            layer.trainable = i >= num_layers

    def call(
        self,
        inputs: Mapping[str, Any],
        training: bool = False,
        first_only: bool = False,
        layers: Sequence[int] | None = None,
        positions: Any = None,
    ) -> Any:
        """Compute hidden states of the last layer, [batch, tokens, hidden], from ids and mask, each [batch, tokens].

        With `first_only`, the last layer computes [CLS] only: [batch, 1, hidden]. Keys and values still come
        from all tokens, so its vector is the same, for a sixth of the layer's work. With `positions`, int32 [batch, places],
        it computes these tokens only: [batch, places, hidden]. With `layers`, return a list
        of these layers' hidden states instead: 0 for the embeddings, 1 for the first layer.
        """
        depth, frozen = self.config.num_layers, self.num_frozen
        bias = _attention_bias(inputs)
        some = first_only or positions is not None
        rows = _RealTokens(inputs) if self.packed and not training else _AllTokens(inputs)

        def run(states: list[Any], stop: int) -> list[Any]:
            for i in range(len(states) - 1, stop):
                states.append(
                    self._transform(i, states[-1], rows, bias, training and i >= frozen, some and i == depth - 1, positions)
                )
            return states

        def lower() -> list[Any]:
            return run([rows.flat(self._embedded(inputs, training))], frozen)

        def by_input(number: int, flat: Any) -> Any:  # [rows, hidden] -> [batch, tokens, hidden]
            return (
                ops.reshape(flat, (ops.shape(bias)[0], -1, flat.shape[-1]))
                if some and number == depth > 0
                else rows.padded(flat)
            )

        if self.cache is not None and layers is None and positions is None:
            kept = self.cache(inputs, lambda: by_input(frozen, lower()[-1]), first_only and frozen == depth)
            states = [ops.reshape(kept, (-1, kept.shape[-1]))] * (frozen + 1)
        else:
            states = lower()
        if self.frozen_embeddings:
            states[-1] = ops.stop_gradient(states[-1])
        states = run(states, depth)
        return by_input(depth, states[-1]) if layers is None else [by_input(number, states[number]) for number in layers]

    def _embedded(self, inputs: Mapping[str, Any], training: bool) -> Any:
        b = self.backbone
        tables = (b.token_embedding.embeddings, b.position_embedding.position_embeddings, b.segment_embedding.embeddings)
        tokens, positions, segments = map(ops.convert_to_tensor, tables)
        x = ops.cast(ops.take(tokens, inputs["token_ids"], axis=0), "float32")
        x = x + ops.cast(positions[: ops.shape(x)[1]], "float32")
        x = x + ops.cast(ops.take(segments, inputs["segment_ids"], axis=0), "float32")
        x = normalised(b.embeddings_layer_norm, x)
        return fused.dropped(x, b.embeddings_dropout, training and not self.frozen_embeddings)

    def compute_output_spec(
        self,
        inputs: Mapping[str, Any],
        training: bool = False,
        first_only: bool = False,
        layers: Sequence[int] | None = None,
        positions: Any = None,
    ) -> Any:
        """Describe what `call` returns. Keras would trace the whole encoder for this."""
        batch, tokens = inputs["token_ids"].shape

        def states(length: int | None) -> keras.KerasTensor:
            return keras.KerasTensor((batch, length, self.config.hidden_dim), "float32")

        if layers is not None:
            return [states(1 if first_only and number == self.config.num_layers else tokens) for number in layers]
        if positions is not None:
            tokens = positions.shape[1]
        return states(1 if first_only and self.config.num_layers else tokens)

    def _transform(
        self, number: int, flat: Any, rows: "_AllTokens", bias: Any, training: bool, some: bool, positions: Any
    ) -> Any:
        """Apply one transformer layer, with operations in an order that CPUs like.

        The same sums as KerasHub's `TransformerEncoder.call` on the same variables, but as products over
        [rows, hidden] with one for key and value, where its einsum projections cost most.

        Args:
            number: the layer's, from 0.
            flat: [rows, hidden].
            rows: which tokens are in `flat`.
            some: whether only the states at `positions` are computed, [CLS] if these are None.
        """
        heads, hidden, narrow = self.config.num_heads, self.config.hidden_dim, self.policy.compute_dtype
        size, batch = hidden // heads, ops.shape(bias)[0]
        layer = self.backbone.transformer_layers[number]
        attention = layer._self_attention_layer
        joined = None if training or self._joined is None else self._joined[number]
        reordered = fused.reordered if joined is not None else ops.transpose

        def weights(*projections: Any) -> tuple[Any, Any]:
            kernel, shift = _joined(*projections)
            return ops.cast(kernel, narrow), ops.cast(shift, "float32")

        def product(x: Any, kernel: Any, shift: Any, activation: Any = None) -> Any:  # [rows, width] -> [rows, other width]
            flat = ops.matmul(ops.cast(x, narrow), kernel)
            # TensorFlow fuses adjacent operations into a product: faster in float32, half as fast in bfloat16.
            if narrow != "float32":
                flat = ops.reshape(ops.cast(flat, "float32"), (1, -1, kernel.shape[-1]))
            flat = tf.nn.bias_add(flat, shift)
            flat = flat if activation is None else activation(flat)
            return flat if narrow == "float32" else ops.reshape(flat, (-1, kernel.shape[-1]))

        def by_head(x: Any) -> Any:  # [batch, tokens, hidden] -> [batch, heads, tokens, size]
            return reordered(ops.reshape(x, (batch, -1, heads, size)), (0, 2, 1, 3))

        def added(x: Any, change: Any, dropout: Any, norm: Any) -> Any:
            return normalised(norm, x + fused.dropped(change, dropout, training))

        read = flat
        if some:
            x = rows.padded(flat)
            read = x[:, 0] if positions is None else ops.reshape(tf.gather(x, positions, batch_dims=1), (-1, hidden))
        if joined is not None and len(joined) == 1:
            by_kind = ops.reshape(rows.padded(product(flat, *joined[0])), (batch, -1, 3, heads, size))
            query, key, value = tf.unstack(reordered(by_kind, (2, 0, 3, 1, 4)))
        else:
            if joined is not None:
                query, both = product(read, *joined[0]), product(flat, *joined[1])
            else:
                query = product(read, *weights(attention._query_dense)) * size**-0.5
                both = product(flat, *weights(attention._key_dense, attention._value_dense))
            query = query if some else rows.padded(query)
            query, key, value = map(by_head, (query, *ops.split(rows.padded(both), 2, axis=2)))
        mixed = fused.attention(query, key, ops.cast(value, narrow), bias, attention._dropout_layer, training)
        mixed = reordered(mixed, (0, 2, 1, 3))  # [batch, tokens, heads, size]
        mixed = ops.reshape(mixed, (-1, hidden)) if some else rows.flat(mixed)
        mixed = product(mixed, *weights(attention._output_dense))
        x = added(read, mixed, layer._self_attention_dropout, layer._self_attention_layer_norm)
        kernel, shift = weights(layer._feedforward_intermediate_dense)
        if training and self.compiled:
            wide = self._activated(ops.matmul(ops.cast(x, narrow), kernel), shift)
        else:
            wide = product(x, kernel, shift, ACTIVATIONS[self.config.activation])
        out = product(wide, *weights(layer._feedforward_output_dense))
        return added(x, out, layer._feedforward_dropout, layer._feedforward_layer_norm)

    def fuse(self, packed: bool = False) -> list[tf.Variable]:
        """Store the attention's weights in the form that inference multiplies by: they are not joined and scaled at each call.

        Outputs differ by rounding. The copies do not follow the weights: call it when these are final.

        Args:
            packed: whether inference leaves padding out of everything but attention.

        Returns:
            The copies, for what keeps a model's weights.
        """
        narrow, scale = self.policy.compute_dtype, (self.config.hidden_dim // self.config.num_heads) ** -0.5
        self.packed = packed
        self._joined = []
        for number, layer in enumerate(self.backbone.transformer_layers):
            attention = layer._self_attention_layer
            query = [scale * ops.cast(each, "float32") for each in _joined(attention._query_dense)]
            others = [ops.cast(each, "float32") for each in _joined(attention._key_dense, attention._value_dense)]
            # The last layer's queries may be those of a few tokens only.
            last = number == self.config.num_layers - 1
            pairs = [query, others] if last else [[ops.concatenate(each, -1) for each in zip(query, others, strict=True)]]
            self._joined.append([(tf.Variable(ops.cast(k, narrow), False), tf.Variable(s, False)) for k, s in pairs])
        return [variable for layer in self._joined for pair in layer for variable in pair]

    def load(self, arrays: Mapping[str, np.ndarray], where: str) -> bool:
        """Set the backbone's weights from arrays named by variable path (`kbert.checkpoints`).

        Many checkpoints have no pooler. If it is trained it then keeps its random values, and the
        caller has to report that; if it is unused (`kbert.model.heads.Pool`) this encoder has none either.

        Returns:
            Whether no weight kept its random values.

        Raises:
            DataError: a tensor other than the pooler's is missing, or one is unexpected or of the wrong shape.
        """
        variables = {v.path: v for v in self.backbone.weights}
        left_over = sorted(set(arrays) - set(variables))
        if left_over:
            raise DataError(f"{where}: tensor {left_over[0]!r} is not part of a BERT of {self.config.num_layers} layers")
        whole = True
        for path, variable in variables.items():
            if path not in arrays:
                if path.startswith("pooled_dense/"):
                    if variable.trainable:
                        whole = False
                    else:
                        self.drop_pooler()
                    continue
                raise DataError(f"{where}: tensor {path!r} is missing")
            if tuple(arrays[path].shape) != tuple(variable.shape):
                found = tuple(arrays[path].shape)
                raise DataError(f"{where}: tensor {path!r} has shape {found}, expected {tuple(variable.shape)}")
            variable.assign(arrays[path])
        return whole

    def drop_pooler(self) -> None:
        """Make the pooler one that the model does not have."""
        self.has_pooler = False
        for variable in self.pooler:
            variable.assign(ops.zeros_like(variable))

    @property
    def pooler(self) -> list[Any]:
        """The pooler's variables: kernel and bias."""
        return list(self.backbone.pooled_dense.weights)


class _AllTokens:
    """All tokens of padded inputs as rows, [batch * tokens, ...]."""

    def __init__(self, inputs: Mapping[str, Any]):
        self.mask = ops.convert_to_tensor(inputs["padding_mask"])
        self.shape = ops.shape(self.mask)

    def flat(self, x: Any) -> Any:
        """Return [rows, width] of [batch, tokens, width], whose last axis may be in parts."""
        return ops.reshape(x, (-1, math.prod(x.shape[2:])))

    def padded(self, flat: Any) -> Any:
        """Return [batch, tokens, width] of [rows, width]."""
        return ops.reshape(flat, (*self.shape, flat.shape[-1]))


class _RealTokens(_AllTokens):
    """The tokens that are no padding as rows. At padded places are values of other tokens, finite and not attended to."""

    def __init__(self, inputs: Mapping[str, Any]):
        super().__init__(inputs)
        first = tf.ones_like(self.mask[:, :1])  # each input has a row, even one that is all padding
        real = tf.reshape(tf.cast(tf.concat([first, self.mask[:, 1:]], 1), tf.bool), [-1])
        self.places = tf.where(real)[:, 0]
        self.back = tf.cumsum(tf.cast(real, tf.int32)) - 1

    def flat(self, x: Any) -> Any:
        return tf.gather(super().flat(x), self.places)

    def padded(self, flat: Any) -> Any:
        return super().padded(tf.gather(flat, self.back))


def encoder_of(model: keras.Model) -> Encoder | None:
    """Return the encoder that a model is built on; None for a model of other parts."""
    return next((layer for layer in model.layers if isinstance(layer, Encoder)), None)


def _joined(*projections: Any) -> tuple[Any, Any]:
    """Return kernels as one matrix, [width, all their widths], and biases as one vector."""
    kernels = [ops.reshape(ops.convert_to_tensor(p.kernel), (-1, math.prod(p.bias.shape))) for p in projections]
    shifts = [ops.reshape(ops.convert_to_tensor(p.bias), (-1,)) for p in projections]
    if len(projections) == 1:
        return kernels[0], shifts[0]
    return ops.concatenate(kernels, -1), ops.concatenate(shifts, -1)


def _attention_bias(inputs: Mapping[str, Any]) -> Any:
    """Return what is added to attention scores: 0 for tokens to attend to, else a number that softmax turns into 0."""
    return (1.0 - ops.cast(inputs["padding_mask"], "float32"))[:, None, None, :] * -1e9


def normalised(layer: Any, x: Any) -> Any:
    """Apply layer normalisation with a Keras layer's variables, in float32 (`kbert.model.fused`)."""
    gamma, beta = (ops.cast(ops.convert_to_tensor(v), "float32") for v in (layer.gamma, layer.beta))
    return fused.layer_norm(x, gamma, beta, layer.epsilon)


def frozen_table(model: keras.Model, encoder: Encoder) -> str:
    """Format a table of layers with parameters, frozen or trained, and totals."""
    b = encoder.backbone
    rows: list[tuple[str, list[Any]]] = [("embeddings", [v for layer in encoder.embedding_layers for v in layer.weights])]
    rows += [(f"layer {i + 1}", layer.weights) for i, layer in enumerate(b.transformer_layers)]
    rows.append(("pooler", b.pooled_dense.weights))
    inside = {id(v) for v in encoder.weights}
    beside = [v for v in model.weights if id(v) not in inside]
    rows.append(("head", [v for v in beside if v.trainable]))
    if any(not v.trainable for v in beside):
        rows.append(("beside", [v for v in beside if not v.trainable]))
    lines, totals = [], {True: 0, False: 0}
    for name, weights in rows:
        count = sum(int(np.prod(v.shape)) for v in weights)
        trained = all(v.trainable for v in weights)
        totals[trained] += count
        lines.append(f"{name:<12}{count:>14,}  {'trained' if trained else 'frozen'}")
    lines += [f"{'trained':<12}{totals[True]:>14,}", f"{'frozen':<12}{totals[False]:>14,}"]
    return "\n".join([f"{'layer':<12}{'parameters':>14}", *lines])
