"""Files as people hold them: each layout is read, and what can be read in two ways is an error."""

import json
import logging

import pytest

from kbert.data import json_document, squad
from kbert.data.entity_reader import EntityReader
from kbert.data.indexing import open_table
from kbert.data.spans import read_spans
from kbert.errors import DataError
from kbert.source import SourceConfig
from kbert.tasks.answer.task import Answer

ENTITIES = [("Ada lives in Oslo", [(0, 3, "PER"), (13, 17, "LOC")]), ("It rains", [])]
QUESTIONS = [("Where?", "Ada lives in Oslo", [("Oslo", 13)]), ("Who?", "Ada lives in Oslo", [("Ada", 0)])]


def opened(source, columns, keyed_by=1, nested=True, **more):
    config = SourceConfig(**{"text_columns": columns[:keyed_by], "label_column": columns[-1], **more.pop("config", {})})
    return open_table(str(source), config, columns, keyed_by=keyed_by, nested=nested, **more)


def read(table):
    columns = table.read(range(len(table)))
    return [tuple(value.decode() for value in row) for row in zip(*columns.values(), strict=True)]


def entities(source, columns=("text", "label"), **config):
    config = SourceConfig(**{"text_columns": columns[:1], "label_column": columns[-1], **config})
    table = open_table(str(source), config, columns, keyed_by=1, nested=True, reader=EntityReader(config), tokens="words")
    return [(text, read_spans(gold)) for text, _, gold in read(table)]


def write(path, rows):
    """JSON lines, or a JSON list, by the ending."""
    text = "\n".join(map(json.dumps, rows)) if path.suffix == ".jsonl" else json.dumps(rows, indent=1)
    path.write_text(text)
    return path


TOKENS = [["Ada", "lives", "in", "Oslo"], ["It", "rains"]]
TAGS = [["B-PER", "O", "O", "B-LOC"], ["O", "O"]]


def studio(text, spans):
    values = [{"start": a, "end": b, "text": text[a:b], "labels": [kind]} for a, b, kind in spans]
    result = [{"from_name": "ner", "to_name": "text", "type": "labels", "value": value} for value in values]
    return {"id": 1, "data": {"text": text}, "annotations": [{"result": result}]}


ENTITY_ROWS = {
    "tokens": [{"tokens": words, "ner_tags": tags} for words, tags in zip(TOKENS, TAGS, strict=True)],
    "doccano": [{"text": t, "label": [[a, b, kind] for a, b, kind in spans]} for t, spans in ENTITIES],
    "doccano with relations": [
        {"text": t, "entities": [{"id": 1, "label": kind, "start_offset": a, "end_offset": b} for a, b, kind in spans]}
        for t, spans in ENTITIES
    ],
    "Label Studio JSON-MIN": [
        {"text": t, "label": [{"start": a, "end": b, "text": t[a:b], "labels": [kind]} for a, b, kind in spans]}
        for t, spans in ENTITIES
    ],
    "spaCy": [{"text": t, "label": {"entities": spans}} for t, spans in ENTITIES],
}


@pytest.mark.parametrize("ending", [".jsonl", ".json"])
@pytest.mark.parametrize("rows", ENTITY_ROWS.values(), ids=ENTITY_ROWS)
def test_entities(tmp_path, rows, ending):
    assert entities(write(tmp_path / f"f{ending}", rows)) == ENTITIES


def test_label_studios_export(tmp_path):
    rows = [studio(*row) for row in ENTITIES]
    assert entities(write(tmp_path / "f.json", rows), ("text", "ner")) == ENTITIES
    two = {**rows[0], "annotations": [rows[0]["annotations"][0], rows[1]["annotations"][0]]}
    with pytest.raises(DataError, match=r"f\.json: row 1: 2 annotations that differ"):
        entities(write(tmp_path / "f.json", [two]), ("text", "ner"))
    cancelled = {**two, "annotations": [two["annotations"][0], {**two["annotations"][1], "was_cancelled": True}]}
    assert entities(write(tmp_path / "f.json", [cancelled]), ("text", "ner")) == ENTITIES[:1]
    with pytest.raises(DataError, match=r"row 1: no key 'ner'; the object has: text"):
        entities(write(tmp_path / "f.json", [{**two, "annotations": []}]), ("text", "ner"))
    chosen = [{"from_name": "mood", "type": "choices", "value": {"choices": ["good"]}}]
    file = write(tmp_path / "f.json", [{"data": {"text": "fine"}, "annotations": [{"result": chosen}]}])
    assert read(opened(file, ("text", "mood"))) == [("fine", "good")]


