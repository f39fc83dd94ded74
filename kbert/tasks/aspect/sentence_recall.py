"""Infer which sentences are about an aspect, without sentence labels, and measure how much of them was read.

A sentence that occurs in a text without the aspect is not about it. If a text that mentions the aspect has a single
sentence left after removing those, that one is. This needs texts that share sentences; for others nothing is
measured. No TensorFlow here.
"""

import zlib
from collections.abc import Sequence

import numpy as np


class BearingSentences:
    """Collects the texts' sentences as numbers; some ten bytes for each sentence and aspect."""

    def __init__(self) -> None:
        self.texts: set[tuple[int, ...]] = set()
        self.parts: list[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]] = []

    def add(self, sentences: Sequence[str], mentioned: np.ndarray, read: np.ndarray) -> None:
        """Add the sentences of one text; duplicates of a text do not count.

        Args:
            sentences: [sentences].
            mentioned: whether the text mentions each aspect, 1 or 0, [aspects].
            read: the fraction of each sentence that was read for it, [sentences, aspects].
        """
        keys = [zlib.crc32(sentence.encode()) for sentence in sentences]
        if tuple(keys) in self.texts:
            return
        text = np.full(len(keys), len(self.texts))
        self.texts.add(tuple(keys))
        told = np.broadcast_to(mentioned.astype(np.int8), read.shape)
        self.parts.append((np.array(keys, np.int64), text, told, read.astype(np.float32)))

    def recall(self) -> float | None:
        """Return the fraction read of the sentences about an aspect, wherever they are; None if none are known."""
        keys, text, mentioned, read = (np.concatenate(part) for part in zip(*self.parts, strict=True))
        _, which = np.unique(keys, return_inverse=True)
        of, sentence = np.unique(np.stack([text, which]), axis=1)  # the sentences of each text, once each
        several = np.bincount(of) > 1  # a text's only sentence cannot be distinguished
        shares = []
        for told, seen in zip(mentioned.T, read.T, strict=True):
            struck = np.bincount(which, told == 0) > 0  # [sentences]
            left, whose = sentence[~struck[sentence]], of[~struck[sentence]]
            only = (np.bincount(whose, minlength=len(several)) == 1) & several  # [texts]
            bears = np.isin(which, left[only[whose]])
            shares.append(seen[bears])
        every = np.concatenate(shares)
        return float(every.mean()) if every.size else None
