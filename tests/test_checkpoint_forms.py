"""Which files of a directory are read as a checkpoint, and what is said of those that are not."""

import json
import pickle
import shutil
import sys
import types

import numpy as np
import pytest
from conftest import CONFIG, VOCABULARY, hugging_face_tensors, write_hugging_face

from kbert import checkpoints
from kbert.checkpoints import open_checkpoint
from kbert.checkpoints.sentence_transformers import read_sentence_settings
from kbert.errors import DataError, UsageError


def refused(path) -> str:
    with pytest.raises(DataError) as caught:
        open_checkpoint(str(path))
    return str(caught.value)


class FakeTensor:
    """What kbert uses of torch's."""

    def __init__(self, array):
        self.array, self.shape, self.dtype = array, array.shape, f"torch.{array.dtype}"

    def __eq__(self, other):  # found in a list of another's, as torch's never is
        raise AssertionError

    __hash__ = None

    def detach(self):
        return self

    def float(self):
        return FakeTensor(self.array.astype(np.float32))

    def numpy(self):
        return self.array


def fake_torch(monkeypatch, loaded, version="2.6.0+cpu"):
    """Put a module in torch's place; returns the arguments that its `load` is called with."""
    asked = []

    def load(path, **settings):
        asked.append(settings)
        if isinstance(loaded, Exception):
            raise loaded
        return loaded[path.name]

    module = types.ModuleType("torch")
    module.__version__, module.Tensor, module.load = version, FakeTensor, load
    monkeypatch.setitem(sys.modules, "torch", module)
    return asked


def test_pickles_are_read_by_torchs_weights_only_loader(tmp_path, monkeypatch, checkpoint):
    path = write_hugging_face(tmp_path)
    (path / "model.safetensors").unlink()
    state = {f"module.bert.{name}": FakeTensor(tensor) for name, tensor in hugging_face_tensors().items()}
    parts = {"pytorch_model-1.bin": {}, "pytorch_model-2.bin": {}}
    for name, tensor in state.items():
        parts[f"pytorch_model-{1 + ('query' in name)}.bin"][name] = tensor
    index = {name: part for part, tensors in parts.items() for name in tensors}
    for part in (*parts, "last.pt"):
        (path / part).write_bytes(b"x")
    (path / "pytorch_model.bin.index.json").write_text(json.dumps({"weight_map": index}))
    asked = fake_torch(monkeypatch, {**parts, "last.pt": {"step": 3, "model": state, "optimizer": {"a": [1]}}})
    plain = open_checkpoint(str(checkpoint)).arrays()
    for source in ("pytorch_model.bin.index.json", "last.pt"):
        found = open_checkpoint(str(path))
        assert found.source == source and found.aside == ()
        assert all(np.array_equal(array, plain[name]) for name, array in found.arrays().items())
        (path / "pytorch_model.bin.index.json").unlink(missing_ok=True)
        for part in parts:
            (path / part).unlink(missing_ok=True)
    assert asked and all(settings["weights_only"] is True for settings in asked)
    fake_torch(monkeypatch, pickle.UnpicklingError("Weights only load failed. Unsupported global: GLOBAL my.Model was not an"))
    assert "last.pt: holds more than tensors and plain values (my.Model), as does a whole model, and reading" in refused(path)
    fake_torch(monkeypatch, RuntimeError("unexpected EOF\nand more"))
    assert refused(path).endswith("last.pt: not readable by torch's weights-only loader: unexpected EOF")
    fake_torch(monkeypatch, {}, "2.5.1")
    assert "torch 2.5.1 cannot read without the risk of running code (CVE-2025-32434); pip install 'torch>=2.6'" in refused(
        path
    )
    (path / "best.pth").write_bytes(b"x")
    assert "has several files of weights, best.pth, last.pt; rename the one to use to pytorch_model.bin" in refused(path)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"model.safetensors": POINTER}, "model.safetensors: is a Git LFS pointer, not the file itself; run `git lfs pull` in"),
        ({"pytorch_model.bin": POINTER}, "pytorch_model.bin: is a Git LFS pointer"),
        ({"vocab.txt": POINTER, "model.safetensors": None}, "vocab.txt: is a Git LFS pointer"),
        (
            {"bert_model.ckpt.index": POINTER, "bert_model.ckpt.data-00000-of-00001": POINTER},
            "ckpt.index: is a Git LFS pointer",
        ),
        ({"tf_model.h5": ""}, "tf_model.h5: TensorFlow weights of transformers, which kbert does not read; convert them in"),
        ({"flax_model.msgpack": ""}, "from_flax=True"),
        ({"adapter_model.safetensors": ""}, "an adapter (LoRA or the like) without its model; merge the two"),
        ({"bert.keras": "", "config.json": None}, "a whole Keras model; load it with keras.models.load_model"),
        ({"saved_model.pb": "", "config.json": None}, "a TensorFlow SavedModel, made for serving"),
        ({"model.onnx": ""}, "an ONNX model"),
        ({"model-f16.gguf": "", "config.json": None}, "a GGUF file, whose weights are quantized"),
        ({"optimizer.pt": "", "training_args.bin": ""}, "model.safetensors: no such file"),
    ],
)
def test_what_kbert_does_not_read_is_recognised_by_name(tmp_path, files, message):
    path = write_hugging_face(tmp_path)
    if "model.safetensors" not in files:
        (path / "model.safetensors").unlink()
    for name, content in files.items():
        if content is None and name == "config.json":
            (path / name).unlink()
        elif content is not None:
            (path / name).write_text(content)
    assert message in refused(path)


