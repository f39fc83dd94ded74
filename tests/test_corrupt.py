"""Checkpoints that are cut short, damaged or nonsense: an error naming the file, never a traceback or a silent load."""

import json
import logging
import shutil

import keras_nlp
import numpy as np
import pytest
from conftest import VOCABULARY, write_hugging_face
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.numpy import save_file
from tiny import full_tensors, hugging_face_tensors

from kbert.checkpoints import open_checkpoint, write_checkpoint
from kbert.errors import DataError

TOKENIZER = {
    "added_tokens": [{"id": i, "content": VOCABULARY[i]} for i in (0, 1, 2, 3, 4, len(VOCABULARY) - 1)],
    "normalizer": {"type": "BertNormalizer", "lowercase": False, "strip_accents": None},
    "model": {"type": "WordPiece", "vocab": {token: i for i, token in enumerate(VOCABULARY[:-1])}},
}


def shard(path):
    """Split a directory's tensors over two files and an index, as transformers does with large models."""
    (path / "model.safetensors").unlink()
    names = sorted(hugging_face_tensors())
    where = {name: f"model-{1 + i % 2}.safetensors" for i, name in enumerate(names)}
    for file in set(where.values()):
        save_file({n: t for n, t in hugging_face_tensors().items() if where[n] == file}, path / file)
    (path / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))


@pytest.fixture(scope="session")
def forms(tmp_path_factory, trained):
    """A checkpoint in each form."""
    base = tmp_path_factory.mktemp("forms")
    write_hugging_face(base / "hugging_face", config={"hidden_act": "gelu_new"})
    write_hugging_face(base / "sharded")
    shard(base / "sharded")
    write_hugging_face(base / "fast")
    (base / "fast" / "vocab.txt").unlink()
    (base / "fast" / "tokenizer_config.json").unlink()
    (base / "fast" / "tokenizer.json").write_text(json.dumps(TOKENIZER), encoding="utf-8")
    found = open_checkpoint(str(base / "hugging_face"))
    write_checkpoint(found, str(base / "google"), "google")
    write_checkpoint(found, str(base / "keras"), "keras_preset")
    shutil.copytree(trained, base / "kbert", ignore=shutil.ignore_patterns("tb", "state.safetensors"))
    return base


FILES = [
    ("hugging_face", "model.safetensors"),
    ("hugging_face", "config.json"),
    ("hugging_face", "vocab.txt"),
    ("hugging_face", "tokenizer_config.json"),
    ("sharded", "model.safetensors.index.json"),
    ("sharded", "model-2.safetensors"),
    ("fast", "tokenizer.json"),
    ("google", "bert_config.json"),
    ("google", "vocab.txt"),
    ("google", "bert_model.ckpt.index"),
    ("google", "bert_model.ckpt.data-00000-of-00001"),
    ("keras", "config.json"),
    ("keras", "tokenizer.json"),
    ("keras", "assets/tokenizer/vocabulary.txt"),
    ("keras", "model.weights.h5"),
    ("kbert", "config.json"),
    ("kbert", "vocab.txt"),
    ("kbert", "checkpoints/{kept}/weights.safetensors"),
    ("kbert", "checkpoints/{kept}/checkpoint.json"),
]


def contents(path):
    found = open_checkpoint(str(path))
    return found.encoder, found.text, found.vocabulary, {**found.arrays(), **found.heads()}


def warned(caplog):
    return "the last line has no line end" in caplog.text


def shortened(before, after, caplog):
    """Whether a vocabulary lacks lines at its end, and the user is told how many."""
    missing = len(before[2]) - len(after[2])
    return before[2][: len(after[2])] == after[2] and f"; {missing} rows are unused" in caplog.text


def same(a, b):
    return a[:3] == b[:3] and set(a[3]) == set(b[3]) and all(np.array_equal(a[3][name], b[3][name]) for name in a[3])


@pytest.fixture(params=FILES, ids=lambda f: "/".join(f).replace("{kept}/", ""))
def damaged(request, forms, tmp_path):
    """A copy of a checkpoint, one file of it, how a message names it, and what the checkpoint holds."""
    form, name = request.param
    path = tmp_path / "checkpoint"
    shutil.copytree(forms / form, path)
    if "{kept}" in name:
        from kbert.model_dir import ModelDir

        name = name.format(kept=ModelDir(path).best().path.name)
    name_said = name.removesuffix(".index").removesuffix(".data-00000-of-00001")
    return path, path / name, str(path / name_said), contents(path)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(fraction=st.floats(0, 1, exclude_max=True))
