"""Rows that cannot be read: all in one error, or set aside in a file."""

import json

import pytest
from conftest import write_tsv

import kbert
from kbert import predict
from kbert.data.bad_rows import BadRows
from kbert.data.indexing import open_table
from kbert.data.rows import Rows
from kbert.errors import DataError, UsageError
from kbert.source import SourceConfig


@pytest.fixture(autouse=True)
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def opened(name, columns=("text", "label"), tokens=None, **config):
    return open_table(name, SourceConfig(**config), columns, keyed_by=1, nested=True, tokens=tokens)


def error_of(*arguments, **config) -> str:
    with pytest.raises(DataError) as caught:
        opened(*arguments, **config)
    return str(caught.value)


def test_the_first_twenty_are_listed_and_the_others_counted_by_reason(at):
    rows = [f"text {i}\t1\n" for i in range(10)] + ["one\n"] * 2 + ["last\t1\n"] + ["a\tb\tc\n"] * 30 + ["text\tLABEL\n"]
    (at / "x.tsv").write_text("text\tlabel\n" + "".join(rows))
    header, *lines = error_of("x.tsv").splitlines()
    assert header == "33 of 44 rows cannot be read (--skip_bad_rows=FILE writes them to FILE and continues without them):"
    assert [line.split(": ")[0].strip() for line in lines[:20]] == [f"x.tsv:{n}" for n in (12, 13, *range(15, 33))]
    assert lines[0] == "  x.tsv:12: 1 columns, expected 2 (text, label): 'one'"
    assert lines[20:] == [
        "  and 12 more like x.tsv:12: 1 columns, expected 2 (text, label): 'one'",
        "  and 1 more like x.tsv:45: the header (text, label) again; were files with headers concatenated?",
    ]


def test_a_single_row_is_a_single_line(at):
    write_tsv(at / "x.tsv", [("a", "1"), ("b",)])
    assert error_of("x.tsv") == "x.tsv:3: 1 columns, expected 2 (text, label): 'b'"


def test_hopeless_files_are_not_read_to_the_end(at):
    (at / "x.tsv").write_text("text\tlabel\n" + "one\n" * 20_000)
    assert error_of("x.tsv").startswith("none of the first 10,000 rows can be read")


