"""The parts of matching by themselves: figures, losses, negatives, mining, what is read of long texts, gradients in parts."""

import itertools
import logging

import keras
import numpy as np
import pytest
import tensorflow as tf
from conftest import write_tsv
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from kbert.data.indexing import open_table
from kbert.errors import DataError
from kbert.model.gradient_cache import GradientCached
from kbert.model.long_text import inputs_of
from kbert.source import SourceConfig
from kbert.tasks.match import contrastive, mining
from kbert.tasks.match import metrics as match_metrics
from kbert.tasks.match.audit import MatchAudit
from kbert.tasks.match.negatives import Drawing, LabelledPairs, OtherRows, RowsWithNegatives
from kbert.tasks.match.report import MatchReport, MatchScorer


def unit(rng, *shape):
    values = rng.normal(size=shape).astype(np.float32)
    return values / np.linalg.norm(values, axis=-1, keepdims=True)


@settings(max_examples=60)
@given(arrays.arrays(np.int64, st.integers(1, 20), elements=st.integers(0, 1)), st.randoms(use_true_random=False))
def test_the_threshold_is_the_best_of_all(gold, random):
    scores = np.array([random.choice([-0.5, 0.0, 0.25, 0.5, 0.9]) for _ in gold], np.float32)
    threshold = match_metrics.best_threshold(gold, scores)
    best = max(((scores >= t) == gold).mean() for t in [*np.unique(scores), 2.0])
    assert ((scores >= threshold) == gold).mean() == best and threshold not in scores


def test_figures_of_labels_and_grades():
    gold, scores = np.array([1, 0, 1, 0, 1]), np.array([0.9, 0.8, 0.7, 0.1, 0.2])
    found = match_metrics.binary(gold, scores, 0.5)
    assert found == {
        "rows": 5, "accuracy": 0.6, "precision": pytest.approx(2 / 3), "recall": pytest.approx(2 / 3),
        "f1": pytest.approx(2 / 3), "roc_auc": pytest.approx(4 / 6), "confusion_matrix": [[1, 1], [1, 2]],
    }  # fmt: skip
    assert match_metrics.binary(np.ones(3, int), np.ones(3), 0.5)["roc_auc"] is None
    assert match_metrics.graded(np.array([0.0, 1, 2]), np.array([1.0, 3, 2]))["spearman"] == pytest.approx(0.5)
    assert match_metrics.graded(np.ones(3), np.array([1.0, 3, 2])) == {"rows": 3, "pearson": None, "spearman": None}


@settings(max_examples=40)
@given(st.integers(1, 8), st.integers(1, 8), st.integers(0, 10**6), st.integers(1, 30))
def test_ranks_are_those_of_sorting_and_equal_scores_are_no_success(titles, texts, seed, block):
    rng = np.random.default_rng(seed)
    queries, candidates = (rng.integers(0, 3, (n, 2)).astype(np.float32) for n in (titles, texts))  # many equal scores
    pairs = np.concatenate(
        [np.stack([np.arange(titles), rng.integers(0, texts, titles)], 1), rng.integers(0, [titles, texts], (3, 2))]
    )
    kept, match_metrics.BLOCK = match_metrics.BLOCK, block
    try:
        found = match_metrics.ranks(queries, candidates, pairs)
    finally:
        match_metrics.BLOCK = kept
    for i in range(titles):
        own = {text for title, text in pairs.tolist() if title == i}
        scores = candidates @ queries[i]
        best = max(scores[list(own)])
        assert found[i] == 1 + sum(scores[j] >= best for j in range(texts) if j not in own)
    collapsed = np.ones((5, 2), np.float32)
    assert match_metrics.ranks(collapsed, collapsed, np.stack([np.arange(5)] * 2, 1)).tolist() == [5] * 5


def test_what_is_not_a_number_is_no_success():
    lost = np.full((3, 2), np.nan, np.float32)
    assert match_metrics.ranks(lost, lost, np.stack([np.arange(3)] * 2, 1)).tolist() == [4, 4, 4]


def test_retrieval_counts_every_different_title_and_text_once():
    rng = np.random.default_rng(0)
    titles, texts = unit(rng, 3, 4), unit(rng, 3, 4)
    scorer = MatchScorer(None)
    names = np.array([b"a", b"b", b"c"], object)
    for rows in ([0, 1], [2, 0]):
        raw = {"title": names[rows], "text": names[rows]}
        scorer.update(raw, {"title_vector": titles[rows], "text_vector": texts[rows]})
    report = scorer.result()
    places = match_metrics.ranks(titles, texts, np.stack([np.arange(3)] * 2, 1))
    assert report.metrics["titles"] == report.metrics["texts"] == 3
    assert report.metrics["mrr"] == pytest.approx((1 / places).mean()) and report.calibration() == {}
    assert report.metrics["recall_at_1"] == (places == 1).mean() and "recall_at_5" not in report.scalars()
    assert report.metrics["recall_at_5"] is None and "recall_at_5, recall_at_10" in report.warnings()[0]
    assert "3 titles, each among all 3 texts" in report.table() and MatchReport(report.metrics).table() == report.table()