def test_a_file_cut_short_is_named(damaged, caplog, monkeypatch, fraction):
    monkeypatch.setattr(logging.getLogger("kbert"), "propagate", True)
    caplog.clear()
    path, file, name, before = damaged
    whole = file.read_bytes()
    try:
        file.write_bytes(whole[: int(fraction * len(whole))])
        try:
            after = contents(path)
        except DataError as error:
            assert name in str(error)
        else:
            # Nothing but the last line end is gone; or part of the last token or whole lines, which the user is told.
            assert same(before, after) or (
                file.suffix == ".txt"
                and ((before[2][:-1] == after[2][:-1] and warned(caplog)) or shortened(before, after, caplog))
            )
    finally:
        file.write_bytes(whole)


@settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(garbage=st.binary(min_size=1, max_size=200))
def test_a_file_with_garbage_at_its_head_is_named(damaged, garbage):
    path, file, name, before = damaged
    whole = file.read_bytes()
    try:
        file.write_bytes(garbage + whole[len(garbage) :])
        try:
            after = contents(path)
        except DataError as error:
            assert name in str(error)
        else:
            # JSON is JSON and a word is a word, and numbers of any bits are numbers; the weights' files have heads.
            assert same(before, after) or not file.name.startswith(("model", "weights", "bert_model.ckpt.index"))
    finally:
        file.write_bytes(whole)


def test_a_missing_file_is_named(damaged):
    path, file, name, _ = damaged
    file.unlink()
    if file.name == "tokenizer_config.json":
        return  # nothing has to say more than the defaults
    with pytest.raises(DataError) as caught:
        contents(path)
    known = {"config.json": path, "bert_config.json": path, "bert_model.ckpt.index": path, "model.safetensors.index.json": path}
    known["tokenizer.json"] = path / "vocab.txt" if path.joinpath("model.safetensors").exists() else name
    assert str(known.get(file.name, name)) in str(caught.value)


@pytest.mark.parametrize(
    ("form", "file", "value", "message"),
    [
        ("hugging_face", "config.json", [], "model_type is None; kbert reads 'bert'"),
        ("hugging_face", "tokenizer_config.json", [], "expected an object, found list"),
        ("hugging_face", "tokenizer_config.json", {"do_lower_case": "yes"}, "do_lower_case is 'yes'; expected true or false"),
        ("hugging_face", "tokenizer_config.json", {"tokenize_chinese_chars": False}, "tokenize_chinese_chars is False"),
        ("sharded", "model.safetensors.index.json", {"weight_map": []}, "expected an object weight_map"),
        ("sharded", "model.safetensors.index.json", {"weight_map": {"x": "../x"}}, "files of this directory"),
        (
            "sharded",
            "model.safetensors.index.json",
            {"weight_map": {"x": "model-1.safetensors"}},
            "tensor 'x' is missing, which",
        ),
        ("sharded", "model.safetensors.index.json", {"weight_map": {"x": "model-3.safetensors"}}, "no such file"),
        ("fast", "tokenizer.json", [], "expected an object, found list"),
        ("fast", "tokenizer.json", {"model": {"type": "BPE", "vocab": {}}}, "the model is not a WordPiece"),
        ("fast", "tokenizer.json", {"model": {"vocab": {"a": 0, "b": 2}}}, "ids are not 0, 1, 2"),
        ("fast", "tokenizer.json", {"model": {"vocab": {"a": 0, "b": "1"}}}, "not a tokenizer"),
        ("fast", "tokenizer.json", {"model": {"vocab": {"a": 0}}, "added_tokens": [7]}, "not a tokenizer"),
        ("google", "bert_config.json", 7, "expected an object, found int"),
        ("google", "bert_config.json", {"hidden_act": "gelu"}, "not a BERT config: 'vocab_size' is missing"),
        ("keras", "config.json", {"registered_name": "os>system"}, "holds a 'os>system', not a BertBackbone"),
        ("keras", "config.json", {"registered_name": "keras_hub>BertBackbone", "config": 1}, "config is 1; expected an object"),
        ("keras", "tokenizer.json", {"registered_name": "keras_hub>BertTokenizer", "config": {}}, "lowercase is None and"),
    ],
)
def test_nonsense_is_named(forms, tmp_path, form, file, value, message):
    shutil.copytree(forms / form, tmp_path / "c")
    (tmp_path / "c" / file).write_text(json.dumps(value))
    with pytest.raises(DataError) as caught:
        contents(tmp_path / "c")
    assert message in str(caught.value) and str(tmp_path / "c") in str(caught.value)


