"""Every format a SOURCE can have, its rows by number, and what is said of a bad one."""

import csv
import gzip
import io
import json
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbert.data.indexing import open_table
from kbert.errors import DataError, UsageError
from kbert.source import SourceConfig

ROWS = [("a fine film", "pos"), ("中文 很好", "pos"), ('say "no", twice', "neg"), ("naïve 🎉", "neg")]


def table(source, wanted=("text", "label"), check=None, **config):
    return open_table(str(source), SourceConfig(**config), wanted, keyed_by=1, check=check)


def rows_of(t) -> list[tuple[str, ...]]:
    read = t.read(range(len(t)))
    return [tuple(read[c][i].decode() for c in t.columns) for i in range(len(t))]


def write(path, rows, kind, newline="\n", header=True, encoding="utf-8", mark=""):
    if kind == "tsv":
        text = "".join("\t".join(r) + newline for r in ([("text", "label")] if header else []) + rows)
    elif kind == "csv":
        out = io.StringIO(newline="")
        csv.writer(out, lineterminator=newline, quoting=csv.QUOTE_ALL).writerows(([("text", "label")] if header else []) + rows)
        text = out.getvalue()
    else:
        text = "".join(json.dumps({"text": t, "label": y}, ensure_ascii=False) + newline for t, y in rows)
    data = (mark + text).encode(encoding)
    if path.suffix == ".gz":
        data = gzip.compress(data)
    path.write_bytes(data)
    return path


@pytest.mark.parametrize("kind", ["tsv", "csv", "jsonl"])
@pytest.mark.parametrize("newline", ["\n", "\r\n"], ids=["lf", "crlf"])
@pytest.mark.parametrize("mark", ["", "\ufeff"], ids=["plain", "bom"])
@pytest.mark.parametrize("packed", ["", ".gz"])
@pytest.mark.parametrize("encoding", ["utf-8", "gb18030"])
def test_formats(tmp_path, kind, newline, mark, packed, encoding):
    rows = ROWS[:3] if encoding == "gb18030" else ROWS
    path = write(tmp_path / f"f.{kind}{packed}", rows, kind, newline, mark=mark, encoding=encoding)
    assert rows_of(table(path, encoding=encoding)) == rows


@pytest.mark.parametrize("kind", ["tsv", "csv"])
def test_without_header(tmp_path, kind):
    path = write(tmp_path / f"f.{kind}", ROWS, kind, header=False, mark="\ufeff")
    assert rows_of(table(path, columns=("text", "label"))) == ROWS


def test_columns_can_be_in_any_order(tmp_path):
    path = tmp_path / "f.tsv"
    path.write_text("id\tlabel\ttext\n1\tpos\tfine\n")
    assert rows_of(table(path)) == [("fine", "pos")]


def test_csv_line_ends_inside_quotes(tmp_path):
    path = tmp_path / "f.csv"
    path.write_bytes(b'text,label\r\n"two\r\nlines",a\r\n"one ""line""",b\r\n')
    t = table(path)
    assert rows_of(t) == [("two\r\nlines", "a"), ('one "line"', "b")]
    assert [t.where(i).rsplit(":")[-1] for i in range(2)] == ["2", "4"]


@given(rows=st.lists(st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\0")), st.just("y")), min_size=1))
def test_any_text_survives_csv_and_jsonl(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    for kind in ("csv", "jsonl"):
        assert rows_of(table(write(folder / f"f.{kind}", rows, kind))) == rows


def test_txt_keeps_empty_lines(tmp_path):
    path = tmp_path / "f.txt"
    path.write_bytes(b"one\r\n\ntwo\tthree")
    assert rows_of(table(path, wanted=("text",))) == [("one",), ("",), ("two\tthree",)]


def test_blank_lines_of_tables_are_no_rows(tmp_path):
    path = tmp_path / "f.tsv"
    path.write_text("text\tlabel\n\nfine\tpos\n \n")
    t = table(path)
    assert rows_of(t) == [("fine", "pos")] and t.where(0) == f"{path}:3"


def test_globs_and_stdin(tmp_path, monkeypatch):
    write(tmp_path / "b.tsv", ROWS[2:], "tsv")
    write(tmp_path / "a.tsv", ROWS[:2], "tsv")
    t = table(tmp_path / "*.tsv")
    assert rows_of(t) == ROWS and t.where(3) == f"{tmp_path / 'b.tsv'}:3"
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"ein Text\n")))
    assert rows_of(table("-", wanted=("text",))) == [("ein Text",)]


def test_format_flag_overrides_the_ending(tmp_path):
    path = write(tmp_path / "f.data", ROWS, "jsonl")
    assert rows_of(table(path, format="jsonl")) == ROWS
    with pytest.raises(UsageError, match=r"f\.data: the ending \.data does not determine the format; add --format="):
        table(write(path, [("a", "b")], "tsv", header=False))


def test_json_numbers_and_booleans_are_their_text(tmp_path):
    path = tmp_path / "f.jsonl"
    path.write_text('{"text": 12, "label": true, "more": [1]}\n{"text": "x", "label": -1.5}\n')
    assert rows_of(table(path)) == [("12", "true"), ("x", "-1.5")]


def test_rows_by_number_in_any_order(tmp_path):
    rows = [(f"text {i}", str(i)) for i in range(20_000)]
    t = table(write(tmp_path / "f.tsv", rows, "tsv"))
    wanted = np.random.default_rng(0).permutation(len(t))[:500]
    assert [v.decode() for v in t.read(wanted)["label"]] == [str(i) for i in wanted]


