"""Compute a seeded permutation of any range at any position, without storing it.

In: positions. Out: the numbers at these positions. It determines the order of an epoch's rows.
"""

import functools
from typing import Any

import numpy as np

ORDER = 2  # order version of new runs; see `seed_of`
SORTED_ROWS = 1 << 18  # largest permutation that is sorted and cached, 8 bytes a row
ROUNDS = 8


class FormerSeed(int):
    """The seed of a run that keeps order 1: four rounds at any size; an epoch's short batch has the longest rows."""


def seed_of(seed: int, order: int) -> int:
    """Return the seed for an order version: a run continues with the order it started with."""
    return FormerSeed(seed) if order == 1 else seed


def permuted(positions: np.ndarray, rows: int, seed: int, epoch: int) -> np.ndarray:
    """Return the row numbers at these positions of an epoch's permutation of `range(rows)`.

    Small ranges are sorted by random words, which makes every order equally likely. Large ones take a Feistel
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
    """Apply SplitMix64's finisher (Steele et al. 2014) to uint64 values of any shape; arithmetic is modulo 2**64."""
    z = np.array(values, np.uint64)
    high = np.empty_like(z)  # in place: allocating arrays dominates the cost
    with np.errstate(over="ignore"):
        for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
            z ^= np.right_shift(z, np.uint64(shift), out=high)
            z *= np.uint64(factor)
    z ^= np.right_shift(z, np.uint64(31), out=high)
    return z