def test_columns_that_may_be_either(tmp_path):
    rows = [{**ENTITY_ROWS["tokens"][0], "tags": TAGS[0]}]
    with pytest.raises(DataError, match="no column 'label'; 'ner_tags' and 'tags' may be meant: --label_column=ner_tags"):
        entities(write(tmp_path / "f.jsonl", rows))
    assert entities(tmp_path / "f.jsonl", ("text", "tags")) == ENTITIES[:1]


NAMES = {
    "tags alone": "O\nB-PER\nB-LOC\n",
    "lines": "0 O\n1\tB-PER\n2, B-LOC\n",
    "list": '["O", "B-PER", "B-LOC"]',
    "config": '{"id2label": {"0": "O", "1": "B-PER", "2": "B-LOC"}}',
}


@pytest.mark.parametrize("names", NAMES.values(), ids=NAMES)
def test_numbered_labels(tmp_path, names):
    (tmp_path / "names").write_text(names)
    named = str(tmp_path / "names")
    numbers = [[("O", "B-PER", "B-LOC").index(tag) for tag in tags] for tags in TAGS]
    rows = [{"tokens": words, "ner_tags": tags} for words, tags in zip(TOKENS, numbers, strict=True)]
    assert entities(write(tmp_path / "f.jsonl", rows), label_names=named) == ENTITIES
    with pytest.raises(DataError, match=r"1 World.*|--label_names=FILE gives the names of numeric tags"):
        entities(tmp_path / "f.jsonl")
    lines = [
        f"{word} {tag}"
        for words, tags in zip(TOKENS, numbers, strict=True)
        for word, tag in [*zip(words, tags, strict=True), ("", "")]
    ]
    (tmp_path / "f.conll").write_text("\n".join(lines))
    assert entities(tmp_path / "f.conll", label_names=named) == ENTITIES
    (tmp_path / "f.tsv").write_text("label\ttext\n1\ta\nB-LOC\tb\n2.0\tc\n")
    assert [label for _, label in read(opened(tmp_path / "f.tsv", ("text", "label"), config={"label_names": named}))] == [
        "B-PER",
        "B-LOC",
        "B-LOC",
    ]
    (tmp_path / "f.tsv").write_text("label\ttext\n7\ta\n")
    with pytest.raises(DataError, match=r"f\.tsv:2: label '7' is not in --label_names=.*, which has 0 O, 1 B-PER, 2 B-LOC"):
        opened(tmp_path / "f.tsv", ("text", "label"), config={"label_names": named})


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("World\nSports\n", "names:1: expected a number and its name, as in `1 World`, found 'World'; names alone leave open"),
        ("1 World\n1 Sports\n", "names:2: number 1 occurs twice"),
        ("\n", "names: no names"),
        ('{"World": 1}', 'names: expected {"1": "World", ...}'),
        ("[", "names: not readable"),
    ],
)
def test_files_of_names_that_are_none(tmp_path, names, message):
    (tmp_path / "names").write_text(names)
    (tmp_path / "f.tsv").write_text("label\ttext\n1\ta\n")
    with pytest.raises(DataError) as error:
        opened(tmp_path / "f.tsv", ("text", "label"), config={"label_names": str(tmp_path / "names")})
    assert message in str(error.value)


def asked(q, c, gold, number):
    return {"id": f"q{number}", "question": q, "context": c, "answers": gold}


def document(answers):
    return [asked(q, c, answers(gold), i) for i, (q, c, gold) in enumerate(QUESTIONS)]


FLAT = document(lambda gold: [{"text": text, "answer_start": start} for text, start in gold])
CMRC = [
    {
        "context_id": "T1",
        "context_text": QUESTIONS[0][1],
        "qas": [{"query_id": f"q{i}", "query_text": q, "answers": [gold[0][0]]} for i, (q, _, gold) in enumerate(QUESTIONS)],
    }
]
DOCUMENTS = {
    "a list": FLAT,
    "data": {"version": "1", "data": FLAT},
    "lists in an object": document(lambda gold: {"text": [gold[0][0]], "answer_start": [gold[0][1]]}),
    "one object": document(lambda gold: {"text": gold[0][0], "answer_start": gold[0][1]}),
    "texts": document(lambda gold: [gold[0][0]]),
    "a text": document(lambda gold: gold[0][0]),
    "no place": document(lambda gold: [{"text": gold[0][0]}]),
    "CMRC's own": CMRC,
}


