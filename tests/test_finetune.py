"""The training command line, from flags to a model directory, with what can go wrong."""

import json
import shutil

import numpy as np
import pytest
from conftest import PATIENCE, VOCABULARY, finetune_flags, reviews, wait_for, write_hugging_face
from forked import program_of
from safetensors.numpy import load_file
from tiny import hugging_face_tensors

from kbert import evaluate, finetune, kept_checkpoints
from kbert.checkpoints import open_checkpoint
from kbert.model_dir import ModelDir
from kbert.tasks.labels import LabelAudit
from kbert.train import evaluation
from kbert.train import run as training


def weights(path) -> dict[str, np.ndarray]:
    last = ModelDir(path).last()
    assert last is not None
    return last.weights()


def same(a, b) -> bool:
    return set(a) == set(b) and all(np.array_equal(a[name], b[name]) for name in a)


def test_a_run_learns_and_leaves_a_complete_directory(trained, capsys):
    metrics = json.loads((trained / "metrics.json").read_text())
    assert metrics["dev"]["accuracy"] > 0.9 and metrics["test"]["accuracy"] > 0.9
    config = json.loads((trained / "config.json").read_text())
    assert config["kbert"]["schema"] == 1 and config["model"]["labels"] == ["negative", "positive"]
    assert config["model"]["encoder"]["activation"] == "gelu" and config["train"]["epochs"] == 8
    assert (trained / "vocab.txt").read_text(encoding="utf-8").split() == VOCABULARY
    kept = ModelDir(trained).checkpoints()
    assert 1 <= len(kept) <= 2 and max(s.epoch for s in kept) == 8
    assert ModelDir(trained).best().metrics["accuracy"] == metrics["dev"]["accuracy"]
    assert not [p for p in trained.rglob("*") if ".writing" in p.name]


@pytest.mark.parametrize("more", [{"freeze_layers": 1, "pooling": "mean"}, {"freeze_embeddings": True}])
def test_frozen_weights_stay_bit_identical_and_the_others_move(checkpoint, data, tmp_path, more, capsys):
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "m", **more, epochs=1)) == 0
    out, err = capsys.readouterr()
    assert (
        "Hugging Face BERT: 2 layers" in err
        and "train 192 rows, dev 40 rows, 2 labels" in err
        and "lengths of texts in tokens: 50 % up to" in err
    )
    for part in ("embeddings", "frozen", "trained", "dev_accuracy", "precision", "macro", "epoch 1, the best on dev"):
        assert part in out
    before, after = open_checkpoint(str(checkpoint)).arrays(), weights(tmp_path / "m")
    frozen = ("transformer_layer_0/",) * (more.get("freeze_layers", 0) > 0)
    if more.get("freeze_layers") or more.get("freeze_embeddings"):
        frozen += ("token_embedding/", "position_embedding/", "segment_embedding/", "embeddings_layer_norm/")
    if "pooling" in more:
        frozen += ("pooled_dense/",)
    for name, array in before.items():
        assert np.array_equal(array, after[name]) == name.startswith(frozen or ("-",)), name
    assert any(name.startswith("classifier/") for name in after)


class Stop(Exception):
    pass


def test_a_run_that_stops_after_an_epoch_and_goes_on_equals_one_without_a_break(
    checkpoint, data, tmp_path, monkeypatch, capsys
):
    flags = finetune_flags(checkpoint, data, tmp_path / "m", epochs=3)
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "whole", epochs=3)) == 0
    original = ModelDir.save

    def save_then_stop(self, weights, state, figures):
        original(self, weights, state, figures)
        if figures.epoch == 2:
            raise Stop

    monkeypatch.setattr(ModelDir, "save", save_then_stop)
    with pytest.raises(Stop):
        finetune.main(flags)
    monkeypatch.undo()
    assert finetune.main(flags) == 0
    assert "continuing after epoch 2: step 24 of 36" in capsys.readouterr().err
    assert same(weights(tmp_path / "m"), weights(tmp_path / "whole"))


