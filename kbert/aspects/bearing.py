"""Which sentences bear an aspect, where that can be told without labels of sentences, and how many of them were read.

A sentence that stands in many texts, all of which mention the aspect, surely bears it; one that also stands in a text
without it does not. Sets whose texts share sentences tell so; of others nothing is said. No TensorFlow here.
"""

import zlib
from collections.abc import Sequence

import numpy as np

TEXTS = 5  # that a sentence has to stand in; by chance all mention an aspect that half of all texts mention once in 32 times


class BearingSentences:
    """Counts over texts; some hundred bytes each."""

    def __init__(self) -> None:
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, sentences: Sequence[str], mentioned: np.ndarray, read: np.ndarray) -> None:
        """The sentences of one text.

        Args:
            sentences: [sentences].
            mentioned: whether the text mentions each aspect, 1, 0, or -1 for unknown, [aspects].
            read: whether each sentence was read for it, bool [sentences, aspects].
        """
        keys = np.array([zlib.crc32(sentence.encode()) for sentence in sentences], np.int64)
        told = np.broadcast_to(mentioned.astype(np.int8), read.shape)
        self.parts.append((keys, told, read))

    def recall(self) -> float | None:
        """The share of the sentences bearing an aspect that were read for it, mean over the aspects; None where none is."""
        keys, mentioned, read = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        _, which = np.unique(keys, return_inverse=True)
        shares = []
        for told, seen in zip(mentioned.T, read.T, strict=True):
            with_it = np.bincount(which, told == 1)
            without = np.bincount(which, told == 0)
            bears = ((with_it >= TEXTS) & (without == 0))[which] & (told == 1)
            if bears.any():
                shares.append(float(seen[bears].mean()))
        return float(np.mean(shares)) if shares else None
