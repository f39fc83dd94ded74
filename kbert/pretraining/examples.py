"""Build an epoch's examples as arrays: find random partners, truncate pairs, pack and mask.

In: a corpus's `Tokens`, the records of `cutting`, and numbers of examples. Out: `Arrays`. All random choices are a
function of (seed, epoch, example), so each epoch has other masks and partners, but an example has the same ones
in whichever batch, process or resumed run it is built.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kbert.data.vocabulary import CLS, PAD, SEP, UNKNOWN, numbered
from kbert.errors import DataError
from kbert.pretraining import cutting, masking
from kbert.pretraining.cutting import ALONE, RANDOM, SWAPPED, Cut
from kbert.pretraining.masking import Masking, Special
from kbert.pretraining.randomness import heads, keys, uniforms
from kbert.pretraining.tokens import Tokens, continues, let_go, pieces

log = logging.getLogger(__name__)

AT_ONCE = 1 << 20  # ids inspected for a warning
MOSTLY, RARELY, OFTEN_UNKNOWN = 0.9, 0.1, 0.05  # shares of a corpus that trigger a warning
PARTNER, POPS_A, POPS_B = range(8, 11)  # streams of random numbers
# Labels of pairs, as in the reference: 1 if the second segment does not follow the first.
LABELS = np.array([-1, 0, 1, 1], np.int32)  # by kind: ALONE, NEXT, SWAPPED, RANDOM


@dataclass(frozen=True)
class Arrays:
    """Examples, padded to the longest.

    Attributes:
        token_ids, segment_ids: int32 [examples, tokens].
        lengths: int64 [examples], tokens of each.
        positions, labels: int32 [examples, predictions]: the masked positions and the original ids.
        counts: int64 [examples], predictions of each.
        pair: int32 [examples]: 0 if the second segment follows the first, 1 if not, -1 if there is no pair.
    """

    token_ids: np.ndarray
    segment_ids: np.ndarray
    lengths: np.ndarray
    positions: np.ndarray
    labels: np.ndarray
    counts: np.ndarray
    pair: np.ndarray


class Examples(Protocol):
    """A source of training examples: text, or shards made from text."""

    digest: int  # of all their data, so that a run is not resumed with other data
    most: int  # maximum predictions of an example

    def __len__(self) -> int:
        """Return the number of examples of an epoch."""

    def read(self, numbers: np.ndarray, epoch: int | np.ndarray) -> Arrays:
        """Build the examples of these numbers for one epoch, or an epoch for each."""

    def where(self, number: int) -> str:
        """Return where an example comes from, for messages."""

    def frequencies(self) -> np.ndarray:
        """Count each piece in the examples, or in a sample of them: int64 [vocabulary]."""


class TextExamples:
    """Examples built from a corpus, re-masked each epoch.

    Args:
        tokens: the corpus.
        vocabulary: the tokens in id order.
        how: options for cutting documents.
        masked: options for masking tokens.
        seed: seed of all random choices.

    Raises:
        DataError: the objective needs pairs but the corpus has none.
    """

    def __init__(self, tokens: Tokens, vocabulary: Sequence[str], how: Cut, masked: Masking, seed: int):
        self.tokens, self.how, self.masked, self.seed = tokens, how, masked, seed
        self.digest, self.most = tokens.digest, masked.most
        check_pairs(tokens, how)
        self.special = Special.of(vocabulary)
        self.cls_id, self.sep_id, self.pad_id = (numbered(vocabulary)[token] for token in (CLS, SEP, PAD))
        self.records = cutting.cut(tokens, how, seed)

    def __len__(self) -> int:
        return len(self.records)

    def read(self, numbers: np.ndarray, epoch: int | np.ndarray) -> Arrays:
        record = self.records[numbers]
        key = keys(self.seed, epoch, record["start"])  # starts are unique to examples
        start_a, start_b = record["start"].astype(np.int64), record["start"].astype(np.int64) + record["length"]
        length_a, length_b = record["length"].astype(np.int64), record["length_b"].astype(np.int64)
        random = record["kind"] == RANDOM
        if random.any():
            start_b[random], length_b[random] = self._partners(record[random], key[random])
        swapped = record["kind"] == SWAPPED
        start_a, start_b = np.where(swapped, start_b, start_a), np.where(swapped, start_a, start_b)
        length_a, length_b = np.where(swapped, length_b, length_a), np.where(swapped, length_a, length_b)

        # Tokens are removed from the longer one, at either end, until the pair fits; from the second one if they are equal.
        pair = record["kind"] != ALONE
        room = self.how.max_length - 2 - pair
        keep_a = np.minimum(length_a, np.maximum(room - length_b, room - room // 2))
        keep_b = np.minimum(length_b, room - keep_a)
        start_a += heads(key, POPS_A, length_a - keep_a)
        start_b += heads(key, POPS_B, length_b - keep_b)

        lengths = keep_a + 2 + np.where(pair, keep_b + 1, 0)
        place = np.arange(int(lengths.max(initial=0)), dtype=np.int32)[None, :]
        end_a = (1 + keep_a).astype(np.int32)[:, None]  # position of the first [SEP]
        end = (lengths - 1).astype(np.int32)[:, None]  # position of the last
        second = place > end_a
        source = np.where(second, (start_b - keep_a - 2)[:, None], (start_a - 1)[:, None])
        source += place
        packed = self.tokens.ids.take(source, mode="clip")  # positions of neither segment are overwritten
        let_go(self.records)
        self.tokens.let_go()
        rows = np.arange(len(lengths))[:, None]
        ids, goes_on = pieces(packed), continues(packed)
        for there, token in ((0, self.cls_id), (end_a, self.sep_id), (end, self.sep_id)):
            ids[rows, there] = token
            goes_on[rows, there] = False
        ids[place > end] = self.pad_id
        masked = masking.mask(ids, goes_on, self.special, self.masked, key, self.pad_id)
        return Arrays(
            token_ids=masked.token_ids,
            segment_ids=(second & (place <= end)).astype(np.int32),
            lengths=lengths,
            positions=masked.positions,
            labels=masked.labels,
            counts=masked.counts,
            pair=LABELS[record["kind"]],
        )

    def where(self, number: int) -> str:
        document = self.tokens.documents[int(self.records[number]["document"])]
        return f"{self.tokens.files[int(document['file'])]}:{int(document['line'])}"

    def frequencies(self) -> np.ndarray:
        counts = np.zeros(len(self.special.maskable), np.int64)
        for ids in self.tokens.learnt():
            counts += np.bincount(pieces(ids), minlength=len(counts))
        return np.where(self.special.maskable, counts, 0)

    def _partners(self, record: np.ndarray, key: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Draw a random span for each record, whole sentences of another document; return starts and lengths."""
        draws = uniforms(key, PARTNER, 2)
        documents, ends = self.tokens.documents, self.tokens.ends
        other = (draws[:, 0] * (len(documents) - 1)).astype(np.int64)
        other += other >= record["document"].astype(np.int64)  # skip the example's own document
        chosen = documents[other]
        first, last = chosen["first"].astype(np.int64), chosen["last"].astype(np.int64)
        sentence = first + (draws[:, 1] * (last - first)).astype(np.int64)
        start = ends[sentence].astype(np.int64)
        stop = np.searchsorted(ends, (start + record["wanted"]).astype(ends.dtype))
        return start, ends[np.minimum(stop, last)].astype(np.int64) - start


