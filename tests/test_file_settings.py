"""What is given comes first, then what a file says of itself, then what training recorded; and what a header row is."""

import gzip
import io
import json
import logging
import sys

import pytest
from conftest import write_tsv
from test_sources import ROWS, rows_of

from kbert import finetune, predict
from kbert.data.indexing import open_table
from kbert.errors import DataError, UsageError
from kbert.source import Recorded, SourceConfig, SourceOverrides


@pytest.fixture
def said(monkeypatch, caplog):
    """What kbert's log says."""
    monkeypatch.setattr(logging.getLogger("kbert"), "propagate", True)
    caplog.set_level(logging.INFO)
    # Once each, in whichever ways the log reaches its end.
    return lambda: [r.getMessage() for r in {id(r): r for r in caplog.records}.values() if r.name.startswith("kbert")]


def later(path, trained_on, labels=(), wanted=("text",), flags=None, **training):
    """The rows that a command reads of a file on a model that was trained with these flags."""
    config, recorded = Recorded.of(SourceConfig(**training), trained_on, labels).overridden(SourceOverrides(**(flags or {})))
    return rows_of(open_table(str(path), config, wanted, keyed_by=1, recorded=recorded))


CONLL = "Ada NNP B-PER\nsits VBZ O\n\nOslo NNP B-LOC\n"


def test_a_text_file_after_columns_of_tokens(tmp_path, said):
    trained = {"trained_on": "en.txt", "format": "conll", "labels": ("LOC", "PER")}
    path = tmp_path / "f.txt"
    path.write_text("Ada Novak lives in Oslo.\nBruno sits.\n")
    assert later(path, **trained) == [("Ada Novak lives in Oslo.",), ("Bruno sits.",)]
    assert said() == []
    path.write_text(CONLL)
    assert later(path, **trained) == [("Ada sits",), ("Oslo",)]
    assert said() == [f"{path}: read as conll as in training"]
    path.write_text("Ada B-X\nsits O\n\nOslo B-Y\n")  # of types that the model does not know
    with pytest.raises(DataError, match="may be conll, as in training, or plain texts; --format=conll or --format=txt"):
        later(path, **trained)
    path.write_text("中 \n文 \n\n电\n影\n好\n")  # tokens without tags
    assert later(path, **trained) == [("中文",), ("电影好",)]
    path.write_text("汤不错\n太咸\n")
    assert later(path, **trained) == [("汤不错",), ("太咸",)]
    path.write_text(CONLL)
    assert len(later(path, flags={"format": "txt"}, **trained)) == 4
    assert len(later(path, flags={"format": "auto"}, **trained)) == 4  # the ending's
    for name, text in (("f.tsv", "text\nAda\n"), ("f.jsonl", '{"text": "Ada"}\n'), ("f.csv.gz", 'text\n"Ada"\n')):
        path = tmp_path / name
        path.write_bytes(gzip.compress(text.encode()) if name.endswith("gz") else text.encode())
        assert later(path, **trained) == [("Ada",)]
    # The same ending as in training says nothing, but the rows do.
    path = tmp_path / "g.tsv"
    path.write_text("text\nAda Novak\n")
    assert later(path, "train.tsv", format="conll", labels=("PER",)) == [("Ada Novak",)]
    path.write_text("Ada\tB-PER\n")
    assert later(path, "train.tsv", format="conll", labels=("PER",)) == [("Ada",)]