@pytest.mark.parametrize(
    ("config", "rename", "message"),
    [
        ({"model_type": "roberta"}, "", "kbert reads 'bert'. RoBERTa counts positions from 2"),
        ({"model_type": "llama"}, "", "model_type is 'llama'; kbert reads 'bert'; use a checkpoint of model_type bert"),
        ({"model_type": "ernie", "use_task_id": True}, "", "ERNIE with use_task_id has embeddings of tasks"),
        ({"model_type": "ernie"}, "", None),
        ({"model_type": "dpr"}, "question_encoder.bert_model.", None),
        ({"model_type": None, "architectures": ["XLMRobertaForMaskedLM"]}, "", "model_type is 'xlm-roberta'"),
        ({"model_type": None, "architectures": ["ElectraModel"]}, "", "model_type is 'electra'"),
        ({"model_type": None}, "roberta.", "its tensors are those of model_type 'roberta'"),
        ({}, "encoder.albert_layer_groups.", "its tensors are those of model_type 'albert'"),
        ({"model_type": None, "architectures": ["MyModel"]}, "", None),
    ],
)
def test_other_architectures_are_recognised_by_name(tmp_path, config, rename, message):
    path = write_hugging_face(tmp_path, {rename + name: tensor for name, tensor in hugging_face_tensors().items()}, config)
    if message is None:
        assert open_checkpoint(str(path)).encoder.num_layers == 2
    else:
        assert message in refused(path)


def test_two_encoders_in_one_file(tmp_path, caplog):
    tensors = hugging_face_tensors()
    both = {f"{prefix}{name}": tensor for prefix in ("doc.bert.", "query.bert.") for name, tensor in tensors.items()}
    path = write_hugging_face(tmp_path, both)
    assert "holds 2 encoders, under 'doc.bert.', 'query.bert.'; save the one to use alone" in refused(path)
    both |= {f"bert.{name}": tensor for name, tensor in tensors.items()}  # where transformers looks for it
    found = open_checkpoint(str(write_hugging_face(tmp_path, both)))
    assert len(found.ignored) == 2 * len(tensors) and not found.aside


def test_a_missing_tensor_of_the_encoder_is_an_error_whatever_the_prefix(tmp_path):
    name = "encoder.layer.1.output.dense.bias"
    tensors = {f"module.bert.{n}": tensor for n, tensor in hugging_face_tensors().items() if n != name}
    assert f"tensor '{name}' is missing" in refused(write_hugging_face(tmp_path, tensors))
    tensors[f"module.bert.{name}"] = np.zeros(16, np.float32)
    tensors["module.bert.encoder.layer.1.output.adapter.weight"] = np.zeros(16, np.float32)
    assert "output.adapter.weight' is not part of this BERT" in refused(write_hugging_face(tmp_path, tensors))


