"""Every layout of docs/layouts.md is read alike by the commands, for training, evaluation, prediction and vectors; and the files
of public reports.
"""

import gzip
import json

import openpyxl
import pyarrow as pa
import pyarrow.parquet
import pytest
from conftest import finetune_flags
from test_layouts import studio

from kbert import encode, evaluate, finetune, predict, serving
from kbert.data import indexing, layouts, squad
from kbert.data.rows import Rows
from kbert.data.spans import read_spans
from kbert.errors import DataError
from kbert.train import inputs, session

REVIEWS = [("a fine film", "positive"), ("a dull plot", "negative"), ("good", "positive"), ("bad", "negative")]
OBJECTS = [{"text": text, "label": label} for text, label in REVIEWS]
SENTENCES = [
    (["bad", "film", "good"], ["O", "B-thing", "O"]),
    (["the", "plot", "is", "dull"], ["O", "B-thing", "O", "O"]),
    (["a", "cafe"], ["O", "B-place"]),
    ("a very fine film is not a bad film".split(), ["O", "O", "O", "B-thing", *"OOOOO"]),
    ("good and fine".split(), [*"OOO"]),
]
MARKED = [("bad film good", [(4, 8, "thing")]), ("the plot is dull", [(4, 8, "thing")]), ("a cafe", [(2, 6, "place")])]
MARKED += [("a very fine film is not a bad film", [(12, 16, "thing")]), ("good and fine", [])]
ASKED = [("what film", "a fine film", "fine", 2), ("what plot", "the dull plot", "dull", 4)]
TERMS = [("good film", "film", "1"), ("bad plot", "plot", "-1"), ("a cafe", "cafe", "0")]
POLARITIES = {"1": "positive", "-1": "negative", "0": "neutral"}


def lines(rows):
    return "".join(json.dumps(row) + "\n" for row in rows)


def sheet(path):
    book = openpyxl.Workbook()
    for row in (("text", "label"), *REVIEWS):
        book.active.append(row)
    book.save(path)


def folders(path):
    for number, (text, label) in enumerate(sorted(REVIEWS, key=lambda row: row[1])):
        (path / label).mkdir(parents=True, exist_ok=True)
        (path / label / f"{number}.txt").write_text(text)


def standoff(path):
    path.mkdir()
    for number, (text, spans) in enumerate(MARKED):
        (path / f"{number}.txt").write_text(text)
        (path / f"{number}.ann").write_text("".join(f"T1\t{kind} {a} {b}\t{text[a:b]}\n" for a, b, kind in spans))


def document():
    questions = [
        {"context": c, "qas": [{"id": q, "question": q, "answers": [{"text": a, "answer_start": at}]}]} for q, c, a, at in ASKED
    ]
    return json.dumps({"data": [{"title": "", "paragraphs": questions}]})


def sentence(number, text, term, label):
    at = text.index(term)
    where = f'from="{at}" to="{at + len(term)}"'
    return (
        f'<sentence id="{number}"><text>{text}</text><aspectTerms><aspectTerm term="{term}" polarity="{POLARITIES[label]}" '
        f"{where}/></aspectTerms></sentence>"
    )


