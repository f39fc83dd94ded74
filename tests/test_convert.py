"""Checkpoints written in each form: bit-identical when read back, and what transformers makes of them."""

import json
import math
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import ROOT, VOCABULARY, write_hugging_face
from safetensors import SafetensorError, safe_open
from tiny import batch, full_tensors

from kbert import checkpoints
from kbert import convert as command
from kbert.checkpoints import FORMATS, open_checkpoint
from kbert.model.encoder import Encoder

RECORDED = ROOT / "tests" / "recorded"
LABELS = {"id2label": {"0": "bad", "1": "fine", "2": "good"}}
KINDS = {
    "BertModel": {},
    "BertForPreTraining": {"heads": True},
    "BertForMaskedLM": {"heads": True, "pooler": False},
    "BertForSequenceClassification": {"labels": 3},
}


def source(path, kind="BertModel", act="gelu_new", tokenizer=None, **config):
    tensors = full_tensors(**KINDS[kind])
    if kind == "BertForMaskedLM":
        tensors = {name: tensor for name, tensor in tensors.items() if "seq_relationship" not in name}
    more = LABELS if "Classification" in kind else {}
    return write_hugging_face(path, tensors, {"num_hidden_layers": 3, "hidden_act": act, **more, **config}, tokenizer)


def convert(init, output, form, *more):
    return command.main([f"--init={init}", f"--output={output}", f"--format={form}", *more])


def same(a, b):
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) and a[name].dtype == np.float32 for name in a)


@pytest.mark.parametrize(
    ("form", "kind", "act"),
    [
        *(("hugging_face", kind, "gelu") for kind in KINDS),
        *(("google", kind, "gelu_new") for kind in KINDS),
        ("hugging_face", "BertModel", "gelu_new"),
        ("hugging_face", "BertModel", "relu"),
        ("google", "BertModel", "relu"),
        ("keras_preset", "BertModel", "gelu_new"),
    ],
)
def test_round_trips_are_bit_identical(tmp_path, form, kind, act):
    was = open_checkpoint(str(source(tmp_path / "a", kind, act)))
    assert convert(tmp_path / "a", tmp_path / "b", form) == 0
    found = open_checkpoint(str(tmp_path / "b"))
    assert {"hugging_face": "Hugging Face", "google": "Google TF1", "keras_preset": "Keras preset"}[form] == found.format
    assert same(found.arrays(), was.arrays()) and same(found.heads(), was.heads()) and found.shapes == was.shapes
    assert (found.encoder, found.text, found.vocabulary) == (was.encoder, was.text, VOCABULARY)
    assert (found.pooling, found.labels) == (was.pooling, was.labels if form == "hugging_face" else ())
    assert convert(tmp_path / "b", tmp_path / "c", "hugging_face") == 0
    again = open_checkpoint(str(tmp_path / "c"))
    assert same(again.arrays(), was.arrays()) and same(again.heads(), was.heads())


@pytest.mark.parametrize("form", FORMATS)
@pytest.mark.parametrize(("lower", "strip"), [(True, True), (True, False), (False, True), (False, False)])
def test_casing_is_kept(tmp_path, form, lower, strip, capsys):
    source(tmp_path / "a", tokenizer={"do_lower_case": lower, "strip_accents": strip})
    code = convert(tmp_path / "a", tmp_path / "b", form)
    if form == "keras_preset" and lower and not strip:
        assert code == 2 and "lowercases and keeps accents" in capsys.readouterr().err
        assert not (tmp_path / "b").exists()
        return
    found = open_checkpoint(str(tmp_path / "b")).text
    assert code == 0 and (found.lowercase, found.strip_accents) == (lower, strip)


@pytest.mark.parametrize("kind", KINDS)
def test_written_tensors_are_those_of_transformers(tmp_path, kind):
    document = json.loads((RECORDED / "transformers.json").read_text())
    assert document["vocabulary"] == len(VOCABULARY)
    copies = {"cls.predictions.decoder.weight", "cls.predictions.decoder.bias"}
    expected = {name: shape for name, shape in document["tensors"][kind].items() if name not in copies}
    source(tmp_path / "a", kind)
    assert convert(tmp_path / "a", tmp_path / "b", "hugging_face") == 0
    with safe_open(tmp_path / "b" / "model.safetensors", framework="numpy") as file:
        assert file.metadata() == {"format": "pt"}
        slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
        assert {name: s.get_shape() for name, s in slices.items()} == expected
        assert {s.get_dtype() for s in slices.values()} == {"F32"}
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    modes = {path.stat().st_mode for path in (tmp_path / "b").iterdir()}
    assert len(modes) == 1  # whoever may read the vocabulary may read the weights
    assert config["architectures"] == [kind] and config["model_type"] == "bert" and config["hidden_act"] == "gelu_new"
    assert config.get("id2label") == (LABELS["id2label"] if kind == "BertForSequenceClassification" else None)
    assert config.get("label2id") == ({"bad": 0, "fine": 1, "good": 2} if "id2label" in config else None)


