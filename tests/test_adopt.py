"""Models that other toolkits fine-tuned: adopted, they answer as theirs do (`record_adopted.py`); what cannot be is refused."""

import json

import numpy as np
import pytest
from conftest import ROOT, write_hugging_face
from tiny import ADOPTED, CONTEXTS, MASKED, PAIRS, TEXTS, adopted_config, adopted_tensors

import kbert
from kbert import adopt, convert, export, inspect
from kbert.checkpoints import open_checkpoint
from kbert.data.schemes import chunks
from kbert.tasks.tag.outputs import Outputs

RECORDED = json.loads((ROOT / "tests" / "recorded" / "adopted.json").read_text(encoding="utf-8"))["answers"]
SETTINGS = {"answers": {"task": "answer", "max_length": 24, "max_question_length": 8, "doc_stride": 4, "max_answer_length": 5}}
SETTINGS["pairs"] = {"text_columns": ["text", "text_b"]}


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    """Writes a model of `ADOPTED`, as transformers does."""
    folder = tmp_path_factory.mktemp("foreign")

    def written(name, **config):
        path = folder / f"{name}{len(config)}"
        return path if path.exists() else write_hugging_face(path, adopted_tensors(name), {**adopted_config(name), **config})

    return written


def rows(name):
    if name == "answers":
        return [(question, context) for question in ("good film", "x") for context in CONTEXTS]
    return {"cross": PAIRS, "pairs": PAIRS, "masked": MASKED}.get(name, TEXTS)


def bioes(row):
    """Entities from the pipeline's tag of each word; a word's pieces are read by its first."""
    firsts = [tag for tag in row if not tag[1].startswith("##")]
    ends = [max(t[3] for t in row if t[2] >= first[2] and (i + 1 == len(firsts) or t[2] < firsts[i + 1][2])) for i, first in enumerate(firsts)]
    letters = [(tag[0][0], tag[0][2:]) for tag in firsts]
    return [[kind, firsts[start][2], ends[stop - 1]] for start, stop, kind in chunks(letters)]


@pytest.mark.parametrize("name", ADOPTED)
def test_an_adopted_model_answers_as_transformers_does(name, directory, tmp_path):
    model = kbert.adopt(directory(name), tmp_path / "m", **SETTINGS.get(name, {}))
    found, expected = model.predict(list(rows(name))), RECORDED[name]
    for answer, known in zip(found, expected, strict=True):
        if name == "answers":
            assert [answer["answer"], answer["start"], answer["end"]] == known
        elif name == "masked":
            assert [[each["piece"] for each in mask] for mask in answer["masks"]] == [[p for p, _ in mask] for mask in known]
            given = [each["probability"] for mask in answer["masks"] for each in mask]
            assert given == pytest.approx([p for mask in known for _, p in mask], abs=1e-5)
        elif name == "cross":
            assert answer["score"] == pytest.approx(known["LABEL_0"], abs=1e-5)
        elif name == "pairs":
            assert answer["probabilities"] == pytest.approx(known, abs=1e-5) and answer["label"] == max(known, key=known.get)
        else:
            known = bioes(known) if name == "bioes" else known
            assert [[entity[key] for key in ("type", "start", "end")] for entity in answer["entities"]] == known
    assert any(map(bool, expected))
