"""Matching: inputs, targets, losses and answers of the task; models from the command line to a fresh process."""

import dataclasses
import json
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY, write_tsv

from kbert import contrastive, evaluate, export, finetune, pipeline, predict
from kbert.config import EncoderConfig, ModelConfig, SourceConfig, TextConfig
from kbert.encoder import Encoder
from kbert.errors import UsageError
from kbert.match_audit import MatchAudit
from kbert.options import MatchOptions
from kbert.serving import Predictor
from kbert.sources import open_table
from kbert.tasks.match import Match
from kbert.text import Tokenizer

TOKENIZER = Tokenizer(VOCABULARY, lowercase=True, strip_accents=True)
SHAPE = EncoderConfig(vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=2, hidden_dim=8, intermediate_dim=8, dropout=0.0)


def task(labels=(), max_length=12, **options) -> Match:
    settings = {"max_title_length": 3, "stride": 2, **options}
    config = ModelConfig(
        task="match",
        fields=("title", "text"),
        labels=labels,
        options=dataclasses.asdict(MatchOptions(**settings)),
        encoder=SHAPE,
        text=TextConfig(lowercase=True, strip_accents=True),
        max_length=max_length,
    )
    return Match(config, TOKENIZER)


def strings(**columns):
    return {name: tf.constant(values, tf.string) for name, values in columns.items()}


def featurised(task, raw):
    encoded = task.encode(raw)
    return encoded, task.supervise(raw, encoded)


def pieces(encoded):
    return [" ".join(VOCABULARY[i] for i in row) for row in encoded["token_ids"].to_list()]


RAW = strings(title=["film", "plot"], text=["good " * 3 + "bad the fine dull very a and", "x"])


def test_cross_reads_both_together():
    encoded, _ = featurised(task(scorer="cross"), RAW)
    assert pieces(encoded)[1] == "[CLS] plot [SEP] x [SEP]" and len(encoded["token_ids"][0]) == 12
    assert encoded["segment_ids"][1].numpy().tolist() == [0, 0, 0, 1, 1] and encoded["row"].numpy().tolist() == [0, 1]
    encoded, _ = featurised(task(scorer="cross", long_text="head_tail"), RAW)
    assert pieces(encoded)[0] == "[CLS] film [SEP] good good fine dull very a and [SEP]".replace("fine", "the fine")
    encoded, _ = featurised(task(scorer="cross", long_text="max"), RAW)
    assert encoded["row"].numpy().tolist() == [0, 0, 1]
    assert pieces(encoded)[0] == "[CLS] film [SEP] good good good bad the fine dull very [SEP]"
    assert pieces(encoded)[1] == "[CLS] film [SEP] good bad the fine dull very a and [SEP]"


def test_dual_reads_each_column_by_itself_and_keeps_a_row_together():
    encoded, known = featurised(task(scorer="dual", long_text="mean", max_length=9), RAW)
    assert encoded["row"].numpy().tolist() == [0, 0, 0, 1, 1] and encoded["part"].numpy().tolist() == [0, 1, 1, 0, 1]
    assert pieces(encoded)[0] == "[CLS] film [SEP]" and pieces(encoded)[4] == "[CLS] x [SEP]"
    assert known.numpy()[:, :2].tolist() == [[0, 0], [0, 1], [0, 1], [1, 0], [1, 1]]
    alone = task(scorer="dual").encode({"text": RAW["text"]})
    assert alone["row"].numpy().tolist() == [0, 1] and alone["part"].numpy().tolist() == [0, 0]


def test_equal_titles_and_texts_share_their_numbers():
    raw = strings(
        title=["a", "the", "a"], text=["x", "good", "fine"],
        negative_title_1=["the", "film", "film"], negative_1=["dull", "x", "plot"],
    )  # fmt: skip
    _, known = featurised(task(scorer="dual", hard_negatives=1), raw)
    known = known.numpy().reshape(3, 3, 5)  # [rows, title and text and negative, ...]
    title, text = known[:, :, 2], known[:, :, 3]
    assert (title[:, 0] == title[:, 1]).all() and (text[:, 0] == text[:, 1]).all()
    assert title[0, 0] == title[2, 0] != title[1, 0] and title[0, 2] == title[1, 0] and title[1, 2] == title[2, 2]
    assert text[1, 2] == text[0, 0] and len(set(text[:, 1])) == 3


def outputs(known, hidden=4, seed=0):
    return tf.constant(np.random.default_rng(seed).normal(size=(len(known), hidden)), tf.float32)


def test_the_in_batch_loss_masks_duplicates_and_joins_windows():
    raw = strings(title=["a", "the", "a"], text=["x", "good " * 12, "x"])
    rows = task(scorer="dual", long_text="max", max_length=9, temperature=0.1)
    encoded, known = featurised(rows, raw)
    vectors = outputs(known)
    row, part = encoded["row"].numpy(), encoded["part"].numpy()
    joined = {(r, p): vectors.numpy()[(row == r) & (part == p)].max(0) for r in range(3) for p in range(2)}
    assert (row == 1).sum() == 3  # a title and two windows
    titles, texts = (np.stack([joined[r, p] / np.linalg.norm(joined[r, p]) for r in range(3)]) for p in range(2))
    clash = np.array([[1, 0, 1], [0, 1, 0], [1, 0, 1]], bool)
    expected = contrastive.in_batch(titles, texts, clash, 0.1)
    found = rows.compile_args()["loss"](known, vectors)
    assert found.shape == known.shape[:1] and np.allclose(found, expected, rtol=1e-5)


