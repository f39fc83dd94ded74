"""kbert from Python: the figures of the command lines, rows of every kind, errors that are exceptions."""

import json
import logging
import shutil
import signal
import subprocess
import sys
import types

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from conftest import hugging_face_tensors, reviews, write_hugging_face, write_tsv
from safetensors.numpy import load_file

import kbert
from kbert import encode, evaluate, finetune, keywords, predict
from kbert.data.bad_rows import BadRows
from kbert.data.indexing import open_table
from kbert.data.rows import Rows
from kbert.source import SourceConfig
from kbert.vectors import run


def lines(path):
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def weights(model_dir):
    return load_file(model_dir / "checkpoints/step-00000003/weights.safetensors")


@pytest.fixture(scope="module")
def model(trained):
    return kbert.load(trained)


# Importing


def test_importing_kbert_loads_nothing_and_names_are_found_when_used(environment):
    program = """
import sys, kbert
assert not {"tensorflow", "keras", "numpy", "absl"} & {*sys.modules}
assert {*kbert.__all__} <= {*dir(kbert)}
import kbert.train.session, kbert.encode
from kbert import encode, train, load, DataError
assert callable(kbert.train) and callable(encode) and encode.main and kbert.train.session
assert not {"tensorflow", "keras"} & {*sys.modules}
try:
    kbert.trian
except AttributeError as error:
    print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("module 'kbert' has no attribute 'trian'\n", "")


def test_keras_on_another_backend_is_an_error(environment):
    program = (
        "import sys, types; sys.modules['keras'] = types.SimpleNamespace(config=types.SimpleNamespace(backend=lambda: 'jax'))\n"
    )
    program += "import kbert\ntry:\n    kbert.Encoder\nexcept kbert.UsageError as error:\n    print(error)"
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.stdout == "Keras runs on jax, kbert on TensorFlow; set KERAS_BACKEND=tensorflow before Keras is imported\n"


# The same as the commands


def test_a_loaded_model_predicts_measures_and_exports_as_the_commands_do(model, trained, data, tmp_path):
    texts = ["a good film", "bad", "the plot " * 30]
    write_tsv(tmp_path / "rows.tsv", [(text,) for text in texts], header=("text",))
    out, metrics = tmp_path / "out.jsonl", tmp_path / "metrics.json"
    assert predict.main([f"--model_dir={trained}", f"--input={tmp_path / 'rows.tsv'}", f"--output={out}"]) == 0
    assert model.predict(texts) == model.predict(tmp_path / "rows.tsv") == lines(out)
    assert [answer.get("cut") for answer in model.predict(texts)] == [None, None, True]
    assert evaluate.main([f"--model_dir={trained}", f"--data={data / 'test.tsv'}", f"--metrics_out={metrics}"]) == 0
    assert model.evaluate(data / "test.tsv") == model.evaluate(reviews(40, 3)) == json.loads(metrics.read_text())
    identified = model.predict([{"key": 7, "words": "good"}], text_columns="words", id_column="key")
    assert identified[0]["id"] == "7" and identified[0]["label"] == "positive"

    path = model.export(tmp_path / "served")
    served = tf.saved_model.load(path).signatures["serving_default"](text=tf.constant(texts))
    assert path.name == "1" and [label.decode() for label in served["label"].numpy()] == [
        a["label"] for a in model.predict(texts)
    ]
    with pytest.raises(kbert.UsageError, match=r"^version=1: .*1 exists"):
        model.export(tmp_path / "served", version=1)
    assert repr(model) == f"kbert.load('{trained}')  # task=classify"


def test_training_on_rows_is_the_commands_training_and_continues(checkpoint, data, tmp_path, capsys):
    flags = {"init": checkpoint, "max_length": 20, "batch_size": 16, "learning_rate": 0.003, "freeze_layers": 1}
    files = {"train_data": data / "train.tsv", "dev_data": data / "dev.tsv", "model_dir": tmp_path / "command"}
    assert finetune.main([f"--{name}={value}" for name, value in {**flags, **files, "steps": 3}.items()]) == 0

    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), logging.getLogger("kbert").handlers
    dev = pd.DataFrame(reviews(40, 2), columns=["text", "label"])
    rows = {"train_data": reviews(192, 1), "dev_data": dev, "model_dir": tmp_path / "python"}
    model = kbert.train(**flags, **rows, steps=3)
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM), logging.getLogger("kbert").handlers) == before
    assert model.config.labels == ("negative", "positive")
    expected, found = weights(tmp_path / "command"), weights(tmp_path / "python")
    assert expected.keys() == found.keys() and all((expected[name] == found[name]).all() for name in expected)
    measured, again = json.loads((tmp_path / "python/metrics.json").read_text())["dev"], model.evaluate(dev)
    for name in ("loss", "ece"):  # a loaded model scales its weights beforehand, and so rounds otherwise
        assert again.pop(name) == pytest.approx(measured.pop(name), abs=1e-6)
    assert measured == again

    capsys.readouterr()
    assert kbert.train(**flags, **rows, steps=3).path == tmp_path / "python"
    assert "is finished: 3 steps" in capsys.readouterr().out
    with pytest.raises(kbert.UsageError, match="has a run with train_data_crc32"):
        kbert.train(**flags, **{**rows, "train_data": reviews(191, 1)}, steps=4)
    kbert.train(**flags, **rows, steps=4)
    assert (tmp_path / "python/checkpoints/step-00000004").exists()
    assert "4/4 - " in capsys.readouterr().out


def test_another_task_from_nested_rows(checkpoint, tmp_path):
    rows = [
        {"text": f"{a} film is {b}", "entities": [{"start": 0, "end": len(a), "type": "JUDGEMENT"}]}
        for a in ("good", "bad", "fine", "dull")
        for b in ("a plot", "the cafe", "very good", "not bad")
    ]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    flags = f"--task=tag\n--init={checkpoint}\n--label_column=entities\n--max_length=20\n--stride=4\n--steps=9\n"
    (tmp_path / "tag.flags").write_text(flags)
    model = kbert.train(
        flagfile=tmp_path / "tag.flags", train_data=rows, dev_data=tuple(rows), model_dir=tmp_path / "model", steps=2
    )
    assert model.config.task == "tag" and model.config.labels == ("JUDGEMENT",)
    metrics, out = tmp_path / "metrics.json", tmp_path / "out.jsonl"
    which = [f"--model_dir={model.path}"]
    assert evaluate.main([*which, f"--data={tmp_path / 'rows.jsonl'}", f"--metrics_out={metrics}"]) == 0
    assert model.evaluate(rows) == json.loads(metrics.read_text())
    assert predict.main([*which, f"--input={tmp_path / 'rows.jsonl'}", f"--output={out}"]) == 0
    assert model.predict(rows) == model.predict([row["text"] for row in rows]) == lines(out)
    assert "entities" in model.predict([["good", "film"]])[0]  # a row of tokens


def test_pretraining_and_filling_masks(checkpoint, tmp_path):
    (tmp_path / "text.txt").write_text("".join(f"the film is good .\na fine plot{' !' * n}\n\n" for n in range(40)))
    start = {"task": "pretrain", "objective": "mlm", "init": checkpoint, "steps": 1, "batch_size": 4, "max_length": 20}
    model = kbert.train(**start, train_data=tmp_path / "text.txt", dev_fraction=0.2, model_dir=tmp_path / "model")
    assert model.config.task == "pretrain" and model.predict(["the [MASK] is good"])[0]["row"] == 1
    with pytest.raises(kbert.UsageError, match="a pre-trained model is measured on text that was held out"):
        model.evaluate(["a"])
    with pytest.raises(kbert.UsageError, match="train_data: task=pretrain reads files of text, found list"):
        kbert.train(**start, train_data=["the film"], model_dir=tmp_path / "other")


def test_vectors_are_those_of_the_command(checkpoint, trained, model, tmp_path, monkeypatch):
    texts = ["a good film", "the plot is bad and the film is not"]
    (tmp_path / "texts.txt").write_text("".join(text + "\n" for text in texts))
    out = tmp_path / "vectors.npy"
    flags = [f"--init={checkpoint}", f"--input={tmp_path / 'texts.txt'}", f"--output={out}", "--pooling=cls", "--layers=1,2"]
    assert encode.main(flags) == 0
    found = kbert.encode(checkpoint, texts, pooling="cls", layers=[1, 2])
    assert found.shape == (2, 32) and found.dtype == np.float32 and (found == np.load(out)).all()
    assert (kbert.encode(model, pd.Series(texts)) == kbert.encode(str(trained), tmp_path / "texts.txt")).all()

    # A call on the same directory loads nothing; one on changed files, or of other vectors, does.
    shutil.copytree(checkpoint, tmp_path / "copy")
    loaded = []
    monkeypatch.setattr(run, "build", lambda *given, build=run.build: loaded.append(given) or build(*given))
    for expected in (1, 1):
        again = kbert.encode(tmp_path / "copy", texts[::-1], pooling="cls", layers=[1, 2])
        assert np.allclose(again, found[::-1], atol=1e-6) and len(loaded) == expected
    write_hugging_face(tmp_path / "copy", hugging_face_tensors(seed=1))
    assert not np.allclose(kbert.encode(tmp_path / "copy", texts, pooling="cls", layers=[1, 2]), found, atol=1e-2)
    assert kbert.encode(tmp_path / "copy", texts, pooling="cls").shape == (2, 16) and len(loaded) == 3
    for arguments, message in (
        ({"poling": "cls"}, r"unknown argument poling \(did you mean pooling\?\)"),
        ({"pooling": "median"}, "pooling=median: value should be one of <cls|mean"),
        ({"unit": "token"}, "unit: a flag of python -m kbert.encode alone"),
    ):
        with pytest.raises(kbert.UsageError, match=message):
            kbert.encode(checkpoint, texts, **arguments)


# Rows


class Labels:
    """What kbert looks at of a Hugging Face ClassLabel."""

    def __init__(self, *names):
        self.int2str = names.__getitem__


class HuggingFace:
    """What kbert looks at of a Hugging Face Dataset (5.2): `features` by column, and dicts when it is iterated over."""

    features = {"text": object(), "label": Labels("bad", "good")}  # noqa: RUF012

    def __iter__(self):
        return iter([{"text": "one", "label": 1}, {"text": "two 中", "label": 0}, {"text": "", "label": -1}])


DICTS = [{"text": "one", "label": "good"}, {"text": "two 中", "label": "bad"}, {"text": "", "label": "-1"}]
PAIRS = [tuple(row.values()) for row in DICTS]
COLUMNS = {name: [row[name] for row in DICTS] for name in ("text", "label")}


@pytest.mark.parametrize(
    "rows",
    [
        DICTS,
        PAIRS,
        [list(pair) for pair in PAIRS],
        np.array(PAIRS, object),
        (pair for pair in PAIRS),
        pd.DataFrame(COLUMNS),
        pd.DataFrame({"when": pd.Timestamp("2020-01-01"), **{name: pd.Categorical(COLUMNS[name]) for name in COLUMNS}}),
        tf.data.Dataset.from_tensor_slices(COLUMNS),
        tf.data.Dataset.from_tensor_slices((COLUMNS["text"], COLUMNS["label"])),
        tf.data.Dataset.from_tensor_slices(({"text": COLUMNS["text"]}, COLUMNS["label"])),
        HuggingFace(),
    ],
    ids=[
        "dicts",
        "tuples",
        "lists",
        "array",
        "generator",
        "pandas",
        "categories",
        "tf dicts",
        "tf tuples",
        "tf features",
        "hf",
    ],
)
def test_every_kind_of_rows(rows):
    table = open_table(Rows("train_data", rows), SourceConfig(), ("text", "label"), keyed_by=1)
    assert {name: [value.decode() for value in column] for name, column in table.read([0, 1, 2]).items()} == COLUMNS
    assert table.name == "train_data" and table.where(2) == "train_data:3"


def test_values_within_rows():
    class Tagged(HuggingFace):
        features = {"tags": types.SimpleNamespace(feature=Labels("O", "B-PER"))}  # noqa: RUF012

        def __iter__(self):
            return iter([{"tags": [0, 1]}])

    def spooled(values, names):
        with Rows("data", values).spool(names, names[:3], BadRows()) as file:
            file.seek(0)
            return file.read().decode()

    assert spooled(Tagged(), ["tags"]) == '{"tags": ["O", "B-PER"]}\n'
    row = (b"a", np.float32(0.5), np.array(["x"], object), {"k": (1, True)}, None, pd.NA, object())
    assert (
        spooled([row], "abcdefg") == '{"a": "a", "b": 0.5, "c": ["x"], "d": {"k": [1, true]}, "e": null, "f": NaN, "g": null}\n'
    )
    assert spooled(["\ud800"], ["text"]) == '{"text": "\\ud800"}\n'  # half a character, as JSON spells it
    named = open_table(Rows("data", [("x", "y")]), SourceConfig(columns=("label", "text")), ("text", "label"), keyed_by=1)
    assert named.read([0])["text"][0] == b"y"


# Errors


@pytest.mark.parametrize(
    ("arguments", "kind", "message"),
    [
        (
            {"train_data": [("a", "x"), ("b", "y"), ("c",)]},
            "DataError",
            r"^row 3 of train_data: 1 value, expected 2 \(text, label\)$",
        ),
        ({"train_data": [("a", "x"), ("b", "")]}, "DataError", "^row 2 of train_data: "),
        (
            {"train_data": [{"words": "a"}]},
            "DataError",
            r"^row 1 of train_data: no key 'text'; the object has: words; text_columns= reads another column$",
        ),
        ({"train_data": [("a", 1j)]}, "DataError", r"^row 1 of train_data: expected a string or a number, found complex"),
        ({"train_data": [3]}, "DataError", "^row 1 of train_data: expected a dict, a tuple or a text, found int$"),
        ({"train_data": pd.DataFrame({"text": ["a", None], "label": "x"})}, "DataError", "^row 2 of train_data: key 'text': "),
        ({"train_data": [], "dev_fraction": 0.5}, "DataError", "^train_data: no rows$"),
        ({"train_data": reviews(9), "dev_data": [("a", "neutral")]}, "DataError", "^row 1 of dev_data: label 'neutral'"),
        ({"train_data": "a good film"}, "DataError", "^a good film: no such file; a string names a file, rows and texts are "),
        (
            {"train_data": {"text": ["a"]}},
            "UsageError",
            r"^train_data: expected rows, for example a list of dicts, found one dict",
        ),
        ({"train_data": 3}, "UsageError", "^train_data: expected the name of a file, or rows, found int$"),
        (
            {"freeze_layer": 3},
            "UsageError",
            r"^unknown argument freeze_layer of task=classify \(did you mean freeze_layers\?\)$",
        ),
        ({"freeze_layer": None}, "UsageError", r"^unknown argument freeze_layer \(did you mean freeze_layers\?\)$"),
        ({"freeze_layers": -1}, "UsageError", "^freeze_layers=-1: -1 is not a non-negative integer$"),
        ({"freeze_layers": 3, "train_data": reviews(9)}, "UsageError", "^freeze_layers=3: the checkpoint has 2 layers"),
        ({"epochs": 1.5}, "UsageError", "^epochs=1.5: expected a whole number$"),
        ({"overwrite": "perhaps"}, "UsageError", "^overwrite=perhaps: "),
        ({"epochs": {}}, "UsageError", "^epochs: expected a string, a number or a list of strings, found dict$"),
        ({"task": "juggle"}, "UsageError", r"^task=juggle: no such task. The tasks are:\n  classify "),
        ({"init": None}, "UsageError", "^init is required: Checkpoint to start from"),
        ({"help": True}, "UsageError", "^unknown argument help"),
        ({"dev_data": "x", "dev_fraction": 0.1}, "UsageError", "^dev_data and dev_fraction exclude each other$"),
    ],
)
def test_training_errors(arguments, kind, message, checkpoint, tmp_path):
    given = {"init": checkpoint, "train_data": "train.tsv", "max_length": 20, "model_dir": tmp_path / "model", **arguments}
    with pytest.raises(getattr(kbert, kind), match=message):
        kbert.train(**given)
    assert not list(tmp_path.glob("model/checkpoints/*"))


def test_errors_of_a_loaded_model(model, tmp_path):
    for call, kind, message in (
        (lambda: kbert.load(tmp_path), kbert.DataError, rf"^model_dir={tmp_path}: not a kbert model"),
        (lambda: kbert.load(model.path, n_best=3), kbert.UsageError, "^n_best=3: task=classify has one answer a row$"),
        (lambda: model.predict([("a", "b")]), kbert.DataError, r"^row 1 of rows: 2 values, expected 1 \(text\)$"),
        (lambda: model.predict(["a"], text_columns=["a", "b"]), kbert.UsageError, "^text_columns=a,b: the model reads 1"),
        (lambda: model.predict(["a"], text_colum="a"), kbert.UsageError, "did you mean text_columns?"),
        (lambda: model.evaluate(["a"]), kbert.DataError, r"^row 1 of data: 1 value, expected 2 \(text, label\)$"),
    ):
        with pytest.raises(kind, match=message):
            call()


def test_errors_of_tensorflow_are_translated():
    def raised(error):
        with pytest.raises(kbert.KbertError) as found, keywords.errors_in_python(Rows("train_data", [])):
            raise error
        return type(found.value), str(found.value)

    wrapped = tf.errors.InvalidArgumentError(None, None, "DataError: train_data:3: no row is there")
    assert raised(wrapped) == (kbert.DataError, "row 3 of train_data: no row is there")
    assert raised(MemoryError())[1].startswith("out of memory: lower batch_size or max_length")
    with pytest.raises(ZeroDivisionError), keywords.errors_in_python():
        _ = 1 / 0
