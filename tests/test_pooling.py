"""Poolings against numpy, row by row."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kbert.checkpoints.sentence_transformers import POOLINGS
from kbert.model.pooling import counted, normalized, pool


def numpy_pool(row: np.ndarray, length: int, pooling: str, special_tokens: bool) -> np.ndarray:
    tokens = row[:length] if special_tokens or length <= 2 else row[1 : length - 1]
    return {"cls": lambda: row[0], "mean": lambda: tokens.mean(0), "max": lambda: tokens.max(0)}[pooling]()


@given(st.lists(st.integers(2, 9), min_size=1, max_size=5), st.integers(0, 3), st.booleans(), st.sampled_from(POOLINGS))
def test_pooling_is_that_of_each_row_alone(lengths, padding, special_tokens, pooling):
    size = max(lengths) + padding
    hidden = np.random.default_rng(0).normal(size=(len(lengths), size, 4)).astype(np.float32)
    mask = (np.arange(size) < np.array(lengths)[:, None]).astype(np.int32)
    found = np.asarray(pool(hidden, counted(mask, special_tokens), pooling))
    expected = [numpy_pool(row, n, pooling, special_tokens) for row, n in zip(hidden, lengths, strict=True)]
    assert np.abs(found - np.stack(expected)).max() < 1e-6


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_pooling_is_in_float32(dtype):
    import tensorflow as tf

    hidden = tf.cast(tf.ones([1, 300, 2]), dtype)
    assert pool(hidden, counted(np.ones((1, 300)), True), "mean").dtype == tf.float32


def test_length_one_and_zeros():
    found = np.asarray(normalized(np.array([[3.0, 4.0], [0.0, 0.0]])))
    assert np.allclose(found, [[0.6, 0.8], [0, 0]])
