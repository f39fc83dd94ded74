"""Lengths before anything is cut: what each task does not read, told before training, by evaluate, and in each line of predict."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY, write_tsv

from kbert import evaluate, predict
from kbert.config import EncoderConfig, ModelConfig, TextConfig
from kbert.data.indexing import open_table
from kbert.data.tokenizer import Tokenizer
from kbert.source import SourceConfig
from kbert.tasks import OPTIONS, task_class
from kbert.tasks.lengths import CutRows, survey
from kbert.tasks.pretrain.options import PretrainOptions

TOKENIZER = Tokenizer(VOCABULARY, lowercase=True, strip_accents=True)


def task(name, fields=("text",), labels=("a", "b"), max_length=12, **options):
    config = ModelConfig(
        task=name,
        fields=fields,
        labels=labels,
        options=json.loads(json.dumps(dataclasses.asdict(OPTIONS.get(name, PretrainOptions)(**options)))),
        encoder=EncoderConfig(vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8),
        text=TextConfig(lowercase=True, strip_accents=True),
        max_length=max_length,
    )
    return task_class(name)(config, TOKENIZER)


def words(*counts):
    return np.array([("good " * count).encode() for count in counts], object)


def lengths(of, *counts):
    """What `of` reads of rows with so many words a field, and which rows `CutRows` says are cut."""
    raw = dict(zip(of.config.fields, (words(*column) for column in counts), strict=True))
    found = of.lengths({name: np.array(column) for name, column in zip(raw, counts, strict=True)})
    cut = CutRows(of)
    assert cut(raw, {}).tolist() == found.cut.tolist() and cut.cut == found.cut.sum() and cut.rows == len(counts[0])
    return found


def test_single_texts_and_pairs():
    single = lengths(task("classify"), [0, 10, 11, 50])
    assert single.whole.tolist() == [[2], [12], [13], [52]] and single.read.tolist() == [[2], [12], [12], [12]]
    pair = task("classify", ("text", "text_b"))
    raw = {name: tf.constant(words(*counts)) for name, counts in (("text", (4, 9, 30)), ("text_b", (5, 1, 30)))}
    read = pair.encode(raw)["token_ids"].row_lengths().numpy()
    assert lengths(pair, [4, 9, 30], [5, 1, 30]).read[:, 0].tolist() == read.tolist()
    assert lengths(pair, [4, 9, 30], [5, 1, 30]).cut.tolist() == [False, True, True]


@pytest.mark.parametrize("how", ["head", "head_tail", "max"])
@pytest.mark.parametrize("scorer", ["cross", "dual"])
def test_matching_reads_what_its_windows_hold(scorer, how):
    counts = [2, 6, 3, 1, 2], [3, 3, 20, 40, 10]
    of = task("match", ("title", "text"), (), scorer=scorer, long_text=how, max_title_length=4, stride=2, max_windows=3)
    found = lengths(of, *counts)
    raw = {
        name: tf.constant([" ".join(f"{w}" for w in np.resize(["good", "bad"], n)) for n in column])
        for name, column in zip(of.config.fields, counts, strict=True)
    }
    encoded = of.encode(raw)
    longest = int(encoded["token_ids"].row_lengths().numpy().max())
    assert longest <= 12
    expected = {"head": [0, 0, 1, 1, 1] if scorer == "cross" else [0, 0, 1, 1, 0]}
    expected["head_tail"] = [0, 1, 1, 1, 1] if scorer == "cross" else expected["head"]
    expected["max"] = [0, 1, 1, 1, 0] if scorer == "cross" else [0, 0, 0, 1, 0]
    assert found.cut.astype(int).tolist() == expected[how], "12 tokens; windows: three of them"
    assert found.whole.shape == (5, 1 if scorer == "cross" else 2) and (found.read <= found.whole).all()


def test_tasks_that_read_all_and_questions():
    assert task("tag", stride=3).lengths({"text": np.array([9000])}) is None
    assert CutRows(task("tag", stride=3))({"text": words(9000, 1)}, {}).tolist() == [False, False]
    asks = task("answer", ("question", "context"), (), max_length=30, max_question_length=6, doc_stride=5)
    assert lengths(asks, [6, 7], [900, 1]).cut.tolist() == [False, True], "the context is read whole"


def test_aspects_are_beside_their_texts():
    aspects = [{"name": "film", "readable": "film", "coarse": "film"}]
    of = task("aspect", labels=("-1", "1"), max_length=16, aspects=aspects, filter="head")
    assert lengths(of, [12, 13]).whole.tolist() == [[16], [17]] and lengths(of, [12, 13]).cut.tolist() == [False, True]
    terms = task("aspect", ("text", "aspect"), ("-1", "1"), max_length=16, filter="head")
    assert lengths(terms, [9, 12, 2], [4, 2, 5]).read.tolist() == [[16], [16], [9]]


def test_masks_are_one_piece_each():
    found = CutRows(task("pretrain", labels=(), max_length=5))
    assert found({"text": np.array([b"[MASK] good [MASK]", b"[MASK][MASK][MASK][MASK]"], object)}, {}).tolist() == [
        False,
        True,
    ]


@pytest.mark.parametrize("cased", [False, True])
def test_no_character_becomes_more_tokens_than_it_is_bounded_by(cased):
    """Only what may be too long is tokenized: a character is one token, or two for each of its bytes beyond ASCII."""
    own = Tokenizer(VOCABULARY, lowercase=True, strip_accents=False) if cased else TOKENIZER
    code = np.arange(0x110000)
    kind = own._stage2[own._kinds[code // 256] * 256 + code % 256]
    start, length = own._start[kind], own._length[kind]
    letters = sum(
        ((i < length) & (own._codes[np.minimum(start + i, len(own._codes) - 1)] != ord(" "))).astype(int)
        for i in range(length.max())
    )
    size = 1 + sum((code >= limit).astype(int) for limit in (0x80, 0x800, 0x10000))
    assert (letters <= np.where(code < 0x80, 1, 2 * size)).all() and letters.max() > 1


def test_the_survey_tells_true_lengths(tmp_path):
    counts = [*range(1, 100), 300]
    path = write_tsv(tmp_path / "f.tsv", [("good " * n, "a") for n in counts])
    table = open_table(str(path), SourceConfig(), ("text", "label"), keyed_by=1)
    whole, read = np.array(counts) + 2, np.minimum(np.array(counts) + 2, 62)
    assert survey(task("classify", max_length=62), table) == (
        "lengths of texts in tokens: 50 % up to 52, 90 % up to 92, 99 % up to 101, the longest 302; --max_length=62 cuts 40.0 % of "
        f"the rows and loses {100 * (whole - read).sum() / whole.sum():.1f} % of the tokens; --max_length=97 would hold 95 % of the "
        "rows"
    )
    assert survey(task("tag", stride=3), table) is None


def test_the_survey_suggests_what_reads_more(tmp_path):
    def suggested(counts, of):
        path = write_tsv(
            tmp_path / "f.tsv", [(*("good " * n for n in row), "a") for row in counts], (*of.config.fields, "label")
        )
        source = SourceConfig(text_columns=of.config.fields)
        return survey(of, open_table(str(path), source, (*of.config.fields, "label"), keyed_by=1)).partition(" of the tokens")[
            2
        ]

    counts = [(n,) for n in range(1, 101)]
    for most in (97, 102):  # 5 of 100 rows are cut, or none
        assert suggested(counts, task("classify", max_length=most)) == ""
    assert suggested(counts, task("classify", max_length=96)) == "; --max_length=97 would hold 95 % of the rows"
    beyond = "--long_text=windows reads them in windows, --long_text=head_tail their beginning and end"
    positions = "; 95 % of the rows have up to 952, the checkpoint has positions for 512; "
    long = [(10 * n,) for n in range(1, 101)]
    assert suggested(long, task("classify", max_length=96)) == positions + beyond
    windows = task("classify", max_length=32, long_text="windows", stride=4, max_windows=2)
    assert suggested(long, windows) == "; a higher --max_windows reads more"
    assert suggested(long, task("classify", max_length=96, long_text="tail")) == positions + beyond
    # A pair whose first text is cut at half of the length is not held by the length of both.
    pairs = [(40, n) for n in range(1, 101)]
    tail = task("classify", ("text", "text_b"), max_length=64, long_text="tail")
    assert suggested(pairs, tail) == "; --max_length=138 would hold 95 % of the rows"
    assert suggested([(60, 1)] * 20, tail) == "; " + beyond
    assert suggested([(3, 10 * n) for (n,) in counts], task("match", ("title", "text"), (), max_length=64)).startswith(
        "; 95 % of"
    )
    asks = task("answer", ("question", "context"), (), max_length=30, max_question_length=6, doc_stride=5)
    assert suggested([(9, 9)] * 20, asks) == ""


def test_a_survey_of_many_rows_draws_some(tmp_path, monkeypatch):
    path = write_tsv(tmp_path / "f.tsv", [("good " * (1 + n // 100), "a") for n in range(2000)])
    table = open_table(str(path), SourceConfig(), ("text", "label"), keyed_by=1)
    monkeypatch.setattr("kbert.tasks.lengths.SURVEYED", 500)
    said = survey(task("classify", max_length=12), table)
    assert said.endswith("(of 500 rows drawn from 2,000)") and ", the longest 22;" in said, "from all of the file"


def test_predict_and_evaluate_name_the_rows_they_cut(trained, tmp_path, capsys):
    rows = [("good film", "positive"), ("bad " * 40, "negative"), ("good " * 18, "positive"), ("good " * 19, "positive")]
    path = write_tsv(tmp_path / "f.tsv", rows)
    assert evaluate.main([f"--model_dir={trained}", f"--data={path}"]) == 0
    assert f"{path}: 2 of 4 rows were cut to --max_length=20" in capsys.readouterr().err
    assert predict.main([f"--model_dir={trained}", f"--input={path}"]) == 0
    shown = capsys.readouterr()
    lines = [json.loads(line) for line in shown.out.splitlines()]
    assert [line.get("cut", False) for line in lines] == [False, True, False, True] and lines[1]["cut"] is True
    assert f"{path}: 2 of 4 rows were cut to --max_length=20" in shown.err