def test_a_finished_run_says_so(checkpoint, trained, data, tmp_path, capsys):
    path = shutil.copytree(trained, tmp_path / "m")
    more = {"learning_rate": 0.01, "test_data": data / "test.tsv"}
    first = weights(path)
    assert finetune.main(finetune_flags(checkpoint, data, path, epochs=8, **more)) == 0
    assert "is finished: 96 steps, 8 epochs. Raise --epochs to continue" in capsys.readouterr().out
    assert same(weights(path), first)


def test_early_stopping_ends_the_run_and_raising_epochs_continues_it(checkpoint, data, tmp_path, monkeypatch, capsys):
    flags = {"epochs": 6, "learning_rate": 0, "early_stopping_patience": 2}
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "m", **flags)) == 0
    assert "early stopping: dev accuracy was measured 2 times without a better one" in capsys.readouterr().err
    directory = ModelDir(tmp_path / "m")
    assert directory.last().epoch == 3 and directory.last().stopped and directory.best().epoch == 1
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "m", **flags)) == 0
    assert "is finished: 36 steps, 3 epochs (stopped early)" in capsys.readouterr().out
    more = finetune_flags(checkpoint, data, tmp_path / "m", **{**flags, "epochs": 7})

    def interrupt(*args, **more):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(training.Run, "fit", interrupt)
        assert finetune.main(more) == 130
    assert finetune.main(more) == 0
    assert directory.last().epoch == 4 and directory.read_config()[1].epochs == 7


def test_the_best_epoch_is_kept_not_the_last(checkpoint, data, tmp_path, monkeypatch):
    figures = iter([0.5, 0.9, 0.7, 0.8])
    original = evaluation.evaluate

    def evaluated(predictor, table, description, **more):
        report = original(predictor, table, description, **more)
        if description == "dev":
            figure = next(figures, None)
            if figure is not None:
                report.metrics["accuracy"] = figure
        return report

    monkeypatch.setattr(evaluation, "evaluate", evaluated)
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "m", epochs=4)) == 0
    assert [s.epoch for s in ModelDir(tmp_path / "m").checkpoints()] == [2, 4]
    assert json.loads((tmp_path / "m" / "metrics.json").read_text())["epoch"] == 2


def test_mixed_precision_is_measured_as_it_is_served(checkpoint, data, tmp_path):
    path = tmp_path / "m"
    assert finetune.main(finetune_flags(checkpoint, data, path, precision="float16", epochs=1)) == 0
    metrics = tmp_path / "again.json"
    assert evaluate.main([f"--model_dir={path}", f"--data={data / 'dev.tsv'}", f"--metrics_out={metrics}"]) == 0
    again, measured = json.loads(metrics.read_text()), ModelDir(path).best().metrics
    for name in ("loss", "ece"):  # a loaded model scales its weights beforehand, and so rounds otherwise
        assert again.pop(name) == pytest.approx(measured.pop(name), abs=1e-6)
    assert again == measured
    assert all(array.dtype == np.float32 for array in weights(path).values())


def test_pairs_jsonl_a_labels_file_and_dev_fraction(checkpoint, tmp_path, capsys):
    lines = [json.dumps({"a": t, "b": t[::-1], "same": y == "positive"}) for t, y in reviews(60)]
    (tmp_path / "pairs.jsonl").write_text("\n".join(lines))
    flags = [f"--init={checkpoint}", f"--train_data={tmp_path / 'pairs.jsonl'}", f"--model_dir={tmp_path / 'm'}", "--epochs=1"]
    (tmp_path / "labels.txt").write_text("true\nfalse\nmaybe\n")
    flags += [f"--labels={tmp_path / 'labels.txt'}", "--text_columns=a,b", "--label_column=same", "--max_length=30"]
    assert finetune.main(flags) == 0
    model, train = ModelDir(tmp_path / "m").read_config()
    assert model.fields == ("text", "text_b") and model.labels == ("true", "false", "maybe") and train.dev_fraction == 0.1


