"""Labels that cannot be told apart by eye, that are missing cells, or that are no classes."""

import pytest
from conftest import write_tsv
from test_file_settings import said  # noqa: F401

from kbert import finetune
from kbert.data.indexing import open_table
from kbert.data.label_names import LabelNames, hidden
from kbert.errors import DataError
from kbert.settings import to_json
from kbert.source import SourceConfig
from kbert.tasks import rows_of
from kbert.tasks.classify.multilabel_gold import labels_of
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.labels import LabelAudit
from kbert.tasks.tag.rows import EntityAudit


@pytest.mark.parametrize(
    ("name", "found"),
    [
        ("1\u200b", "U+200B ZERO WIDTH SPACE"),
        ("\ufeff1", "U+FEFF ZERO WIDTH NO-BREAK SPACE"),
        ("so\u00adft", "U+00AD SOFT HYPHEN"),
        ("a\u200db", "U+200D ZERO WIDTH JOINER"),
        ("好\u200d评", "U+200D ZERO WIDTH JOINER"),
        ("\u3164", "U+3164 HANGUL FILLER"),
        ("می\u200cخواهم", ""),
        ("👨\u200d👩\u200d👧", ""),
        ("New York", ""),
        ("好评", ""),
    ],
)
def test_what_cannot_be_seen(name, found):
    assert hidden(name) == found


@pytest.mark.parametrize(
    ("one", "other", "by"),
    [
        ("Sport", "sport", "case"),
        ("New York", "NewYork", "blanks"),
        ("New\u00a0York", "New York", "blanks"),
        ("caf\u00e9", "cafe\u0301", "Unicode form"),
        ("Ａ", "A", "Unicode form"),
        ("Ａ b", "ab", "case, blanks or Unicode form"),
        ("1", "1.0", "number format"),
    ],
)
def test_names_that_look_alike(one, other, by):
    names = LabelNames()
    assert names.add(one) is None
    assert names.add(other) == f"label {other!r} is distinct from {one!r}, but differs from it only by {by}"
    assert names.add(one) is None and names.add(other) is None  # once is enough


def audited(tmp_path, rows, audit):
    path = write_tsv(tmp_path / "f.tsv", rows)
    open_table(str(path), SourceConfig(), ("text", "label"), keyed_by=1, nested=True, check=audit)
    return audit.check_learnable()


def test_rows_are_named(tmp_path, said):  # noqa: F811
    rows = [("a", "pos"), ("b", "neg"), ("c", "Pos"), ("d", "None"), ("e", "Pos")]
    assert audited(tmp_path, rows, LabelAudit("f.tsv", None)) == []
    assert [line.removeprefix(str(tmp_path)) for line in said()] == [
        "/f.tsv:4: label 'Pos' is distinct from 'pos', but differs from it only by case",
        "/f.tsv:5: label 'None' is taken as a label; is it a missing value?",
    ]
    for label, message in (
        ("pos\u200b", r"f\.tsv:3: label 'pos\\u200b' contains U\+200B ZERO WIDTH SPACE, which is invisible"),
        ("nan", r"f\.tsv:3: label 'nan' is how pandas writes a missing value"),
        ("", r"f\.tsv:3: the label is empty"),
    ):
        with pytest.raises(DataError, match=message):
            audited(tmp_path, [("a", "pos"), ("b", label)], LabelAudit("f.tsv", None))
    audit = EntityAudit("f.tsv", None)
    assert not audit(("a", "", '[[0, 1, "LOC"]]'))
    assert audit(("b", "", '[[0, 1, "Loc"]]')) == "type 'Loc' is distinct from 'LOC', but differs from it only by case"
    with pytest.raises(ValueError, match=r"type 'LOC\\u200b' contains U\+200B"):
        audit(("a", "", '[[0, 1, "LOC\u200b"]]'))


def test_labels_that_are_no_classes(tmp_path):
    graded = [(f"text {i}", f"{i / 20}") for i in range(60)]
    with pytest.raises(DataError, match=r"60 labels in 60 rows, all of them numbers .* --objective=regression"):
        audited(tmp_path, graded, LabelAudit("f.tsv", None))
    with pytest.raises(DataError, match=r"60 labels in 60 rows: most labels have one row"):
        audited(tmp_path, [(f"text {i}", f"name {i}") for i in range(60)], LabelAudit("f.tsv", None))
    with pytest.raises(DataError, match=r"21 labels in 210 rows, all of them numbers"):
        audited(tmp_path, graded[:21] * 10, LabelAudit("f.tsv", None))
    assert audited(tmp_path, graded, LabelAudit("f.tsv", [label for _, label in graded])) == []
    assert audited(tmp_path, [(f"text {i}", str(i % 50)) for i in range(150)], LabelAudit("f.tsv", None)) == []
    assert audited(tmp_path, [(f"text {i}", str(i % 9 / 2)) for i in range(60)], LabelAudit("f.tsv", None)) == []


def test_a_file_of_labels(tmp_path, checkpoint, capsys):
    path, rows = tmp_path / "labels.txt", write_tsv(tmp_path / "f.tsv", [("fine", "pos")] * 20)
    flags = [
        f"--init={checkpoint}",
        f"--train_data={rows}",
        f"--model_dir={tmp_path / 'm'}",
        f"--labels={path}",
        "--max_length=16",
    ]
    path.write_text("neg\npos\u200b\n")
    assert finetune.main(flags) == 1 and f"--labels={path}:2: label 'pos\\u200b' contains U+200B" in capsys.readouterr().err
    path.write_text("neg\nPos\nNEG\n")
    assert finetune.main(flags) == 1
    shown = capsys.readouterr().err
    assert f"--labels={path}:3: label 'NEG' is distinct from 'neg'" in shown and "label 'pos' is not among" in shown


def test_numbers_in_cells_of_several_labels_are_named(tmp_path):
    (tmp_path / "names").write_text("1 World\n2 Sports, Games\n3 Business\n")
    kind = rows_of("classify")
    options = to_json(ClassifyOptions(objective="multilabel", label_separator="|"))
    path = write_tsv(tmp_path / "f.tsv", [("a", "1 | 2"), ("b", "3"), ("c", ""), ("d", "World|3"), ("e", "?"), ("f", "[2, 3]")])
    source = SourceConfig(label_names=str(tmp_path / "names"))

    def read(options, path):
        audit = kind.audit(str(path), ("text",), None, options)
        how = {"nested": kind.nested(options), "separator": kind.separator(options), "check": audit}
        table = open_table(str(path), source, ("text", "label"), keyed_by=1, **how)
        return [cell.decode() for cell in table.read(range(len(table)))["label"]], audit.labels

    cells, labels = read(options, path)
    assert labels == ("Business", "Sports, Games", "World")
    assert [labels_of(cell, "|") for cell in cells] == [
        ("World", "Sports, Games"), ("Business",), (), ("World", "Business"), None, ("Sports, Games", "Business"),
    ]  # fmt: skip
    other = write_tsv(tmp_path / "g.tsv", [("a", "1|9"), ("b", "1|3")])
    with pytest.raises(DataError, match="label '9' is not in"):
        read(options, other)
    with pytest.raises(DataError, match="label .1.9. is not in"):
        read({**options, "objective": "multiclass"}, other)
