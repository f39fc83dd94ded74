"""A seeded permutation of any range, at any position: computed, never stored.

In: positions. Out: the numbers that stand there. The order of an epoch's rows comes from it.
"""

from typing import Any

import numpy as np


def permuted(positions: np.ndarray, rows: int, seed: int, epoch: int) -> np.ndarray:
    """The row numbers at these positions of an epoch's permutation of `range(rows)`.

    A four-round Feistel network over the next even power of two, walked until it lands inside the
    range (Black and Rogaway 2002, "Ciphers with Arbitrary Finite Domains"): no memory, any position.
    """
    half = max(1, (max(rows - 1, 1).bit_length() + 1) // 2)
    mask = np.uint64((1 << half) - 1)
    shift = np.uint64(half)
    keys = np.random.SeedSequence([seed, epoch]).generate_state(4, np.uint64)
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