def test_columns_of_tokens_that_training_chose(tmp_path, said):
    trained = {"trained_on": "train.conll", "text_columns": ("2",), "label_column": "3", "labels": ("LOC", "PER")}
    path = tmp_path / "f.conll"
    path.write_text("1 Ada B-PER\n2 sits O\n\n1 Oslo B-LOC\n")
    assert later(path, wanted=("2",), **trained) == [("Ada sits",), ("Oslo",)]
    assert said() == [f"{path}: tokens in column 2 as in training"]
    path.write_text("Ada B-PER\nsits O\n\nOslo B-LOC\n\n" * 9)
    with pytest.raises(DataError, match="the tokens look like tags"):  # another file than that of training
        later(path, wanted=("2",), **trained)
    assert len(later(path, wanted=("1",), flags={"text_columns": ("1",)}, **trained)) == 18
    trained |= {"text_columns": ("text",), "label_column": "entities"}  # a name that columns of tokens do not have
    assert len(later(path, wanted=("text", "entities"), **trained)) == 18
    with pytest.raises(UsageError, match="--label_column=ner: no such column"):
        later(path, wanted=("text", "ner"), flags={"label_column": "ner"}, **trained)


def test_files_after_a_table_without_header(tmp_path, said):
    trained = {"trained_on": "train.txt", "format": "tsv", "columns": ("text", "label"), "labels": ("good", "bad")}
    for name, text in (
        ("a.txt", "fine\ndull\n"),
        ("a.tsv", "text\nfine\ndull\n"),
        ("a.jsonl", '{"text": "fine"}\n{"text": "dull"}\n'),
        ("b.txt", "fine\tgood\ndull\tbad\n"),
        ("b.tsv", "fine\tgood\ndull\tunknown\n"),
        ("c.tsv", "label\ttext\ngood\tfine\nbad\tdull\n"),
        ("c.txt", "id\ttext\n1\tfine\n2\tdull\n"),
    ):
        (tmp_path / name).write_text(text)
        assert later(tmp_path / name, **trained) == [("fine",), ("dull",)], name
    assert said() == [
        f"{tmp_path / 'a.tsv'}: its first row names its columns",
        f"{tmp_path / 'b.txt'}: read as tsv as in training; columns are text, label as in training, and the first row is data",
        f"{tmp_path / 'b.tsv'}: columns are text, label as in training, and the first row is data",
        f"{tmp_path / 'c.tsv'}: its first row names its columns",
        f"{tmp_path / 'c.txt'}: read as tsv as in training; its first row names its columns",
    ]
    (tmp_path / "d.txt").write_text("fine\tgood\ndull\n")
    with pytest.raises(DataError, match=r"d\.txt: its first rows may be tsv, as in training, or plain texts; --format=tsv or"):
        later(tmp_path / "d.txt", **trained)
    comma = {**trained, "format": "csv"}
    (tmp_path / "e.txt").write_text("Good, but slow\nDull, and long\n")
    assert later(tmp_path / "e.txt", **comma) == [("Good, but slow",), ("Dull, and long",)]
    (tmp_path / "e.txt").write_text("很好,但慢\n不好,太长\n")
    with pytest.raises(DataError, match="may be csv, as in training, or plain texts"):
        later(tmp_path / "e.txt", **comma)
    (tmp_path / "e.txt").write_text("很好,good\n不好,太长\n")
    assert later(tmp_path / "e.txt", **comma) == [("很好",), ("不好",)]
    (tmp_path / "f.data").write_text("fine\n")
    with pytest.raises(
        UsageError, match=r"the ending \.data does not determine the format and the rows are not tsv as in training; add"
    ):
        later(tmp_path / "f.data", **trained)
    path = tmp_path / "swapped.tsv"
    path.write_text("good\tthe soup was warm\nbad\tthe soup was cold\n")
    with pytest.raises(
        DataError, match=r"has a label of the model as text \('good'\) and none as label \('the soup was warm'\)"
    ):
        later(path, **trained)
    assert later(path, flags={"columns": ("label", "text")}, **trained)[0] == ("the soup was warm",)


def test_standard_input_is_looked_at(monkeypatch):
    for text, rows in (
        ("text\tlabel\nfine\tx\n", [("fine",)]),
        ("fine\n", [("fine",)]),
        ('{"text": "a"}\n', [('{"text": "a"}',)]),
    ):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        assert later("-", "train.tsv") == rows


