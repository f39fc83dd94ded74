"""The encoder's hand-written derivatives against automatic ones, and its dropout."""

import gc
import weakref

import keras
import numpy as np
import pytest
import tensorflow as tf

from kbert.model import fused

RNG = np.random.default_rng(0)


def normal(*shape):
    return tf.constant(RNG.normal(size=shape).astype(np.float32))


def both(function, other, *arguments):
    """Values and gradients of two functions on the same arguments."""
    found = []
    for each in (function, other):
        with tf.GradientTape() as tape:
            tape.watch(arguments)
            value = each(*arguments)
            total = tf.reduce_sum(tf.sin(value) + value)  # an upstream gradient that differs by place
        found.append([value, *tape.gradient(total, arguments)])
    return zip(*found, strict=True)


def test_attention_is_that_of_its_formula_and_so_are_its_derivatives():
    query, key, value = normal(2, 3, 4, 5), normal(2, 3, 6, 5), normal(2, 3, 6, 5)
    bias = tf.constant([[0.0] * 6, [0.0] * 4 + [-1e9] * 2])[:, None, None]

    def plain(query, key, value):
        return tf.nn.softmax(tf.einsum("bhqs,bhts->bhqt", query, key) + bias) @ value

    def fast(query, key, value):
        return fused.attention(query, key, value, bias, keras.layers.Dropout(0.5), training=False)

    for a, b in both(fast, plain, query, key, value):
        np.testing.assert_allclose(a, b, atol=2e-6)


def test_attention_under_dropout_is_that_of_the_same_places():
    query, key, value = normal(2, 2, 5, 4), normal(2, 2, 5, 4), normal(2, 2, 5, 4)
    seed = keras.layers.Dropout(0.3, seed=7).seed_generator.next()
    keep, scale = fused.kept_places(tf.constant([2, 2, 5, 5]), 0.3, seed)
    assert 0 < tf.reduce_sum(tf.cast(keep, tf.int32)) < 100

    def plain(query, key, value):
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
        return tf.where(keep, weights * scale, 0.0) @ value

    def fast(query, key, value):
        return fused.attention(query, key, value, tf.zeros(()), keras.layers.Dropout(0.3, seed=7), training=True)

    for a, b in both(fast, plain, query, key, value):
        np.testing.assert_allclose(a, b, atol=2e-6)


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_attention_of_16_bits_has_derivatives_as_exact_as_its_products(dtype):
    """Compared with float32; the sum over a softmax's row taken from the output of 16 bits errs twice as much."""
    # The same numbers in both types, so that what differs is how the derivatives are computed.
    *given, upstream = (tf.cast(tf.cast(normal(2, 4, 96, 16), dtype), tf.float32) for _ in range(4))
    query, key, value = given

    def gradients(dtype, attend):
        narrow = [tf.cast(values, dtype) for values in given]
        with tf.GradientTape() as tape:
            tape.watch(narrow)
            mixed = attend(*narrow)
        return [tf.cast(found, tf.float32) for found in tape.gradient(mixed, narrow, tf.cast(upstream, dtype))][:2]

    def fast(query, key, value):
        return fused.attention(query, key, value, tf.zeros(()), keras.layers.Dropout(0.0), training=True)

    def from_output():
        """Gradients of query and key by hand, the sum taken from the output."""
        weights = tf.nn.softmax(tf.matmul(query, key, transpose_b=True))
        kept, narrow, above = (tf.cast(values, dtype) for values in (weights, value, upstream))
        mixed = tf.cast(tf.matmul(kept, narrow), tf.float32)
        of_kept = tf.cast(tf.matmul(above, narrow, transpose_b=True), tf.float32)
        of_scores = tf.cast(weights * (of_kept - tf.reduce_sum(upstream * mixed, -1, keepdims=True)), dtype)
        products = tf.matmul(of_scores, tf.cast(key, dtype)), tf.matmul(of_scores, tf.cast(query, dtype), transpose_a=True)
        return [tf.cast(found, tf.float32) for found in products]

    right = gradients("float32", fast)

    def error(found):
        return sum(float(tf.norm(a - b) / tf.norm(b)) for a, b in zip(found, right, strict=True))

    assert error(gradients(dtype, fast)) < 0.6 * error(from_output())