def test_rows_without_text_are_counted(caplog):
    audit = LabelAudit("n.tsv", None)
    for row in (("", "a"), (" ", "b"), ("x", "b")):
        audit(row)
    audit.finish()
    assert "n.tsv: rows without any text, of which only special tokens are read: 2" in caplog.text


def test_numbers_sort_as_numbers():
    audit = LabelAudit("n.tsv", None)
    for number in (10, 2, -1, 0):
        audit(("a text", str(number)))
    assert audit.labels == ("-1", "0", "2", "10")


def test_continuing_from_a_kbert_model(trained, data, tmp_path):
    assert finetune.main(finetune_flags(trained, data, tmp_path / "m", epochs=1)) == 0
    assert ModelDir(tmp_path / "m").read_config()[0].encoder.activation == "gelu"


CASES = {
    "missing file": ({"train_data": "none.tsv"}, 1, "none.tsv: no such file"),
    "missing column": ({"label_column": "stars"}, 1, "no column 'stars'; its first row names: text, label"),
    "too few columns": ({"train_data": "short.tsv"}, 1, "short.tsv:3: 1 columns, expected 2"),
    "wrong bytes": ({"train_data": "bytes.tsv"}, 1, "bytes.tsv:2: bytes ff"),
    "label dev knows alone": ({"dev_data": "odd.tsv"}, 1, "odd.tsv:3: label 'odd' is not among the model's labels: 'negative'"),
    "empty label": ({"train_data": "nolabel.tsv"}, 1, "nolabel.tsv:2: the label is empty"),
    "blank in a label": ({"train_data": "blank.tsv"}, 1, "blank.tsv:2: label 'y ' begins or ends with a blank"),
    "one label": ({"train_data": "one.tsv"}, 1, "one.tsv: one label only ('positive'); a classifier needs two"),
    "unknown preset": ({"init": "bert_of_nowhere"}, 2, "no such directory, and no preset of that name"),
    "like a preset": ({"init": "bert_base_cn"}, 2, "no preset of that name (did you mean bert_base_"),
    "name at a hub": ({"init": "bert-base-chinese"}, 2, "hf download google-bert/bert-base-chinese --include"),
    "address": ({"init": "hf://some/bert"}, 2, "--init=hf://some/bert: no such directory, and kbert downloads none"),
    "file as checkpoint": ({"init": "file.txt"}, 2, "--init=file.txt: is a file; name the directory"),
    "spreadsheet": (
        {"train_data": "rows.xls"},
        2,
        "rows.xls: a spreadsheet of a kind that kbert does not read; save it as .xlsx or as CSV in UTF-8",
    ),
    "no number": ({"epochs": "abc"}, 2, "expected a whole number"),
    "no checkpoint": ({"init": "."}, 1, "not a checkpoint: the directory has neither"),
    "too many layers": ({"freeze_layers": 3}, 2, "--freeze_layers=3: the checkpoint has 2 layers"),
    "too long": ({"max_length": 41}, 2, "--max_length=41: the checkpoint has positions for 40 tokens"),
    "dev twice": ({"dev_fraction": 0.2}, 2, "--dev_data and --dev_fraction exclude each other"),
    "three texts": ({"text_columns": "a,b,c"}, 2, "--text_columns names 3 columns"),
    "unwritable": ({"model_dir": "file.txt/m"}, 1, "cannot be written"),
    "other files": ({"model_dir": "."}, 1, "holds other files and no kbert model"),
    "labels missing": ({"labels": "none.txt"}, 1, "--labels=none.txt: not readable"),
    "labels twice": ({"labels": "twice.txt"}, 1, "'x' stands twice"),
    "labels few": ({"labels": "few.txt"}, 1, "1 labels; a classifier needs two"),
    "too few rows": (
        {"train_data": "two.tsv", "dev_data": None, "dev_fraction": 0.001},
        1,
        "two.tsv: no dev rows",
    ),
    "unknown flag": ({"learningrate": 1}, 2, "unknown flag --learningrate of --task=classify (did you mean --learning_rate?)"),
    "column twice": ({"text_columns": "text,text"}, 2, "a column is listed twice in text, text, label"),
    "text as label": ({"label_column": "text"}, 2, "a column is listed twice in text, text"),
    "header twice": ({"train_data": "header.tsv"}, 1, "header.tsv: column 'text' occurs 2 times"),
    "half a character": ({"train_data": "half.jsonl"}, 1, "half.jsonl:1: label '\\ud800' contains a line end"),
    "line end in a label": ({"train_data": "line.csv"}, 1, "line.csv:2: label 'a\\nb' contains a line end"),
    "large seed": ({"seed": 5_000_000_000}, 2, "--seed=5000000000"),
    "nan": ({"learning_rate": "nan"}, 2, "--learning_rate=nan: expected a finite number"),
    "empty": ({"train_data": ""}, 2, "--train_data is empty: Training data"),
    "range": ({"warmup_ratio": 1.5}, 2, "--warmup_ratio=1.5"),
}