def test_encodings(tmp_path, said):
    path = tmp_path / "f.txt"
    path.write_text("味道真好\n", encoding="utf-8")
    assert later(path, "train.tsv", encoding="gb18030") == [("味道真好",)]
    assert said() == [f"{path}: read as utf-8 unlike in training"]
    for flags, training in (({"encoding": "gb18030"}, {}), ({"encoding": "latin-1"}, {"encoding": "gb18030"})):
        with pytest.raises(UsageError, match=r"f\.txt: --encoding=[\w-]+, but the whole file is valid UTF-8"):
            later(path, "train.tsv", flags=flags, **training)
    path.write_text("味道真好\n", encoding="gb18030")
    assert later(path, "train.tsv", encoding="gb18030") == [("味道真好",)]
    with pytest.raises(DataError, match=r"f\.txt:1: bytes .* are not utf-8"):
        later(path, "train.tsv", encoding="gb18030", flags={"encoding": "utf-8"})
    path.write_text("café\n", encoding="latin-1")
    assert later(path, "train.tsv", encoding="latin-1") == [("café",)]


def read(path, wanted=("text", "label"), **config):
    return rows_of(open_table(str(path), SourceConfig(**config), wanted, keyed_by=1))


def test_a_first_row_that_repeats_the_names(tmp_path, said):
    columns = ("text", "label")
    path = write_tsv(tmp_path / "f.tsv", ROWS)
    assert read(path, columns=columns) == ROWS
    assert read(write_tsv(tmp_path / "g.tsv", ROWS, ("Text", "LABEL ")), columns=columns) == ROWS
    assert said() == [f"{tmp_path / n}: its first row is a header and is not read as data" for n in ("f.tsv", "g.tsv")]
    for header in (("sentence", "label"), ("label", "text"), ("text", "label", "id")):
        with pytest.raises(
            DataError, match=r"f\.tsv: its first row \(.*\) looks like a header but differs from what --columns"
        ):
            read(write_tsv(tmp_path / "f.tsv", ROWS, header), columns=columns)
    for more in ({}, {"columns": columns}):
        write_tsv(path, [*ROWS, columns, *ROWS])
        with pytest.raises(
            DataError, match=r"f\.tsv:6: the header \(text, label\) again; were files with headers concatenated"
        ):
            read(path, **more)
        write_tsv(path, [*ROWS, ("Text", "LABEL"), *ROWS])
        with pytest.raises(DataError, match=r"f\.tsv:6: the header \(text, label\) again"):
            read(path, **more)
    write_tsv(path, [ROWS[0], ("\ufefftext", "label")])
    with pytest.raises(DataError, match=r"f\.tsv:3: a byte-order mark \(U\+FEFF\) within the file; were files concatenated"):
        read(path)
    write_tsv(path, ROWS, ("text\u200b", "label"))
    with pytest.raises(DataError, match=r"the column name 'text\\u200b' contains U\+200B ZERO WIDTH SPACE"):
        read(path)


@pytest.mark.parametrize("kind", ["tsv", "csv"])
def test_a_blank_line_is_an_empty_text_of_one_column_and_no_row_of_several(tmp_path, kind):
    path = tmp_path / f"f.{kind}"
    path.write_text("text\nfirst\n\nsecond\n\n")
    assert read(path, ("text",)) == [("first",), ("",), ("second",), ("",)]
    assert read(path, ("text",), columns=("text",)) == [("first",), ("",), ("second",), ("",)]
    tab = "," if kind == "csv" else "\t"
    path.write_text(f"text{tab}label\nfirst{tab}x\n\nsecond{tab}y\n\n")
    assert read(path, ("text",)) == [("first",), ("second",)]


