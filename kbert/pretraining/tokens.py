"""Store a corpus as token ids in unnamed files: tokenize once, then access at random.

In: blocks of sentences and a tokenizer. Out: `Tokens`: the concatenated ids of all sentences, where
sentences end, and which sentences form a document. They are memory-mapped, so memory use does not grow with
the text; the disk needs two bytes a token. The highest bit of an id marks a piece that continues the word before
it: "##" pieces do, and with a segmenter all pieces of a word but the first.
"""

import mmap
import tempfile
import zlib
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor, Future
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

import numpy as np
import tensorflow as tf

from kbert import graphs
from kbert.data.segmenters import Segmenter
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError
from kbert.pretraining.corpus import Block

# A document: its sentences, first to last (exclusive); where it begins.
DOCUMENTS = np.dtype([("first", "<u8"), ("last", "<u8"), ("file", "<u4"), ("line", "<u8")])
AHEAD = 4  # blocks each worker may run ahead of the writer
IDS_AT_ONCE = 1 << 20
DOCUMENTS_AT_ONCE = 1 << 12  # documents read before their mapped pages are released


@dataclass(frozen=True)
class Tokens:
    """The token ids of a corpus, mapped from files.

    Attributes:
        ids: uint16 or uint32 [tokens], each with its continuation bit; see `pieces`.
        ends: uint64 [sentences + 1], from 0: sentence i is `ids[ends[i]:ends[i + 1]]`; no sentence is empty.
        documents: `DOCUMENTS` [documents]; no document is empty.
        files: the names of the source files.
        digest: CRC-32 of all of these.
    """

    ids: np.ndarray
    ends: np.ndarray
    documents: np.ndarray
    files: Sequence[str]
    digest: int

    def split(self, fraction: float, seed: int) -> tuple["Tokens", "Tokens"]:
        """Split off `fraction` of the documents; return both corpora, on the same ids; equal documents stay together.

        With few documents, chance may leave none for the second; then one is taken.
        """
        sides: tuple[Any, Any] = (_temporary(), _temporary())
        limit = int(fraction * 2**32)
        start = zlib.crc32(seed.to_bytes(8, "little"))
        keys = np.empty(len(self.documents), np.uint32)
        for at in range(0, len(self.documents), DOCUMENTS_AT_ONCE):
            for i, document in enumerate(self.documents[at : at + DOCUMENTS_AT_ONCE], at):
                text = self.ids[int(self.ends[document["first"]]) : int(self.ends[document["last"]])]
                keys[i] = zlib.crc32(text.tobytes(), start)
            self.let_go()
        if round(fraction * len(keys)):
            limit = max(limit, int(keys.min()) + 1)
        for at in range(0, len(self.documents), DOCUMENTS_AT_ONCE):
            some, held_out = self.documents[at : at + DOCUMENTS_AT_ONCE], keys[at : at + DOCUMENTS_AT_ONCE] < limit
            for side, chosen in zip(sides, (~held_out, held_out), strict=True):
                side.write(some[chosen].tobytes())
        kept, held = (replace(self, documents=_mapped(side, DOCUMENTS)) for side in sides)
        return kept, held

    def learnt(self) -> Iterator[np.ndarray]:
        """Yield the ids of its documents, in parts; `ids` also contains those of the other side of a `split`."""
        for at in range(0, len(self.documents), DOCUMENTS_AT_ONCE):
            some = self.documents[at : at + DOCUMENTS_AT_ONCE]
            starts, stops = (self.ends[some[name]].astype(np.int64) for name in ("first", "last"))
            for start in range(int(starts[0]), int(stops[-1]), IDS_AT_ONCE):
                stop = min(start + IDS_AT_ONCE, int(stops[-1]))
                edges = np.zeros(stop - start + 1, np.int64)
                np.add.at(edges, np.clip(starts - start, 0, stop - start), 1)
                np.add.at(edges, np.clip(stops - start, 0, stop - start), -1)
                yield self.ids[start:stop][np.cumsum(edges[:-1]) > 0]
            self.let_go()

    def let_go(self) -> None:
        """See `let_go`."""
        let_go(self.ids, self.ends, self.documents)


def let_go(*arrays: np.ndarray) -> None:
    """Release the pages of mapped arrays that were read; the system may keep them cached.

    Otherwise they count as the process's memory, in the end as large as the corpus.
    """
    for array in arrays:
        if isinstance(array, np.memmap) and hasattr(mmap, "MADV_DONTNEED"):
            array._mmap.madvise(mmap.MADV_DONTNEED)  # type: ignore[attr-defined]


def id_type(vocabulary_size: int) -> np.dtype[Any]:
    """Return the smallest integer type for the ids and one more bit."""
    return np.dtype("<u2") if vocabulary_size <= 1 << 15 else np.dtype("<u4")


def continues(ids: np.ndarray) -> np.ndarray:
    """Return whether each id's piece continues the word before it, bool."""
    return np.asarray(ids >> (8 * ids.itemsize - 1), bool)


def pieces(ids: np.ndarray) -> np.ndarray:
    """Return the ids without the continuation bit, int32."""
    return (ids & np.asarray((1 << (8 * ids.itemsize - 1)) - 1, ids.dtype)).astype(np.int32)


