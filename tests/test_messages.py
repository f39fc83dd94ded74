"""Messages name the cause: what a column, a label or a file is mistaken for, and the flag that settles it."""

import json

import pytest
from conftest import write_tsv

from kbert.data.indexing import open_table
from kbert.errors import DataError
from kbert.source import SourceConfig
from kbert.tasks import fine_tuned, splits

ROWS = [(f"a quiet room {i}", str(i % 2)) for i in range(48)]


@pytest.fixture(autouse=True)
def at(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def error_of(read, *arguments, **config) -> str:
    with pytest.raises(DataError) as caught:
        read(*arguments, **config)
    return str(caught.value)


def opened(name, **config):
    return open_table(name, SourceConfig(**config), ("text", "label"), keyed_by=1)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (
            ("sentence", "label"),
            "no column 'text'; its first row names: sentence, label; --text_columns= reads another column; a file",
        ),
        (("text", "polarity"), "no column 'label'; its first row names: text, polarity; --label_column= reads another column"),
        (("Text", "label"), "names: Text, label; 'Text' differs from it only by case, --text_columns= reads it"),
        (("text", " label"), "names: text, ' label'; ' label' differs from it only by blanks, --label_column= reads it"),
        (("text", "label\u00a0"), r"names: text, 'label\xa0'; 'label\xa0' differs from it only by blanks"),
        (
            ("text", "label\u200b"),
            r"the column name 'label\u200b' contains U+200B ZERO WIDTH SPACE, which is invisible; remove it",
        ),
    ],
)
def test_a_missing_column(at, header, message):
    write_tsv(at / "x.tsv", ROWS, header)
    assert message in error_of(opened, "x.tsv")


def test_a_missing_key(at):
    (at / "x.jsonl").write_text('{"sentence": "a", "label": 1}\n')
    assert error_of(opened, "x.jsonl").endswith(
        "no key 'text'; the object has: sentence, label; --text_columns= reads another column"
    )
    (at / "x.jsonl").write_text(json.dumps({"text": "a", "label\u200b": 1}) + "\n")
    assert r"has: text, 'label\u200b'; 'label\u200b' differs from it only by U+200B ZERO WIDTH SPACE" in error_of(
        opened, "x.jsonl"
    )
    # Where other rows have it, the row is at fault.
    (at / "x.jsonl").write_text('{"text": "a", "label": 1}\n{"sentence": "a", "label": 1}\n')
    assert error_of(opened, "x.jsonl") == "x.jsonl:2: no key 'text'; the object has: sentence, label"


def test_labels_that_look_alike():
    audit = fine_tuned("classify").audit("x", ("text",), ["caf\u00e9", "b"], {})
    with pytest.raises(
        ValueError, match=r"is not among the model's labels: 'café', 'b' \('café' differs from it only by Unicode form\)"
    ):
        audit(("a", "cafe\u0301"))
    audit = fine_tuned("tag").audit("x", ("text",), ["PER"], {})
    with pytest.raises(ValueError, match=r"\('PER' differs from it only by case\)"):
        audit(("Ada", "", '[[0, 3, "per"]]'))


def test_swapped_columns():
    audit = fine_tuned("classify").audit("x.tsv", ("text",), None, {})
    for text, label in ROWS:
        audit((label, text))
    said = error_of(audit.check_learnable)
    assert (
        "48 different labels ('a quiet room 0', " in said
        and "of only 2 different texts ('0', '1'): are the columns swapped?" in said
    )


def test_a_conll_file_without_blank_lines(at):
    (at / "x.conll").write_text("Ada B-PER\nsings O\n")
    table = open_table("x.conll", SourceConfig(), ("text", "label"), keyed_by=1, nested=True, tokens="auto")
    made = lambda name: fine_tuned("tag").audit(name, ("text",), None, {})  # noqa: E731
    said = error_of(splits.divided, table, 0, None, 0.1, made)
    assert "(too few rows: 1; a row is a sentence, and a blank line ends it)" in said


def test_lines_that_end_in_two_carriage_returns(at):
    for name, text in {"x.tsv": "text\tlabel\r\r\na\t1\r\r\n", "x.csv": 'text,label\r\r\n"a",1\r\r\n'}.items():
        (at / name).write_bytes(text.encode())
        assert opened(name).read([0])["label"][0] == b"1"