BAD = {
    "missing column": ("f.tsv", b"txt\tlabel\nx\ty\n", {}, "f.tsv: no column 'text'; its first row names: txt, label"),
    "no header": ("f.tsv", b"fine\tpos\n", {}, "needs --columns="),
    "too few columns": ("f.tsv", b"text\tlabel\nx\ty\nlonely\n", {}, "f.tsv:3: 1 columns, expected 2 (text, label): 'lonely'"),
    "too many columns": ("f.csv", b"text,label\nx,y,z\n", {}, "f.csv:2: 3 columns, expected 2"),
    "columns flag": ("f.tsv", b"x\ty\n", {"columns": ("text", "y")}, "no column 'label'; --columns names: text, y"),
    "bad bytes": (
        "f.tsv",
        b"text\tlabel\nx\ty\n\xff\xfe\ty\n",
        {},
        "f.tsv:3: bytes ff fe 09 79 are not utf-8; name the file's",
    ),
    "bad header bytes": ("f.csv", b"te\xff,label\n", {}, "f.csv:1: bytes ff"),
    "open quote": ("f.csv", b'text,label\nx,y\n"open,y\nz,y\n', {}, "f.csv:3: not valid csv"),
    "not json": ("f.jsonl", b'{"text": "x", "label": "y"}\n{"text"\n', {}, "f.jsonl:2: not JSON"),
    "no object": ("f.jsonl", b"[1]\n", {}, "f.jsonl:1: expected a JSON object, found '[1]'"),
    "missing key": ("f.jsonl", b'{"text": "x"}\n', {}, "f.jsonl:1: no key 'label'; the object has: text"),
    "wrong value": (
        "f.jsonl",
        b'{"text": null, "label": 1}\n',
        {},
        "f.jsonl:1: key 'text': expected a string or a number, found null",
    ),
    "deep": ("f.jsonl", b"[" * 100_000 + b"\n", {}, "f.jsonl:1: "),
    "empty": ("f.tsv", b"", {}, "f.tsv: the file is empty"),
    "header only": ("f.tsv", b"text\tlabel\n", {}, "f.tsv: no rows"),
    "not gzip": ("f.tsv.gz", b"text\tlabel\n", {}, "f.tsv.gz: not readable as gzip"),
    "half gzip": ("f.tsv.gz", gzip.compress(b"text\tlabel\nx\ty\n" * 99)[:-9], {}, "f.tsv.gz: not readable as gzip"),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_files_are_named(tmp_path, monkeypatch, case):
    name, data, config, message = BAD[case]
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(data)
    with pytest.raises(DataError) as caught:
        table(name, **config)
    assert message in str(caught.value)


def test_bad_sources(tmp_path):
    for source, error, message in [
        (tmp_path / "none.tsv", DataError, "no such file"),
        (tmp_path / "*.tsv", DataError, "no such file"),
        (tmp_path, DataError, "is a directory; name its files"),
        ("tfds:name", UsageError, "expected tfds:name[/config]:split"),
        ("tfds:no_such_set:train", DataError, "tools/fetch_demo.py"),
    ]:
        with pytest.raises(error) as caught:
            table(source, tfds_dir=str(tmp_path))
        assert message in str(caught.value)


@pytest.mark.parametrize(
    ("encoding", "message"),
    [
        ("klingon", "no such encoding"),
        ("utf-16", "but the file is not; leave --encoding out"),
        ("cp037", "its line ends are not single bytes"),
    ],
)
def test_encodings_that_cannot_be(tmp_path, encoding, message):
    path = write(tmp_path / "f.tsv", ROWS, "tsv")
    with pytest.raises(UsageError, match=message):
        table(path, encoding=encoding)


def test_utf8_sig_is_utf8(tmp_path):
    assert rows_of(table(write(tmp_path / "f.tsv", ROWS, "tsv", mark="\ufeff"), encoding="utf-8-sig")) == ROWS


def test_plain_text_has_one_column(tmp_path):
    (tmp_path / "f.txt").write_text("x\n")
    with pytest.raises(UsageError, match="plain text has one column.*--format=conll"):
        table(tmp_path / "f.txt")


def test_a_check_is_reported_with_its_line(tmp_path):
    def check(values):
        if values[1] == "neg":
            raise ValueError("no negatives today")

    path = write(tmp_path / "f.csv", ROWS, "csv")
    with pytest.raises(DataError, match=r"f\.csv:4: no negatives today"):
        table(path, check=check)


def test_a_file_that_changed_is_reported(tmp_path):
    path = write(tmp_path / "f.jsonl", ROWS, "jsonl")
    t = table(path)
    path.write_bytes(path.read_bytes()[3:])
    with pytest.raises(DataError, match="did the file change"):
        t.read([1])


def test_unreadable_file(tmp_path, monkeypatch):
    path = write(tmp_path / "f.tsv", ROWS, "tsv")

    def refuse(*args, **more):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", refuse)
    with pytest.raises(DataError, match=r"f\.tsv: Permission denied"):
        table(path)


def test_a_column_that_is_not_read_is_named_in_whichever_file_it_is(tmp_path, caplog):
    (tmp_path / "1.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n')
    (tmp_path / "2.jsonl").write_text('{"text": "c", "label": "x"}\n')
    (tmp_path / "3.jsonl").write_text('{"text": "d", "label": "y"}\n')
    usual = {"text": "--text_columns=text", "label": "--label_column=label"}
    open_table(str(tmp_path / "*.jsonl"), SourceConfig(), ("text",), keyed_by=1, usual=usual)
    (message,) = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    assert message == f"{tmp_path / '2.jsonl'}: its column 'label' is not read; --label_column=label reads it"