class Encode:
    """Converts blocks to ids.

    Args:
        tokenizer: the tokenizer.
        words: a segmenter that defines words; None to define them by "##" alone.
    """

    def __init__(self, tokenizer: Tokenizer, words: Segmenter | None):
        self.goes_on = np.array([token.startswith("##") for token in tokenizer.vocabulary])
        self.words = words
        tokenize = tokenizer.tokenize if words is None else tokenizer.tokenize_with_offsets
        self._tokenize = graphs.function(lambda texts: tokenize(texts), input_signature=[tf.TensorSpec([None], tf.string)])

    def __call__(self, block: Block) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, int]:
        """Tokenize a block.

        Returns:
            Ids with continuation bits [tokens]; for the sentences that have any: lengths, the index of each one's document,
            counted from the block's beginning (0 continues the block before), their files and lines; and
            the number of the block's last document.
        """
        found = self._tokenize(tf.constant(block.sentences))
        ragged = found if self.words is None else found[0]
        ids, lengths = ragged.values.numpy(), ragged.row_lengths().numpy()
        bit = self.goes_on[ids]
        if self.words is not None:
            bit |= _within(block.sentences, found[1].values.numpy(), lengths, self.words)
        kind = id_type(len(self.goes_on))
        some = lengths > 0
        packed = ids.astype(kind) | (bit.astype(kind) << np.asarray(8 * kind.itemsize - 1, kind))
        document = np.cumsum(block.opens)
        return packed, lengths[some], document[some], block.files[some], block.lines[some], int(document[-1])


def _within(sentences: list[bytes], starts: np.ndarray, lengths: np.ndarray, words: Segmenter) -> np.ndarray:
    """Return whether each piece is in the same word of the segmenter as the piece before it, bool [pieces]."""
    word = np.empty(len(starts), np.int64)
    at = 0
    for sentence, length in zip(sentences, lengths, strict=True):
        ends = np.cumsum([len(w) for w in words(sentence.decode("utf-8", "ignore"))])
        word[at : at + length] = np.searchsorted(ends, starts[at : at + length], side="right")
        at += length
    same = np.zeros(len(starts), bool)
    same[1:] = word[1:] == word[:-1]
    firsts = np.cumsum(lengths) - lengths
    same[firsts[lengths > 0]] = False
    return same


def tokenized(
    blocks: Iterable[Block],
    files: Sequence[str],
    encode: Callable[[Block], Any],
    executor: Executor,
    workers: int,
    folder: Path | None = None,
) -> Tokens:
    """Tokenize blocks into a corpus.

    Args:
        files: the names of the source files.
        encode: an `Encode`.
        executor: runs `encode` in its workers.
        folder: where to keep the files, for other processes; by default they are unnamed.

    Raises:
        DataError: no sentence has a token.
    """
    ids_file, ends_file, documents_file = (
        _temporary() if folder is None else open(folder / name, "w+b")  # noqa: SIM115 (open as long as they are mapped)
        for name in ("ids", "ends", "documents")
    )
    ends_file.write(np.zeros(1, "<u8").tobytes())
    end = sentence = 0
    digests = {ids_file: 0, ends_file: 0, documents_file: 0}

    def write(file: IO[bytes], array: np.ndarray) -> None:
        file.write(array.tobytes())
        digests[file] = zlib.crc32(array.tobytes(), digests[file])

    kind = None
    open_one = np.empty(0, DOCUMENTS)  # the document that may continue in the next block
    opened = True  # whether the current document has no token yet
    for ids, lengths, document, file, line, last in _in_order(encode, blocks, executor, AHEAD * workers):
        if not len(lengths):
            opened = opened or last > 0
            continue
        kind = ids.dtype
        ends = (end + np.cumsum(lengths)).astype("<u8")
        write(ids_file, ids)
        write(ends_file, ends)
        opens = np.flatnonzero(np.diff(document, prepend=-1 if opened else 0))
        opened = last > document[-1]
        new = np.empty(len(opens), DOCUMENTS)
        new["first"], new["file"], new["line"] = opens + sentence, file[opens], line[opens]
        known = np.concatenate([open_one, new])
        known["last"][:-1] = known["first"][1:]
        write(documents_file, known[:-1])
        open_one = known[-1:]
        sentence += len(lengths)
        end = int(ends[-1])
    if kind is None:
        raise DataError("the text has no token at all; is it blank, or in another script than the vocabulary?")
    open_one["last"] = sentence
    write(documents_file, open_one)
    documents = _mapped(documents_file, DOCUMENTS)
    digest = zlib.crc32(np.array(list(digests.values()), "<u4").tobytes())
    return Tokens(_mapped(ids_file, kind), _mapped(ends_file, np.dtype("<u8")), documents, files, digest)


def kept(folder: Path, vocabulary_size: int, files: Sequence[str], digest: int) -> Tokens:
    """Open the corpus that `tokenized` has kept in a folder."""
    kinds = {"ids": id_type(vocabulary_size), "ends": np.dtype("<u8"), "documents": DOCUMENTS}
    ids, ends, documents = (np.memmap(folder / name, kind, "r") for name, kind in kinds.items())
    return Tokens(ids, ends, documents, files, digest)


def _in_order(function: Callable[[Any], Any], items: Iterable[Any], executor: Executor, ahead: int) -> Iterator[Any]:
    """Map a function over items in order, with at most `ahead` of them in progress or waiting."""
    waiting: deque[Future[Any]] = deque()
    try:
        for item in items:
            waiting.append(executor.submit(function, item))
            if len(waiting) >= ahead:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()
    finally:
        for future in waiting:
            future.cancel()


def _temporary() -> IO[bytes]:
    return tempfile.TemporaryFile(prefix="kbert-")


def _mapped(file: IO[bytes], kind: np.dtype[Any]) -> np.ndarray:
    file.flush()
    if not file.seek(0, 2):
        return np.empty(0, kind)
    return np.memmap(file, kind, "r")
