"""config.json and vocab.txt that were damaged or edited: each setting is named, and nothing is answered."""

import copy
import dataclasses
import json
import shutil

import numpy as np
import pytest
from conftest import finetune_flags

from kbert import evaluate, export, finetune, predict, recorded
from kbert.config import EncoderConfig, ModelConfig, TextConfig, TrainConfig
from kbert.errors import DataError, UsageError
from kbert.model_dir import ModelDir
from kbert.pretrain_config import PretrainConfig
from kbert.same_run import check_same
from kbert.saved import Figures
from kbert.settings import to_json
from kbert.tasks import RECORDED
from kbert.tasks.aspect.options import Aspect

LABELS = {"classify": ("a", "b"), "tag": ("PER",), "match": ("0", "1"), "aspect": ("negative", "positive")}
ENCODER = EncoderConfig(vocabulary_size=40, num_layers=2, num_heads=2, hidden_dim=16, intermediate_dim=32)


def document(path, task: str) -> dict:
    """A config.json of a task, as `recorded.write` writes it."""
    options = RECORDED[task]()
    if task == "aspect":
        options = dataclasses.replace(options, aspects=(Aspect(name="food_taste", coarse="food", readable="food taste"),))
    model = ModelConfig(
        task=task,
        fields=RECORDED[task].FIELDS[0],
        labels=LABELS.get(task, ()),
        options=to_json(options),
        encoder=ENCODER,
        text=TextConfig(lowercase=True, strip_accents=True),
        max_length=384,
    )
    train = PretrainConfig(train_data="t") if task == "pretrain" else TrainConfig(init="i", train_data="t")
    recorded.write(path, model, train)
    assert recorded.read(path) == (model, train)
    return json.loads(path.read_text())


def leaves(values: dict, *above: str):
    for name, value in values.items():
        if isinstance(value, dict):
            yield from leaves(value, *above, name)
        else:
            yield (*above, name), value


def refused(path, whole: dict, keys: tuple[str, ...], value) -> str:
    """The message about a changed value, which names file and key."""
    changed = copy.deepcopy(whole)
    place = changed
    for key in keys[:-1]:
        place = place[key]
    place[keys[-1]] = value
    path.write_text(json.dumps(changed))
    with pytest.raises(DataError) as caught:
        recorded.read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: {keys[0]}: "), (keys, value, message)
    assert f"{keys[-1]}: " in message or f"--{keys[-1]}=" in message, (keys, value, message)
    return message


@pytest.mark.parametrize("task", list(RECORDED))
def test_each_setting_is_checked(tmp_path, task):
    path = tmp_path / "config.json"
    whole = document(path, task)
    count = 0
    for keys, value in [*leaves({"model": whole["model"]}), *leaves({"train": whole["train"]})]:
        wrong = [{"a": 1}, [[1]], float("inf")]
        if value is not None and not isinstance(value, list):
            wrong += [[], None]
        if not isinstance(value, str | None):
            wrong += ["many"]
        if isinstance(value, int | float):
            wrong += [-1e300]
        for each in wrong:
            message = refused(path, whole, keys, each)
            assert "expected" in message or "--" in message, message
            count += 1
    assert count > 150


@pytest.mark.parametrize(
    ("task", "keys", "value", "allowed"),
    [
        (
            "classify",
            ("task",),
            "summarize",
            "expected one of classify, tag, answer, match, aspect, pretrain, found 'summarize'",
        ),
        ("classify", ("max_length",), 0, "expected a number of at least 3, found 0"),
        ("classify", ("max_length",), 2, "expected a number of at least 3, found 2"),
        ("classify", ("max_length",), 100_000, "expected at most 512, the encoder's max_sequence_length, found 100000"),
        ("classify", ("labels",), ["a", "b", "a"], "expected different ones, found 'a' twice"),
        ("classify", ("labels",), ["a"], "expected 2 or more for task classify, found 1"),
        ("classify", ("labels",), ["a", " "], "expected text"),
        ("classify", ("fields",), ["text", "text"], 'expected ["text"] or ["text", "text_b"] for task classify'),
        ("classify", ("options", "pooling"), "last", "expected one of pooler, cls, mean, found 'last'"),
        ("classify", ("options", "head_dropout"), 7, "expected a number from 0.0 to 0.9, found 7.0"),
        ("classify", ("encoder", "num_heads"), 3, "expected a number that divides hidden_dim, 16, found 3"),
        ("classify", ("encoder", "num_segments"), 0, "expected a number of at least 1, found 0"),
        ("classify", ("encoder", "dropout"), 7, "expected a number from 0.0 to 1.0, found 7.0"),
        ("classify", ("encoder", "num_layers"), 2000, "expected a number from 1 to 1000, found 2000"),
        ("tag", ("labels",), [], "expected 1 or more for task tag, found 0"),
        ("tag", ("options", "stride"), 382, "--stride=382: windows of --max_length=384 hold 382 tokens"),
        ("answer", ("labels",), ["a"], "expected none for task answer, found 1"),
        ("answer", ("options", "n_best"), 0, "expected a number from 1 to 100, found 0"),
        ("match", ("labels",), ["no", "yes"], "expected numbers for task match, found 'no'"),
        ("match", ("labels",), ["1", "0"], "expected ascending numbers, found 1, 0"),
        ("match", ("encoder", "num_segments"), 1, 'expected at least 2 for fields ["title", "text"], found 1'),
        ("pretrain", ("options", "objective"), "clm", "expected one of mlm+nsp, mlm, mlm+sop, found 'clm'"),
    ],
)
def test_what_is_allowed_is_named(tmp_path, task, keys, value, allowed):
    path = tmp_path / "config.json"
    assert allowed in refused(path, document(path, task), ("model", *keys), value)


