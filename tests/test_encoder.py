"""The encoder against a BERT written with numpy, against KerasHub's own, and its freezing."""

import math

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import hugging_face_tensors, write_hugging_face

from kbert.checkpoints import open_checkpoint
from kbert.errors import DataError, UsageError
from kbert.model.encoder import Encoder, frozen_table
from kbert.model.heads import Pool, inputs

IDS = np.array([[2, 5, 7, 9, 3], [2, 6, 3, 0, 0]], np.int32)
SEGMENTS = np.array([[0, 0, 0, 1, 1], [0, 0, 0, 0, 0]], np.int32)
MASK = np.array([[1, 1, 1, 1, 1], [1, 1, 1, 0, 0]], np.int32)
BATCH = {"token_ids": IDS, "segment_ids": SEGMENTS, "padding_mask": MASK}

NUMPY_ACTIVATIONS = {
    "gelu": np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2)))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


def numpy_bert(t: dict[str, np.ndarray], activation: str, heads: int = 2, layers: int = 2) -> np.ndarray:
    """Devlin et al. 2019 in float64, with Hugging Face's tensor names; last hidden states."""
    t = {name: value.astype(np.float64) for name, value in t.items()}

    def dense(x, name):
        return x @ t[name + ".weight"].T + t[name + ".bias"]

    def norm(x, name):
        x = x - x.mean(-1, keepdims=True)
        return x / np.sqrt((x * x).mean(-1, keepdims=True) + 1e-12) * t[name + ".weight"] + t[name + ".bias"]

    x = t["embeddings.word_embeddings.weight"][IDS] + t["embeddings.token_type_embeddings.weight"][SEGMENTS]
    x = norm(x + t["embeddings.position_embeddings.weight"][: IDS.shape[1]], "embeddings.LayerNorm")
    for i in range(layers):
        at = f"encoder.layer.{i}."
        q, k, v = (
            dense(x, f"{at}attention.self.{name}").reshape(*IDS.shape, heads, -1).transpose(0, 2, 1, 3)
            for name in ("query", "key", "value")
        )
        scores = q @ k.transpose(0, 1, 3, 2) / math.sqrt(q.shape[-1]) + (1 - MASK)[:, None, None, :] * -1e30
        weights = np.exp(scores - scores.max(-1, keepdims=True))
        mixed = (weights / weights.sum(-1, keepdims=True)) @ v
        mixed = dense(mixed.transpose(0, 2, 1, 3).reshape(x.shape), at + "attention.output.dense")
        x = norm(x + mixed, at + "attention.output.LayerNorm")
        wide = NUMPY_ACTIVATIONS[activation](dense(x, at + "intermediate.dense"))
        x = norm(x + dense(wide, at + "output.dense"), at + "output.LayerNorm")
    return x


def encoder(path, dtype: str = "float32") -> Encoder:
    checkpoint = open_checkpoint(str(path))
    made = Encoder(checkpoint.encoder, dtype)
    made.load(checkpoint.arrays(), "checkpoint")
    return made


@pytest.mark.parametrize("activation", NUMPY_ACTIVATIONS)
def test_hidden_states_follow_the_checkpoint(tmp_path, activation):
    tensors = hugging_face_tensors()
    made = encoder(write_hugging_face(tmp_path, tensors, {"hidden_act": activation}))
    found = keras.ops.convert_to_numpy(made(BATCH))
    expected = numpy_bert(tensors, activation)
    assert np.abs(found - expected)[MASK == 1].max() < 2e-5
    others = [numpy_bert(tensors, other) for other in NUMPY_ACTIVATIONS if other != activation]
    assert all(np.abs(found - other)[MASK == 1].max() > 1e-4 for other in others)


def test_the_same_as_keras_hubs_own_order(tmp_path):
    made = encoder(write_hugging_face(tmp_path, config={"hidden_act": "gelu_new"}))
    ours, theirs = made(BATCH), made.backbone(BATCH)["sequence_output"]
    assert np.abs(np.asarray(ours) - np.asarray(theirs))[MASK == 1].max() < 1e-5


def test_first_only_is_the_first_of_all(checkpoint):
    made = encoder(checkpoint)
    assert np.abs(np.asarray(made(BATCH))[:, :1] - np.asarray(made(BATCH, first_only=True))).max() < 1e-6


