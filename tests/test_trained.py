"""Commands on a trained model: what they say of other directories, and several models in one process."""

import json
import shutil
from pathlib import Path

import pytest
import tensorflow as tf

import kbert
from kbert import evaluate, graphs, inspect, predict
from kbert.model_dir import ModelDir

POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n"


def weights(path: Path) -> Path:
    return ModelDir(path).best().weights_file


DAMAGE = {
    "a cut configuration": lambda path: (path / "config.json").write_text('{"kbert": '),
    "no vocabulary": lambda path: (path / "vocab.txt").unlink(),
    "a cut vocabulary": lambda path: (path / "vocab.txt").write_text("[PAD]\n[UN"),
    "no weights": lambda path: weights(path).unlink(),
    "cut weights": lambda path: weights(path).write_bytes(weights(path).read_bytes()[:99]),
    "a pointer": lambda path: weights(path).write_text(POINTER),
    "another model": lambda path: (path / "config.json").write_text('{"model_type": "gpt2"}'),
    "no configuration": lambda path: (path / "config.json").unlink(),
}


@pytest.mark.parametrize("damage", DAMAGE)
def test_commands_say_what_inspect_says(trained, tmp_path, capsys, damage):
    path = tmp_path / "m"
    shutil.copytree(trained, path, ignore=shutil.ignore_patterns("tb", "state*"))
    DAMAGE[damage](path)
    assert inspect.main([f"--init={path}"], program="") == 1
    said = capsys.readouterr().err.removeprefix(": ").removeprefix(f"--init={path}: ")
    for command in (lambda: predict.main([f"--model_dir={path}", "--text=a"]), lambda: evaluate.main([f"--model_dir={path}", "--data=x"])):
        assert command() == 1
        assert capsys.readouterr().err.endswith(said)


def test_other_directories_are_recognised(trained, checkpoint, tmp_path, capsys):
    for path, said in {
        checkpoint: f"it is a checkpoint, Hugging Face BERT: 2 layers, .*kbert finetune --init={checkpoint} trains a model from it$",
        weights(trained).parent: f"it is a checkpoint of the model in {trained}; give --model_dir={trained}$",
        checkpoint / "config.json": "is a file; name the directory of a model$",
        tmp_path: "not a checkpoint: the directory has neither config.json",
    }.items():
        with pytest.raises(kbert.DataError, match=said.replace("--", "")):
            kbert.load(path)


def test_a_model_is_checked_before_the_rows_are_read(trained, tmp_path, capsys):
    path = tmp_path / "m"
    shutil.copytree(trained, path, ignore=shutil.ignore_patterns("tb", "state*"))
    figures = weights(path).with_name("checkpoint.json")
    figures.write_text(json.dumps({**json.loads(figures.read_text()), "score": None}))
    assert evaluate.main([f"--model_dir={path}", "--data=/nowhere.tsv"]) == 1
    assert "has checkpoints, but has not measured dev" in capsys.readouterr().err


def test_several_models_in_a_process_do_not_warn_of_retracing(caplog):
    class Model:
        def answer(self, value):
            return value + 1

    def warnings():
        return sum("retracing" in record.getMessage() for record in caplog.records if record.name == "tensorflow")

    for _ in range(8):
        assert graphs.function(Model().answer)(tf.constant(1)) == 2
    assert not warnings()
    # One function that is traced again and again still does.
    traced = graphs.function(Model().answer)
    for value in range(8):
        traced(value)
    assert warnings()
