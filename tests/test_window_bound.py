"""The bound on a text's windows: below it nothing changes, above it whole words remain, where they are, and an output says so."""

import json

import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY
from hypothesis import example, given, settings
from hypothesis import strategies as st
from test_lengths import task

from kbert import evaluate, predict, serving
from kbert.config import TrainConfig
from kbert.model import window_bound
from kbert.model_dir import ModelDir
from kbert.saved import Figures
from kbert.source import SourceConfig

PIECES = ["good", "film", "unlikely", "中", "Ａ", "x" * 201, "é", "\u0301", "\u200f", "\0", " ", "  ", ".", "é", "🙂", "Σ"]
texts = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)
TAG = task("tag", labels=("thing",), max_length=8, stride=2, max_windows=3)  # 6 + 2 * 4 tokens
QUESTIONS = {"max_question_length": 4, "doc_stride": 3, "max_answer_length": 3}
ANSWER = task("answer", ("question", "context"), (), max_length=12, max_windows=2, **QUESTIONS)


def same(one, other):
    one, other = (tf.nest.flatten(values, expand_composites=True) for values in (one, other))
    return all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))


@settings(max_examples=20)
@given(st.lists(texts, min_size=1, max_size=3), st.integers(1, 4))
@example(["good film " * 7, "good film " * 7 + "good", "good film " * 6 + "good unlikely"], 9)
def test_texts_below_the_bound_are_read_as_without_and_longer_ones_up_to_a_word(found, head_bytes):
    """With heads of so few bytes that many texts are cut there, some within a character."""
    raw = {"text": tf.constant(found), "tokens": tf.constant([""] * len(found))}
    whole = TAG.encode(raw)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(window_bound, "HEAD_BYTES", head_bytes)
        bounded = TAG.encode_bounded(raw)
    places, kept = ((e["units"].starts.to_list(), e["units"].ends.to_list()) for e in (whole, bounded))
    counts = TAG.tokenizer.tokenize(raw["text"]).row_lengths().numpy()
    for row, text in enumerate(found):
        truncated = len(text.encode()) > head_bytes * TAG.most or counts[row] > TAG.most
        assert bounded["truncated"][row] == truncated
        for side in (0, 1):
            assert kept[side][row] == places[side][row][: len(kept[side][row])]
        assert truncated or len(kept[0][row]) == len(places[0][row])
    assert (np.bincount(bounded["row"], minlength=len(found)) <= 3).all()
    if not np.any(bounded["truncated"]):
        assert same({name: bounded[name] for name in whole}, whole)


def test_a_word_that_is_cut_is_not_read():
    for text, words in (("good " * 14, 14), ("good " * 15, 14), ("good " * 13 + "unlikely", 13), ("x" * 20, 0)):
        encoded = TAG.encode_bounded({"text": tf.constant([text]), "tokens": tf.constant([""])})
        assert encoded["units"].starts.row_lengths().numpy() == [words] and encoded["truncated"] == [text != "good " * 14]


@settings(max_examples=10)
@given(st.lists(st.tuples(texts, texts), min_size=1, max_size=3))
def test_contexts_have_room_beside_their_questions(pairs):
    question, context = (tf.constant(column) for column in zip(*pairs, strict=True))
    raw = {"question": question, "context": context}
    whole, bounded = ANSWER.encode(raw), ANSWER.encode_bounded(raw)
    windows = np.bincount(whole["row"], minlength=len(pairs))
    headed = np.array([len(context.encode()) > window_bound.HEAD_BYTES * 15 for _, context in pairs])
    assert (bounded["truncated"].numpy() == headed | (windows > 2)).all()
    assert (np.bincount(bounded["row"], minlength=len(pairs)) <= 2).all()
    for row in np.flatnonzero(~bounded["truncated"].numpy()):
        one, other = (tf.ragged.boolean_mask(e["token_ids"], e["row"] == row).to_list() for e in (whole, bounded))
        assert one == other


@pytest.mark.parametrize(
    ("name", "fields", "options"),
    [
        ("tag", ("text",), {"max_length": 12, "stride": 3, "max_windows": 4}),
        ("answer", ("question", "context"), {"max_length": 14, "max_windows": 4, **QUESTIONS}),
        ("classify", ("text",), {"max_length": 12, "long_text": "windows", "stride": 3, "max_windows": 4}),
        (
            "match",
            ("title", "text"),
            {"max_length": 12, "long_text": "max", "stride": 3, "max_windows": 4, "max_title_length": 3},
        ),
        ("match", ("title", "text"), {"max_length": 12, "long_text": "mean", "stride": 3, "max_windows": 4, "scorer": "dual"}),
    ],
)
def test_a_text_of_ten_megabytes_is_answered_like_its_head(name, fields, options):
    labels = () if name in ("answer", "match") else ("a", "b")
    like = task(name, fields, labels, **options)
    of, _, built = serving.build_model(type(like), like.config, VOCABULARY, "float32")
    predictor = serving.Predictor(of, built.served)
    long = "good film. café " * 700_000
    raw = [["good", "film"]] * (len(fields) - 1) + [[long, "good film"]]
    answers = predictor({field: tf.constant(values) for field, values in zip(fields, raw, strict=True)})
    assert answers["truncated"].numpy().tolist() == [True, False]
    alone = predictor({field: tf.constant(values[1:]) for field, values in zip(fields, raw, strict=True)})
    head = predictor({field: tf.constant([values[0][: 1 << 20]]) for field, values in zip(fields, raw, strict=True)})
    for one, row in ((head, 0), (alone, 1)):
        (shown, wanted) = (of.present({k: v.numpy() for k, v in a.items()}, n) for a, n in ((answers, row), (one, 0)))
        assert json.dumps(shown)[:40] == json.dumps(wanted)[:40]
    signature = of.signatures()["serving_default"].outputs
    assert signature is None or "truncated" in signature


def test_predict_and_evaluate_name_rows_beyond_the_bound(tmp_path, capsys):
    rows = [{"text": "good film " * count, "entities": [{"start": 0, "end": 4, "type": "a"}]} for count in (2, 9, 30)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    like = task("tag", max_length=8, stride=2, max_windows=4)
    _, _, built = serving.build_model(type(like), like.config, VOCABULARY, "float32")
    directory = ModelDir(tmp_path / "m")
    directory.path.mkdir()
    source = SourceConfig(label_column="entities")
    directory.begin(like.config, TrainConfig(init="x", train_data="x.jsonl", source=source), VOCABULARY, False)
    directory.save({v.path: np.array(v.numpy()) for v in built.model.weights}, {}, Figures(step=1, per_epoch=1, score=1.0))
    flags = [f"--model_dir={directory.path}"]
    assert evaluate.main([*flags, f"--data={tmp_path / 'rows.jsonl'}"]) == 0
    assert "rows.jsonl: 1 of 3 rows have more text than the model reads (--max_windows)" in capsys.readouterr().err
    assert predict.main([*flags, f"--text={rows[2]['text']}"]) == 0
    shown = capsys.readouterr()
    assert json.loads(shown.out)["cut"] is True and "--text: 1 of 1 rows have more text" in shown.err