@pytest.mark.parametrize("dtype", ["mixed_bfloat16", "mixed_float16"])
def test_mixed_precision_is_close_and_keeps_float32_weights(checkpoint, dtype):
    made = encoder(checkpoint, dtype)
    assert {v.dtype for v in made.weights} == {"float32"}
    found = np.asarray(keras.ops.cast(made(BATCH), "float32"))
    assert np.abs(found - np.asarray(encoder(checkpoint)(BATCH)))[MASK == 1].max() < 0.2


@pytest.mark.parametrize("layers", [0, 1, 2])
@pytest.mark.parametrize("embeddings", [False, True])
def test_freezing(checkpoint, layers, embeddings):
    made = encoder(checkpoint)
    made.freeze_lower(layers, embeddings)
    frozen = {v.path for v in made.weights if not v.trainable}
    starts = [f"transformer_layer_{i}/" for i in range(layers)]
    starts += ["token_embedding/", "position_embedding/", "segment_embedding/", "embeddings_layer_norm/"] * (
        embeddings or layers > 0
    )
    assert frozen == {v.path for v in made.weights if v.path.startswith(tuple(starts))} if starts else not frozen


def test_frozen_layers_run_without_dropout(checkpoint):
    made = encoder(checkpoint)
    without = np.asarray(made(BATCH, training=False))
    assert np.abs(np.asarray(made(BATCH, training=True)) - without).max() > 1e-3
    made.freeze_lower(2)
    assert np.array_equal(np.asarray(made(BATCH, training=True)), without)
    made.freeze_lower(1)
    assert np.abs(np.asarray(made(BATCH, training=True)) - without).max() > 1e-3


@pytest.mark.parametrize("layers", [-1, 3])
def test_freezing_more_than_there_is(checkpoint, layers):
    with pytest.raises(UsageError, match=f"--freeze_layers={layers}: the checkpoint has 2 layers"):
        encoder(checkpoint).freeze_lower(layers)


def test_frozen_table_counts_every_weight_once(checkpoint):
    made = encoder(checkpoint)
    made.freeze_lower(1)
    x = inputs()
    model = keras.Model(x, keras.layers.Dense(3, name="classifier")(Pool(made, "pooler")(made(x), x["padding_mask"])))
    assert len({v.path for v in model.weights}) == len(model.weights)
    text = frozen_table(model, made)
    trained, frozen = (int(line.split()[1].replace(",", "")) for line in text.splitlines()[-2:])
    assert trained + frozen == model.count_params()
    assert trained == sum(int(np.prod(v.shape)) for v in model.trainable_variables)
    assert [line.split()[-1] for line in text.splitlines()[1:4]] == ["frozen", "frozen", "trained"]


@pytest.mark.parametrize("pooling", ["pooler", "cls", "mean"])
def test_pooling(checkpoint, pooling):
    made = encoder(checkpoint)
    hidden = np.asarray(made(BATCH))
    found = np.asarray(Pool(made, pooling)(hidden, MASK))
    tensors = hugging_face_tensors()
    expected = {
        "cls": hidden[:, 0],
        "mean": np.stack([hidden[0].mean(0), hidden[1, :3].mean(0)]),
        "pooler": np.tanh(hidden[:, 0] @ tensors["pooler.dense.weight"].T + tensors["pooler.dense.bias"]),
    }[pooling]
    assert np.abs(found - expected).max() < 1e-5
    assert made.backbone.pooled_dense.trainable == (pooling == "pooler")


def test_load_names_what_is_wrong(checkpoint):
    made = encoder(checkpoint)
    arrays = open_checkpoint(str(checkpoint)).arrays()
    name = "transformer_layer_1/feedforward_layer_norm/beta"
    for wrong, message in [
        ({k: v for k, v in arrays.items() if k != name}, f"c: tensor '{name}' is missing"),
        ({**arrays, "extra": arrays[name]}, "c: tensor 'extra' is not part of a BERT of 2 layers"),
        ({**arrays, name: arrays[name][:3]}, rf"c: tensor '{name}' has shape \(3,\), expected \(16,\)"),
    ]:
        with pytest.raises(DataError, match=message):
            made.load(wrong, "c")


@pytest.mark.parametrize(("pooling", "whole"), [("pooler", False), ("cls", True), ("mean", True)])
def test_a_missing_pooler_is_told_where_it_is_read_and_zero_where_it_is_not(checkpoint, pooling, whole):
    found = open_checkpoint(str(checkpoint))
    arrays = {name: array for name, array in found.arrays().items() if not name.startswith("pooled_dense/")}
    made = Encoder(found.encoder)
    Pool(made, pooling)
    assert made.load(arrays, "here") == whole
    assert made.backbone.pooled_dense.kernel.numpy().any() != whole
    assert made.load(found.arrays(), "here") and made.backbone.pooled_dense.kernel.numpy().any()


