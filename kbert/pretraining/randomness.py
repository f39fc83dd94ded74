"""Draw random numbers as functions of their purpose: no state, any number of them at once.

In: a seed and the numbers of things (an epoch, an example, a position). Out: uniform numbers that do
not depend on where, when or with what others they are drawn. They are SplitMix64's (Steele et al.
2014, "Fast Splittable Pseudorandom Number Generators"), one generator for each key.
"""

from typing import Any

import numpy as np

from kbert.permutation import mixed

GAMMA = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's step, the golden ratio


def keys(*numbers: Any) -> np.ndarray:
    """Combine whole numbers or arrays of them into keys; arrays have one shape, that of the keys."""
    key = np.zeros(np.broadcast(*numbers).shape, np.uint64)
    with np.errstate(over="ignore"):
        for number in numbers:
            key = mixed(key + mixed(np.asarray(number).astype(np.uint64) + GAMMA))
    return key


def bits(key: np.ndarray, stream: int, count: int) -> np.ndarray:
    """Return `count` random words for each key, uint64 [keys, count]; streams are independent."""
    start = keys(key, np.uint64(stream))
    with np.errstate(over="ignore"):
        return mixed(start[:, None] + GAMMA * np.arange(1, count + 1, dtype=np.uint64)[None, :])


def bits_at(key: np.ndarray, stream: int, places: np.ndarray) -> np.ndarray:
    """Return one word of `bits` for each key, at these positions from 0: uint64 [keys]."""
    with np.errstate(over="ignore"):
        return mixed(keys(key, np.uint64(stream)) + GAMMA * (places.astype(np.uint64) + np.uint64(1)))


def uniforms(key: np.ndarray, stream: int, count: int) -> np.ndarray:
    """Return `count` numbers from 0, below 1, for each key: float64 [keys, count]."""
    return unit(bits(key, stream, count))


def unit(words: np.ndarray) -> np.ndarray:
    """Convert random words to numbers from 0, below 1, float64."""
    return np.asarray((words >> np.uint64(11)).astype(np.float64) * 2.0**-53)


def heads(key: np.ndarray, stream: int, tosses: np.ndarray) -> np.ndarray:
    """Return the number of heads in each key's tosses of a fair coin, int64 [keys]."""
    found = np.zeros(len(tosses), np.int64)
    rows = np.nonzero(tosses)[0]
    if len(rows):
        count = -(-int(tosses.max()) // 64)
        left = np.clip(tosses[rows, None] - 64 * np.arange(count), 0, 64).astype(np.uint64)  # tosses in each word
        kept = np.where(left > 0, ~np.uint64(0) >> ((np.uint64(64) - left) & np.uint64(63)), np.uint64(0))
        found[rows] = np.bitwise_count(bits(key[rows], stream, count) & kept).sum(1)
    return found