@pytest.mark.parametrize("case", CASES)
def test_mistakes_are_named_and_nothing_is_written(checkpoint, data, tmp_path, monkeypatch, capsys, case):
    more, code, message = CASES[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / "short.tsv").write_text("text\tlabel\nx\ty\nlonely\n")
    (tmp_path / "bytes.tsv").write_bytes(b"text\tlabel\n\xff\ty\n")
    (tmp_path / "odd.tsv").write_text("text\tlabel\nx\tpositive\nx\todd\n")
    (tmp_path / "nolabel.tsv").write_text("text\tlabel\nx\t\n")
    (tmp_path / "blank.tsv").write_text("text\tlabel\nx\ty \n")
    (tmp_path / "rows.xls").write_bytes(b"PK\3\4")
    (tmp_path / "one.tsv").write_text("text\tlabel\nx\tpositive\n")
    (tmp_path / "two.tsv").write_text("text\tlabel\nx\tpositive\ny\tnegative\n")
    (tmp_path / "twice.txt").write_text("x\ny\nx\n")
    (tmp_path / "few.txt").write_text("x\n")
    (tmp_path / "file.txt").write_text("")
    (tmp_path / "header.tsv").write_text("text\ttext\tlabel\nx\ty\tpositive\n")
    (tmp_path / "half.jsonl").write_text('{"text": "x", "label": "\\ud800"}\n')
    (tmp_path / "line.csv").write_text('text,label\nx,"a\nb"\n')
    before = sorted(p.name for p in tmp_path.iterdir())
    assert finetune.main(finetune_flags(checkpoint, data, **{"model_dir": tmp_path / "m", **more})) == code
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err
    after = sorted(p.name for p in tmp_path.iterdir() if p.name != "m")
    assert after == before and {p.name for p in (tmp_path / "m").glob("*")} <= {".lock"}


def test_another_run_or_task_in_the_directory_is_not_touched(trained, checkpoint, data, tmp_path, capsys):
    path = tmp_path / "m"
    shutil.copytree(trained, path)
    flags = finetune_flags(checkpoint, data, path, epochs=8, learning_rate=0.01)
    assert finetune.main([*flags, "--learning_rate=0.03"]) == 2
    assert "has a run with learning_rate 0.01, not 0.03; use --overwrite" in capsys.readouterr().err
    config = json.loads((path / "config.json").read_text())
    config["model"] |= {"task": "tag", "options": {"stride": 4}}
    (path / "config.json").write_text(json.dumps(config))
    assert finetune.main(flags) == 2
    assert "holds a model of --task=tag, not classify" in capsys.readouterr().err
    config["kbert"]["schema"] = 99
    (path / "config.json").write_text(json.dumps(config))
    assert finetune.main(flags) == 1
    assert "schema 99" in capsys.readouterr().err
    assert same(weights(path), weights(trained))


def test_a_directory_of_something_else_is_never_overwritten(checkpoint, data, tmp_path, capsys):
    other = write_hugging_face(tmp_path / "other")
    before = {p.name: p.read_bytes() for p in other.iterdir()}
    assert finetune.main([*finetune_flags(checkpoint, data, other), "--overwrite"]) == 1
    assert "holds other files and no kbert model" in capsys.readouterr().err
    assert finetune.main([*finetune_flags(other, data, other), "--overwrite"]) == 1
    assert {p.name: p.read_bytes() for p in other.iterdir()} == before


