"""Choose which tokens of an example to predict and what replaces them, for many examples at once.

In: padded ids, which of them may be masked, where words continue, and a key for each example. Out: the input ids,
the positions to predict and the original ids. Positions are chosen piece by piece (Devlin et al. 2019, section 3.1), by whole
words (google-research/bert, 2019), or in spans of words whose number is geometric (Joshi et al. 2020, SpanBERT, section
3.1); of the chosen pieces 80 % become [MASK], 10 % a random piece and 10 % stay: decided piece by piece, or span by span.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kbert.data.vocabulary import CLS, MASK, PAD, SEP, UNKNOWN, numbered
from kbert.errors import DataError
from kbert.pretraining.randomness import bits, bits_at, unit

MaskUnit = Literal["piece", "word", "span"]

SPAN_P, LONGEST_SPAN = 0.2, 10  # geometric distribution of a span's words, truncated and normalised as in SpanBERT
LENGTHS = np.cumsum(SPAN_P * (1 - SPAN_P) ** np.arange(LONGEST_SPAN))
CHOICE, FATE, SPAN = 16, 17, 19  # streams of random numbers; those of cutting and partners are below


@dataclass(frozen=True)
class Masking:
    """Options for masking tokens.

    Attributes:
        unit: what is masked as a whole.
        rate: fraction of an example's tokens to predict, counting [CLS] and [SEP] as the reference does.
        most: maximum predictions an example.
    """

    unit: MaskUnit = "piece"
    rate: float = 0.15
    most: int = 20


@dataclass(frozen=True)
class Special:
    """A vocabulary's ids for masking.

    Attributes:
        mask_id: the id of [MASK].
        maskable: bool [vocabulary], which pieces may be predicted: all but special tokens.
        replacements: int32, the pieces that may replace others: neither special nor [unusedN].
    """

    mask_id: int
    maskable: np.ndarray
    replacements: np.ndarray

    @classmethod
    def of(cls, vocabulary: Sequence[str]) -> "Special":
        if MASK not in vocabulary:
            raise DataError(f"the vocabulary has no {MASK} among its {len(vocabulary):,} tokens")
        special = np.isin(vocabulary, [PAD, UNKNOWN, CLS, SEP, MASK])
        unused = np.array([not token or (token.startswith("[unused") and token.endswith("]")) for token in vocabulary])
        return cls(numbered(vocabulary)[MASK], ~special, np.flatnonzero(~special & ~unused).astype(np.int32))


@dataclass(frozen=True)
class Masked:
    """Examples with tokens to predict.

    Attributes:
        token_ids: int32 [examples, tokens], the model's input.
        positions: int32 [examples, predictions], rising; 0 after an example's own.
        labels: int32 [examples, predictions], the original ids; 0 after an example's own.
        counts: int64 [examples], predictions of each.
    """

    token_ids: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    counts: np.ndarray


def mask(ids: np.ndarray, goes_on: np.ndarray, special: Special, how: Masking, key: np.ndarray, pad_id: int) -> Masked:
    """Choose tokens to predict, and replace them.

    Args:
        ids: int32 [examples, tokens], padded with `pad_id`.
        goes_on: bool, whether a token belongs to the word of the token before it.
        key: uint64 [examples]; the same key and ids give the same masks, whatever else is in the call.
    """
    maskable = special.maskable[ids]
    lengths = (ids != pad_id).sum(1)
    wanted = np.minimum(how.most, np.maximum(1, np.rint(lengths * how.rate).astype(np.int64)))
    wanted = np.minimum(wanted, maskable.sum(1))
    fates = None
    if how.unit == "piece":
        chosen = _pieces(maskable, wanted, key)
    else:
        opens = maskable & ~(goes_on & np.roll(maskable, 1, 1))
        if how.unit == "word":
            chosen = _words(maskable, opens, wanted, key)
        else:
            chosen, fates = _spans(maskable, opens, wanted, key)
    rows, columns = np.nonzero(chosen)
    there = ids[rows, columns]
    draws = bits_at(key[rows], FATE, columns)
    fate = unit(draws if fates is None else fates[rows, columns])
    # Uses the lower half of the same draw, which the fate hardly depends on.
    piece = (draws & np.uint64(0xFFFFFFFF)) * np.uint64(len(special.replacements)) >> np.uint64(32)
    stand_in = special.replacements[piece.astype(np.int64)]
    replaced = ids.astype(np.int32)
    replaced[rows, columns] = np.where(fate < 0.8, special.mask_id, np.where(fate >= 0.9, stand_in, there))

    counts = chosen.sum(1)
    within = np.arange(len(rows)) - np.repeat(np.cumsum(counts) - counts, counts)
    positions, labels = (np.zeros((len(ids), int(counts.max(initial=0))), np.int32) for _ in range(2))
    positions[rows, within] = columns
    labels[rows, within] = there
    return Masked(replaced, positions, labels, counts)


def _pieces(maskable: np.ndarray, wanted: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Choose `wanted` pieces of each example, all equally likely."""
    width = maskable.shape[1]
    # Each piece draws 32 bits, with its position in the lowest, so that no two are equal; special pieces sort last.
    places = max(1, (width - 1).bit_length())
    lots = bits(key, CHOICE, (width + 1) // 2).view("<u4")[:, :width] & np.uint32((1 << 31) - (1 << places))
    lots |= np.arange(width, dtype=np.uint32) | (~maskable).astype(np.uint32) << np.uint32(31)
    last = np.take_along_axis(np.sort(lots, 1), np.maximum(wanted - 1, 0)[:, None], 1)
    return np.asarray(maskable & (lots <= last) & (wanted > 0)[:, None])


def _words(maskable: np.ndarray, opens: np.ndarray, wanted: np.ndarray, key: np.ndarray) -> np.ndarray:
    """Choose whole words in random order, skipping those that no longer fit, as the reference does."""
    width = maskable.shape[1]
    place = np.arange(width)
    head = np.maximum.accumulate(np.where(opens, place, 0), 1)  # the position of each token's word
    # Each word draws a number with its position in the lowest bits, so that a word's tokens stay together in sorting.
    lots = np.take_along_axis(bits(key, CHOICE, width), head, 1) >> np.uint64(1) & ~np.uint64(0xFFFF)
    order = np.argsort(np.where(maskable, lots | place.astype(np.uint64), ~np.uint64(0)), axis=1)
    head = np.take_along_axis(np.where(maskable, head, width + place), order, 1)
    alive = np.take_along_axis(maskable, order, 1)
    first = np.ones_like(alive)
    first[:, 1:] = head[:, 1:] != head[:, :-1]
    start = np.maximum.accumulate(np.where(first, place, 0), 1)
    last = np.minimum.accumulate(np.where(np.roll(first, -1, 1) | (place == width - 1), place, width)[:, ::-1], 1)[:, ::-1]
    length = last - start + 1
    left = wanted.copy()
    taken = np.zeros_like(alive)
    alive &= length <= left[:, None]
    while alive.any():
        # Words fit as long as all before them do; the first that does not is skipped, and so are those too long by now.
        total = np.take_along_axis(np.cumsum(alive, 1), last, 1)  # tokens up to each word's end
        fits = alive & (total <= left[:, None])
        taken |= fits
        left -= fits.sum(1)
        beyond = alive & ~fits
        passed = start == np.take_along_axis(start, beyond.argmax(1)[:, None], 1)
        alive = beyond & ~passed & (length <= left[:, None])
    chosen = np.zeros_like(taken)
    np.put_along_axis(chosen, order, taken, 1)
    return chosen


def _spans(maskable: np.ndarray, opens: np.ndarray, wanted: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Choose spans of words in turn, truncating the last when enough are chosen, and a random word for each span's tokens."""
    stretch = np.cumsum(~maskable, 1)  # a span does not cross [SEP]
    word = np.cumsum(opens, 1)
    chosen = np.zeros_like(maskable)
    fates = np.zeros(maskable.shape, np.uint64)
    left, turn = wanted.copy(), 0
    while (rows := np.flatnonzero(left > 0)).size:
        lots = bits(key[rows], SPAN + 3 * turn, 3)
        turn += 1
        free = maskable[rows] & ~chosen[rows]
        rank = np.cumsum(free, 1)
        nth = (unit(lots[:, 0]) * rank[:, -1]).astype(np.int64)
        anchor = (rank > nth[:, None]).argmax(1)[:, None]
        words = 1 + np.searchsorted(LENGTHS / LENGTHS[-1], unit(lots[:, 1]), side="right")[:, None]
        first = np.take_along_axis(word[rows], anchor, 1)
        inside = (word[rows] >= first) & (word[rows] < first + words)
        inside &= free & (stretch[rows] == np.take_along_axis(stretch[rows], anchor, 1))
        inside &= np.cumsum(inside, 1) <= left[rows, None]
        chosen[rows] |= inside
        fates[rows] = np.where(inside, lots[:, 2:], fates[rows])
        left[rows] -= inside.sum(1)
    return chosen, fates