@pytest.mark.parametrize("about", [[], {"step": 1}, {"step": "1", "per_epoch": 1, "score": 0.5}])
def test_nonsense_about_a_kept_epoch_is_named(forms, tmp_path, about):
    shutil.copytree(forms / "kbert", tmp_path / "c")
    file = next((tmp_path / "c" / "checkpoints").glob("*/checkpoint.json"))
    file.write_text(json.dumps(about))
    with pytest.raises(DataError, match=str(file)):
        open_checkpoint(str(tmp_path / "c"))


@pytest.mark.parametrize(
    ("form", "file", "keys", "value"),
    [
        ("keras", "config.json", ("config", "num_layers"), 3),
        ("keras", "config.json", ("config", "hidden_dim"), 1_000_000_000),
        ("keras", "config.json", ("config", "num_heads"), "two"),
        ("google", "bert_config.json", ("num_hidden_layers",), 1),
        ("google", "bert_config.json", ("intermediate_size",), 16),
        ("kbert", "config.json", ("model", "encoder", "num_heads"), 0),
        ("kbert", "config.json", ("model", "encoder", "hidden_dim"), 32),
        ("kbert", "config.json", ("model", "encoder", "num_layers"), 3),
    ],
)
def test_sizes_that_the_weights_do_not_have(forms, tmp_path, form, file, keys, value):
    shutil.copytree(forms / form, tmp_path / "c")
    config = json.loads((tmp_path / "c" / file).read_text())
    place = config
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    (tmp_path / "c" / file).write_text(json.dumps(config))
    with pytest.raises(DataError, match=str(tmp_path / "c")):
        open_checkpoint(str(tmp_path / "c"))


def test_numbers_that_are_none_are_named_in_every_form(forms, tmp_path):
    found = open_checkpoint(str(forms / "hugging_face"))
    arrays = {**found.arrays(), "pooled_dense/bias": np.full(16, np.inf, np.float32)}
    bad = type(found)(**{**vars(found), "arrays": lambda: arrays})
    for form in ("hugging_face", "google", "keras_preset"):
        write_checkpoint(bad, str(tmp_path / form), form)
        with pytest.raises(DataError, match=r"contains values that are not finite"):
            open_checkpoint(str(tmp_path / form)).arrays()


def test_deep_json_is_no_traceback(tmp_path):
    path = write_hugging_face(tmp_path)
    (path / "config.json").write_text("[" * 100_000)
    with pytest.raises(DataError, match=r"config\.json: not readable as JSON"):
        open_checkpoint(str(path))


def test_a_preset_of_something_else_is_not_imported(forms, tmp_path, monkeypatch):
    monkeypatch.setattr(keras_nlp.models.BertBackbone, "from_preset", None)  # it would import what a config names
    assert open_checkpoint(str(forms / "keras")).arrays()


@pytest.mark.parametrize(("copy", "differs"), [(False, False), (True, False), (True, True)])
def test_tied_copies(tmp_path, copy, differs):
    tensors = full_tensors(heads=True)
    if copy:
        tensors["cls.predictions.decoder.weight"] = tensors["bert.embeddings.word_embeddings.weight"].copy()
        tensors["cls.predictions.decoder.bias"] = tensors["cls.predictions.bias"].copy()
    if differs:
        tensors["cls.predictions.decoder.weight"][3, 3] += 1
    found = open_checkpoint(str(write_hugging_face(tmp_path, tensors, {"num_hidden_layers": 3})))
    assert found.arrays()
    if differs:
        # A masked LM that computes with other weights is set aside as a whole, and the next sentence head is not.
        assert {path.split("/")[0] for path in found.heads()} == {"nsp_head"}
        assert {"cls.predictions.decoder.weight", "cls.predictions.bias"} <= set(found.ignored)
    else:
        assert "mlm_head/output_bias" in found.heads()
    if copy:
        del tensors["cls.predictions.bias"]
        again = open_checkpoint(str(write_hugging_face(tmp_path / "b", tensors, {"num_hidden_layers": 3})))
        assert ("mlm_head/output_bias" in again.shapes) == (not differs)