def test_overwriting_keeps_the_former_run_until_there_is_a_checkpoint(checkpoint, trained, data, tmp_path, monkeypatch, capsys):
    path = tmp_path / "m"
    shutil.copytree(trained, path)
    flags = [*finetune_flags(checkpoint, data, path, epochs=1), "--overwrite"]
    assert finetune.main([*flags, f"--init={path}"]) == 2
    assert f"--init={path} is in --model_dir={path}; give another" in capsys.readouterr().err

    def interrupt(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Run, "fit", interrupt)
    assert finetune.main(flags) == 130
    assert finetune.main(flags) == 130
    assert same(weights(path / ".replaced"), weights(trained))
    assert evaluate.main([f"--model_dir={path}", f"--data={data / 'dev.tsv'}"]) == 1
    assert "the run it replaces is in" in capsys.readouterr().err
    monkeypatch.undo()
    assert finetune.main(flags[:-1]) == 0
    assert not (path / ".replaced").exists() and ModelDir(path).last().epoch == 1


def test_a_finished_run_measures_what_is_missing(trained, checkpoint, data, tmp_path, capsys):
    path = tmp_path / "m"
    shutil.copytree(trained, path)
    metrics = (path / "metrics.json").read_text()
    (path / "metrics.json").unlink()
    flags = finetune_flags(checkpoint, data, path, epochs=8, learning_rate=0.01)
    assert finetune.main([*flags, f"--test_data={data / 'test.tsv'}"]) == 0
    assert (path / "metrics.json").read_text() == metrics
    # As after a kill between the last checkpoint and its figures: those here are an older checkpoint's.
    stale = json.loads(metrics)
    (path / "metrics.json").write_text(json.dumps({**stale, "step": stale["step"] + 99, "dev": {}}))
    assert finetune.main([*flags, f"--test_data={data / 'test.tsv'}"]) == 0
    assert (path / "metrics.json").read_text() == metrics
    assert finetune.main([*flags, f"--test_data={data / 'train.tsv'}"]) == 0
    assert json.loads((path / "metrics.json").read_text())["test"]["rows"] == 192
    assert "is finished: 96 steps, 8 epochs" in capsys.readouterr().out


def test_a_run_is_not_continued_on_other_rows(trained, checkpoint, data, tmp_path, capsys):
    shutil.copytree(trained, tmp_path / "m")
    train = tmp_path / "data" / "train.tsv"
    shutil.copytree(data, train.parent)
    config = json.loads((tmp_path / "m" / "config.json").read_text())
    config["train"] |= {"train_data": str(train), "dev_data": str(train.parent / "dev.tsv")}
    (tmp_path / "m" / "config.json").write_text(json.dumps(config))
    flags = finetune_flags(checkpoint, train.parent, tmp_path / "m", epochs=8, learning_rate=0.01)
    assert finetune.main(flags) == 0
    train.write_text(train.read_text() + "one more\tpositive\n")
    assert finetune.main(flags) == 2
    assert "has a run with train_data_crc32" in capsys.readouterr().err


def test_a_loss_that_is_not_a_number_stops_the_run(checkpoint, data, tmp_path, capsys):
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "m", learning_rate=1e30)) == 1
    err = capsys.readouterr().err
    assert "the loss is not a number at step" in err and "no checkpoint was written" in err
    assert f"; its batch was {data / 'train.tsv'}:" in err
    assert ModelDir(tmp_path / "m").checkpoints() == []


def test_a_file_that_changes_during_training_is_reported(checkpoint, data, tmp_path, capsys, monkeypatch):
    from kbert.train.batches import permuted

    train = tmp_path / "train.tsv"
    shutil.copy(data / "train.tsv", train)

    def cut(*args):
        train.write_text("short")
        return permuted(*args)

    monkeypatch.setattr("kbert.train.batches.permuted", cut)
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "m", train_data=train)) == 1
    err = capsys.readouterr().err
    assert "train.tsv:" in err and "did the file change?" in err and "Traceback" not in err