# A layout's readers, its task, its file or folder, and what writes it: a text, or a function of the path.
LAYOUTS = {
    "tsv": ("delimited", "classify", "f.tsv", "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in REVIEWS)),
    "csv": ("delimited", "classify", "f.csv", "label;text\n" + "".join(f'{label};"{text}"\n' for text, label in REVIEWS)),
    "jsonl": ("json_lines", "classify", "f.jsonl", lines(OBJECTS)),
    "json": ("json_rows", "classify", "f.json", json.dumps(OBJECTS, indent=1)),
    "a document named as lines": ("json_rows", "classify", "f.jsonl", json.dumps(OBJECTS, indent=1)),
    "fastText": ("fasttext", "classify", "f.txt", "".join(f"__label__{label} {text}\n" for text, label in REVIEWS)),
    "folders": ("class_folders", "classify", "f", folders),
    "parquet": ("arrow_tables", "classify", "f.parquet", lambda to: pa.parquet.write_table(pa.Table.from_pylist(OBJECTS), to)),
    "xlsx": ("spreadsheet", "classify", "f.xlsx", sheet),
    "conll": (
        "conll", "tag", "f.conll",
        "\n".join("".join(f"{word} {tag}\n" for word, tag in zip(*row, strict=True)) for row in SENTENCES),
    ),
    "lists of tokens": (
        "token_lists", "tag", "f.jsonl", lines({"tokens": words, "ner_tags": tags} for words, tags in SENTENCES)
    ),
    "slashes": (
        "tagged_lines", "tag", "f.txt",
        "".join(" ".join(f"{word}/{tag}" for word, tag in zip(*row, strict=True)) + "\n" for row in SENTENCES),
    ),
    "a token a row": (
        "token_table", "tag", "f.csv",
        "sentence_id,words,labels\n"
        + "".join(f"{i},{word},{tag}\n" for i, row in enumerate(SENTENCES) for word, tag in zip(*row, strict=True)),
    ),
    "spans": ("spans", "tag", "f.jsonl", lines({"text": text, "label": spans} for text, spans in MARKED)),
    "Label Studio": (
        "label_studio", "tag", "f.json", json.dumps([studio(*row) for row in MARKED]).replace('"ner"', '"label"')
    ),
    "brat": ("brat", "tag", "f", standoff),
    "SQuAD": ("squad", "answer", "f.json", document()),
    "flat questions": (
        "squad", "answer", "f.jsonl",
        lines({"question": q, "context": c, "answers": {"text": [a], "answer_start": [at]}} for q, c, a, at in ASKED),
    ),
    "three lines": (
        "three_lines", "aspect", "f.seg",
        "".join(f"{text.replace(term, '$T$')}\n{term}\n{label}\n" for text, term, label in TERMS),
    ),
    "SemEval": (
        "semeval", "aspect", "f.xml",
        f"<sentences>{''.join(sentence(number, *row) for number, row in enumerate(TERMS))}</sentences>",
    ),
}  # fmt: skip
FLAGS = {
    "classify": {},
    "tag": {"task": "tag", "stride": 4},
    "answer": {"task": "answer", "max_question_length": 4, "doc_stride": 4},
    "aspect": {"task": "aspect", "text_columns": "text,aspect", "filter": "head"},
}
INPUTS = {
    "classify": [(text,) for text, _ in REVIEWS],
    "tag": [(text,) for text, _ in MARKED],
    "answer": [(question, context) for question, context, *_ in ASKED],
    "aspect": [(text, term) for text, term, _ in TERMS],
}
GOLD = {
    "classify": dict(REVIEWS),
    "tag": dict(MARKED),
    "answer": {question: (answer, at) for question, _, answer, at in ASKED},
    "aspect": {text: POLARITIES[label] for text, _, label in TERMS},
}


def gold_of(task, value):
    if task == "tag":
        return read_spans(value)
    if task == "answer":
        ((answer, at),) = squad.parse(value)
        return answer, at
    return POLARITIES.get(value, value.lower()) if task == "aspect" else value


def rows_of(table):
    columns = table.read(range(len(table)))
    return [tuple(value.decode() for value in row) for row in zip(*columns.values(), strict=True)]


class Read:
    """What commands read of a source: the rows of the last table. They end where the model would be loaded."""

    def __init__(self, checkpoint, folder, patch):
        self.checkpoint, self.folder, self.patch = checkpoint, folder, patch
        self.inputs, self.table = None, None
        read, opened = inputs.read_inputs, indexing.open_table

        def kept(*args):
            self.inputs = read(*args)

        def open_table(*args, **more):
            self.table = opened(*args, **more)
            return self.table

        def load(*args):
            raise DataError("the end")

        patch.setattr(inputs, "read_inputs", kept)
        patch.setattr(session, "run", lambda flags, train, read, early: read(train))
        patch.setattr(indexing, "open_table", open_table)
        patch.setattr(serving, "load", load)
        for command in (evaluate, predict):
            patch.setattr(command, "model_directory", lambda path: self)

    def read_config(self):
        return self.inputs.config, self.inputs.train

    def training(self, source, **flags):
        given = {"train_data": source, "dev_data": source, **flags}
        assert finetune.main(finetune_flags(self.checkpoint, self.folder, self.folder / "m", **given)) == 0
        return rows_of(self.inputs.tables["train"])

    def evaluation(self, source):
        assert evaluate.main(["--model_dir=m", f"--data={source}"]) == 1
        return rows_of(self.table)

    def evaluation_in_python(self, rows):
        with pytest.raises(DataError, match="the end"):
            evaluate.measure(self, Rows("data", rows), None, serving.load)
        return rows_of(self.table)

    def prediction(self, source):
        assert predict.main(["--model_dir=m", f"--input={source}", f"--output={self.folder / 'out'}"]) == 1
        return rows_of(self.table)

    def vectors(self, source, column):
        self.patch.setattr(encode, "_sentences", lambda *args: None)
        given = {"init": self.checkpoint, "input": source, "output": self.folder / "v.npy", "text_columns": column}
        assert encode.main([f"--{flag}={value}" for flag, value in given.items()]) == 0
        return [text for (text,) in rows_of(self.table)]


@pytest.fixture
def read(checkpoint, tmp_path, monkeypatch):
    return Read(checkpoint, tmp_path, monkeypatch)


def test_the_layouts_here_are_those_of_the_documentation():
    assert {reader for reader, *_ in LAYOUTS.values()} == {layout.name for layout in layouts.layouts()} - {"plain_text"}


@pytest.mark.parametrize("name", LAYOUTS)
def test_all_commands_read_a_layout_alike(tmp_path, read, name):
    _, task, file, content = LAYOUTS[name]
    path = tmp_path / file
    path.write_text(content) if isinstance(content, str) else content(path)
    expected = sorted(INPUTS[task], key=lambda row: GOLD[task][row[0]]) if name == "folders" else INPUTS[task]

    rows = read.training(path, **FLAGS[task])
    width = len(expected[0])
    assert [row[:width] for row in rows] == expected
    assert all(gold_of(task, row[-1]) == GOLD[task][row[0]] for row in rows)
    assert read.evaluation(path) == rows
    assert [row[:width] for row in read.prediction(path)] == expected
    texts = [row[task == "answer"] for row in expected]
    assert read.vectors(path, "context" if task == "answer" else "text") == texts
    if file == "f.jsonl" and isinstance(content, str) and content.startswith("{"):
        assert read.evaluation_in_python([json.loads(line) for line in content.splitlines()]) == rows
    if path.is_file():
        (tmp_path / f"again.{file}.gz").write_bytes(gzip.compress(path.read_bytes()))
        for both in (f"{tmp_path}/*{file}*", f"{path},{tmp_path}/again.{file}.gz"):
            assert sorted(read.evaluation(both)) == sorted(2 * rows)


@pytest.mark.parametrize(("first", "name"), [("tsv", "fastText"), ("tsv", "jsonl"), ("conll", "slashes")])
def test_a_model_reads_other_layouts_than_its_training_data_had(tmp_path, read, first, name):
    _, task, file, content = LAYOUTS[name]
    (tmp_path / file).write_text(content)
    (tmp_path / f"training.{first}").write_text(LAYOUTS[first][3])
    rows = read.training(tmp_path / f"training.{first}", **FLAGS[task])
    assert read.evaluation(tmp_path / file) == rows


def test_plain_texts_are_read_alike(tmp_path, read):
    (tmp_path / "f.tsv").write_text(LAYOUTS["tsv"][3])
    (tmp_path / "f.txt").write_text("".join(text + "\n" for text, _ in REVIEWS))
    read.training(tmp_path / "f.tsv")
    assert read.prediction(tmp_path / "f.txt") == INPUTS["classify"]
    assert read.vectors(tmp_path / "f.txt", "text") == [text for text, _ in REVIEWS]


# Files of public reports, a few rows each: the flags, the file's name and bytes, and the rows that training reads of it.
PEOPLE = [("Ada Osei lives in Oslo .", [(0, 8, "PER"), (18, 22, "LOC")]), ("Carla sings still .", [(0, 5, "PER")])]
WORDS = [text.split() for text, _ in PEOPLE]
BIO = [["B-PER", "I-PER", "O", "O", "B-LOC", "O"], ["B-PER", "O", "O", "O"]]
SOUP = [("the soup was awful", "soup"), ("the soup and again the soup here", "soup")]
TEA = [("a lovely quiet room (1)", "1"), ("stale bread every day (14)", "0"), ("best tea (36)", "1")]


def columns(tags, before="", middle=" "):
    blocks = ("\n".join(map(middle.join, zip(*row, strict=True))) for row in zip(WORDS, tags, strict=True))
    return "\n\n".join(before + block for block in blocks)


def regions(key, ends=("start", "end"), more=lambda text: {}):
    return [
        {"text": text, key[0]: [{ends[0]: a, ends[1]: b, key[1]: key[2](kind), **more(text[a:b])} for a, b, kind in spans]}
        for text, spans in PEOPLE
    ]


STUDIO = regions(("label", "labels", lambda kind: [kind]), more=lambda text: {"text": text})
DOCCANO = regions(("entities", "label", str), ("start_offset", "end_offset"))
TABLE = "".join(f"{text}\t{label}\n" for text, label in [("text", "label"), *TEA])
REPORTS = {
    "$T$ twice": (
        {**FLAGS["aspect"]}, "f.seg", "the $T$ was awful\nsoup\n-1\nthe $T$ and again the $T$ here\nsoup\n1\n",
        [(*row, label) for row, label in zip(SOUP, ("negative", "positive"), strict=True)],
    ),
    "labels in words": (
        {**FLAGS["aspect"]}, "f.seg", "the $T$ was awful\nsoup\nNegative\nthe $T$ and again the $T$ here\nsoup\nPositive\n",
        [(*row, label) for row, label in zip(SOUP, ("negative", "positive"), strict=True)],
    ),
    "types beside O": ({}, "f.conll", columns([[tag.removeprefix("B-").removeprefix("I-") for tag in row] for row in BIO]), PEOPLE),
    "comments": ({}, "f.conll", columns(BIO, "# id 1f0a\tdomain=en\n", " _ _ "), PEOPLE),
    "underscores": ({}, "f.conll", columns([[tag.replace("-", "_") for tag in row] for row in BIO]), PEOPLE),
    "Hugging Face": (
        {"text_columns": "tokens", "label_column": "ner_tags"}, "f.jsonl",
        lines({"id": "0", "tokens": words, "ner_tags": tags} for words, tags in zip(WORDS, BIO, strict=True)), PEOPLE,
    ),
    "doccano": ({"label_column": "entities"}, "f.jsonl", lines({**row, "relations": [], "Comments": []} for row in DOCCANO), PEOPLE),
    "Label Studio's lines": ({}, "f.jsonl", lines(STUDIO), PEOPLE),
    "Label Studio's list": ({}, "f.json", json.dumps(STUDIO), PEOPLE),
    "CR CR LF": ({}, "f.tsv", TABLE.replace("\n", "\r\r\n"), TEA),
    "CR": ({}, "f.tsv", TABLE.replace("\n", "\r"), TEA),
    "semicolons": ({}, "f.csv", "text;label\n" + "".join(f'"{text}";{label}\n' for text, label in TEA), TEA),
}  # fmt: skip


@pytest.mark.parametrize("report", REPORTS)
def test_files_of_public_reports_are_read(tmp_path, read, report):
    flags, file, content, expected = REPORTS[report]
    (tmp_path / file).write_bytes(content.encode())
    task = flags.get("task") or ("tag" if expected is PEOPLE else "classify")
    rows = read.training(
        tmp_path / file, **FLAGS[task], **{name: value for name, value in flags.items() if name not in FLAGS[task]}
    )
    found = [(*row[:-1], gold_of(task, row[-1])) for row in rows]
    assert [(row[0], row[-1]) if task == "tag" else row for row in found] == expected


MESSAGES = {
    "a list as lines": (
        {"format": "jsonl"}, "f.json", json.dumps([{"text": text, "label": label} for text, label in TEA], indent=1), 2,
        "f.json: a JSON document, not JSON lines of one object each; --format=json reads it",
    ),
    "no Parquet": ({}, "f.parquet", "PAR1 no PAR1", 1, "f.parquet: not Parquet"),
    "an invisible name": (
        {}, "f.tsv", TABLE.replace("label", "label\u200b"), 1, "the column name 'label\\u200b' contains U+200B ZERO WIDTH SPACE",
    ),
    "swapped columns": (
        {"columns": "text,label"}, "f.tsv", "".join(f"{i % 2}\ta room ({i})\n" for i in range(48)), 1,
        "of only 2 different texts ('0', '1'): are the columns",
    ),
    "no blank lines": (
        {"task": "tag", "stride": 4}, "f.conll", "张 B-PER\n三 I-PER\n在 O\n" * 400, 1,
        "f.conll: 1,200 tokens are a single sentence. Each line must be a token and its tag, and a blank line separates",
    ),
}  # fmt: skip


@pytest.mark.parametrize("report", MESSAGES)
def test_messages_about_files_of_public_reports_name_the_cause(tmp_path, checkpoint, capsys, report):
    flags, file, content, code, message = MESSAGES[report]
    (tmp_path / file).write_text(content, encoding="utf-8")
    given = {"train_data": tmp_path / file, "dev_data": None, **flags}
    assert finetune.main(finetune_flags(checkpoint, tmp_path, tmp_path / "m", **given)) == code
    assert message in capsys.readouterr().err