def outputs(path, heads=False):
    """kbert's sequence and pooled outputs on `batch()`."""
    found = open_checkpoint(str(path))
    encoder = Encoder(found.encoder)
    assert encoder.load(found.arrays(), str(path))
    hidden = encoder(batch())
    return np.asarray(hidden), np.asarray(encoder.backbone.pooled_dense(hidden[:, 0])), found


NUMPY_ACTIVATIONS = {
    "gelu": np.vectorize(lambda x: x * 0.5 * (1 + math.erf(x / math.sqrt(2)))),
    "gelu_new": lambda x: 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3))),
    "relu": lambda x: np.maximum(x, 0),
}


@pytest.mark.parametrize(("act", "form"), [("gelu", "hugging_face"), ("gelu_new", "keras_preset"), ("relu", "google")])
def test_outputs_agree_with_transformers(tmp_path, act, form):
    source(tmp_path / "a", act=act)
    assert convert(tmp_path / "a", tmp_path / "b", form) == 0
    sequence, pooled, _ = outputs(tmp_path / "b")
    real = batch()["padding_mask"] == 1
    with np.load(RECORDED / "transformers.npz", allow_pickle=False) as recorded:
        assert np.abs(sequence - recorded[f"{act}/sequence"])[real].max() < 2e-5
        assert np.abs(pooled - recorded[f"{act}/pooled"]).max() < 2e-5


@pytest.mark.parametrize("act", NUMPY_ACTIVATIONS)
def test_heads_agree_with_transformers(tmp_path, act):
    sequence, pooled, found = outputs(source(tmp_path / "pretrained", "BertForPreTraining", act))
    h = found.heads()
    x = NUMPY_ACTIVATIONS[act](sequence @ h["mlm_head/intermediate_dense/kernel"] + h["mlm_head/intermediate_dense/bias"])
    x = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-12)
    x = x * h["mlm_head/intermediate_layer_norm/gamma"] + h["mlm_head/intermediate_layer_norm/beta"]
    mlm = x @ found.arrays()["token_embedding/embeddings"].T + h["mlm_head/output_bias"]
    nsp = pooled @ h["nsp_head/kernel"] + h["nsp_head/bias"]
    c = open_checkpoint(str(source(tmp_path / "classifier", "BertForSequenceClassification", act))).heads()
    real = batch()["padding_mask"] == 1
    with np.load(RECORDED / "transformers.npz", allow_pickle=False) as recorded:
        assert np.abs(mlm - recorded[f"{act}/mlm"])[real].max() < 1e-4  # logits of some tens
        assert np.abs(nsp - recorded[f"{act}/nsp"]).max() < 2e-5
        logits = pooled @ c["classifier/kernel"] + c["classifier/bias"]
        assert np.abs(logits - recorded[f"{act}/classifier"]).max() < 2e-5


def test_a_trained_classifier_becomes_transformers_own(trained, tmp_path, capsys):
    assert convert(trained, tmp_path / "b", "hugging_face") == 0
    out, err = capsys.readouterr()
    assert "note:" not in err and "classifier of 2 labels (negative, positive)" in out and f"written: {tmp_path / 'b'}" in out
    found, was = open_checkpoint(str(tmp_path / "b")), open_checkpoint(str(trained))
    assert (
        same(found.arrays(), was.arrays())
        and same(found.heads(), was.heads())
        and set(was.heads())
        == {
            "classifier/kernel",
            "classifier/bias",
        }
    )
    assert found.labels == was.labels == ("negative", "positive") and found.pooling == was.pooling == "pooler"
    assert found.encoder == was.encoder and found.text == was.text


