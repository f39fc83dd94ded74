"""The order of rows, and the batches made of them."""

import dataclasses
from collections import Counter

import numpy as np
import pytest
import tensorflow as tf
from conftest import VOCABULARY, reviews, write_tsv
from hypothesis import given, settings
from hypothesis import strategies as st

from kbert import permutation
from kbert.config import EncoderConfig, ModelConfig, TextConfig
from kbert.data.indexing import open_table
from kbert.data.table import Table
from kbert.data.tokenizer import Tokenizer
from kbert.source import SourceConfig
from kbert.tasks.classify.task import Classify
from kbert.train import batches as pipeline
from kbert.train import batching

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


FORMER = [1, 3, 7, 6, 2, 8, 5, 4, 0]


def test_all_orders_of_a_few_rows_are_as_likely():
    counts = Counter(tuple(permutation.permuted(np.arange(4), 4, seed, 3).tolist()) for seed in range(4800))
    assert len(counts) == 24 and sum((n - 200) ** 2 / 200 for n in counts.values()) < 49.7  # chi-square, p = 0.001
    places = np.zeros((17, 17))
    for seed in range(3400):
        places[np.arange(17), permutation.permuted(np.arange(17), 17, seed, 0)] += 1
    assert ((places - 200) ** 2 / 200).sum() < 332  # 256 degrees of freedom, p = 0.001
    beside = [np.mean(np.abs(np.diff(permutation.permuted(np.arange(1000), 1000, seed, 0))) == 1) for seed in range(300)]
    assert abs(np.mean(beside) - 2 / 1000) < 2.5e-4
    large = permutation.SORTED_ROWS + 3
    assert np.array_equal(np.sort(permutation.permuted(np.arange(large), large, 1, 0)), np.arange(large))


def test_order_1_is_as_it_was():
    former = permutation.seed_of(3, 1)
    assert permutation.permuted(np.arange(9), 9, former, 2).tolist() == FORMER
    assert permutation.permuted(np.arange(9), 9, permutation.seed_of(3, 2), 2).tolist() != FORMER


@pytest.mark.parametrize(("order", "any_length"), [(1, False), (2, True)])
def test_the_rows_of_a_short_batch_are_of_any_length(tmp_path, order, any_length):
    task = Classify(dataclasses.replace(CONFIG, max_length=120), Tokenizer(VOCABULARY, lowercase=True, strip_accents=True))
    path = write_tsv(tmp_path / "f.tsv", [("good " * n, ("negative", "positive")[n % 2]) for n in range(1, 70)])
    table = open_table(str(path), SourceConfig(), ("text", "label"), keyed_by=1)
    seed = permutation.seed_of(0, order)
    lengths = [
        np.asarray(x["padding_mask"]).sum(1).mean()
        for x, y in batches_of(task, table, epochs=24, batch_size=32, seed=seed)
        if len(y) < 32
    ]
    assert len(lengths) == 24 and (30 < np.mean(lengths) < 44) == any_length and (np.min(lengths) < 60) == any_length


def batches_of(task, table, epochs=1, seed=0, batch_size=16, start=0):
    batches = pipeline.TableBatches(task, pipeline.training_examples(task, table, 0, None), batch_size=batch_size, seed=seed)
    return list(batches.dataset(start).take(epochs * batches.per_epoch - start))


def key(inputs, target, row):
    return bytes(np.trim_zeros(np.asarray(inputs["token_ids"])[row])), int(target[row])


def test_an_epoch_has_every_row_once_with_its_label(task, table, monkeypatch):
    monkeypatch.setattr(batching, "CHUNK_ROWS", 48)
    found = batches_of(task, table, epochs=2)
    per_epoch = pipeline.TableBatches(task, pipeline.training_examples(task, table, 0, None), batch_size=16, seed=0).per_epoch
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


