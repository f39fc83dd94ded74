"""Read files of plain text as sentences, document after document.

In: a SOURCE of text files (globs and .gz work, `-` is standard input), see `kbert.pretraining.documents`. Out: blocks of
sentences with the starts of documents. The text is read once, from front to back, a block at a time, so
neither its size nor that of a document matters; an error names FILE:LINE.
"""

import functools
import glob
import gzip
import itertools
import os
import sys
import zlib
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import IO

import numpy as np

from kbert.data import encodings
from kbert.errors import DataError
from kbert.pretraining.documents import Layout, documents
from kbert.progress import Progress

HEAD = 100  # lines checked for their encoding
BLOCK = 2048  # sentences of a block
LONGEST_LINE = 1 << 24  # bytes; a longer line means that the file is not text
STDIN = "-"


@dataclass(frozen=True)
class Block:
    """Consecutive sentences.

    Attributes:
        sentences: UTF-8, none of them blank.
        opens: bool [sentences], whether each is the first of its document.
        files, lines: int64 [sentences], the location of each: its file's index in `files(source)`, and the line from 1.
    """

    sentences: list[bytes]
    opens: np.ndarray
    files: np.ndarray
    lines: np.ndarray


def blocks(source: str, layout: Layout, encoding: str = "utf-8", text_column: str = "text") -> Iterator[Block]:
    """Yield the sentences of all files of a source; the end of a file also ends a document.

    Args:
        source: a file, a glob, each also .gz, or `-`.
        layout: of plain text, see `documents`.
        encoding: the files' encoding.
        text_column: the key of the text in JSON lines.

    Raises:
        DataError: a file is missing, unreadable, not in the encoding or not text, or there is no text.
        UsageError: no such encoding.
    """
    encodings.check(encoding)
    found: list[bytes] = []
    places: list[tuple[bool, int, int]] = []
    some = False
    for file, name in enumerate(files(source)):
        for sentence in documents(name, _lines(name, encoding), layout, text_column):
            found.append(sentence.text.encode("utf-8", "replace"))
            places.append((sentence.opens, file, sentence.line))
            if len(found) == BLOCK:
                yield _block(found, places)
                found, places, some = [], [], True
    if found:
        yield _block(found, places)
    elif not some:
        raise DataError(f"{source}: no text")


def _block(found: list[bytes], places: list[tuple[bool, int, int]]) -> Block:
    opens, file, line = np.array(places, np.int64).T
    return Block(found, opens.astype(bool), file, line)


def files(source: str) -> Sequence[str]:
    """List the files of a source; raise DataError if there are none."""
    if source == STDIN:
        return [STDIN]
    path = os.path.expanduser(source)
    names = [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))
    if not names:
        raise DataError(f"{source}: no such file")
    for name in names:
        if os.path.isdir(name):
            raise DataError(f"{name}: is a directory; name its files, for example {name.rstrip('/')}/*.txt")
    return names


def _lines(name: str, encoding: str) -> Iterator[str]:
    """Yield a file's lines without surrounding white space."""
    try:
        with _opened(name) as stream, Progress(unit="B", unit_scale=True, desc=f"reading {name}") as bar:
            yield from decoded(map(functools.partial(_counted, bar), _cut(stream)), encoding, name)
    except (OSError, EOFError, zlib.error) as error:
        packed = " as gzip" if name.endswith(".gz") else ""
        raise DataError(f"{name}: not readable{packed}: {getattr(error, 'strerror', None) or error}") from None


def decoded(lines: Iterable[bytes], encoding: str, name: str) -> Iterator[str]:
    """Decode lines, stripping surrounding white space and the byte order mark.

    Raises:
        DataError: a line is not in the encoding, or too long for text.
        UsageError: the first lines are UTF-8, but another encoding is given.
    """
    lines = iter(lines)
    head = list(itertools.islice(lines, HEAD))
    encodings.check_not_utf8(name, encoding, head)
    for number, line in enumerate(itertools.chain(head, lines), 1):
        if len(line) > LONGEST_LINE:
            raise DataError(f"{name}:{number}: a line of more than {LONGEST_LINE:,} bytes; is the file text?")
        try:
            text = line.decode(encoding)
        except UnicodeDecodeError as error:
            wrong = line[error.start : error.start + 4].hex(" ")
            found = f"{name}:{number}: bytes {wrong} are not {encoding}"
            raise DataError(f"{found}; name the file's encoding with --encoding=") from None
        yield (text.removeprefix("\ufeff") if number == 1 else text).strip()


def _counted(bar: Progress, line: bytes) -> bytes:
    bar.update(len(line))
    return line


def _opened(name: str) -> IO[bytes]:
    if name == STDIN:
        if sys.stdin is None:
            raise DataError("standard input is closed; name a file")
        return os.fdopen(os.dup(sys.stdin.fileno()), "rb")
    return gzip.open(name) if name.endswith(".gz") else open(name, "rb")  # type: ignore[return-value]


def _cut(stream: IO[bytes]) -> Iterable[bytes]:
    """Yield lines, truncated where they are too long to be text."""
    while line := stream.readline(LONGEST_LINE + 1):
        yield line