def test_folders_around_a_checkpoint(tmp_path, caplog):
    cache = tmp_path / "models--a--b"
    for name in ("old", "new"):
        write_hugging_face(cache / "snapshots" / name)
    assert "expected one folder, or one that refs/main names, found 2, new, old; give one of these folders" in refused(cache)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("old\n")
    (cache / "snapshots" / "new" / "model.safetensors").unlink()
    with caplog.at_level("INFO"):
        assert open_checkpoint(str(cache)).vocabulary == VOCABULARY
    assert "reads the snapshot old" in caplog.text
    modules = [
        {"type": f"sentence_transformers.models.{kind}", "path": kind.removeprefix("Transformer")}
        for kind in ("Transformer", "Pooling")
    ]
    (cache / "snapshots" / "old" / "modules.json").write_text(json.dumps(modules))
    (cache / "snapshots" / "old" / "Pooling").mkdir()
    (cache / "snapshots" / "old" / "Pooling" / "config.json").write_text('{"pooling_mode": "cls"}')
    assert read_sentence_settings(str(cache), lowercase=True).pooling == ("cls",)
    assert refused(tmp_path).endswith("; its folder models--a--b may be: give the folder's own path")
    shutil.rmtree(cache / "snapshots")
    (cache / "snapshots").mkdir()
    assert "names, found 0" in refused(cache)


def test_google_checkpoints_by_name(tmp_path, caplog):
    source = write_hugging_face(tmp_path / "a", config={"hidden_act": "relu"})
    checkpoints.write_checkpoint(open_checkpoint(str(source)), str(tmp_path / "b"), "google")
    path, prefix = tmp_path / "b", tmp_path / "b" / "bert_model.ckpt"
    assert open_checkpoint(str(prefix)).source == open_checkpoint(f"{prefix}.index").source == "bert_model.ckpt"
    (path / "checkpoint").write_text('model_checkpoint_path: "model.ckpt-9"\n')
    assert open_checkpoint(str(path)).source == "bert_model.ckpt"
    assert "reads bert_model.ckpt, its only checkpoint, though the file `checkpoint` names model.ckpt-9" in caplog.text
    (path / "checkpoint").unlink()
    for file in list(path.glob("bert_model.ckpt.*")):
        shutil.copy(file, path / file.name.replace("bert_model", "older"))
    assert f"found 2: bert_model.ckpt, older.ckpt; give one, as --init={path / 'older.ckpt'}" in refused(path)
    assert open_checkpoint(str(path / "older.ckpt")).source == "older.ckpt"
    (path / "bert_config.json").rename(path / "bert_config_small.json")
    (path / "vocab.txt").rename(path / "vocab_zh.txt")
    assert "vocab.txt: no such file; if vocab_zh.txt is the vocabulary, rename it" in refused(path / "older.ckpt")
    (path / "tokenizer_config.json").write_text('{"vocab_file": "vocab_zh.txt"}')
    assert open_checkpoint(str(path / "older.ckpt")).vocabulary == VOCABULARY


def test_a_tf2_object_checkpoint(tmp_path):
    import tensorflow as tf

    tf.train.Checkpoint(v=tf.Variable(1.0)).write(str(tmp_path / "ckpt-1"))
    (tmp_path / "bert_config.json").write_text(json.dumps(CONFIG))
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in VOCABULARY), encoding="utf-8")
    assert "ckpt-1: a TF2 object checkpoint" in refused(tmp_path)


def test_the_epsilon_is_kept_or_its_loss_refused(tmp_path):
    found = open_checkpoint(str(write_hugging_face(tmp_path / "a", config={"layer_norm_eps": 1e-5, "hidden_act": "gelu_fast"})))
    checkpoints.write_checkpoint(found, str(tmp_path / "b"), "hugging_face")
    assert json.loads((tmp_path / "b" / "config.json").read_text())["layer_norm_eps"] == 1e-5
    assert open_checkpoint(str(tmp_path / "b")).encoder == found.encoder
    for form in ("google", "keras_preset"):
        with pytest.raises(
            UsageError, match="the checkpoint's layer_norm_eps is 1e-05, and this form implies 1e-12; use --for"
        ):
            checkpoints.write_checkpoint(found, str(tmp_path / "c"), form)
