"""SQuAD's layout as a source of rows, and where gold answers stand."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbert.data import squad
from kbert.data.indexing import open_table
from kbert.errors import DataError
from kbert.source import SourceConfig
from kbert.tasks.answer.task import Answer

COLUMNS = ("question", "context", "answers")


def document(*qas):
    return {"version": "x", "data": [{"title": "t", "paragraphs": [{"id": "p", "context": "甲 film", "qas": list(qas)}]}]}


def question(number, answers=(), **more):
    return {"id": f"q{number}", "question": f"which {number}?", "answers": list(answers), **more}


FILM = {"text": "film", "answer_start": 2}


def opened(path, **config):
    return open_table(str(path), SourceConfig(**config), COLUMNS, keyed_by=2, nested=True)


@pytest.mark.parametrize("how", ["plain", "gz", "named", "gb18030"])
def test_rows(tmp_path, how):
    text = json.dumps(
        document(question(0, [FILM]), question(1, is_impossible=True, plausible_answers=[FILM])), ensure_ascii=False
    )
    path = tmp_path / {"gz": "f.json.gz", "named": "f.squad"}.get(how, "f.json")
    data = text.encode("gb18030") if how == "gb18030" else b"\xef\xbb\xbf" + text.encode()
    path.write_bytes(gzip.compress(data) if how == "gz" else data)
    table = opened(path, **{"named": {"format": "squad"}, "gb18030": {"encoding": "gb18030"}}.get(how, {}))
    columns = table.read([1, 0])
    assert columns["question"].tolist() == [b"which 1?", b"which 0?"]
    assert columns["context"][0].decode() == "甲 film"
    assert squad.parse(columns["answers"][0].decode()) == [] and squad.parse(columns["answers"][1].decode()) == [("film", 2)]
    assert table.where(1) == f"{path}: question 'q1'"


def test_a_failed_check_names_the_question(tmp_path):
    path = tmp_path / "f.json"
    path.write_text(json.dumps(document(question(0), question("β"))))

    def check(values):
        if "β" in values[0]:
            raise ValueError("odd")

    with pytest.raises(DataError, match="f.json: question 'qβ': odd"):
        open_table(str(path), SourceConfig(), COLUMNS, keyed_by=2, nested=True, check=check)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"question": "a"}\n{"question": "b"}\n', "f.json:1: no key 'context'"),
        ("[]", "no rows"),
        ('{"data": [{}]}', "data[0] has no list 'paragraphs'"),
        ('{"data": [{"paragraphs": [{"qas": []}]}]}', "data[0].paragraphs[0] has no text 'context'"),
        (
            '{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q", "answers": 3}]}]}]}',
            "qas[0] has no list 'answers'",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q", "id": "a7"}]}]}]}',
            "question 'a7': no key 'answers'",
        ),
        (
            '{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q", "is_impossible": "no"}]}]}]}',
            'qas[0]: is_impossible: expected true or false, found "no"',
        ),
        ('{"data": [{"paragraphs": [{"context": "c", "qas": [3]}]}]}', "qas[0] has no text 'question'"),
        ('{"data": [{"paragraphs": ["c"]}]}', "data[0].paragraphs[0] has no text 'context'"),
        ('{"data": []}', "no rows"),
        ("[" * 100_000, "JSON nested too deeply"),
    ],
)
def test_other_documents(tmp_path, text, message):
    path = tmp_path / "f.json"
    path.write_text(text)
    with pytest.raises(DataError) as caught:
        opened(path)
    assert str(path) in str(caught.value) and message in str(caught.value)


def test_half_a_character_is_one_character(tmp_path):
    (tmp_path / "f.json").write_text(
        '{"data": [{"paragraphs": [{"context": "a\\ud83d b", "qas": [{"question": "q", "answers": '
        '[{"text": "\\ud83d b", "answer_start": 1}]}]}]}]}'
    )
    audit = Answer.audit("f", COLUMNS[:2], None)
    table = open_table(str(tmp_path / "f.json"), SourceConfig(), COLUMNS, keyed_by=2, nested=True, check=audit)
    columns = table.read([0])
    assert squad.target(columns["context"][0].decode(), squad.parse(columns["answers"][0].decode())) == (1, 4)


def test_questions_of_a_hidden_test_set_have_no_answers(tmp_path):
    (tmp_path / "f.json").write_text('{"data": [{"paragraphs": [{"context": "c", "qas": [{"question": "q"}]}]}]}')
    table = open_table(str(tmp_path / "f.json"), SourceConfig(), COLUMNS[:2], keyed_by=2)
    assert table.read([0])["question"].tolist() == [b"q"]


@given(st.text("ab", max_size=12), st.text("ab", min_size=1, max_size=3), st.integers(-2, 14))
def test_the_nearest_place(context, answer, start):
    places = [i for i in range(len(context)) if context.startswith(answer, i)]
    expected = min(places, key=lambda i: (abs(i - start), i), default=-1)
    assert squad.locate(context, answer, start) == expected


def test_the_first_answer_that_stands_in_the_context_is_learnt():
    gold = squad.parse('{"text": ["bad", "film"], "answer_start": [0, 0]}')
    assert (
        squad.target("a film", gold) == (2, 6)
        and squad.target("a plot", gold) == (-1, -1)
        and squad.target("a", []) == (-1, -1)
    )


def test_tfds_in_squads_layout(tmp_path):
    import tensorflow_datasets as tfds

    class Asked(tfds.core.GeneratorBasedBuilder, skip_registration=True):
        pkg_dir_path = tmp_path
        VERSION = tfds.core.Version("1.0.0")

        def _info(self):
            answers = tfds.features.Sequence({"text": tfds.features.Text(), "answer_start": np.int32})
            features = {"id": np.str_, "question": tfds.features.Text(), "context": tfds.features.Text(), "answers": answers}
            return self.dataset_info_from_configs(features=tfds.features.FeaturesDict(features))

        def _split_generators(self, dl_manager):
            return {"dev": self._generate_examples()}

        def _generate_examples(self):
            yield 0, {"id": "a", "question": "q", "context": "甲 film", "answers": {"text": ["film"], "answer_start": [2]}}
            yield 1, {"id": "b", "question": "r", "context": "c", "answers": {"text": [], "answer_start": []}}

    Asked(data_dir=str(tmp_path)).download_and_prepare()
    config = SourceConfig(tfds_dir=str(tmp_path), text_columns=COLUMNS[:2], label_column="answers")
    columns = open_table("tfds:asked:dev", config, COLUMNS, keyed_by=2, nested=True).read([0, 1])
    gold = dict(zip(columns["question"], [squad.parse(a.decode()) for a in columns["answers"]], strict=True))
    assert gold == {b"q": [("film", 2)], b"r": []}