@pytest.mark.parametrize("activation", NUMPY_ACTIVATIONS)
def test_compiled_activations_are_the_plain_ones(tmp_path, activation):
    """A training step's hidden states and gradients; without dropout, so that both see the same."""
    made = encoder(write_hugging_face(tmp_path, config={"hidden_act": activation, "hidden_dropout_prob": 0.0}))
    weights = made.backbone.transformer_layers[0].weights
    found = []
    for made.compiled in (True, False):
        with tf.GradientTape() as tape:
            hidden = made(BATCH, training=True)
            loss = tf.reduce_sum(tf.sin(hidden))
        found.append([hidden, *tape.gradient(loss, weights)])
    for compiled, plain in zip(*found, strict=True):
        np.testing.assert_allclose(compiled, plain, atol=2e-5)


def test_keras_knows_the_shapes_without_tracing(checkpoint, monkeypatch):
    made, real = encoder(checkpoint), Encoder._transform
    monkeypatch.setattr(Encoder, "_transform", None)
    assert made(inputs()).shape == (None, None, 16) and made(inputs(), first_only=True).shape == (None, 1, 16)
    monkeypatch.setattr(Encoder, "_transform", real)
    for chosen in ({}, {"first_only": True}, {"first_only": True, "layers": [0, 1, 2]}):
        found, described = made(BATCH, **chosen), made.compute_output_spec(BATCH, **chosen)
        found, described = (value if isinstance(value, list) else [value] for value in (found, described))
        assert [value.shape for value in found] == [spec.shape for spec in described]


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize(("dtype", "atol"), [("float32", 1e-6), ("mixed_bfloat16", 0.02)])
def test_joined_weights_give_the_same(checkpoint, dtype, atol, packed):
    ids = tf.constant([[2, 5, 6, 3, 0], [2, 7, 3, 0, 0], [2, 3, 0, 0, 0]])
    seen = tf.constant([[1.0, 1, 1, 1, 0], [1, 1, 1, 0, 0], [1, 1, 0, 0, 0]])[..., None]
    inputs = {"token_ids": ids, "segment_ids": tf.zeros_like(ids), "padding_mask": tf.cast(ids > 0, tf.int32)}
    for chosen in ({}, {"first_only": True}, {"positions": tf.constant([[0, 2], [1, 0], [1, 1]])}):
        encoder = Encoder(open_checkpoint(str(checkpoint)).encoder, dtype)
        weight = 1.0 if chosen else seen  # states of padding mean nothing
        plain = encoder(inputs, **chosen) * weight
        copies = encoder.fuse(packed=packed)
        # One product for query, key and value; in the last layer one for the queries, which may be few.
        assert len(copies) == 2 * encoder.config.num_layers + 2 and not any(copy.trainable for copy in copies)
        joined = encoder(inputs, **chosen) * weight
        assert np.allclose(joined, plain, atol=atol)
        for copy in copies:  # they are what is read
            copy.assign(tf.zeros_like(copy))
        assert not np.allclose(encoder(inputs, **chosen) * weight, joined, atol=1e-3)


def test_packed_rows_without_tokens(checkpoint):
    encoder = Encoder(open_checkpoint(str(checkpoint)).encoder)
    encoder.fuse(packed=True)
    ids = tf.zeros((2, 3), tf.int32)
    states = encoder({"token_ids": ids, "segment_ids": ids, "padding_mask": ids})
    assert states.shape == (2, 3, encoder.config.hidden_dim) and np.isfinite(states).all()


def test_states_at_some_positions_are_those_of_all(checkpoint):
    made = encoder(checkpoint)
    positions = tf.constant([[0, 2, 1], [0, 1, 1]])[: len(BATCH["token_ids"])]
    found = []
    for some in (True, False):
        with tf.GradientTape() as tape:
            hidden = made(BATCH, positions=positions) if some else tf.gather(made(BATCH), positions, batch_dims=1)
            loss = tf.reduce_sum(tf.sin(hidden))
        found.append([hidden, *tape.gradient(loss, made.backbone.transformer_layers[-1].trainable_variables)])
    for one, other in zip(*found, strict=True):
        np.testing.assert_allclose(one, other, atol=2e-6)
    assert made(inputs(), positions=keras.Input((None,), dtype="int32")).shape == (None, None, 16)