@pytest.mark.parametrize("value", DOCUMENTS.values(), ids=DOCUMENTS)
def test_questions(tmp_path, value, caplog):
    (tmp_path / "f.json").write_text(json.dumps(value))
    audit = Answer.audit("f", ("question", "context"), None)
    table = opened(tmp_path / "f.json", ("question", "context", "answers"), 2, check=audit)
    found = [(q, c, squad.target(c, squad.parse(gold))) for q, c, gold in read(table)]
    assert found == [(q, c, (gold[0][1], gold[0][1] + len(gold[0][0]))) for q, c, gold in QUESTIONS]
    assert table.where(1) == f"{tmp_path / 'f.json'}: question 'q1'"
    with caplog.at_level(logging.WARNING):
        audit.finish()
    assert ("2 of 2 questions have answers without answer_start" in caplog.text) == ("answer_start" not in json.dumps(value))


def test_an_answer_without_a_place_that_occurs_twice_is_said(tmp_path, caplog):
    write(tmp_path / "f.jsonl", [asked("q", "a film, a film", ["film"], 0)])
    audit = Answer.audit("f", ("question", "context"), None)
    opened(tmp_path / "f.jsonl", ("question", "context", "answers"), 2, check=audit)
    audit.finish()
    assert "those of 1 occur more than once there" in caplog.text


@pytest.mark.parametrize("name", ["f.jsonl", "f.json"])
def test_a_flat_question_marked_as_having_no_answer(tmp_path, name):
    rows = [
        {**asked("q", "a film", [], 0), "is_impossible": True},
        asked("q", "a film", ["film"], 1),
        asked("q", "a film", [], 2),
    ]
    table = opened(write(tmp_path / name, rows), ("question", "context", "answers"), 2)
    gold = [answers for _, _, answers in read(table)]
    assert [squad.impossible(answers) for answers in gold] == [True, False, False]
    assert [len(squad.parse(answers)) for answers in gold] == [0, 1, 0]
    assert table.whole([0])[0]["answers"] == []


def test_tags_that_count_from_one_are_not_read_as_if_from_zero(tmp_path):
    (tmp_path / "names").write_text("O\nB-PER\nB-LOC\n")
    write(tmp_path / "f.jsonl", [{"tokens": ["Ada", "sings"], "ner_tags": [2, 1]}])
    with pytest.raises(DataError, match=r"no tag is 0, which is O in --label_names=.*names; do the numbers count from 1\?"):
        entities(tmp_path / "f.jsonl", label_names=str(tmp_path / "names"))


def test_a_list_of_rows(tmp_path):
    file = tmp_path / "f.json"
    file.write_text('[{"text": "a", "label": 1}, ["b", "neg"],\n {"text": "c"}]')
    with pytest.raises(DataError, match=r"f\.json: row 3: no key 'label'; the object has: text"):
        opened(file, ("text", "label"))
    file.write_text('{\n"text": "a",\n"label": 1}')
    assert read(opened(file, ("text", "label"))) == [("a", "1")]
    file.write_text('\ufeff{"version": 2, "rows": [{"text": "a", "label": 1}, ["b", "neg"]]}', encoding="utf-8")
    assert read(opened(file, ("text", "label"))) == [("a", "1"), ("b", "neg")]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"text": {"0": "a"}, "label": {"0": "b"}}', "columns, not rows"),
        (
            '{"train": [{"text": "a", "label": "b"}], "test": [{"text": "a", "label": "b"}]}',
            "two lists of rows, 'train' and 'test'",
        ),
        ('[\n{"text": "a", "label": "b"}\n{"text"', "line 3: not JSON: expected , or ], found"),
        ('[{"text": "a", "label": "b"}, ', "line 1: the JSON is cut off"),
        ('[{"text": "a", "lab', "not JSON: Unterminated string"),
        ('[{"text": "a", "label": "b"}] more', "not JSON: the document has ended, found 'more'"),
        ('{"a": 1}', "a JSON document without a list of objects (a)"),
        ("[3]", "a JSON document without a list of objects (3)"),
        ('[["a"]]', "row 1: a list of 1 values, expected 2 (text, label) or an object"),
    ],
)
def test_json_that_holds_no_rows(tmp_path, text, message):
    (tmp_path / "f.json").write_text(text)
    with pytest.raises(DataError) as error:
        opened(tmp_path / "f.json", ("text", "label"))
    assert message in str(error.value)


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
def test_a_document_is_read_in_blocks_of_any_size(size):
    document = {"a": -12.5e3, "b": [1, 'x\\"]', [2], {"c": None}], "d": [], "e": {"f": [1]}}
    text = json.dumps(document, indent=1)
    blocks = [text[at : at + size] for at in range(0, len(text), size)]
    found = [(part.key, part.value, part.number) for part in json_document.parts(blocks)]
    listed = [("b", value, i) for i, value in enumerate(document["b"])]
    assert found == [("a", -12500.0, None), *listed, ("e", {"f": [1]}, None)]
