"""The order of rows, and the batches made of them."""

import dataclasses

import numpy as np
import pytest
from conftest import VOCABULARY, reviews, write_tsv
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert import pipeline
from kbert.config import EncoderConfig, ModelConfig, SourceConfig, TextConfig
from kbert.sources import open_table
from kbert.tasks.classify import Classify
from kbert.text import Tokenizer

CONFIG = ModelConfig(
    task="classify",
    fields=("text",),
    labels=("negative", "positive"),
    options={},
    encoder=EncoderConfig(vocabulary_size=len(VOCABULARY), num_layers=1, num_heads=1, hidden_dim=4, intermediate_dim=8),
    text=TextConfig(lowercase=True, strip_accents=True),
    max_length=12,
)


@pytest.fixture
def task():
    return Classify(CONFIG, Tokenizer(VOCABULARY, lowercase=True, strip_accents=True))


@pytest.fixture
def table(tmp_path):
    return open_table(str(write_tsv(tmp_path / "f.tsv", reviews(203))), SourceConfig(), ("text", "label"), keyed_by=1)


@settings(deadline=None)
@given(st.integers(1, 3000), st.integers(0, 2**31), st.integers(0, 50))
def test_a_permutation_has_every_row_once(rows, seed, epoch):
    order = pipeline.permuted(np.arange(rows), rows, seed, epoch)
    assert np.array_equal(np.sort(order), np.arange(rows))
    part = pipeline.permuted(np.arange(rows // 2, rows), rows, seed, epoch)
    assert np.array_equal(part, order[rows // 2 :])


def test_permutations_differ_and_mix():
    first = pipeline.permuted(np.arange(10_000), 10_000, 0, 0)
    for seed, epoch in ((0, 1), (1, 0)):
        assert (first != pipeline.permuted(np.arange(10_000), 10_000, seed, epoch)).mean() > 0.99
    # A label-sorted file must come out mixed: each thousand rows hold about as many of either half.
    halves = (first < 5000).reshape(10, 1000).mean(1)
    assert np.abs(halves - 0.5).max() < 0.08
    assert abs(np.corrcoef(first[:-1], first[1:])[0, 1]) < 0.05


def batches_of(task, table, epochs=range(1), seed=0, batch_size=16):
    return list(pipeline.training_batches(pipeline.Examples(task, table), batch_size=batch_size, seed=seed, epochs=epochs))


def key(inputs, target, row):
    return bytes(np.trim_zeros(np.asarray(inputs["token_ids"])[row])), int(target[row])


def test_an_epoch_has_every_row_once_with_its_label(task, table, monkeypatch):
    monkeypatch.setattr(pipeline, "WINDOW_ROWS", 48)
    found = batches_of(task, table, epochs=range(2))
    per_epoch = pipeline.steps(len(table), 16)
    assert len(found) == 2 * per_epoch == 26
    raw = table.read(range(len(table)))
    encoded = task.encode({"text": raw["text"].tolist()})["token_ids"].to_list()
    gold = sorted(
        (bytes(np.array(ids, np.int32)), int(label == b"positive")) for ids, label in zip(encoded, raw["label"], strict=True)
    )
    orders = []
    for epoch in (found[:per_epoch], found[per_epoch:]):
        rows = [key(x, y, i) for x, y in epoch for i in range(len(y))]
        assert sorted(rows) == gold
        assert sorted(len(y) for _, y in epoch) == [203 - 12 * 16] + [16] * 12
        orders.append(rows)
    assert orders[0] != orders[1]


def test_batches_are_padded_to_their_own_length(task, table):
    for x, _ in batches_of(task, table):
        ids, mask = np.asarray(x["token_ids"]), np.asarray(x["padding_mask"])
        assert ids.shape == mask.shape == x["segment_ids"].shape
        assert np.array_equal(ids != 0, mask == 1)
        assert mask.sum(1).max() == ids.shape[1] <= 12
    padding = [1 - float(np.asarray(x["padding_mask"]).mean()) for x, _ in batches_of(task, table)]
    assert np.mean(padding) < 0.08


def test_rows_of_like_length_share_a_batch_and_not_always_the_same_ones(tmp_path):
    long = dataclasses.replace(CONFIG, max_length=120)
    task = Classify(long, Tokenizer(VOCABULARY, lowercase=True, strip_accents=True))
    path = write_tsv(tmp_path / "f.tsv", [("good " * n, ("negative", "positive")[n % 2]) for n in range(21, 101)])
    table = open_table(str(path), SourceConfig(), ("text", "label"), keyed_by=1)
    batches = [
        np.asarray(x["padding_mask"]).sum(1)
        for x, _ in pipeline.training_batches(pipeline.Examples(task, table), batch_size=8, seed=0, epochs=range(2))
    ]
    assert len(batches) == 20 and all(lengths.min() / lengths.max() > 0.7 for lengths in batches)
    beside = [set(lengths) for lengths in batches if 60 in lengths]
    assert len(beside) == 2 and len(beside[0] & beside[1]) < 7


def test_seeds_repeat_and_resuming_skips_nothing(task, table):
    def flat(batches):
        return [np.asarray(x["token_ids"]).tolist() for x, _ in batches]

    whole = flat(batches_of(task, table, epochs=range(3)))
    assert whole == flat(batches_of(task, table, epochs=range(3)))
    assert whole != flat(batches_of(task, table, epochs=range(3), seed=1))
    epoch = pipeline.steps(len(table), 16)
    resumed = flat(batches_of(task, table, epochs=range(1, 3)))
    assert resumed == whole[epoch:]


def test_raw_rows_keep_the_order_of_the_file(task, table, monkeypatch):
    monkeypatch.setattr(pipeline, "READ_ROWS", 50)
    parts = list(pipeline.raw_rows(task, table, gold=True))
    assert [len(p["text"]) for p in parts] == [50, 50, 50, 50, 3]
    assert [t for p in parts for t in p["text"].numpy()] == table.read(range(203))["text"].tolist()
    assert "label" not in next(iter(pipeline.raw_rows(task, table, gold=False)))