def test_windows_hold_fewer_rows_of_long_texts(task, tmp_path, monkeypatch):
    """Their bytes are bounded, too, but in runs that keep the former order; every row still comes once an epoch."""
    path = write_tsv(tmp_path / "long.tsv", [("good " * n, "positive") for n in range(1, 81)])
    table = open_table(str(path), SourceConfig(), ("text", "label"), keyed_by=1)
    assert table.row_bytes == (path.stat().st_size - len("text\tlabel\n")) / 80
    monkeypatch.setattr(batching, "CHUNK_BYTES", 4000)
    seen = []
    read = Table.read
    monkeypatch.setattr(Table, "read", lambda self, rows: seen.append(list(rows)) or read(self, rows))
    batches = batches_of(task, table, batch_size=8)
    assert len(batches) == 10 and [len(rows) for rows in seen[:5]] == [16] * 5  # of 213 bytes each
    assert sorted(row for rows in seen[:5] for row in rows) == list(range(80))
    seen.clear()
    assert len(batches_of(task, table, batch_size=8, seed=permutation.seed_of(0, 1))) == 10 and len(seen[0]) == 80
    monkeypatch.setattr(batching, "CHUNK_BYTES", 1)
    assert len(batches_of(task, table, batch_size=8)) == 10


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
    batches = [np.asarray(x["padding_mask"]).sum(1) for x, _ in batches_of(task, table, epochs=2, batch_size=8)]
    assert all(lengths.min() / lengths.max() > 0.6 for lengths in batches)
    beside = [set(lengths) for lengths in batches if 60 in lengths]
    assert len(beside) == 2 and len(beside[0] & beside[1]) < 7


def test_seeds_repeat_and_any_step_begins_the_same_batches(task, table, monkeypatch):
    monkeypatch.setattr(batching, "CHUNK_ROWS", 48)

    def flat(batches):
        return [np.asarray(x["token_ids"]).tolist() for x, _ in batches]

    whole = flat(batches_of(task, table, epochs=3))
    assert len(whole) == 39 and whole == flat(batches_of(task, table, epochs=3))
    assert whole != flat(batches_of(task, table, epochs=3, seed=1))
    for start in (1, 7, 8, 12, 13, 20, 38):
        assert flat(batches_of(task, table, epochs=3, start=start)) == whole[start:]


def test_batches_of_fixed_shape_have_the_same_rows(task, table):
    loose = pipeline.TableBatches(task, pipeline.TableExamples(task, table), batch_size=16, seed=0)
    fixed = pipeline.TableBatches(task, loose.examples, batch_size=16, seed=0, length=12)
    per_epoch = loose.per_epoch
    assert all(values.shape.is_fully_defined() for values in tf.nest.flatten(fixed.dataset(0).element_spec))
    for (x, y), (wide, gold, weights) in zip(loose.dataset(0).take(per_epoch), fixed.dataset(0), strict=False):
        rows, length = x["token_ids"].shape
        assert weights.numpy().tolist() == [1.0] * rows + [0.0] * (16 - rows)
        assert np.array_equal(gold[:rows], y) and not np.any(gold[rows:])
        for name in x:
            assert wide[name].shape == (16, 12) and np.array_equal(wide[name][:rows, :length], x[name])
            assert not np.any(wide[name][rows:]) and not np.any(wide[name][:, length:])


def test_where_names_the_rows_of_a_batch(task, table, tmp_path):
    batches = pipeline.TableBatches(task, pipeline.training_examples(task, table, 0, None), batch_size=16, seed=0)
    lines = (tmp_path / "f.tsv").read_text().splitlines()
    for step in (5, 12, 20):
        inputs, _ = next(iter(batches.dataset(step)))
        places = batches.where(step).split(", ")
        texts = [lines[int(place.removeprefix(f"{tmp_path / 'f.tsv'}:")) - 1].split("\t")[0] for place in places]
        ids = task.encode({"text": texts})["token_ids"].to_list()
        assert ids == [[i for i in row if i] for row in inputs["token_ids"].numpy().tolist()]
    many = pipeline.TableBatches(task, pipeline.training_examples(task, table, 0, None), batch_size=32, seed=0).where(0)
    assert many.count("f.tsv:") == batching.NAMED and many.endswith(" and 12 more")


def test_raw_rows_keep_the_order_of_the_file(task, table, monkeypatch):
    monkeypatch.setattr(pipeline, "READ_ROWS", 50)
    parts = list(pipeline.raw_rows(task, table, gold=True))
    assert [len(p["text"]) for p in parts] == [50, 50, 50, 50, 3]
    assert [t for p in parts for t in p["text"].numpy()] == table.read(range(203))["text"].tolist()
    assert "label" not in next(iter(pipeline.raw_rows(task, table, gold=False)))
