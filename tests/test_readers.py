"""Files of each kind that people hold are read as they are: tables, texts, tagged sentences, documents, folders."""

import gzip
import json

import openpyxl
import pandas
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import ROOT, tool
from test_layouts import ENTITIES, TAGS, TOKENS, entities, opened, read

from kbert.config import TextConfig, TrainConfig
from kbert.data import layouts
from kbert.errors import DataError, UsageError
from kbert.settings import to_json
from kbert.source import SourceConfig
from kbert.tasks.classify.multilabel_gold import labels_of
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.classify.rows import ClassifyRows
from kbert.tasks.tables import read_tables

ROWS = [("a fine film", "pos"), ("中文; 很好", "neg"), ("so, so", "pos")]
COLUMNS = ("text", "label")
CASING = TextConfig(lowercase=True, strip_accents=True)


def rows(source, **config):
    return read(opened(source, COLUMNS, nested=False, config=config))


TABLES = {
    "semicolons.csv": 'label;id;text\npos;1;a fine film\nneg;2;"中文; 很好"\npos;3;so, so\n'.encode(),
    "bars.csv": "text|label\na fine film|pos\n中文; 很好|neg\nso, so|pos\n".encode(),
    "told.csv": 'sep=;\ntext;label\na fine film;pos\n"中文; 很好";neg\nso, so;pos\n'.encode(),
    "utf16.tsv": "text\tlabel\na fine film\tpos\n中文; 很好\tneg\nso, so\tpos\n".encode("utf-16"),
    "utf16.csv": 'text;label\r\na fine film;pos\r\n"中文; 很好";neg\r\nso, so;pos\r\n'.encode("utf-16"),
    "utf32.tsv": "text\tlabel\na fine film\tpos\n中文; 很好\tneg\nso, so\tpos\n".encode("utf-32"),
    "cr.tsv": "text\tlabel\ra fine film\tpos\r中文; 很好\tneg\rso, so\tpos\r".encode(),
    "cr16.tsv": "text\tlabel\ra fine film\tpos\r中文; 很好\tneg\rso, so\tpos".encode("utf-16"),
    "fast.txt": "__label__pos a fine film\n__label__neg 中文; 很好\n\n__label__pos so, so\n".encode(),
    "header.txt": "text\tlabel\na fine film\tpos\n中文; 很好\tneg\nso, so\tpos\n".encode(),
    "objects.txt": "".join(json.dumps({"text": t, "label": y}) + "\n" for t, y in ROWS).encode(),
}


@pytest.mark.parametrize("name", TABLES)
def test_tables(tmp_path, name):
    for packed in (False, True):
        file = tmp_path / (name + ".gz" * packed)
        file.write_bytes(gzip.compress(TABLES[name]) if packed else TABLES[name])
        assert rows(file) == ROWS


def test_lines_are_counted_in_every_table(tmp_path):
    for name, line in (("told.csv", 5), ("cr16.tsv", 4), ("utf16.csv", 4), ("fast.txt", 4)):
        (tmp_path / name).write_bytes(TABLES[name])
        assert opened(tmp_path / name, COLUMNS).where(2) == f"{tmp_path / name}:{line}"


def test_utf16_without_a_mark_needs_the_flag(tmp_path):
    (tmp_path / "f.tsv").write_bytes("text\tlabel\na\tb\n".encode("utf-16-le"))
    assert rows(tmp_path / "f.tsv", encoding="utf-16-le") == [("a", "b")]
    (tmp_path / "f.tsv").write_bytes("text\tlabel\n\ud800a\tb\n".encode("utf-16-le", "surrogatepass"))
    with pytest.raises(DataError, match=r"f\.tsv: not utf-16-le"):
        rows(tmp_path / "f.tsv", encoding="utf-16-le")


def test_tables_that_may_be_read_in_two_ways(tmp_path):
    (tmp_path / "f.csv").write_text("text;label|x\na;b|c\n")
    with pytest.raises(DataError, match="no column 'text'"):
        rows(tmp_path / "f.csv")
    (tmp_path / "f.csv").write_text("text,label\na;b,c;d\n")
    assert rows(tmp_path / "f.csv") == [("a;b", "c;d")]
    (tmp_path / "f.csv").write_text("pos;a, b, c\nneg;d\n")
    assert rows(tmp_path / "f.csv", columns=("label", "text")) == [("a, b, c", "pos"), ("d", "neg")]
    (tmp_path / "f.txt").write_text("__label__a text,label\n")
    assert rows(tmp_path / "f.txt") == [("text,label", "a")]