LAYOUTS = {
    "x.csv": ('text,label\na,1\n"b"c,1\nd,1\ne\nf,1\n', [3, 5], ["a", "d", "f"]),
    "x.jsonl": ('{"text": "a", "label": 1}\n[1]\n{"text": "b"}\n\n{"text": "c", "label": 2}\n', [2, 3], ["a", "c"]),
    "x.conll": ("a O\nb\n\nc B-X\nd O\n\ne\nf O\n\ng O\n", [2, 7], ["c d", "g"]),
    "x.seg": ("the $T$ .\nsoup\n1\nno mark\nsoup\n1\nthe $T$ !\ntea\n1\n", [4], ["the soup .", "the tea !"]),
    "tokens.jsonl": (
        '{"text": ["a"], "label": ["O"]}\n{"text": ["b"], "label": []}\n{"text": ["c", "d"], "label": ["B-X", "O"]}\n',
        [2],
        ["a", "c d"],
    ),
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_layouts_are_read_without_their_bad_rows(at, name):
    text, bad, good = LAYOUTS[name]
    (at / name).write_text(text)
    how = {"tokens": "auto"} if name in ("x.conll", "tokens.jsonl") else {}
    how |= {"columns": ("text", "aspect", "label"), "text_columns": ("text", "aspect")} if name == "x.seg" else {}
    said = error_of(name, **how)
    assert all(f"{name}:{line}: " in said for line in bad), said
    table = opened(name, **how, skip_bad_rows="bad.jsonl")
    assert [value.decode() for value in table.read(range(len(table)))["text"]] == good
    found = [json.loads(line) for line in (at / "bad.jsonl").read_text().splitlines()]
    assert [(row["file"], row["line"]) for row in found] == [(name, line) for line in bad]
    assert all(row["reason"] in said and row["row"] in text for row in found)


def test_bytes_in_another_encoding_are_rows_like_others(at):
    (at / "x.csv").write_bytes(b"text,label\na,1\nb\xff,1\nc,1\n")
    assert error_of("x.csv").startswith("x.csv:3: bytes ff 2c 31 0a are not utf-8")
    (at / "x.conll").write_bytes(b"a O\nb\xff O\n\nc B-X\n")
    assert error_of("x.conll", tokens="auto").startswith("x.conll:2: bytes ff")
    assert len(opened("x.csv", skip_bad_rows="bad.jsonl")) == 2
    assert json.loads((at / "bad.jsonl").read_text())["row"] == "b\\xff,1\n"


def test_an_unclosed_quote_is_never_skipped(at):
    (at / "x.csv").write_text('text,label\na,1\n"b,1\nc,1\n')
    assert "x.csv:3: not valid csv" in error_of("x.csv")
    assert "cannot be skipped" in error_of("x.csv", skip_bad_rows="bad.jsonl")


def test_questions_are_named_by_their_id(at):
    asked = [
        {"id": f"q{i}", "question": "who?", "answers": [{"text": "Ada", "answer_start": 0}] if i else [7]} for i in range(3)
    ]
    (at / "x.json").write_text(json.dumps({"data": [{"paragraphs": [{"context": "Ada sang.", "qas": asked}]}]}))

    def check(values):
        if "7" in values[-1]:
            raise ValueError("no answer")

    config = SourceConfig(skip_bad_rows="bad.jsonl")
    table = open_table("x.json", config, ("question", "context", "answers"), keyed_by=2, nested=True, check=check)
    assert len(table) == 2 and json.loads((at / "bad.jsonl").read_text())["place"] == "question 'q0'"


def test_rows_of_python(at):
    rows = Rows("data", [("a", 1), 7, ("b", 2), {"text": "c"}, ("d", 3)])
    said = error_of(rows)
    assert "data:2: expected a dict, a tuple or a text, found int" in said and "data:4: no key 'label'" in said
    table = opened(rows, skip_bad_rows="bad.jsonl")
    assert [table.number(row) for row in range(3)] == [1, 3, 5]


def test_the_sources_of_a_command_are_reported_together(at, checkpoint):
    write_tsv(at / "train.tsv", [("good", "1"), ("bad", "0"), ("one",)] * 3)
    write_tsv(at / "dev.tsv", [("good", "1"), ("bad", "7"), ("bad", "0")])
    settings = {
        "init": checkpoint,
        "train_data": "train.tsv",
        "dev_data": "dev.tsv",
        "model_dir": "m",
        "epochs": 0,
        "max_length": 8,
    }
    with pytest.raises(DataError) as caught:
        kbert.train(**settings)
    said = str(caught.value)
    assert said.startswith("4 of 12 rows cannot be read (skip_bad_rows=FILE writes them")
    assert all(place in said for place in ("train.tsv:4", "train.tsv:7", "train.tsv:10", "dev.tsv:3: label '7' is not among"))
    with pytest.raises(UsageError, match="train_data"):
        kbert.train(**settings, skip_bad_rows="train.tsv")
    model = kbert.train(**settings, skip_bad_rows="bad.jsonl")
    assert len((at / "bad.jsonl").read_text().splitlines()) == 4
    # A trained model has to be told so itself.
    with pytest.raises(DataError, match=r"dev.tsv:3: label '7'"):
        model.evaluate("dev.tsv")
    assert model.evaluate("dev.tsv", skip_bad_rows="bad.jsonl")["rows"] == 2
    answers = model.predict([{"text": "a"}, {}, {"text": "c"}], skip_bad_rows="bad.jsonl")
    assert [(answer["row"], answer["text"]) for answer in answers] == [(1, "a"), (3, "c")]
    with pytest.raises(UsageError, match="needs all rows"):
        kbert.encode(checkpoint, ["a"], skip_bad_rows="bad.jsonl")
    assert predict.main(["--model_dir=m", "--input=train.tsv", "--output=-", "--skip_bad_rows=train.tsv"]) == 2
    assert BadRows().found == 0
