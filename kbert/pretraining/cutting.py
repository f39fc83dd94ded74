"""Cut documents into examples: which spans of a corpus's tokens each contains, except for random partners.

In: `Tokens` and an objective. Out: records, a fixed number for a seed: how a document is cut depends only on the seed
and the document. Sources: google-research/bert `create_pretraining_data.py` (next sentence), google-research/albert's
(sentence order), Liu et al. 2019, RoBERTa, section 4.2 (DOC-SENTENCES, for masked LM only).
"""

import tempfile
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from kbert.pretraining.randomness import keys, uniforms
from kbert.pretraining.tokens import Tokens
from kbert.progress import Progress

Objective = Literal["mlm+nsp", "mlm", "mlm+sop"]

# The second segment of an example.
ALONE, NEXT, SWAPPED, RANDOM = range(4)
# One example: two adjacent spans of tokens; the second is empty if there is none, or if a random one will be
# drawn, which then has as many tokens as `wanted` says.
RECORD = np.dtype(
    [("start", "<u8"), ("length", "<u4"), ("length_b", "<u4"), ("wanted", "<u4"), ("kind", "u1"), ("document", "<u8")]
)
DOCUMENTS_AT_ONCE = 1024
SPLIT, FATE, SHORT, TARGET = range(4)  # streams of random numbers


@dataclass(frozen=True)
class Cut:
    """Options for cutting documents.

    Attributes:
        objective: next-sentence pairs, sentence-order pairs, or single spans.
        max_length: tokens of an example, including [CLS] and [SEP].
        short_seq_prob: fraction of documents cut to a random shorter length, for pairs.
    """

    objective: Objective
    max_length: int
    short_seq_prob: float = 0.1


def cut(tokens: Tokens, how: Cut, seed: int) -> np.ndarray:
    """Cut all documents in order into records, `RECORD` [examples], mapped from an unnamed file."""
    file = tempfile.TemporaryFile(prefix="kbert-")  # noqa: SIM115 (open as long as it is mapped)
    total = len(tokens.documents)
    with Progress(total, desc="cutting", unit="document", leave=False) as bar:
        for start in range(0, total, DOCUMENTS_AT_ONCE):
            stop = min(start + DOCUMENTS_AT_ONCE, total)
            file.write(np.array(list(_records(tokens, how, seed, start, stop)), RECORD).tobytes())
            tokens.let_go()
            bar.update(stop - start)
    file.flush()
    if not file.tell():
        return np.empty(0, RECORD)
    return np.memmap(file, RECORD, "r")


def _records(tokens: Tokens, how: Cut, seed: int, start: int, stop: int) -> Iterator[tuple[int, ...]]:
    """Yield the records of documents `start` to `stop`."""
    documents = tokens.documents[start:stop]
    # A document is identified by its position in the corpus, so it is cut alike on either side of a split.
    own = keys(seed, documents["first"])
    short = uniforms(own, SHORT, 1)[:, 0] < how.short_seq_prob
    share = uniforms(own, TARGET, 1)[:, 0]
    room = how.max_length - (2 if how.objective == "mlm" else 3)
    counts = (documents["last"] - documents["first"]).astype(np.int64)
    at = np.cumsum(counts) - counts  # of each document's sentences, among those of all
    sentence = np.arange(counts.sum()) + np.repeat(documents["first"].astype(np.int64) - at, counts)
    split, fate = (uniforms(keys(seed, sentence), stream, 1)[:, 0].tolist() for stream in (SPLIT, FATE))
    for number, (first, last) in enumerate(documents[["first", "last"]].tolist()):
        ends = tokens.ends[first : last + 1].tolist()  # before each sentence, and after the last
        if how.objective == "mlm":
            parts: Iterator[tuple[int, ...]] = _full(ends, room)
        else:
            target = 2 + int(share[number] * (room - 1)) if short[number] else room
            own_part = slice(at[number], at[number] + counts[number])
            pairs = _next if how.objective == "mlm+nsp" else _order
            parts = pairs(ends, target, split[own_part], fate[own_part])
        for part in parts:
            yield (*part, start + number)


def _full(ends: Sequence[int], room: int) -> Iterator[tuple[int, ...]]:
    """Yield as many whole sentences as fit; a longer sentence in pieces."""
    at, last = 0, len(ends) - 1
    while at < last:
        stop = bisect_right(ends, ends[at] + room, at) - 1
        if stop > at:
            yield ends[at], ends[stop] - ends[at], 0, 0, ALONE
            at = stop
            continue
        for start in range(ends[at], ends[at + 1], room):
            yield start, min(room, ends[at + 1] - start), 0, 0, ALONE
        at += 1


def _next(ends: Sequence[int], target: int, split: Sequence[float], fate: Sequence[float]) -> Iterator[tuple[int, ...]]:
    """Yield whole sentences up to the target, split at random; half the time the rest is replaced by a random partner.

    What is replaced begins the next example, as in the reference.
    """
    at, last = 0, len(ends) - 1
    while at < last:
        stop = min(bisect_left(ends, ends[at] + target, at), last)  # the sentences at, …, stop - 1
        count = stop - at
        parted = at + 1 + (int(split[at] * (count - 1)) if count > 1 else 0)
        length = ends[parted] - ends[at]
        if count == 1 or fate[at] < 0.5:
            yield ends[at], length, 0, max(target - length, 1), RANDOM
            at = parted
        else:
            yield ends[at], length, ends[stop] - ends[parted], 0, NEXT
            at = stop


def _order(ends: Sequence[int], target: int, split: Sequence[float], fate: Sequence[float]) -> Iterator[tuple[int, ...]]:
    """Yield whole sentences up to the target, split at random, with the parts swapped half the time.

    A single sentence has no order: it is used alone, for the masked LM (ALBERT's code takes a random partner).
    """
    at, last = 0, len(ends) - 1
    while at < last:
        stop = min(bisect_left(ends, ends[at] + target, at), last)
        count = stop - at
        if count == 1:
            yield ends[at], ends[stop] - ends[at], 0, 0, ALONE
        else:
            parted = at + 1 + int(split[at] * (count - 1))
            kind = SWAPPED if fate[at] < 0.5 else NEXT
            yield ends[at], ends[parted] - ends[at], ends[stop] - ends[parted], 0, kind
        at = stop