def test_a_classifier_over_the_mean_is_refused_by_name(trained, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "m")
    config = json.loads((trained / "config.json").read_text())
    config["model"]["options"]["pooling"] = "mean"
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    for file in (tmp_path / "m" / "checkpoints").glob("*/checkpoint.json"):  # as if it had been trained so
        file.write_text(json.dumps({**json.loads(file.read_text()), "marks": {}}))
    assert "over --pooling=mean" in checkpoints.summary(open_checkpoint(str(tmp_path / "m")))
    for form in ("hugging_face", "google"):
        assert convert(tmp_path / "m", tmp_path / form, form, "--approximate_gelu") == 2
        err = capsys.readouterr().err
        assert (
            "classifier reads --pooling=mean, but in this form it reads the pooler; --encoder_only writes the encoder only"
            in err
        )
        assert not (tmp_path / form).exists()
        assert convert(tmp_path / "m", tmp_path / form, form, "--approximate_gelu", "--encoder_only") == 0
        assert "note: omitted: classifier\n" in capsys.readouterr().err
        found = open_checkpoint(str(tmp_path / form))
        assert found.heads() == {} and same(found.arrays(), open_checkpoint(str(tmp_path / "m")).arrays())


def test_dropout_of_attention_weights_is_read_run_and_written(tmp_path, capsys):
    source(tmp_path / "a", hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.5)
    found = open_checkpoint(str(tmp_path / "a")).encoder
    assert (found.dropout, found.attention_dropout, found.attention_rate) == (0.0, 0.5, 0.5)
    encoder = Encoder(found)
    layer = encoder.backbone.transformer_layers[0]
    rates = [
        layer._self_attention_layer._dropout_layer.rate,
        layer._self_attention_dropout.rate,
        layer._feedforward_dropout.rate,
    ]
    assert rates == [0.5, 0.0, 0.0] and encoder.backbone.embeddings_dropout.rate == 0.0
    plain, *dropped = (np.asarray(encoder(batch(), training=training)) for training in (False, True, True))
    assert np.abs(plain - dropped[0]).max() > 1e-3 and np.abs(dropped[0] - dropped[1]).max() > 1e-3
    for form, file in (("hugging_face", "config.json"), ("google", "bert_config.json")):
        assert convert(tmp_path / "a", tmp_path / form, form) == 0
        written = json.loads((tmp_path / form / file).read_text())
        assert (written["hidden_dropout_prob"], written["attention_probs_dropout_prob"]) == (0.0, 0.5)
        assert open_checkpoint(str(tmp_path / form)).encoder == found
    capsys.readouterr()
    assert convert(tmp_path / "a", tmp_path / "keras", "keras_preset") == 0
    assert "a preset has a single dropout, 0.0; the attention dropout, 0.5, is not written" in capsys.readouterr().err
    source(tmp_path / "b", attention_probs_dropout_prob=0.1)
    assert open_checkpoint(str(tmp_path / "b")).encoder.attention_dropout is None  # as everywhere else


def test_exact_gelu_is_not_written_as_another_unless_told(tmp_path, capsys):
    source(tmp_path / "a", act="gelu")
    for form in ("google", "keras_preset"):
        assert convert(tmp_path / "a", tmp_path / form, form) == 2
        assert f"--format={form}: the checkpoint uses the exact gelu" in capsys.readouterr().err
        assert convert(tmp_path / "a", tmp_path / form, form, "--approximate_gelu") == 0
        assert "note: the exact GELU is written as its tanh approximation" in capsys.readouterr().err
        assert open_checkpoint(str(tmp_path / form)).encoder.activation == "gelu_approximate"


def test_what_a_preset_cannot_hold(tmp_path, capsys):
    source(tmp_path / "relu", act="relu")
    assert convert(tmp_path / "relu", tmp_path / "b", "keras_preset", "--approximate_gelu") == 2
    assert "activation is relu; a preset's is always gelu_approximate" in capsys.readouterr().err
    source(tmp_path / "lm", "BertForMaskedLM")
    assert convert(tmp_path / "lm", tmp_path / "b", "keras_preset") == 2
    assert "has no pooler, and a preset would contain a random one" in capsys.readouterr().err
    source(tmp_path / "mask")
    vocabulary = (tmp_path / "mask" / "vocab.txt").read_text(encoding="utf-8")
    (tmp_path / "mask" / "vocab.txt").write_text(vocabulary.replace("[MASK]", "mask"), encoding="utf-8")
    assert convert(tmp_path / "mask", tmp_path / "b", "keras_preset") == 2
    assert "the vocabulary has no [MASK]" in capsys.readouterr().err
    source(tmp_path / "heads", "BertForPreTraining")
    assert not (tmp_path / "b").exists() and not list(tmp_path.glob(".*"))
    assert convert(tmp_path / "heads", tmp_path / "b", "keras_preset") == 0
    assert "note: omitted: masked LM, next sentence; a preset holds the encoder only" in capsys.readouterr().err