def test_what_is_no_configuration_is_named(tmp_path):
    for text, message in (
        ("{", "not readable as JSON"),
        ("[]", "not written by kbert"),
        ("{}", "not written by kbert"),
        ('{"kbert": {"schema": 99}}', "schema 99"),
        ('{"kbert": {"schema": 1}}', "model: expected an object, found NoneType"),
    ):
        (tmp_path / "config.json").write_text(text)
        with pytest.raises(DataError, match=message):
            ModelDir(tmp_path).read_config()


def commands(path, checkpoint, data):
    """Each command that answers from a model directory, or goes on with it."""
    text = data / "dev.tsv"
    yield lambda: predict.main([f"--model_dir={path}", "--text=a good film", f"--output={path.parent / 'out'}"])
    yield lambda: evaluate.main([f"--model_dir={path}", f"--data={text}"])
    yield lambda: export.main([f"--model_dir={path}", f"--export_dir={path.parent / 'served'}"])
    yield lambda: finetune.main(finetune_flags(path, data, path.parent / "other"))
    yield lambda: finetune.main(
        finetune_flags(checkpoint, data, path, epochs=8, learning_rate=0.01, test_data=data / "test.tsv")
    )


def test_a_damaged_directory_is_never_answered_from(trained, checkpoint, data, tmp_path, capsys):
    path = tmp_path / "m"
    shutil.copytree(trained, path)
    vocabulary, settings = (path / "vocab.txt").read_bytes(), json.loads((path / "config.json").read_text())
    kept = ModelDir(path).best().path.name

    def all_refuse(message: str, code: int = 1, most: int = 5) -> None:
        for command in list(commands(path, checkpoint, data))[:most]:
            capsys.readouterr()
            assert command() == code
            assert message in capsys.readouterr().err

    lines = vocabulary.splitlines(keepends=True)
    (path / "vocab.txt").write_bytes(b"".join(lines[:-1]))
    all_refuse(f"{path / 'vocab.txt'}: ")
    (path / "vocab.txt").write_bytes(b"".join([*lines[:5], lines[6], lines[5], *lines[7:]]))  # two words swapped
    all_refuse(f"{path / 'vocab.txt'}: not the vocabulary that step-")
    (path / "vocab.txt").write_bytes(vocabulary)
    # Labels in another order are allowed as such.
    settings["model"]["labels"] = settings["model"]["labels"][::-1]
    (path / "config.json").write_text(json.dumps(settings))
    all_refuse(
        f'{path / "config.json"}: model: labels: ["positive", "negative"] differs from what {kept} was trained with', most=4
    )
    (path / "config.json").write_text("{")
    all_refuse(f"{path / 'config.json'}: not readable as JSON")
    # But the directory can be used anew; and an older one, whose checkpoints say nothing of its vocabulary, is read.
    flags = finetune_flags(checkpoint, data, path, epochs=0)
    assert finetune.main([*flags, "--overwrite"]) == 0
    saved = ModelDir(path).best().path / "checkpoint.json"
    about = json.loads(saved.read_text())
    assert about.pop("marks")
    saved.write_text(json.dumps(about))
    (path / "vocab.txt").write_bytes(b"".join(lines[:-1]))
    capsys.readouterr()
    assert evaluate.main([f"--model_dir={path}", f"--data={data / 'dev.tsv'}"]) == 0
    assert "embeddings; is the file cut short?" in capsys.readouterr().err


def test_a_run_that_learnt_words_of_tokens_is_not_continued_with_tokens(tmp_path):
    path = tmp_path / "config.json"
    whole = document(path, "tag")
    del whole["model"]["options"]["tokens"]  # as an older kbert wrote it
    path.write_text(json.dumps(whole))
    (tmp_path / "vocab.txt").write_text("[PAD]\n")
    model, train = recorded.read(path)
    directory = ModelDir(tmp_path)

    def check(tokens: str) -> None:
        now = dataclasses.replace(model, options={**model.options, "tokens": tokens})
        check_same(directory, now, train, ["[PAD]"])

    check("auto")  # its rows come without tokens, and are read as before
    with pytest.raises(UsageError, match="trained and evaluated on words, though rows have tokens; .*--init=.* continues"):
        check("words")


def test_edited_thresholds_are_not_answered_from(tmp_path):
    document(tmp_path / "config.json", "match")
    (tmp_path / "checkpoints").mkdir()
    directory, vocabulary = ModelDir(tmp_path), [f"[{i}]" for i in range(40)]
    (tmp_path / "vocab.txt").write_text("".join(f"{token}\n" for token in vocabulary))
    model, train = recorded.read(tmp_path / "config.json")
    directory.write_config(model, train, vocabulary)
    arrays = {"a": np.zeros(1, np.float32)}
    figures = Figures(step=3, per_epoch=3, score=0.5, calibration={"threshold": 0.3550029993057251})
    path = directory.save(arrays, arrays, figures) / "checkpoint.json"
    assert directory.read_model(directory.best()) == (model, vocabulary)
    about = json.loads(path.read_text())
    for edited in ({"threshold": 7.0}, {"threshold": float("nan")}, {"limit": 0.3550029993057251}, {}):
        path.write_text(json.dumps({**about, "calibration": edited}))
        with pytest.raises(DataError, match="checkpoint.json: calibration: .* is not what dev rows gave; undo the change"):
            directory.read_model(directory.best())
    path.write_text(json.dumps({**about, "calibration": {"threshold": 7.0}, "marks": {}}))  # of an older kbert
    assert directory.read_model(directory.best())
