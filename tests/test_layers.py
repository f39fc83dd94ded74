"""`kbert.Encoder` and `kbert.Tokenizer` in Keras models of one's own; the examples of docstrings and of the notebook."""

import doctest
import json
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, reviews, write_hugging_face, write_tsv

import kbert
import kbert.api
import kbert.layers
from kbert.checkpoints import open_checkpoint, write_checkpoint
from kbert.interruption import Notes

TEXTS = [text for text, _ in reviews(32)]
GOOD = np.array([label == "positive" for _, label in reviews(32)], int)


@pytest.fixture(scope="module")
def tokenizer(checkpoint):
    return kbert.Tokenizer.from_checkpoint(checkpoint)


def test_tokenizer_makes_the_encoders_inputs(tokenizer, checkpoint):
    found = {name: value.numpy().tolist() for name, value in tokenizer(["a good film!", "bad"]).items()}
    words = [[tokenizer.vocabulary[i] for i in ids] for ids in found["token_ids"]]
    assert words == [["[CLS]", "a", "good", "film", "!", "[SEP]"], ["[CLS]", "bad", "[SEP]", "[PAD]", "[PAD]", "[PAD]"]]
    assert found["padding_mask"] == [[1] * 6, [1, 1, 1, 0, 0, 0]] and not np.any(found["segment_ids"])
    pair = tokenizer(["a film"], np.array(["bad plot"], object), max_length=10, padding="max_length")
    assert pair["segment_ids"].numpy().tolist() == [[0, 0, 0, 0, 1, 1, 1, 0, 0, 0]]
    assert tokenizer("a " * 9, max_length=5)["token_ids"].shape == (5,)
    # In tf.data, row by row or in batches, of a shape that is always the same.
    whole = tf.data.Dataset.from_tensor_slices(TEXTS)
    rows = whole.map(lambda text: tokenizer(text, max_length=9, padding="max_length")).batch(32)
    batches = whole.batch(32).map(lambda texts: tokenizer(texts, max_length=9, padding="max_length"))
    assert batches.element_spec["token_ids"].shape.as_list() == [None, 9]
    for one, other in zip(next(iter(rows)).values(), next(iter(batches)).values(), strict=True):
        assert (one.numpy() == other.numpy()).all()
    # Those that the model directory's own path makes: the vectors are the same.
    encoder = kbert.Encoder.from_checkpoint(checkpoint)
    assert np.allclose(encoder(tokenizer(TEXTS))[:, 0], kbert.encode(checkpoint, TEXTS, pooling="cls"), atol=1e-6)
    for arguments, message in (
        ({"max_length": 2}, "max_length=2: expected at least 3"),
        ({"padding": "most"}, "padding='most'"),
    ):
        with pytest.raises(kbert.UsageError, match=message):
            tokenizer(["a"], **arguments)


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16"])
def test_encoder_in_a_functional_model(policy, checkpoint, tokenizer, tmp_path):
    keras.config.set_dtype_policy(policy)
    try:
        encoder = kbert.Encoder.from_checkpoint(checkpoint, freeze_layers=1, name="bert")
        inputs = encoder.inputs()
        model = keras.Model(inputs, keras.layers.Dense(2, dtype="float32")(encoder(inputs)[:, 0]))
    finally:
        keras.config.set_dtype_policy("float32")
    assert encoder(tokenizer(["good"])).dtype == tf.float32 and encoder.policy.name == policy
    model.compile(keras.optimizers.Adam(0.01), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    before = {w.path: w.numpy() for w in encoder.weights}
    data = tf.data.Dataset.from_tensor_slices((TEXTS, GOOD)).batch(16).map(lambda texts, labels: (tokenizer(texts), labels))
    losses = model.fit(data, epochs=6, verbose=0).history["loss"]
    assert losses[-1] < losses[0]
    trained = {w.path for w in encoder.trainable_weights}
    assert {path for path, was in before.items() if (was != encoder_weight(encoder, path)).any()} == trained
    assert trained and all(path.startswith("transformer_layer_1") for path in trained)

    expected = model.predict(tokenizer(TEXTS), verbose=0)
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    assert (loaded.predict(tokenizer(TEXTS), verbose=0) == expected).all()
    again = loaded.get_layer("bert")
    assert {w.path for w in again.trainable_weights} == trained and again.get_config() == encoder.get_config()
    assert json.loads(json.dumps(encoder.get_config()))["freeze_layers"] == 1

    if policy == "float32":  # raw text in, in a process of its own without kbert
        archive = keras.export.ExportArchive()
        archive.track(model)
        archive.add_endpoint("serve", lambda texts: model(tokenizer(texts)), [tf.TensorSpec([None], tf.string)])
        archive.write_out(tmp_path / "served", verbose=False)
        served = tf.saved_model.load(tmp_path / "served")
        assert np.allclose(served.serve(tf.constant(TEXTS)), expected, atol=1e-5)


def encoder_weight(encoder, path):
    return next(w.numpy() for w in encoder.weights if w.path == path)


def test_encoder_settings_and_errors(checkpoint, tmp_path):
    encoder = kbert.Encoder.from_checkpoint(checkpoint, freeze_embeddings=True, dropout=0.0, dtype="mixed_float16")
    again = kbert.Encoder.from_config(encoder.get_config())
    assert again.config == encoder.config and again.config.dropout == 0 and again.policy.name == "mixed_float16"
    assert again.frozen_embeddings and again.num_frozen == 0
    assert [w.path for w in again.trainable_weights] == [w.path for w in encoder.trainable_weights]
    encoder.trainable = False
    assert not kbert.Encoder.from_config(encoder.get_config()).trainable_weights
    for arguments, message in (
        ({"freeze_layers": 3}, "^freeze_layers=3: the checkpoint has 2 layers"),
        ({"dropout": 1}, "^dropout=1: expected a fraction"),
    ):
        with pytest.raises(kbert.UsageError, match=message):
            kbert.Encoder.from_checkpoint(checkpoint, **arguments)
    with pytest.raises(kbert.DataError, match=f"^init={tmp_path}: not a checkpoint"):
        kbert.Tokenizer.from_checkpoint(tmp_path)


STRATEGIES = """
import contextlib, sys
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
import keras, numpy as np, kbert
tokenizer = kbert.Tokenizer.from_checkpoint(sys.argv[1])
data = tf.data.Dataset.from_tensor_slices((["a good film", "bad", "the plot is dull", "fine"], [1, 0, 0, 1])).batch(4)
data = data.map(lambda texts, labels: (tokenizer(texts), labels))

def trained(strategy, dropout):
    with strategy.scope() if strategy else contextlib.nullcontext():
        keras.utils.set_random_seed(0)
        encoder = kbert.Encoder.from_checkpoint(sys.argv[1], freeze_layers=1, dropout=dropout)
        inputs = encoder.inputs()
        model = keras.Model(inputs, keras.layers.Dense(2)(encoder(inputs)[:, 0]))
        model.compile(keras.optimizers.SGD(0.1), keras.losses.SparseCategoricalCrossentropy(from_logits=True))
    model.fit(data, epochs=2, verbose=0)
    return model, [weight.numpy() for weight in model.weights]

alone = trained(None, 0.0)[1]
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
model, weights = trained(mirrored, 0.0)
assert all(np.allclose(a, b, atol=1e-6) for a, b in zip(alone, weights, strict=True))
model.save(sys.argv[2])
loaded = keras.models.load_model(sys.argv[2])
assert all((a == b.numpy()).all() for a, b in zip(weights, loaded.weights, strict=True))
assert [w.path for w in loaded.trainable_weights] == [w.path for w in model.trainable_weights]
workers = tf.distribute.MultiWorkerMirroredStrategy()  # a single one
assert all(np.isfinite(weight).all() for weight in trained(workers, 0.1)[1])
print(mirrored.num_replicas_in_sync, workers.num_replicas_in_sync)
"""


def test_encoder_under_strategies(checkpoint, forks, environment, tmp_path):
    child = forks.start(STRATEGIES, [str(checkpoint), str(tmp_path / "model.keras")], environment)
    output = child.communicate()[0]
    assert (output.split()[-2:], child.returncode) == (["2", "1"], 0), output[-2000:]


def test_a_programs_own_signal_handlers_stay():
    def own(*_):
        pass

    former = signal.signal(signal.SIGINT, own)
    try:
        with Notes().taken():
            assert signal.getsignal(signal.SIGINT) is own and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL
    finally:
        signal.signal(signal.SIGINT, former)


# Examples


@pytest.fixture
def workplace(trained, tmp_path, monkeypatch):
    """A current directory with what examples name: checkpoints, a model and files."""
    write_hugging_face(tmp_path / "bert_base_en")
    (tmp_path / "models").mkdir()
    (tmp_path / "models/mine").symlink_to(trained)
    write_checkpoint(open_checkpoint(str(trained)), str(tmp_path / "finetuned_en"), "hugging_face")
    write_tsv(tmp_path / "train.tsv", reviews(24, 1))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_examples_of_docstrings(workplace):
    names = {"kbert": kbert, "keras": keras, "model": kbert.load("models/mine")}
    finder, runner = doctest.DocTestFinder(), doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    tests = [test for module in (kbert.api, kbert.layers) for test in finder.find(module, extraglobs=names) if test.examples]
    for test in tests:
        runner.run(test)
    shown = {test.name.removeprefix("kbert.") for test in tests}
    assert {"api.Model", "api.Model.predict", "api.load", "api.train", "api.encode", "layers.Encoder"} <= shown
    assert runner.failures == 0 and runner.tries > 10


def test_notebook(workplace):
    notebook = json.loads((ROOT / "docs/first_steps.ipynb").read_text(encoding="utf-8"))
    assert notebook["nbformat"] == 4 and not any(cell.get("outputs") for cell in notebook["cells"])
    names = {}
    for cell in notebook["cells"]:
        if cell["cell_type"] == "code":
            exec("".join(cell["source"]), names)
            if "parameters" in cell["metadata"].get("tags", ()):
                names |= {"INIT": "bert_base_en", "EPOCHS": 2}
    assert names["model"].config.labels == ("negative", "positive") and names["vectors"].shape == (3, 16)
    assert (workplace / "savedmodels/first_steps/1/saved_model.pb").exists()