def test_a_full_disk_is_reported_and_keeps_the_last_checkpoint(checkpoint, trained, data, tmp_path, monkeypatch, capsys):
    path = shutil.copytree(trained, tmp_path / "m")
    kept = weights(path)

    def full(*args, **more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(kept_checkpoints, "save_file", full)
    more = {"epochs": 9, "learning_rate": 0.01, "test_data": data / "test.tsv"}
    assert finetune.main(finetune_flags(checkpoint, data, path, **more)) == 1
    assert "No space left on device" in capsys.readouterr().err
    assert same(weights(path), kept)


def test_a_run_that_is_stopped_goes_on_and_others_keep_off(checkpoint, data, tmp_path, forks, environment, capsys):
    path = tmp_path / "m"
    flags = finetune_flags(checkpoint, data, path, epochs=400)
    child = forks.start(program_of("finetune"), flags, environment)
    wait_for(lambda: (path / "checkpoints").exists() and list((path / "checkpoints").glob("step-*")), child)
    # Another run writes nothing there; readers read.
    for more in ([], ["--overwrite"]):
        assert finetune.main([*flags, *more]) == 1
        assert f"--model_dir={path}: a run is writing it (process {child.pid} on " in capsys.readouterr().err
    assert evaluate.main([f"--model_dir={path}", f"--data={data / 'dev.tsv'}"]) == 0
    child.terminate()
    output = child.communicate(timeout=PATIENCE)[0]
    assert child.returncode == 143 and "Traceback" not in output, output
    last = ModelDir(path).last()
    assert f"kbert.finetune: terminated after step {last.step} of 4800; checkpoint {last.path}; run the same command" in output
    assert "best on dev: accuracy, the higher the better" in output
    assert not list((path / "checkpoints").glob(".writing-*"))
    capsys.readouterr()
    assert finetune.main(finetune_flags(checkpoint, data, path, steps=last.step + 1)) == 0
    assert f"step {last.step} of {last.step + 1}" in capsys.readouterr().err


def test_interrupted_before_the_first_checkpoint(checkpoint, data, tmp_path, capsys, monkeypatch):
    def interrupt(*args, **more):
        raise KeyboardInterrupt

    monkeypatch.setattr(training.Run, "fit", interrupt)
    assert finetune.main(finetune_flags(checkpoint, data, tmp_path / "m")) == 130
    assert evaluate.main([f"--model_dir={tmp_path / 'm'}", f"--data={data / 'dev.tsv'}"]) == 1
    assert "no checkpoint yet" in capsys.readouterr().err


def test_weights_and_state_hold_no_code(trained):
    for path in (trained / "checkpoints").rglob("*"):
        assert path.is_dir() or path.suffix in (".safetensors", ".json")
    assert load_file(ModelDir(trained).best().path / "weights.safetensors")


def test_checkpoint_in_float16_is_read(data, tmp_path):
    from conftest import hugging_face_tensors

    half = {name: value.astype(np.float16) for name, value in hugging_face_tensors().items()}
    arrays = open_checkpoint(str(write_hugging_face(tmp_path / "half", half))).arrays()
    assert all(array.dtype == np.float32 for array in arrays.values())


@pytest.mark.parametrize(("pooling", "said"), [("pooler", True), ("mean", False)])
def test_a_pooler_that_starts_at_random_is_said(data, tmp_path, monkeypatch, capsys, pooling, said):
    tensors = {name: tensor for name, tensor in hugging_face_tensors().items() if not name.startswith("pooler.")}
    bare = write_hugging_face(tmp_path / "bare", tensors)

    def stop(_run):
        raise KeyboardInterrupt

    monkeypatch.setattr("kbert.train.run.Run.fit", stop)
    assert finetune.main(finetune_flags(bare, data, tmp_path / "m", pooling=pooling)) == 130
    notice = f"--init={bare} has no pooler, which the task reads: it starts at random values, as the head does"
    assert (notice in capsys.readouterr().err) == said
