"""The conditional random field against brute force over all sequences."""

import itertools

import numpy as np
import pytest
import tensorflow as tf
from scipy.special import logsumexp

from kbert.model import crf

TAGS = 5  # O, B-a, I-a, B-b, I-b
FIRST = np.array([True, True, False, True, False])
ALLOWED = np.array([[j % 2 == 1 or j == 0 or i in (j - 1, j) for j in range(TAGS)] for i in range(TAGS)])
LENGTHS = np.array([3, 0, 1, 5, 2, 5], np.int32)


@pytest.fixture
def layer():
    layer = crf.CRF(TAGS, FIRST, ALLOWED)
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.normal(0, 1 / crf.GAIN, weight.shape))
    return layer


@pytest.fixture
def words():
    return np.random.default_rng(1).normal(0, 1.5, (LENGTHS.sum(), TAGS)).astype(np.float32)


def values(layer):
    return [crf.GAIN * np.asarray(weight.value, np.float64) for weight in (layer.start, layer.transitions, layer.end)]


def valid(path) -> bool:
    return bool(FIRST[path[0]] and all(ALLOWED[a, b] for a, b in itertools.pairwise(path)))


def paths(layer, words):
    """Every sequence of a row with its score."""
    start, transitions, end = values(layer)
    for path in itertools.product(range(TAGS), repeat=len(words)):
        score = start[path[0]] + end[path[-1]] + sum(words[i, tag] for i, tag in enumerate(path))
        yield path, score + sum(transitions[a, b] for a, b in itertools.pairwise(path))


def rows(words):
    ends = np.cumsum(LENGTHS)
    return [words[end - length : end] for end, length in zip(ends, LENGTHS, strict=True)]


def test_log_likelihood_is_that_of_all_paths(layer, words):
    tags = np.random.default_rng(2).integers(0, TAGS, len(words)).astype(np.int32)
    found = layer.log_likelihood(tf.constant(words), tf.constant(tags), tf.constant(LENGTHS)).numpy()
    for row, gold, log_likelihood in zip(rows(words), rows(tags), found, strict=True):
        if len(row):
            scores = dict(paths(layer, row))
            assert log_likelihood == pytest.approx(scores[tuple(gold)] - logsumexp(list(scores.values())), abs=1e-4)
        else:
            assert log_likelihood == 0.0


def test_the_best_path_is_the_best_of_all_valid_ones(layer, words):
    for decode in (layer.best, tf.function(layer.best)):
        found = decode(tf.constant(words), tf.constant(LENGTHS)).numpy()
        for row, path in zip(rows(words), rows(found), strict=True):
            if len(row):
                scores = {p: s for p, s in paths(layer, row) if valid(p)}
                assert tuple(path) == max(scores, key=scores.__getitem__)


def test_probabilities_of_stretches_are_sums_over_valid_paths(layer, words):
    tags = layer.best(tf.constant(words), tf.constant(LENGTHS)).numpy()
    part = np.array([0, 0, -1, 1, -1, 2, 2, 2, 3, 4, 4, 5, 6, -1, -1, 7], np.int32)
    found = layer.log_probabilities(tf.constant(words), tf.constant(tags), tf.constant(LENGTHS), tf.constant(part)).numpy()
    expected = []
    for row, path, numbers in zip(rows(words), rows(tags), rows(part), strict=True):
        if not len(row):
            continue
        scores = {p: s for p, s in paths(layer, row) if valid(p)}
        total = logsumexp(list(scores.values()))
        for number in sorted(set(numbers) - {-1}):
            at = np.where(numbers == number)[0]
            expected.append(logsumexp([s for p, s in scores.items() if all(p[i] == path[i] for i in at)]) - total)
    assert found == pytest.approx(expected, abs=1e-5)