def test_cross_entropy_is_tensorflows_and_so_are_its_derivatives():
    logits = tf.concat([40.0 * normal(3, 4, 7), tf.constant(1000.0 * np.eye(7, dtype=np.float32)[None, :4])], 0)
    targets = tf.constant(RNG.integers(0, 7, (4, 4)), tf.int32)

    def plain(logits):
        return tf.nn.sparse_softmax_cross_entropy_with_logits(targets, logits)

    for a, b in both(lambda logits: fused.cross_entropy(targets, logits), plain, logits):
        assert np.isfinite(a).all()
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=2e-6)
    assert fused.cross_entropy(targets[:0], logits[:0]).shape == (0, 4)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_compiled_function_is_the_plain_one_and_so_are_its_derivatives(dtype):
    def plain(x, shift):
        return tf.cast(tf.math.sigmoid(tf.cast(x, tf.float32) + shift), x.dtype)

    compiled = fused.compiled(plain)
    for rows in (3, 5):  # another shape is compiled anew
        for a, b in both(compiled, plain, tf.cast(normal(rows, 4), dtype), normal(4)):
            assert a.dtype == b.dtype
            np.testing.assert_allclose(
                tf.cast(a, tf.float32), tf.cast(b, tf.float32), rtol=1e-5 if dtype == "float32" else 0.02
            )


@pytest.mark.parametrize("shape", [(3, 8), (2, 3, 8)])
def test_layer_norm_is_that_of_keras_and_so_are_its_derivatives(shape):
    layer = keras.layers.LayerNormalization(epsilon=1e-12)
    layer.build(shape)
    x, gamma, beta = normal(*shape), normal(8), normal(8)

    def plain(x, gamma, beta):
        mean, variance = tf.nn.moments(x, -1, keepdims=True)
        return (x - mean) / tf.sqrt(variance + 1e-12) * gamma + beta

    for a, b in both(lambda *given: fused.layer_norm(*given, 1e-12), plain, x, gamma, beta):
        np.testing.assert_allclose(a, b, atol=5e-5)
    np.testing.assert_allclose(fused.layer_norm(x, tf.ones(8), tf.zeros(8), 1e-12), layer(x), atol=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_dropout_drops_the_share_asked_for_and_keeps_the_mean(dtype):
    layer = keras.layers.Dropout(0.1, seed=1)
    x = tf.ones((1000, 1001), dtype)
    first = tf.cast(fused.dropped(x, layer, training=True), tf.float32).numpy()
    second = tf.cast(fused.dropped(x, layer, training=True), tf.float32).numpy()
    zeros = (first == 0).mean()
    assert abs(zeros - 0.1) < 0.002  # seven standard deviations
    assert abs(first.mean() - 1) < 0.005
    assert len(np.unique(first)) == 2
    assert abs(((first == 0) & (second == 0)).mean() - 0.01) < 0.001  # drawn anew
    lines = (first == 0).mean(1)  # and independently along a row
    assert abs(lines.std() - np.sqrt(0.09 / 1001)) < 0.001
    again = keras.layers.Dropout(0.1, seed=1)
    np.testing.assert_array_equal(tf.cast(fused.dropped(x, again, training=True), tf.float32), first)
    assert fused.dropped(x, layer, training=False) is x
    assert fused.dropped(x, keras.layers.Dropout(0.0), training=True) is x


def test_a_graph_with_derivatives_by_hand_can_be_freed():
    """TensorFlow's own `custom_gradient` keeps it, and the weights it reads, until the process ends."""
    weights = tf.Variable(tf.ones([4]))

    @tf.function(autograph=False)
    def step(x):
        with tf.GradientTape() as tape:
            loss = tf.reduce_sum(fused.layer_norm(x, weights, tf.zeros(4), 1e-6))
        return tape.gradient(loss, weights)

    np.testing.assert_allclose(step(tf.constant([[0.0, 0.0, 2.0, 2.0]])), [-1, -1, 1, 1], atol=1e-4)
    graph = weakref.ref(step.get_concrete_function(tf.TensorSpec([1, 4])).graph)
    assert graph() is not None
    del step
    gc.collect()
    assert graph() is None