def test_notes_on_poolers_and_label_names(tmp_path, capsys):
    tensors = {name: t for name, t in full_tensors().items() if not name.startswith("pooler.")}
    write_hugging_face(tmp_path / "bare", tensors, {"num_hidden_layers": 3})
    assert convert(tmp_path / "bare", tmp_path / "b", "hugging_face") == 0
    out, err = capsys.readouterr()
    assert "transformers' BertModel will initialise its own at random" in err and "heads:          no pooler" in out
    lm = {name: t for name, t in full_tensors(heads=True).items() if "seq_relationship" not in name}
    write_hugging_face(tmp_path / "lm", lm, {"num_hidden_layers": 3})
    assert convert(tmp_path / "lm", tmp_path / "f", "hugging_face") == 0
    assert "BertForMaskedLM does not use the pooler" in capsys.readouterr().err
    source(tmp_path / "c", "BertForSequenceClassification")
    assert convert(tmp_path / "c", tmp_path / "d", "google") == 0
    assert "Google's format cannot store label names; their order is bad, fine, good" in capsys.readouterr().err
    both = {**full_tensors(heads=True), **full_tensors(labels=3)}
    write_hugging_face(tmp_path / "both", both, {"num_hidden_layers": 3})
    assert convert(tmp_path / "both", tmp_path / "e", "hugging_face") == 0
    assert "masked LM and next sentence heads omitted" in capsys.readouterr().err
    assert set(open_checkpoint(str(tmp_path / "e")).heads()) == {"classifier/kernel", "classifier/bias"}
    assert set(json.loads((tmp_path / "e" / "config.json").read_text())["label2id"]) == {"LABEL_0", "LABEL_1", "LABEL_2"}


def test_outputs_in_use_and_missing_flags(checkpoint, tmp_path, capsys):
    (tmp_path / "used").mkdir()
    (tmp_path / "used" / "x").touch()
    (tmp_path / "empty").mkdir()
    for name in ("used", "used/x"):
        assert convert(checkpoint, tmp_path / name, "hugging_face") == 2
        assert "is in use; name an empty or a new directory" in capsys.readouterr().err
    assert convert(checkpoint, tmp_path / "used" / "x" / "y", "hugging_face") == 1
    assert "cannot be written" in capsys.readouterr().err
    assert convert(checkpoint, tmp_path / "empty", "hugging_face") == 0
    assert convert(checkpoint, tmp_path / "new" / "deep", "hugging_face") == 0
    assert command.main([f"--init={checkpoint}", "--output=x"]) == 2
    assert "--format is required" in capsys.readouterr().err
    assert command.main([f"--init={tmp_path / 'none'}", "--output=x", "--format=google"]) == 2
    assert "no such directory, and no preset of that name" in capsys.readouterr().err


FULL = "No space left on device"


@pytest.mark.parametrize(
    ("form", "call", "error"),
    [
        ("hugging_face", "kbert.checkpoints.hugging_face.save_file", SafetensorError(FULL)),
        ("google", "tensorflow.raw_ops.SaveV2", tf.errors.ResourceExhaustedError(None, None, FULL)),
        ("keras_preset", "keras_nlp.models.BertBackbone.save_to_preset", OSError(28, FULL)),
    ],
)
def test_a_conversion_that_fails_leaves_nothing(tmp_path, monkeypatch, capsys, form, call, error):
    def full(*_args, **_more):
        raise error

    source(tmp_path / "a")
    monkeypatch.setattr(call, full)
    assert convert(tmp_path / "a", tmp_path / "b", form) == 1
    assert f"cannot be written: {FULL}" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["a"]


def test_a_written_preset_is_keras_hubs_own(tmp_path):
    import keras_nlp

    source(tmp_path / "a")
    assert convert(tmp_path / "a", tmp_path / "b", "keras_preset") == 0
    backbone = keras_nlp.models.BertBackbone.from_preset(str(tmp_path / "b"))
    tokenizer = keras_nlp.models.BertTokenizer.from_preset(str(tmp_path / "b"))
    theirs = keras.ops.convert_to_numpy(backbone(batch())["pooled_output"])
    assert np.abs(theirs - outputs(tmp_path / "a")[1]).max() < 2e-5
    assert tokenizer.get_vocabulary() == VOCABULARY and tokenizer.lowercase and tokenizer.strip_accents
