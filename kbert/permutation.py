"""A seeded permutation of any range, at any position: computed, never stored.

In: positions. Out: the numbers that are there. The order of an epoch's rows comes from it.
"""

import functools
from typing import Any

import numpy as np

ORDER = 2  # of new runs; see `seed_of`
SORTED_ROWS = 1 << 18  # up to which a permutation is sorted and kept, 8 bytes a row
ROUNDS = 8


class FormerSeed(int):
    """The seed of a run that keeps order 1: four rounds at any size; an epoch's short batch has the longest rows."""


def seed_of(seed: int, order: int) -> int:
    """Return the seed that gives rows the order of this number: a run continues in the order that it was begun in."""
    return FormerSeed(seed) if order == 1 else seed


def permuted(positions: np.ndarray, rows: int, seed: int, epoch: int) -> np.ndarray:
    """Return the row numbers at these positions of an epoch's permutation of `range(rows)`.

    Small ranges are sorted by random words, which makes any order as likely as any other. Large ones take a Feistel
    network of eight rounds over the next even power of two, walked until it lands inside the range (Black and Rogaway
    2002, "Ciphers with Arbitrary Finite Domains"): no memory, any position.
    """
    if isinstance(seed, FormerSeed):
        return _network(positions, rows, seed, epoch, rounds=4)
    if rows <= SORTED_ROWS:
        return _sorted(rows, seed, epoch)[positions]
    return _network(positions, rows, seed, epoch, ROUNDS)


@functools.lru_cache(maxsize=4)
def _sorted(rows: int, seed: int, epoch: int) -> np.ndarray:
    key = np.random.SeedSequence([seed, epoch]).generate_state(1, np.uint64)
    words = mixed(mixed(np.arange(rows, dtype=np.uint64) + key) + key)
    return np.argsort(words, kind="stable")


def _network(positions: np.ndarray, rows: int, seed: int, epoch: int, rounds: int) -> np.ndarray:
    half = max(1, (max(rows - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    keys = np.random.SeedSequence([seed, epoch]).generate_state(rounds, np.uint64)
    values = np.asarray(positions, np.uint64).copy()
    outside = np.ones(len(values), bool)
    while outside.any():
        left, right = values[outside] >> shift, values[outside] & mask
        for key in keys:
            left, right = right, left ^ (mixed(right + key) & mask)
        values[outside] = (left << shift) | right
        outside = values >= rows
    return values.astype(np.int64)


def mixed(values: Any) -> np.ndarray:
    """SplitMix64's finisher (Steele et al. 2014) on uint64 values of any shape; arithmetic is modulo 2**64."""
    z = np.array(values, np.uint64)
    high = np.empty_like(z)  # in place: what a new array costs is most of this
    with np.errstate(over="ignore"):
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z ^= np.right_shift(z, np.uint64(shift), out=high)
            z *= np.uint64(factor)
    z ^= np.right_shift(z, np.uint64(31), out=high)
    return z
