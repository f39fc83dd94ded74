"""What `kbert.predict` writes: JSON lines and tables, with the input's own columns."""

import csv
import json

import pyarrow.parquet as pq
import pytest
from conftest import write_tsv

import kbert
from kbert import predict
from kbert.errors import DataError, UsageError
from kbert.row_output import row_output
from kbert.tasks import figures

ROWS = [
    {"row": 1, "text": "a, \"b\"\n中文", "label": "x", "probabilities": {"x": 0.75, "y": 0.25}, "spans": [[0, 1, "é"]], "n": 1},
    {"row": 2, "text": "half \ud800", "label": "y", "probabilities": {"x": 0.5, "y": 0.5}, "spans": [], "n": 0.5, "cut": True},
]
COLUMNS = ["row", "text", "label", "probabilities.x", "probabilities.y", "spans", "n", "cut"]


@pytest.fixture(autouse=True)
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(name):
    with row_output(name) as write:
        for row in ROWS:
            write(row)


def test_csv(at):
    written("x.csv")
    with (at / "x.csv").open(newline="", encoding="utf-8") as file:
        header, *rows = csv.reader(file)
    assert header == COLUMNS
    assert rows[0] == ["1", 'a, "b"\n中文', "x", "0.75", "0.25", '[[0, 1, "é"]]', "1", ""]
    assert rows[1] == ["2", "half ?", "y", "0.5", "0.5", "[]", "0.5", "true"]


def test_tsv_has_a_row_a_line(at, caplog):
    written("x.TSV")
    lines = (at / "x.TSV").read_text(encoding="utf-8").splitlines()
    assert [line.split("\t")[1] for line in lines] == ["text", 'a, "b" 中文', "half ?"]
    assert "tabs and line ends within values are written as blanks, in 1 rows" in caplog.text


def test_parquet_has_types(at):
    written("x.parquet")
    table = pq.read_table(at / "x.parquet")
    assert table.column_names == COLUMNS
    assert [str(kind) for kind in table.schema.types] == ["int64", "string", "string", "double", "double", "string", "double", "bool"]
    assert table.column("cut").to_pylist() == [None, True] and table.column("n").to_pylist() == [1.0, 0.5]


def test_json_lines_keep_objects(at):
    written("x.jsonl")
    found = [json.loads(line) for line in (at / "x.jsonl").read_text(encoding="utf-8").splitlines()]
    assert found == [ROWS[0], {**ROWS[1], "text": "half ?"}]


def test_nothing_is_written_of_a_run_that_fails(at):
    with pytest.raises(DataError), row_output("x.csv") as write:
        write(ROWS[0])
        raise DataError("no")
    assert not list(at.iterdir())
    with pytest.raises(UsageError, match=r"--output=x.xlsx: .xlsx cannot be written; .csv, .tsv, .parquet and .jsonl can"):
        predict.main(["--model_dir=none", "--text=a", "--output=x.xlsx"]) and written("x.xlsx")


def test_the_columns_of_the_input_are_carried_over(at, trained, capsys):
    rows = [("7", "a good film", "positive", "x, y"), ("8", "a dull plot", "negative", "z")]
    write_tsv(at / "in.tsv", rows, header=("key", "review", "label", "note"))
    flags = [f"--model_dir={trained}", "--input=in.tsv", "--text_columns=review"]
    assert predict.main([*flags, "--output=out.csv", "--carry=all"]) == 0
    with (at / "out.csv").open(newline="", encoding="utf-8") as file:
        found = list(csv.DictReader(file))
    names = ["row", "key", "review", "label", "note", "predicted_label", "probabilities.negative", "probabilities.positive"]
    assert list(found[0]) == names
    assert [[row[name] for name in names[1:5]] for row in found] == [list(row) for row in rows]
    assert [row["predicted_label"] for row in found] == ["positive", "negative"]

    assert predict.main([*flags, "--output=out.jsonl", "--carry=note"]) == 0
    line = json.loads((at / "out.jsonl").read_text().splitlines()[0])
    assert list(line) == ["row", "review", "note", "label", "probabilities"] and line["note"] == "x, y"
    assert predict.main([*flags, "--output=out.parquet"]) == 0
    assert pq.read_table(at / "out.parquet").column_names[:3] == ["row", "review", "label"]
    capsys.readouterr()
    assert predict.main([*flags, "--carry=nothing"]) == 2
    assert "--carry=nothing: no such column; the input has key, review, label, note" in capsys.readouterr().err
    assert predict.main([flags[0], "--text=a", "--carry=key"]) == 2

    model = kbert.load(trained)
    answer = model.predict([{"text": "a good film", "id": 3, "tags": ["a"]}], carry="all")[0]
    assert list(answer) == ["row", "text", "id", "tags", "label", "probabilities"] and answer["tags"] == ["a"]
    assert list(model.predict(["a good film"], carry=["text"])[0])[:2] == ["row", "text"]


def test_tables_are_aligned_by_display_width():
    columns = [("f1", "f1", 8)]
    lines = figures.table(columns, {"非常好的电影评论": {"f1": 0.5}, "good": {"f1": 1.0}, "cafe\u0301": {"f1": 1.0}}, {})
    assert {figures.display_width(line) for line in lines} == {16 + 1 + 8}