SEVERAL = {
    "f.txt": "__label__a,c __label__b so so\n__label__b dull\n",
    "doccano.jsonl": '{"text": "so so", "label": ["a,c", "b"]}\n{"text": "dull", "label": ["b"]}\n',
    "choices.json": '[{"text": "so so", "label": {"choices": ["a,c", "b"]}}, {"text": "dull", "label": "b"}]',
    "numbers.jsonl": '{"text": "so so", "label": [1, 2]}\n{"text": "dull", "label": [2]}\n',
}


@pytest.mark.parametrize("name", SEVERAL)
def test_several_labels_a_row(tmp_path, name):
    (tmp_path / name).write_text(SEVERAL[name])
    (tmp_path / "names").write_text("1 a,c\n2 b\n")
    names = str(tmp_path / "names") if name == "numbers.jsonl" else None
    source = SourceConfig(text_columns=("text",), label_column="label", label_names=names)
    train = TrainConfig(init="x", train_data=str(tmp_path / name), dev_data=str(tmp_path / name), source=source)
    several = to_json(ClassifyOptions(objective="multilabel"))
    tables, labels, _ = read_tables(ClassifyRows, train, ("text",), several, CASING)
    assert labels == ("a,c", "b")
    found = [labels_of(label, ",") for _, label in read(tables["train"])]
    assert found == [("a,c", "b"), ("b",)]
    with pytest.raises(DataError, match=r"1.*(2 labels|expected a string).*a,c|1, 2.*; .*--objective=multilabel"):
        read_tables(ClassifyRows, train, ("text",), to_json(ClassifyOptions()), CASING)


def test_a_cell_that_is_a_list_is_no_class(tmp_path):
    (tmp_path / "f.tsv").write_text('text\tlabel\nso\t["a", "b"]\ndull\tb\n')
    train = TrainConfig(init="x", train_data=str(tmp_path / "f.tsv"), dev_data=str(tmp_path / "f.tsv"))
    with pytest.raises(DataError, match=r"is a list; several labels a row are learnt with --objective=multilabel"):
        read_tables(ClassifyRows, train, ("text",), to_json(ClassifyOptions()), CASING)


def test_labels_of_fasttext_with_none(tmp_path):
    (tmp_path / "f.txt").write_text("__label__a x\nso\n")
    for nested in (False, True):
        with pytest.raises(DataError, match=r"f\.txt:2: 0 labels"):
            opened(tmp_path / "f.txt", COLUMNS, nested=nested, config={"format": "fasttext"})


