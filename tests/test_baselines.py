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