def test_a_found_threshold_is_handed_on_and_a_given_one_kept():
    raw = {"label": np.array([b"1", b"0", b"1.0", b"0"], object)}
    predicted = {"score": np.array([0.9, 0.3, 0.5, 0.2], np.float32)}
    found, kept = MatchScorer(None), MatchScorer(0.8)
    for scorer in (found, kept):
        scorer.update(raw, predicted)
    assert found.result().calibration() == {"threshold": pytest.approx(0.4)} and found.result().metrics["accuracy"] == 1.0
    assert kept.result().calibration() == {} and kept.result().metrics["accuracy"] == 0.75
    assert kept.result().matrices()["confusion_matrix"][0].tolist() == [[2, 0], [1, 1]]
    grades = MatchScorer(None)
    grades.update({"label": np.array([b"0", b"3", b"1", b"2"], object)}, predicted)
    assert grades.result().metrics["kind"] == "grades" and grades.result().matrices() == {}


def test_losses_are_their_formulas():
    rng = np.random.default_rng(1)
    titles, texts = unit(rng, 3, 5), unit(rng, 6, 5)  # three own texts, three negatives
    clash = np.zeros((3, 6), bool)
    clash[0, 1] = clash[1, 0] = clash[2, 4] = clash[2, 2] = True
    scores = titles @ texts.T / 0.1
    expected = []
    for i in range(3):
        row = [scores[i, j] for j in range(6) if j == i or not clash[i, j]]
        column = [scores[j, i] for j in range(3) if j == i or not clash[j, i]]
        expected += [np.log(np.exp(values).sum()) - scores[i, i] for values in (row, column)]
    found = contrastive.in_batch(*map(tf.constant, (titles, texts, clash)), 0.1)
    assert float(found) == pytest.approx(np.mean(expected), rel=1e-5)
    cosines, labels = np.array([0.9, 0.2, 0.8], np.float32), np.array([1, 0, 0], np.float32)
    assert float(contrastive.cosine(cosines, labels)) == pytest.approx((0.1**2 + 0.2**2 + 0.8**2) / 3)
    assert float(contrastive.contrastive(cosines, labels, 0.5)) == pytest.approx((0.1**2 + 0 + 0.3**2) / 6)