def warn(tokens: Tokens, vocabulary: Sequence[str], how: Cut, masked: Masking) -> None:
    """Warn about what a corpus lacks for the objective or the masks, although examples can be built."""
    documents = tokens.documents
    alone = int((documents["last"] - documents["first"] == 1).sum())
    if how.objective != "mlm" and alone > MOSTLY * len(documents):
        what = "no order" if how.objective == "mlm+sop" else "no next one"
        log.warning(
            "--objective=%s: %d of %d documents have one sentence, which has %s to learn from; --objective=mlm needs none",
            how.objective, alone, len(documents), what,
        )  # fmt: skip
    sample = tokens.ids[:AT_ONCE]
    unknown = float((pieces(sample) == numbered(vocabulary)[UNKNOWN]).mean())
    if unknown > OFTEN_UNKNOWN:
        log.warning(
            "%.0f %% of the tokens are %s: is the vocabulary of another language, or of lowercased text (--lowercase)?",
            100 * unknown, UNKNOWN,
        )  # fmt: skip
    chinese = np.array([len(token) == 1 and "㐀" <= token <= "鿿" for token in vocabulary])[pieces(sample)]
    if masked.unit != "piece" and chinese.sum() > RARELY * len(sample) and not continues(sample[chinese]).any():
        log.warning(
            "--mask_unit=%s: without --segmenter (jieba, or your own) each Chinese character, %.0f %% of the tokens, is a word "
            "of its own",
            masked.unit, 100 * chinese.mean(),
        )  # fmt: skip


def check_pairs(tokens: Tokens, how: Cut) -> None:
    """Raise DataError if the objective needs pairs but the corpus has none."""
    if how.objective == "mlm":
        return
    documents = tokens.documents
    sentences = int((documents["last"] - documents["first"]).max(initial=0))
    if sentences < 2:
        raise DataError(
            f"--objective={how.objective} needs documents of two sentences or more, but all {len(documents):,} have one; "
            "--objective=mlm needs none. (Is a line a document? --layout=documents cuts it into sentences.)"
        )
    if how.objective == "mlm+nsp" and len(documents) < 2:
        raise DataError(
            "--objective=mlm+nsp takes half of its pairs from another document, but there is only one document; are "
            "blank lines missing between documents, or is a line a document (--layout=documents)? "
            "--objective=mlm and mlm+sop need only one"
        )