def test_a_long_rows_probabilities_are_as_exact_as_a_short_ones(layer):
    """A shift of all scores is in every path: sums in the thousands leave five decimals of a probability."""
    rng = np.random.default_rng(4)
    words = rng.normal(0, 1, (400, TAGS)).astype(np.float32).round(3)
    lengths = tf.constant([400])
    tags = tf.function(layer.best)(tf.constant(words), lengths)
    part = tf.where(tf.range(400) % 5 < 2, tf.range(400) // 5, -1)
    probabilities = tf.function(layer.log_probabilities)
    found = [probabilities(tf.constant(words + np.float32(by)), tags, lengths, part).numpy() for by in (0, 32)]
    assert len(found[0]) == 80 and found[1] == pytest.approx(found[0], abs=3e-5)


def test_the_best_path_of_a_very_long_row_is_exact():
    rng = np.random.default_rng(5)
    words = rng.normal(0, 0.3, (8_000, 3)).astype(np.float32)
    words[:, 0] += 40  # sums in the hundred thousands
    words[:, 1] += 40
    transitions = rng.normal(0, 0.2, (3, 3)).astype(np.float32)
    zeros = tf.zeros(3)
    best = tf.function(crf.viterbi)
    found = best(tf.constant(words), tf.constant([8_000]), zeros, tf.constant(transitions), zeros).numpy()
    state, sources = words[0].astype(np.float64), []
    for word in words[1:].astype(np.float64):
        onward = state[:, None] + transitions
        sources.append(onward.argmax(0))
        state = word + onward.max(0)
    path = [int(state.argmax())]
    for source in reversed(sources):
        path.append(int(source[path[-1]]))
    assert np.array_equal(found, path[::-1])


def test_gradients_are_the_differences(layer, words):
    tags = tf.constant(np.random.default_rng(2).integers(0, TAGS, len(words)).astype(np.int32))

    @tf.function
    def gradients(words):
        with tf.GradientTape() as tape:
            tape.watch(words)
            value = tf.reduce_sum(layer.log_likelihood(words, tags, tf.constant(LENGTHS)))
        return tape.gradient(value, [words, *[weight.value for weight in layer.trainable_weights]])

    def value(words):
        return float(tf.reduce_sum(layer.log_likelihood(words, tags, tf.constant(LENGTHS))))

    found = gradients(tf.constant(words))
    for place in ((0, 1), (3, 2), (10, 4)):
        step = np.zeros_like(words)
        step[place] = 0.05
        assert float(found[0][place]) == pytest.approx((value(words + step) - value(words - step)) / 0.1, abs=2e-3)
    for weight, gradient in zip(layer.trainable_weights, found[1:], strict=True):
        before = np.array(weight)
        step = np.zeros_like(before)
        step[(1,) * before.ndim] = 0.05 / crf.GAIN
        weight.assign(before + step)
        above = value(words)
        weight.assign(before - step)
        assert float(gradient[(1,) * before.ndim]) == pytest.approx((above - value(words)) / 0.1, abs=2e-3)
        weight.assign(before)


def test_rows_without_words_and_no_rows(layer):
    for lengths in ([], [0], [0, 0]):
        empty = tf.zeros([0, TAGS]), tf.constant(lengths, tf.int32)
        assert layer.best(*empty).shape == (0,)
        nothing = tf.zeros([0], tf.int32)
        assert layer.log_likelihood(empty[0], nothing, empty[1]).numpy().tolist() == [0.0] * len(lengths)
        assert layer.log_probabilities(empty[0], nothing, empty[1], nothing).shape == (0,)


def test_a_very_long_row_beside_short_ones(layer):
    rng = np.random.default_rng(3)
    lengths = tf.constant([4000, *[3] * 500])
    words = tf.constant(rng.normal(0, 1, (5500, TAGS)).astype(np.float32))
    best = tf.function(layer.best, reduce_retracing=True)
    tags = best(words, lengths).numpy()
    assert np.array_equal(tags[:4000], best(words[:4000], tf.constant([4000])).numpy())
    assert valid(tags[:4000])