@settings(max_examples=50)
@given(st.lists(st.integers(0, 40), min_size=1, max_size=4), st.integers(5, 12), st.integers(0, 4), st.integers(2, 4))
def test_what_is_read_of_long_texts(lengths, room, stride, most):
    texts = [[100 * i + j for j in range(n)] for i, n in enumerate(lengths)]
    pieces = tf.ragged.constant(texts, tf.int32, ragged_rank=1)

    def read(how, room=room):
        row, ids = inputs_of(pieces, room, how, stride, most)
        return [[p for r, p in zip(row.numpy(), ids.to_list(), strict=True) if r == i] for i in range(len(texts))]

    assert read("head") == [[text[:room]] for text in texts]
    assert read("tail") == [[text[max(0, len(text) - room) :]] for text in texts]
    head = room // 4
    cut = [text if len(text) <= room else text[:head] + text[len(text) - room + head :] for text in texts]
    assert read("head_tail") == [[text] for text in cut]
    for text, parts in zip(texts, read("windows", tf.fill([len(texts)], room)), strict=True):
        needed = 1 + max(0, -(-(len(text) - room) // (room - stride)))
        assert len(parts) == min(needed, most) and parts[0] == text[:room] and parts[-1] == text[-room:]
        assert all(len(part) == min(len(text), room) for part in parts)
        if needed <= most:
            assert {piece for part in parts for piece in part} == set(text)
            assert all(len(set(a) & set(b)) >= stride for a, b in itertools.pairwise(parts))


PAIRS = [("t1", "x1"), ("t1", "x2"), ("t2", "x3"), ("t3", "x2"), ("t4", "x4"), ("t4", "x4"), ("t5", "x5")]
SOURCE = SourceConfig(text_columns=("title", "text"), label_column="")


@pytest.fixture
def rows(tmp_path):
    return open_table(str(write_tsv(tmp_path / "p.tsv", PAIRS, ("title", "text"))), SOURCE, ("title", "text"), keyed_by=2)


def test_negatives_are_never_true_pairs_and_come_anew_each_epoch(rows, caplog):
    logging.getLogger("kbert").propagate = True
    others = OtherRows(rows)
    with caplog.at_level("INFO"):
        others.say_duplicates()
    assert "7 rows, 5 different titles" in caplog.text and "7 rows, 5 different texts" in caplog.text
    examples = LabelledPairs(Drawing(others, random=2, hard=0))
    assert len(examples) == 21
    epochs = []
    for epoch in range(20):
        columns, places, windows = examples.read(np.arange(21), 3, epoch)
        assert places.tolist() == list(range(21)) and not windows.any()
        found = [tuple(v.decode() for v in row) for row in zip(*(columns[name] for name in examples.columns), strict=True)]
        assert sorted((title, text) for title, text, label in found if label == "1") == sorted(PAIRS)
        wrong = [(title, text) for title, text, label in found if label == "0"]
        # t1 and t3 share a text: what stands with either is no negative of the other's.
        assert sorted(title for title, _ in wrong) == sorted(2 * [title for title, _ in PAIRS]) and not set(wrong) & set(PAIRS)
        epochs.append(found)
    assert len({tuple(sorted(e)) for e in epochs}) > 15
    for position in (20, 4, 13):  # whatever else is read with it
        alone = examples.read(np.array([position]), 3, 7)[0]
        assert tuple(alone[name][0].decode() for name in examples.columns) == epochs[7][position]
        line = int(examples.where(position, 3, 7).rsplit(":", 1)[1])
        assert PAIRS[line - 2][0] == epochs[7][position][0]
    other_seed = examples.read(np.arange(21), 4, 0)[0]
    assert [text.decode() for text in other_seed["text"]] != [text for _, text, _ in epochs[0]]


def test_hard_negatives_come_from_the_pool_and_from_elsewhere_where_it_is_short(rows):
    others = OtherRows(rows)
    pools = np.full((7, 3), -1, np.int32)
    pools[0] = [4, 6, 2]
    pools[2] = [0, -1, -1]
    drawing = Drawing(others, random=0, hard=2, pools=pools)
    examples = RowsWithNegatives(drawing)
    assert examples.columns == ("title", "text", "negative_title_1", "negative_1", "negative_title_2", "negative_2")
    seen = set()
    for epoch in range(12):
        columns, _, _ = examples.read(np.arange(7), 0, epoch)
        decoded = [tuple(v.decode() for v in row) for row in zip(*columns.values(), strict=True)]
        assert sorted(row[:2] for row in decoded) == sorted(PAIRS)
        lent = {row[:2]: {row[2:4], row[4:]} for row in decoded}
        assert lent[PAIRS[0]] < {PAIRS[r] for r in (4, 6, 2)} and len(lent[PAIRS[0]]) == 2
        assert PAIRS[0] in lent[PAIRS[2]] and PAIRS[2] not in lent[PAIRS[2]]
        seen.add(frozenset(lent[PAIRS[0]]))
    # Rows 4 and 5 are the same pair.
    assert len(seen) == 3


def test_negatives_are_found_however_few_there_are(tmp_path):
    pairs = [("same", f"x{i}") for i in range(400)] + [("other", "x400"), ("same", "y"), ("other", "y"), ("third", "z")]
    path = write_tsv(tmp_path / "p.tsv", pairs, ("title", "text"))
    others = OtherRows(open_table(str(path), SOURCE, ("title", "text"), keyed_by=2))
    alone = OtherRows(
        open_table(str(write_tsv(tmp_path / "q.tsv", pairs[:9], ("title", "text"))), SOURCE, ("title", "text"), keyed_by=2)
    )
    for row in range(400):
        assert {others.draw(row, np.random.default_rng([row, i])) for i in range(3)} <= {400, 403}
    assert {others.draw(7, np.random.default_rng(i)) for i in range(40)} == {400, 403}
    assert others.draw(7, np.random.default_rng(3)) == others.draw(7, np.random.default_rng(3))
    with pytest.raises(DataError, match=r"q\.tsv:5: its title is paired with every text of the file; no negative can be drawn"):
        alone.draw(3, np.random.default_rng(0))


def audited(rows, **more):
    audit = MatchAudit("f", None, **more)
    for row in rows:
        audit(row)
    return audit


def test_titles_with_every_text_cannot_be_told_from_others():
    one_text = audited([("a", "x"), ("b", "x")], measured_drawn=False)
    with pytest.raises(DataError, match="all rows have the same text"):
        one_text.finish()
    rows = [("a", "x"), ("a", "y"), ("b", "x"), ("a", "z"), ("a", "x")]
    audited(rows, measured_drawn=False, learnt_drawn=False).finish()  # b is told from y and z
    for check in (MatchAudit.finish, MatchAudit.check_learnable):
        with pytest.raises(DataError, match=r"the title of row 1 is paired with every text of the file \(3\)"):
            check(audited(rows))
    audited([*rows, ("b", "u")]).finish()


def test_mining_finds_what_is_alike_and_no_true_pair(tmp_path, monkeypatch):
    words = ["red apple", "red pear", "green apple", "blue stone", "grey stone", "red apple"]
    pairs = [(f"{w} {i}", f"about {w}") for i, w in enumerate(words)]
    others = OtherRows(
        open_table(str(write_tsv(tmp_path / "p.tsv", pairs, ("title", "text"))), SOURCE, ("title", "text"), keyed_by=2)
    )
    vocabulary = {}
    pieces = lambda texts: [[vocabulary.setdefault(w, len(vocabulary)) for w in t.split()] for t in texts]  # noqa: E731
    found = mining.pools(others, mining.by_words(pieces), 3, seed=0)
    assert set(found[0]) == {1, 2, -1} and found[3].tolist() == [4, -1, -1]  # row 5 has row 0's text
    dense = unit(np.random.default_rng(0), 6, 8)
    monkeypatch.setattr(mining, "TEXTS", 2)
    number = {text.encode(): i for i, (_, text) in enumerate(pairs)} | {title.encode(): i for i, (title, _) in enumerate(pairs)}
    read = lambda texts: dense[[number[text] for text in texts]]  # noqa: E731
    near = mining.pools(others, mining.by_vectors(read), 2, seed=0)
    for row in range(6):
        scores = dense[row] @ np.stack([dense[number[text.encode()]] for _, text in pairs]).T
        allowed = [r for r in np.argsort(-scores, kind="stable") if pairs[r][1] != pairs[row][1] and scores[r] > 0][:2]
        assert [scores[r] for r in near[row] if r >= 0] == pytest.approx([scores[r] for r in allowed])
    monkeypatch.setattr(mining, "BLOCK", 3)
    assert mining.pools(others, mining.by_words(pieces), 4, seed=0).shape == (6, 4)


def small(cached: int, rate: float) -> GradientCached:
    """A model of ids and mask with dropout, from the same weights each time."""
    keras.utils.set_random_seed(5)
    inputs = {name: keras.Input((None,), dtype="int32", name=name) for name in ("token_ids", "padding_mask")}
    hidden = keras.layers.Dense(6, activation="tanh")(keras.layers.Embedding(20, 4)(inputs["token_ids"]))
    hidden = keras.layers.Dropout(rate, seed=1)(hidden) * keras.ops.cast(inputs["padding_mask"], "float32")[:, :, None]
    return GradientCached(inputs, keras.ops.sum(hidden, 1), cached=cached)


@pytest.mark.parametrize(("cached", "rate", "like"), [(0, 0.0, 7), (3, 0.0, 7), (3, 0.5, 3), (7, 0.5, 7), (50, 0.5, 7)])
def test_gradients_in_parts_are_those_of_the_whole(cached, rate, like):
    """With dropout, of a plain pass over the same parts with the same seeds, which end where they end there."""
    rng = np.random.default_rng(0)
    ids = rng.integers(1, 20, (7, 8)).astype(np.int32)
    mask = (np.arange(8) < rng.permutation(np.arange(2, 9))[:, None]).astype(np.int32)
    inputs = {"token_ids": tf.constant(ids), "padding_mask": tf.constant(mask)}
    weights = tf.constant(rng.normal(size=(7, 1)), tf.float32)
    loss_of = lambda outputs: tf.reduce_sum(tf.square(tf.matmul(outputs, outputs, transpose_b=True) - weights))  # noqa: E731
    model = small(cached, rate)
    seeds = [v for v in model.non_trainable_variables if "seed" in v.path]
    assert len(seeds) == (1 if rate else 0)
    before = [np.array(v) for v in seeds]
    outputs, gradients = tf.function(lambda x: model.gradients(x, loss_of))(inputs)
    after = [np.array(v) for v in seeds]
    for seed, value in zip(seeds, before, strict=True):
        seed.assign(value)
    order = np.argsort(mask.sum(1))
    with tf.GradientTape() as tape:
        parts = []
        for i in range(0, 7, like):
            rows, longest = order[i : i + like], int(mask[order[i : i + like]].sum(1).max())
            parts.append(model({n: tf.gather(v, rows)[:, :longest] for n, v in inputs.items()}, training=True))
        plain = tf.gather(tf.concat(parts, 0), np.argsort(order))
        loss = loss_of(plain)
    assert np.allclose(outputs, plain, atol=1e-5)
    for a, b in zip(gradients, tape.gradient(loss, model.trainable_variables), strict=True):
        assert np.allclose(tf.convert_to_tensor(a), tf.convert_to_tensor(b), rtol=1e-4, atol=1e-4)
    assert not rate or all((a == np.array(v)).all() for a, v in zip(after, seeds, strict=True))