def test_labelled_losses():
    raw = strings(title=["a", "the"], text=["x", "good"], label=["0", "3"])
    known = featurised(task(("0", "1", "3"), scorer="dual"), raw)[1]
    assert known.numpy()[:, 4].tolist() == [0, 0, 1, 1]
    vectors = outputs(known)
    unit = vectors.numpy() / np.linalg.norm(vectors, axis=1, keepdims=True)
    cosines = (unit[::2] * unit[1::2]).sum(1)
    found = task(("0", "1", "3"), scorer="dual").compile_args()["loss"](known, vectors)
    assert np.allclose(found, np.mean((cosines - [0, 1]) ** 2), rtol=1e-4)
    binary = task(("0", "1"), scorer="dual", loss="contrastive", margin=0.7)
    assert np.allclose(
        binary.compile_args()["loss"](known, vectors), contrastive.contrastive(cosines, np.float32([0, 1]), 0.7), rtol=1e-4
    )
    cross = task(("0", "1", "3"), scorer="cross")
    known = featurised(cross, raw)[1]
    logits = np.array([[0.5], [2.0]], np.float32)
    expected = np.mean(np.log1p(np.exp(logits[:, 0] * [1, -1])))
    assert np.allclose(cross.compile_args()["loss"](known, logits), expected, rtol=1e-5)
    squared = task(("1.0", "5.0"), scorer="cross", loss="squared_error")
    raw["label"] = tf.constant(["2", "5.0"])
    known = featurised(squared, raw)[1]
    assert np.allclose(squared.compile_args()["loss"](known, logits), np.mean([0.25**2, 1.0]), rtol=1e-5)
    encoded = {"row": tf.range(2), "part": tf.zeros(2, tf.int32)}
    assert np.allclose(squared.decode(tf.constant(logits), encoded, raw)["score"], [3.0, 9.0])
    graded = cross.decode(tf.constant(logits), encoded, raw)
    assert np.allclose(graded["score"], 3 / (1 + np.exp(-logits[:, 0])), rtol=1e-5) and "match" not in graded
    decided = task(("0", "1"), scorer="cross").decode(tf.constant([[-1.0], [1.0]]), encoded, raw)
    assert decided["match"].numpy().tolist() == [False, True]


@pytest.mark.parametrize(
    ("labels", "options", "said"),
    [
        ((), {"scorer": "cross", "loss": "in_batch"}, "--loss=in_batch: --scorer=cross on rows without labels has cross_entropy and squared_error"),
        (("0", "1"), {"scorer": "dual", "loss": "in_batch"}, "on labelled rows has cosine and contrastive"),
        (("0", "5"), {"scorer": "dual", "loss": "contrastive"}, "needs labels 0 and 1, found 0, 5"),
        (("0", "1"), {"hard_negatives": 2}, "--hard_negatives=2: the rows are labelled"),
        ((), {"scorer": "cross", "negatives": 0}, "--negatives=0: --scorer=cross"),
        ((), {"scorer": "cross", "long_text": "max", "stride": 6}, "leaves 6 tokens of text beside a title of --max_title_length=3; --stride=6"),
        ((), {"scorer": "dual", "long_text": "mean", "stride": 10}, "leaves 10 tokens of text; --stride=10"),
        ((), {"scorer": "cross", "long_text": "head_tail", "max_title_length": 9}, "leaves 0 tokens of text .* two or more"),
    ],
)  # fmt: skip
def test_options_that_do_not_go_together_are_refused(labels, options, said):
    with pytest.raises(UsageError, match=said):
        task(labels, **options)


def test_labels_are_grades_or_a_range():
    def found(values, allowed=None):
        audit = MatchAudit("f", allowed)
        for value in values:
            audit(("a", "b", value))
        audit.finish()
        return audit.labels

    assert found(["1", "0", "1.0"]) == ("0", "1") and found(["3", "0", "1"]) == ("0", "1", "3")
    assert found(["0.5", "0", "4.8"]) == ("0.0", "4.8") and found(["2", "9"], ("0", "3")) == ("0", "3")
    assert found([str(i) for i in range(99)]) == ("0.0", "98.0")
    assert MatchAudit("f", None).labels == ()
    with pytest.raises(ValueError, match="label 'yes' is not a number; expected 0 and 1"):
        found(["yes"])
    with pytest.raises(ValueError, match="label 'nan' is not a number"):
        found(["nan"])
    with pytest.raises(ValueError, match="label '2' is not among the model's labels: 0, 1"):
        found(["0", "2"], ("0", "1"))


@pytest.mark.parametrize(("scorer", "pooling", "long_text"), [("cross", "pooler", "max"), ("dual", "mean", "mean")])
def test_a_row_does_not_depend_on_its_batch(scorer, pooling, long_text):
    keras.utils.set_random_seed(1)
    rows = task(scorer=scorer, pooling=pooling, long_text=long_text)
    predictor = Predictor(rows, rows.build(Encoder(SHAPE)))
    raw = strings(title=["film", "good plot", ""], text=["good " * 30, "x", "中文 very"])
    together = {name: value.numpy() for name, value in predictor(raw).items()}
    for i in range(3):
        alone = predictor({name: value[i : i + 1] for name, value in raw.items()})
        for name, value in together.items():
            assert np.allclose(alone[name][0], value[i], atol=1e-5)
    if scorer == "dual":
        assert np.allclose(np.linalg.norm(together["text_vector"], axis=1), 1, atol=1e-5)
        assert np.allclose((together["title_vector"] * together["text_vector"]).sum(1), together["score"], atol=1e-5)
    assert predictor({name: value[:0] for name, value in raw.items()})["score"].shape == (0,)
