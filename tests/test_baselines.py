"""`tools/baselines.py`: what a classifier has to beat, beside what was trained."""

import pytest
from conftest import reviews, tool, write_tsv

from kbert.model_dir import ModelDir


@pytest.fixture
def arguments(data, tmp_path):
    """Flags for the rows of `data`, and a model directory that was tested on them."""
    test = str(data / "test.tsv")
    ModelDir(tmp_path).write_metrics({"test_data": test, "test": {"accuracy": 0.875, "macro": {"f1": 0.8125}}})
    return [f"--train_data={data / 'train.tsv'}", f"--test_data={test}", f"--models={tmp_path}"]


def test_figures_side_by_side(arguments, tmp_path, capsys):
    assert tool("baselines").main(arguments) == 0
    shown = capsys.readouterr().out
    rows = {line[:-20].strip(): tuple(map(float, line.split()[-2:])) for line in shown.splitlines()[2:]}
    train, test = ([label for _, label in reviews(*rows)] for rows in ((192, 1), (40, 3)))
    frequent = max(set(train), key=train.count)
    share = test.count(frequent) / 40
    assert rows["most frequent label"] == pytest.approx((share, share / (1 + share)), abs=1e-4)
    assert rows["tf-idf, logistic regression"][0] > 0.9  # one word decides
    assert rows[str(tmp_path)] == (0.875, 0.8125) and "(40 rows):" in shown


def test_a_label_that_does_not_occur_is_in_no_macro_f1(arguments, data, tmp_path, capsys):
    """Models that were tested by an earlier kbert counted it as 0."""
    per_class = {label: {"f1": f1} for label, f1 in (("a", 0.5), ("b", 0.75), ("c", 0.0))}
    test = {
        "accuracy": 0.5,
        "macro": {"f1": 1.25 / 3},
        "per_class": per_class,
        "confusion_matrix": [[1, 1, 0], [1, 1, 0], [0] * 3],
    }
    ModelDir(tmp_path).write_metrics({"test_data": str(data / "test.tsv"), "test": test})
    assert tool("baselines").main(arguments) == 0
    assert capsys.readouterr().out.endswith("0.5000    0.6250\n")


def test_a_model_of_other_rows_is_refused(arguments, data, tmp_path, capsys):
    assert tool("baselines").main([*arguments, f"--test_data={data / 'dev.tsv'}"]) == 1
    assert f"--models={tmp_path}: it was not tested on {data / 'dev.tsv'} as a classifier" in capsys.readouterr().err


def test_what_cannot_be_learnt_is_named(tmp_path, capsys):
    for name, rows, message in (
        ("one", [("good film", "yes")] * 2, "one label only (yes)"),
        ("few", [("a", "yes"), ("b", "no")], "nothing to learn from"),
    ):
        write_tsv(tmp_path / f"{name}.tsv", rows, ("text", "label"))
        source = [f"--{split}_data={tmp_path / f'{name}.tsv'}" for split in ("train", "test")]
        assert tool("baselines").main(source) == 1
        assert f"{name}.tsv: {message}" in capsys.readouterr().err


def test_pairs_are_read_as_one_text(tmp_path, capsys):
    rows = [("a", "good film", "yes"), ("a", "bad film", "no")] * 8
    write_tsv(tmp_path / "pairs.tsv", rows, ("one", "two", "label"))
    source = [f"--{split}_data={tmp_path / 'pairs.tsv'}" for split in ("train", "test")]
    assert tool("baselines").main([*source, "--text_columns=one,two"]) == 0
    assert "regression    1.0000    1.0000" in capsys.readouterr().out


def test_several_labels_in_a_cell_or_a_column_each(tmp_path, capsys):
    """Each label is a word of the text, so that the learner finds all; one label is in two of three rows."""
    words = {"g": "good", "b": "bad", "f": "film"}
    rows = [("g", "f"), ("b", "f"), ("g", "b")] * 8
    texts = [" ".join(words[label] for label in row) for row in rows]
    cells = write_tsv(
        tmp_path / "cells.tsv", [(t, ";".join(row)) for t, row in zip(texts, rows, strict=True)], ("text", "label")
    )
    values = [(text, *(str(int(label in row)) for label in "gbf")) for text, row in zip(texts, rows, strict=True)]
    values[0] = (texts[0], "?", *values[0][2:])
    wide = write_tsv(tmp_path / "wide.tsv", values, ("text", "g", "b", "f"))
    ModelDir(tmp_path).write_metrics(
        {"test_data": str(cells), "test": {"micro": {"f1": 0.5}, "macro": {"f1": None}, "subset_accuracy": 0.25}}
    )
    for path, more in (
        (cells, ["--label_separator=;", f"--models={tmp_path}"]),
        (wide, ["--label_column=g,b,f"]),
    ):
        assert tool("baselines").main([f"--train_data={path}", f"--test_data={path}", "--objective=multilabel", *more]) == 0
        shown = capsys.readouterr().out
        found = {line[:-36].strip(): [float(v) for v in line.split()[-3:]] for line in shown.splitlines()[2:]}
        assert found["all labels"][:2] == pytest.approx([0.8, 0.8], abs=0.01) and found["all labels"][2] == 0
        assert found["labels of most rows"][0] == pytest.approx(0.8, abs=0.01)
        assert found["tf-idf, logistic regression"] == [1, 1, 1]
        if path == cells:
            assert found[str(tmp_path)] == [0.5, 0, 0.25]
    of_wide = [f"--train_data={wide}", f"--test_data={wide}", "--objective=multilabel"]
    assert tool("baselines").main([*of_wide, "--text_columns=g", "--label_column=text,f"]) == 1
    assert "wide.tsv: column 'text': expected 1, 0 or ? (unknown), found 'good film'" in capsys.readouterr().err
    assert tool("baselines").main([*of_wide, f"--models={tmp_path}", "--label_column=g,b"]) == 1
    assert "as a classifier of several labels" in capsys.readouterr().err