def test_lists_of_files(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for i, name in enumerate(("a.tsv", "b.tsv", "c,d.tsv")):
        (tmp_path / name).write_text(f"text\tlabel\n{i}\tx\n")
    assert [text for text, _ in rows("b.tsv, a.tsv")] == ["1", "0"]
    assert [text for text, _ in rows("c,d.tsv")] == ["2"]
    assert [text for text, _ in rows("[ab].tsv,c*.tsv")] == ["0", "1", "2"]
    with pytest.raises(DataError, match=r"^e\.tsv: no such file"):
        rows("a.tsv,e.tsv")
    with pytest.raises(DataError, match=r"a\.tsv is listed twice"):
        rows("a.tsv,?.tsv")


def features(**kinds):
    return {b"huggingface": json.dumps({"info": {"features": kinds}}).encode()}


LABEL = {"names": ["neg", "pos"], "_type": "ClassLabel"}


def tables():
    plain = pa.table({"text": [t for t, _ in ROWS], "label": [y for _, y in ROWS], "image": [b"\xff"] * 3})
    numbered = pa.table({"text": [t for t, _ in ROWS], "label": [y == "pos" for _, y in ROWS]}).cast(
        pa.schema([("text", pa.large_string()), ("label", pa.int64())])
    )
    return {"plain": plain, "named by the schema": numbered.replace_schema_metadata(features(text={"_type": "Value"}, label=LABEL))}


@pytest.mark.parametrize("kind", ["parquet", "feather", "stream.arrow", "xlsx", "saved", "gz"])
def test_binary_tables(tmp_path, kind):
    for table in tables().values():
        file = tmp_path / f"f.{kind}"
        if kind in ("parquet", "gz"):
            file = tmp_path / "f.parquet"
            pa.parquet.write_table(table, file)
            if kind == "gz":
                file = tmp_path / "f.parquet.gz"
                file.write_bytes(gzip.compress((tmp_path / "f.parquet").read_bytes()))
        elif kind == "feather":
            with pa.OSFile(str(file), "wb") as out, pa.ipc.new_file(out, table.schema) as writer:
                writer.write_table(table)
        elif kind == "stream.arrow":
            with pa.OSFile(str(file), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
                writer.write_table(table)
        elif kind == "xlsx":
            pandas.DataFrame(ROWS, columns=COLUMNS).to_excel(file, index=False)
        else:
            file = tmp_path / "saved"
            file.mkdir(exist_ok=True)
            parts = [table.slice(0, 2), table.slice(2)]
            for i, part in enumerate(parts):
                with pa.OSFile(str(file / f"data-{i}.arrow"), "wb") as out, pa.ipc.new_stream(out, table.schema) as writer:
                    writer.write_table(part)
            state = {"_data_files": [{"filename": f"data-{i}.arrow"} for i in range(2)]}
            (file / "state.json").write_text(json.dumps(state))
        found = opened(file, COLUMNS)
        assert read(found) == ROWS
        assert found.where(2) == f"{file}: row {4 if kind == 'xlsx' else 3}"
        with pytest.raises(DataError, match="row [12]: no key 'other'; the object has: .*text.*, label"):
            opened(file, ("text", "other"))


def test_numbered_tags_of_a_data_set_are_named_by_its_schema(tmp_path):
    names = ["O", "B-PER", "B-LOC"]
    table = pa.table({"tokens": TOKENS, "ner_tags": [[names.index(tag) for tag in tags] for tags in TAGS]})
    for kind in ({"feature": {"names": names, "_type": "ClassLabel"}, "_type": "Sequence"}, [{"names": names, "_type": "ClassLabel"}]):
        pa.parquet.write_table(table.replace_schema_metadata(features(ner_tags=kind)), tmp_path / "f.parquet")
        assert entities(tmp_path / "f.parquet") == ENTITIES


def test_files_that_are_not_of_their_kind(tmp_path):
    for name, message in (("f.parquet", "not Parquet"), ("f.arrow", "not Arrow"), ("f.xlsx", "not a workbook"), ("f.xml", "not XML")):
        (tmp_path / name).write_bytes(b"nothing of the kind")
        with pytest.raises(DataError, match=message):
            rows(tmp_path / name)
    saved = tmp_path / "saved"
    saved.mkdir()
    for state, message in (
        ("{}", "state.json lists no files"),
        ('{"_data_files": [{"filename": "../f.arrow"}]}', "names a file elsewhere"),
        ('{"_data_files": [{"filename": "x.arrow"}]}', "x.arrow: No such file"),
        ('{"_data_files": [], "_indices_data_files": [{}]}', "a selection of rows"),
    ):
        (saved / "state.json").write_text(state)
        with pytest.raises(DataError, match=message):
            rows(saved)
    splits = tmp_path / "splits"
    (splits / "train").mkdir(parents=True)
    (splits / "dataset_dict.json").write_text("{}")
    (splits / "train" / "state.json").write_text("{}")
    with pytest.raises(DataError, match=r"a data set of several splits; give one, for example .*splits/train"):
        rows(splits)


def test_workbooks(tmp_path):
    book = openpyxl.Workbook()
    sheet = book.active
    for line in (["text", "label", None], ["a", 1, None], [None, None, None], ["b", 2.5, "x"]):
        sheet.append(line)
    book.create_sheet("empty")
    book.save(tmp_path / "f.xlsx")
    found = opened(tmp_path / "f.xlsx", COLUMNS)
    assert read(found) == [("a", "1"), ("b", "2.5")] and found.where(1).endswith("f.xlsx: row 4")
    book.create_sheet("more").append(["text", "label"])
    book.save(tmp_path / "f.xlsx")
    with pytest.raises(DataError, match=r"2 sheets have rows \(Sheet, more\); keep one"):
        rows(tmp_path / "f.xlsx")
    with pytest.raises(UsageError, match=r"f\.xls: a spreadsheet of a kind that kbert does not read"):
        (tmp_path / "f.xls").write_bytes(b"x")
        rows(tmp_path / "f.xls")


def test_a_folder_of_each_class(tmp_path, caplog):
    for name, text in (("pos/1.txt", "fine\n"), ("neg/2.txt", "two\r\nlines"), ("neg/.hidden", "x"), ("urls.txt", "x")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(text.encode())
    found = opened(tmp_path, COLUMNS)
    assert read(found) == [("two\nlines", "neg"), ("fine", "pos")] and found.where(1) == f"{tmp_path}: pos/1.txt"
    assert "files beside the folders of classes are not read: urls.txt" in caplog.text
    (tmp_path / "unsup").mkdir()
    (tmp_path / "unsup" / "3.txt").write_text("so so")
    assert read(opened(tmp_path, COLUMNS)) == read(found)
    assert "the texts of unsup have no label, and are left out" in caplog.text
    assert [text for (text,) in read(opened(tmp_path, ("text",), config={"label_column": "label"}))][-1] == "so so"
    (tmp_path / "pos" / "1.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"pos/1\.txt: not utf-8; name the files' encoding"):
        rows(tmp_path)


TAGGED = {
    "slashes.txt": "Ada/B-PER lives/O in/O Oslo/B-LOC\n\nIt/O rains/O\n",
    "bars.txt": "Ada|B-PER lives|O in|O Oslo|B-LOC\nIt|O rains|O\n",
    "parts.conll": "Ada|NNP|B-PER lives|VBZ|O in|IN|O Oslo|NNP|B-LOC\nIt|PRP|O rains|VBZ|O\n",
    "columns.txt": "Ada B-PER\nlives O\nin O\nOslo B-LOC\n\nIt O\nrains O\n",
    "kaggle.csv": "Sentence #,Word,POS,Tag\nSentence: 1,Ada,NNP,B-PER\n,lives,VBZ,O\n,in,IN,O\n,Oslo,NNP,B-LOC\nSentence: 2,It,PRP,O\n,rains,VBZ,O\n",
    "ids.tsv": "sentence_id\twords\tlabels\n0\tAda\tB-PER\n0\tlives\tO\n0\tin\tO\n0\tOslo\tB-LOC\n1\tIt\tO\n1\trains\tO\n",
}


@pytest.mark.parametrize("name", TAGGED)
def test_tagged_sentences(tmp_path, name):
    (tmp_path / name).write_text(TAGGED[name])
    assert entities(tmp_path / name) == ENTITIES


def test_tagged_sentences_that_are_malformed(tmp_path):
    file = tmp_path / "f.txt"
    for text, message in (
        ("Ada/B-PER sings/O\nno tags here\n", r"f\.txt:2: expected TOKEN/TAG, found 'no'"),
        ("[中央/n 电台/n]nt\n", r"f\.txt:1: brackets around several tokens"),
    ):
        file.write_text(text)
        with pytest.raises(DataError, match=message):
            entities(file, format="tagged")
    (tmp_path / "f.csv").write_text("Sentence #,Word,Tag\n1,Ada,O,x\n,,O\n")
    with pytest.raises(DataError, match=r"f\.csv:2: 4 columns, expected 3 \(Sentence #, Word, Tag\)"):
        entities(tmp_path / "f.csv")
    (tmp_path / "f.csv").write_text("Sentence #,Word,Tag,NER\n1,Ada,O,O\n")
    with pytest.raises(DataError, match="no column 'label'; 'Tag' and 'NER' may be meant: --label_column=Tag"):
        entities(tmp_path / "f.csv")


def test_brat(tmp_path):
    for i, (text, spans) in enumerate(ENTITIES):
        (tmp_path / f"{i}.txt").write_text(text)
        lines = [f"T{n}\t{kind} {a} {b}\t{text[a:b]}\n" for n, (a, b, kind) in enumerate(spans)]
        (tmp_path / f"{i}.ann").write_text("".join([*lines, "R1\tAt Arg1:T0 Arg2:T1\n", "#1\tNote T0\tx\n"]))
    assert entities(tmp_path) == ENTITIES and entities(tmp_path / "0.ann") == ENTITIES[:1]
    assert entities(f"{tmp_path}/*.ann") == ENTITIES
    for line, message in (
        ("T1\tPER 0 4\tAda\n", r"0\.ann: line 1: entity 'PER' 'Ada' is at 0 to 4, where the text has 'Ada '"),
        ("T1\tPER 0 3;4 9\tAda lives\n", "line 1: an entity in several parts"),
        ("T1 PER\n", "line 1: not an entity"),
    ):
        (tmp_path / "0.ann").write_text(line)
        with pytest.raises(DataError, match=message):
            entities(tmp_path)
    (tmp_path / "0.ann").write_text("T1\tPER 6 9\tAda\n")
    (tmp_path / "0.txt").write_bytes(b"So\r\n\r\n- Ada")  # as the editor of brat counts it
    assert entities(tmp_path / "0.ann") == [("So\n\n- Ada", [(6, 9, "PER")])]
    (tmp_path / "0.txt").unlink()
    with pytest.raises(DataError, match=r"0\.txt: No such file"):
        entities(tmp_path)


TERM = '<aspectTerms><aspectTerm term="bread" polarity="positive" from="5" to="10"/></aspectTerms>'
CATEGORY = '<aspectCategories><aspectCategory category="food" polarity="negative"/></aspectCategories>'
OPINION = '<Opinions><Opinion target="{0}" category="FOOD#QUALITY" polarity="positive"/></Opinions>'


def test_semeval(tmp_path, caplog):
    def found(inside, aspect="aspect"):
        (tmp_path / "f.xml").write_text(f'<?xml version="1.0"?><Reviews><sentences><sentence id="a:1"><text>Good bread</text>{inside}</sentence></sentences></Reviews>')
        return opened(tmp_path / "f.xml", ("text", aspect, "label"), 2)

    assert read(found(TERM)) == [("Good bread", "bread", "positive")] and found(TERM).where(0).endswith("f.xml: sentence 'a:1'")
    assert read(found(CATEGORY)) == [("Good bread", "food", "negative")]
    assert read(found(TERM + CATEGORY, "category")) == [("Good bread", "food", "negative")]
    assert read(found(OPINION.format("bread"), "category")) == [("Good bread", "FOOD#QUALITY", "positive")]
    assert read(found(OPINION.format("bread") + OPINION.format("NULL"), "term")) == [("Good bread", "bread", "positive")]
    assert "1 opinions without a target in the text (NULL) are not read" in caplog.text
    with pytest.raises(DataError, match="a file with terms and categories: --text_columns=text,term or"):
        found(TERM + CATEGORY)
    assert opened(tmp_path / "f.xml", ("text",)).read([0])["text"].tolist() == [b"Good bread"]
    (tmp_path / "f.xml").write_text("<a/>")
    with pytest.raises(DataError, match="XML without a <sentence>"):
        opened(tmp_path / "f.xml", ("text",))


# How the sample of each reader is read: its file, its columns, how many of them are texts, the first row.
SAMPLES = {
    "delimited": ("f.csv", COLUMNS, 1, ("a fine film, at last", "pos")),
    "json_lines": ("f.jsonl", COLUMNS, 1, ("a fine film", "pos")),
    "json_rows": ("f.json", COLUMNS, 1, ("a fine film", "pos")),
    "plain_text": ("f.txt", ("text",), 1, ("a fine film",)),
    "fasttext": ("f.txt", COLUMNS, 1, ("a fine film", "pos")),
    "conll": ("f.conll", COLUMNS, 0, ("EU rejects", [(0, 2, "ORG")])),
    "token_lists": ("f.jsonl", COLUMNS, 0, ("Ada lives in Oslo", [(0, 3, "PER"), (13, 17, "LOC")])),
    "tagged_lines": ("f.txt", COLUMNS, 0, ("Ada lives in Oslo .", [(0, 3, "PER"), (13, 17, "LOC")])),
    "token_table": ("f.csv", COLUMNS, 0, ("Ada lives", [(0, 3, "per")])),
    "spans": ("f.jsonl", COLUMNS, 0, ("Ada lives in Oslo", [(0, 3, "PER")])),
    "label_studio": ("f.json", COLUMNS, 0, ("Ada sings", [(0, 3, "PER")])),
    "squad": ("f.json", ("question", "context"), 2, ("Where does she live?", "Ada lives in Oslo.")),
    "three_lines": ("f.seg", ("text", "aspect", "label"), 2, ("The bread is top notch as well .", "bread", "1")),
    "semeval": ("f.xml", ("text", "aspect", "label"), 2, ("Good bread.", "bread", "positive")),
}
LAYOUTS = {layout.name: layout for layout in layouts.layouts()}


def test_every_reader_says_what_it_reads():
    assert LAYOUTS.keys() - SAMPLES.keys() == {"class_folders", "arrow_tables", "spreadsheet", "brat"}  # no files of text, tested above
    for chinese, name in ((False, "docs/layouts.md"), (True, "docs/layouts.zh-CN.md")):
        written = (ROOT / name).read_text(encoding="utf-8")
        assert written == tool("docs_site").with_layouts(written, chinese), "python tools/docs_site.py writes it anew"


@pytest.mark.parametrize("name", SAMPLES)
def test_samples_of_the_readers(tmp_path, name):
    file, columns, texts, first = SAMPLES[name]
    (tmp_path / file).write_text(LAYOUTS[name].sample + "\n", encoding="utf-8")
    found = read(opened(tmp_path / file, columns, texts, nested=name != "fasttext")) if texts else entities(tmp_path / file)
    assert len(found) == (2 if name in ("squad", "token_table", "semeval") else 3)
    assert found[0] == first
