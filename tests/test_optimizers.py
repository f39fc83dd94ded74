"""The optimizers, against the papers' formulas and one another."""

import inspect
from types import SimpleNamespace

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from kbert import graphs
from kbert.checkpoints import open_checkpoint
from kbert.config import TrainConfig
from kbert.model.encoder import Encoder
from kbert.train import optimizers
from kbert.train.optimizers import Lamb, WarmupDecay, optimizer


def test_optimizer_settings(checkpoint):
    encoder = Encoder(open_checkpoint(str(checkpoint)).encoder)
    config = TrainConfig(init="x", train_data="y", learning_rate=0.1, weight_decay=0.5, warmup_ratio=0.2)
    adamw = optimizer(encoder, config, 100)
    adamw.build(encoder.trainable_variables)
    decayed = {v.path for v in encoder.trainable_variables if adamw._use_weight_decay(v)}
    assert decayed == {v.path for v in encoder.trainable_variables if v.path.endswith(("kernel", "embeddings"))}
    assert adamw.global_clipnorm == 1.0 and adamw.weight_decay == 0.5
    rates = [float(WarmupDecay(0.1, 100, 20)(step)) for step in range(101)]
    assert np.allclose([rates[0], rates[9], rates[19], rates[60], rates[100]], [0.005, 0.05, 0.1, 0.05, 0.0])
    assert max(rates) == pytest.approx(0.1)
    falling = [float(WarmupDecay(0.1, 100, 20, 2.0)(step)) for step in (19, 60, 100, 101)]
    assert np.allclose(falling, [0.1, 0.025, 0.0, 0.0])
    assert isinstance(
        optimizer(encoder, TrainConfig(init="x", train_data="y", precision="float16"), 9), keras.optimizers.LossScaleOptimizer
    )
    large = TrainConfig(init="x", train_data="y", optimizer="lamb", clip_norm=0.0, decay_power=0.5)
    lamb = optimizer(encoder, large, 9)
    assert isinstance(lamb, Lamb) and lamb.global_clipnorm is None and lamb._learning_rate.power == 0.5


def test_lamb_is_the_papers():
    rng = np.random.default_rng(0)
    weights = [rng.normal(size=(3, 4)), rng.normal(size=4)]
    gradients = [[rng.normal(size=w.shape) for w in weights] for _ in range(3)]
    variables = [keras.Variable(w, dtype="float32") for w in weights]
    lamb = Lamb(0.1, weight_decay=0.3, epsilon=1e-6)
    lamb.exclude_from_weight_decay(variables[1:])
    lamb.build(variables)
    moments = [(np.zeros_like(w), np.zeros_like(w)) for w in weights]
    for step, given in enumerate(gradients, 1):
        lamb.apply([np.float32(g) for g in given])
        for i, g in enumerate(given):
            m, v = 0.9 * moments[i][0] + 0.1 * g, 0.999 * moments[i][1] + 0.001 * g * g
            moments[i] = m, v
            update = m / (1 - 0.9**step) / (np.sqrt(v / (1 - 0.999**step)) + 1e-6)
            if i == 0:  # without decay, without trust ratio
                update += 0.3 * weights[i]
                update *= np.linalg.norm(weights[i]) / np.linalg.norm(update)
            weights[i] = weights[i] - 0.1 * update
    for variable, expected in zip(variables, weights, strict=True):
        assert np.allclose(variable.numpy(), expected, atol=1e-5)


def test_adamw_is_keras_own(monkeypatch):
    """Weights and moments after steps with clipping, decay and the schedule."""
    found = []
    for kind in (optimizers.AdamW, keras.optimizers.AdamW):
        monkeypatch.setattr(optimizers, "AdamW", kind)
        weights = [
            keras.Variable(np.linspace(-1, 1, n).astype(np.float32), name=name) for n, name in ((12, "kernel"), (4, "bias"))
        ]
        model = SimpleNamespace(trainable_variables=weights)
        adamw = optimizer(model, TrainConfig(init="x", train_data="y", learning_rate=0.1, weight_decay=0.5), 20)
        adamw.build(weights)
        for step in range(6):
            adamw.apply([tf.sin(tf.range(int(w.shape[0]), dtype=tf.float32) + step) for w in weights])
        found.append([np.array(v) for v in (*weights, *adamw.variables)])
    assert len(found[0]) == len(found[1])
    for ours, keras_own in zip(*found, strict=True):
        np.testing.assert_allclose(ours, keras_own, rtol=1e-4, atol=1e-5)  # Keras rounds 1 - beta otherwise


def test_the_compiled_update_is_the_plain_one(monkeypatch):
    """Weights, moments and step count, with a sparse gradient, clipping, decay and the schedule."""

    found = []
    for worth in (1, 10**9):
        monkeypatch.setattr(graphs, "WORTH_COMPILING", worth)
        keras.utils.set_random_seed(0)
        model = keras.Sequential([keras.Input((3,), dtype="int32"), keras.layers.Embedding(7, 4), keras.layers.Dense(2)])
        config = TrainConfig(init="x", train_data="y", learning_rate=0.1, weight_decay=0.5)
        model.compile(optimizer=optimizers.optimizer(model, config, 20), loss="mse", jit_compile=False)
        model.optimizer.build(model.trainable_variables)
        assert (model.optimizer._update is not None) == (worth == 1)
        model.fit(np.arange(24).reshape(8, 3) % 7, 100 * np.ones((8, 3, 2)), batch_size=2, shuffle=False, verbose=0)
        found.append([np.array(v) for v in (*model.weights, *model.optimizer.variables)])
    assert len(found[0]) == len(found[1])
    for compiled, plain in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, plain, rtol=1e-4, atol=1e-6)
    assert found[0][3] == 4  # steps


def test_private_names_are_there_and_used():
    """What kbert overrides or reads of Keras and TensorFlow beyond their documentation; pyproject's bounds guard it."""
    called = []

    class Overridden(keras.optimizers.Lamb):
        def _all_reduce_sum_gradients(self, grads_and_vars):
            called.append("reduce")
            return grads_and_vars

        def _apply_weight_decay(self, variables):
            called.append("decay")

        def _backend_update_step(self, grads, trainable_variables, learning_rate):
            called.append("update")
            super()._backend_update_step(grads, trainable_variables, learning_rate)

    one, weight = Overridden(0.1, weight_decay=0.1), keras.Variable(np.ones(3, np.float32))
    one.apply_gradients([(keras.ops.ones(3), weight)])
    assert sorted(called) == ["decay", "reduce", "update"]
    index = one._get_variable_index(weight)
    assert one._momentums[index].shape == one._velocities[index].shape == (3,) and one._use_weight_decay(weight)
    health = inspect.signature(context.Context.check_collective_ops_peer_health)
    assert list(health.parameters) == ["self", "task", "timeout_in_ms"]