def test_delimiters_and_quotes(tmp_path, said):
    path = tmp_path / "f.tsv"
    path.write_text('text\tlabel\n"a ""fine"" film"\t"x"\n"dull"\t"y"\n')
    assert read(path)[1] == ('"dull"', '"y"')
    assert len(said()) == 2 and all("double quotes" in line and "--format=csv --delimiter=tab" in line for line in said())
    right = [('a "fine" film', "x"), ("dull", "y")]
    assert read(path, format="csv", delimiter="tab") == right
    assert later(path, "x.tsv", wanted=("text", "label"), format="csv", delimiter="tab") == right
    (tmp_path / "f.csv").write_text('text;label\n"a;b";x\n')
    assert read(tmp_path / "f.csv", delimiter=";") == [("a;b", "x")]
    assert later(tmp_path / "f.csv", "x.csv", delimiter=";") == [("a;b",)]
    (tmp_path / "g.csv").write_text("text,label\na,x\n")
    assert later(tmp_path / "g.csv", "x.csv", delimiter=";") == [("a",)]
    for delimiter, message in (("xy", "expected one character"), (";", "is for csv, and the file is read as tsv")):
        with pytest.raises(UsageError, match=message):
            read(path, delimiter=delimiter)


def test_texts_that_are_missing(tmp_path, said):
    path = write_tsv(tmp_path / "f.tsv", [("fine", "x"), ("nan", "x"), ("a nan", "x"), ("NaN", "y")])
    assert len(read(path)) == 4
    assert said() == [f"{path}: texts that are nan, which is how pandas writes a missing value: 2 ({path}:3, {path}:5)"]


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e999"])
def test_json_that_is_no_value(tmp_path, value):
    path = tmp_path / "f.jsonl"
    path.write_text(f'{{"text": "x", "label": 1, "other": {value}}}\n{{"text": "y", "label": {value}}}\n')
    with pytest.raises(DataError, match=r"f\.jsonl:2: key 'label': -?(NaN|Infinity), which is not a value"):
        read(path)
    assert len(read(path, ("text",))) == 2


def test_commands_on_files_written_otherwise_than_those_of_training(tmp_path, checkpoint, capsys):
    folder = tmp_path
    (folder / "en.txt").write_text("good B-PER\nfilm O\n\nthe O\nplot B-LOC\n\n" * 8)
    (folder / "dev.jsonl").write_text('{"text": "good film", "label": [[0, 4, "PER"]]}\n')
    (folder / "texts.txt").write_text("the good film\na dull plot\n")
    common = [f"--init={checkpoint}", "--epochs=0", "--max_length=40", "--overwrite", f"--model_dir={folder / 'm'}"]
    tag = ["--task=tag", "--format=conll", f"--train_data={folder / 'en.txt'}", f"--dev_data={folder / 'dev.jsonl'}"]
    assert finetune.main([*common, *tag]) == 0
    assert "PER" in capsys.readouterr().out

    def answers(name):
        assert predict.main([f"--model_dir={folder / 'm'}", f"--input={folder / name}"]) == 0
        return [json.loads(line)["text"] for line in capsys.readouterr().out.splitlines()]

    assert answers("texts.txt") == ["the good film", "a dull plot"]
    (folder / "train.txt").write_text("好 电影\tgood\n坏\tbad\n" * 8, encoding="gb18030")
    classify = ["--columns=text,label", "--format=tsv", "--encoding=gb18030", f"--train_data={folder / 'train.txt'}"]
    write_tsv(folder / "dev.tsv", [("很好", "good"), ("坏", "bad")])  # UTF-8, with a header
    assert finetune.main([*common, *classify, f"--dev_data={folder / 'dev.tsv'}"]) == 0
    assert "dev (2 rows)" in capsys.readouterr().out
    assert answers("texts.txt") == ["the good film", "a dull plot"]
    assert answers("dev.tsv") == ["很好", "坏"]
    utf8 = [*common, "--encoding=gb18030", f"--train_data={folder / 'dev.tsv'}"]
    assert finetune.main(utf8) == 2 and "valid UTF-8" in capsys.readouterr().err
