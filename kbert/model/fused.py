"""Attention, layer normalisation and cross-entropy with hand-written derivatives, in fewer passes over memory.

In: tensors of one encoder layer, or a vocabulary's logits. Out: the same sums as by automatic differentiation,
in the same arithmetic. On a CPU, passes over attention weights, hidden states and logits take much of a training
step's time; hand-written derivatives need fewer. XLA can fuse elementwise computations into one pass.
"""

from collections.abc import Callable
from typing import Any

import keras
import tensorflow as tf

from kbert import graphs

Gradient = Callable[..., Any]


def attention(
    query: tf.Tensor, key: tf.Tensor, value: tf.Tensor, bias: tf.Tensor, dropout: keras.layers.Dropout, training: bool
) -> tf.Tensor:
    """Compute `softmax(query key' + bias) value`, with dropout on the weights (Vaswani et al. 2017, section 3.2.1).

    In float32 the derivative computes the sum over a softmax's row from the output, which has `head size` terms instead of
    `tokens` (Dao et al. 2022, "FlashAttention", appendix B.2). A 16-bit output is too coarse for that: it would double
    the derivative's error.

    Args:
        query: [batch, heads, queries, size], scaled.
        key, value: [batch, heads, tokens, size].
        bias: float32, added to the scores; broadcast to [batch, heads, queries, tokens]; it has no derivative.
        dropout: the layer whose rate and seeds are used.
        training: whether weights are dropped.

    Returns:
        [batch, heads, queries, size].
    """
    drops = training and dropout.rate > 0
    seed = dropout.seed_generator.next() if drops else None
    dtype = value.dtype

    @graphs.custom_gradient
    def attend(query: tf.Tensor, key: tf.Tensor, value: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        # Products of 16 bits would be rounded to 16 bits, changing weights by some per cent if scores are large.
        scores = tf.matmul(tf.cast(query, tf.float32), tf.cast(key, tf.float32), transpose_b=True) + bias
        weights = tf.nn.softmax(scores)  # [batch, heads, queries, tokens]
        kept = tf.cast(weights, dtype)
        if drops:
            keep, scale = kept_places(tf.shape(kept), dropout.rate, seed)
            kept = tf.where(keep, kept, tf.zeros((), dtype))
            value = value * tf.cast(scale, dtype)  # scale by dropout here, where it is cheapest
        mixed = tf.matmul(kept, value)

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            of_kept = tf.cast(tf.matmul(upstream, value, transpose_b=True), tf.float32)
            if drops:
                of_kept = tf.where(keep, of_kept, 0.0)
            of_row = upstream * mixed if dtype == tf.float32 else weights * of_kept
            level = tf.reduce_sum(of_row, -1, keepdims=True)
            of_scores = tf.cast(weights * (of_kept - level), dtype)
            of_value = tf.matmul(kept, upstream, transpose_a=True)
            if drops:
                of_value *= tf.cast(scale, dtype)
            of_query = tf.matmul(of_scores, tf.cast(key, dtype))
            of_key = tf.matmul(of_scores, tf.cast(query, dtype), transpose_a=True)
            return tf.cast(of_query, query.dtype), tf.cast(of_key, key.dtype), of_value

        return mixed, gradient

    return attend(query, key, value)


def cross_entropy(targets: tf.Tensor, logits: tf.Tensor) -> tf.Tensor:
    """Compute the cross-entropy of a softmax over many classes, in nats, twice as fast as TensorFlow's over a vocabulary.

    The sum of exponentials is derived from the softmax at the highest logit, where it is never small.

    Args:
        targets: int32 [...], classes.
        logits: float32 [..., classes].

    Returns:
        float32 [...].
    """
    classes, shape = logits.shape[-1], tf.shape(targets)
    targets = tf.cast(tf.reshape(targets, [-1]), tf.int32)

    @graphs.custom_gradient
    def entropy(logits: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        def at(values: tf.Tensor, classes: tf.Tensor) -> tf.Tensor:
            return tf.gather(values, classes, batch_dims=1)

        probabilities = tf.nn.softmax(logits)
        best = tf.argmax(logits, -1, tf.int32)
        loss = at(logits, best) - at(logits, targets) - tf.math.log(at(probabilities, best))

        def gradient(upstream: tf.Tensor) -> tf.Tensor:
            places = tf.stack([tf.range(tf.size(targets)), targets], 1)
            return tf.tensor_scatter_nd_sub(probabilities * upstream[:, None], places, upstream)

        return loss, gradient

    return tf.reshape(entropy(tf.reshape(logits, [-1, classes])), shape)


def compiled(function: Callable[..., tf.Tensor]) -> Callable[..., tf.Tensor]:
    """Compile a function of floating-point tensors and its derivative with XLA, once for each shape.

    Elementwise computations then take one pass over memory. The derivative stores only the arguments and
    recomputes intermediate values.
    """
    forward = graphs.function(function, jit_compile=True)

    @graphs.function(jit_compile=True)
    def backward(upstream: tf.Tensor, *arguments: tf.Tensor) -> list[tf.Tensor]:
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            result = function(*arguments)
        return list(tape.gradient(result, arguments, upstream))

    @graphs.custom_gradient
    def call(*arguments: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        return forward(*arguments), lambda upstream: backward(upstream, *arguments)

    return call


def kept_places(shape: tf.Tensor, rate: float, seed: tf.Tensor) -> tuple[tf.Tensor, float]:
    """Draw which positions dropout keeps, bool of this shape; also return the scale of kept values.

    Draws 16 bits a position, half of what a uniform float32 takes; the rate is met to 2**-17.

    Args:
        shape: int32.
        rate: the fraction to drop.
        seed: int32 [2].
    """
    threshold = round(rate * 2**16)
    size = tf.reduce_prod(shape)
    draws = tf.random.stateless_uniform([(size + 1) // 2], seed, minval=None, maxval=None, dtype=tf.uint32)
    places = tf.reshape(tf.bitcast(draws, tf.uint16), [-1])[:size]
    return tf.reshape(places, shape) >= tf.constant(threshold, tf.uint16), 2**16 / (2**16 - threshold)


def dropped(x: tf.Tensor, dropout: keras.layers.Dropout, training: bool) -> tf.Tensor:
    """Apply a Keras dropout layer to `x`, with positions drawn by `kept_places`."""
    if not training or dropout.rate == 0:
        return x
    keep, scale = kept_places(tf.shape(x), dropout.rate, dropout.seed_generator.next())
    return x * tf.where(keep, tf.cast(scale, x.dtype), tf.zeros((), x.dtype))


def reordered(x: tf.Tensor, order: tuple[int, ...]) -> tf.Tensor:
    """Transpose floating-point values as integers of their size, without a derivative.

    TensorFlow leaves the transposition of floating-point values to oneDNN, which takes 30 microseconds longer a call: for
    one short text that is five times the copying itself.
    """
    return tf.bitcast(tf.transpose(tf.bitcast(x, {4: tf.uint32, 2: tf.uint16}[x.dtype.size]), order), x.dtype)


def layer_norm(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor, epsilon: float) -> tf.Tensor:
    """Normalise over the last axis (layer norm, Ba et al. 2016), in float32, returned in the type of `x`.

    Args:
        x: [rows, hidden].
        gamma, beta: float32 [hidden].
        epsilon: added to the variance.
    """
    dtype = x.dtype

    @graphs.custom_gradient
    def normalise(x: tf.Tensor, gamma: tf.Tensor, beta: tf.Tensor) -> tuple[tf.Tensor, Gradient]:
        wide = tf.cast(x, tf.float32)
        centred = wide - tf.reduce_mean(wide, -1, keepdims=True)
        scale = tf.math.rsqrt(tf.reduce_mean(tf.square(centred), -1, keepdims=True) + epsilon)
        normal = centred * scale

        def gradient(upstream: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            upstream = tf.cast(upstream, tf.float32)
            pulled = upstream * normal
            # The derivative of `tf.nn.bias_add`: a sum over all axes but the last, twice as fast as reduce_sum.
            of_gamma, of_beta = (tf.raw_ops.BiasAddGrad(out_backprop=values) for values in (pulled, upstream))
            of_normal = upstream * gamma
            mean = tf.reduce_mean(of_normal, -1, keepdims=True)
            along = tf.reduce_mean(of_normal * normal, -1, keepdims=True)
            return tf.cast(scale * (of_normal - mean - normal * along), dtype), of_gamma, of_beta

        return tf.cast(normal * gamma + beta, dtype), gradient

    return normalise(x, *map(tf.convert_to_tensor, (gamma, beta)))  # a variable would need a separate gradient
