"""Copy files whose lines are not split by a line feed byte: UTF-16 and UTF-32, and lines that end with CR alone.

In: a file. Out: a copy in UTF-8 with line feeds, or None where the file needs none. Memory holds a block.
Sources: Excel's "Unicode text" (UTF-16 with a byte-order mark, tabs), Excel's "CSV (Macintosh)" (CR).
"""

import codecs
from collections.abc import Iterator
from typing import IO

from kbert.data import encodings
from kbert.data.sources import temporary
from kbert.errors import DataError, UsageError

BLOCK = 1 << 20
HEAD = 1 << 16  # bytes inspected
MARKS = (  # the longer first
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def transcoded(name: str, stream: IO[bytes], given: str, recorded: str | None) -> IO[bytes] | None:
    """Return a file's copy in UTF-8 with line feeds; None if it can be read as it is.

    Args:
        name: the file, for messages.
        stream: its bytes, seekable.
        given: the value of --encoding.
        recorded: that of training, if any.

    Raises:
        UsageError: --encoding is UTF-16 or UTF-32, and the file is not.
        DataError: the file is not in the encoding.
    """
    stream.seek(0)
    head = stream.read(HEAD)
    stream.seek(0)
    encoding = next((each for mark, each in MARKS if head.startswith(mark)), None)
    if encoding is None and wide(given) and head:
        if b"\0" not in head:
            raise UsageError(f"{name}: --encoding={given}, but the file is not; leave --encoding out")
        encoding = given
    if encoding is None and recorded is not None and wide(recorded) and b"\0" in head:
        encoding = recorded
    blocks = iter(lambda: stream.read(BLOCK), b"")
    if encoding is not None:
        blocks = _decoded(name, blocks, encoding)
    elif b"\r" not in head or b"\n" in head or b"\0" in head:
        return None
    copy, held = temporary(), b""
    alone: bool | None = None  # whether lines end with CR alone
    for block in blocks:
        if alone is None:
            alone = b"\n" not in block and b"\r" in block
        block, held = held + block, b""
        if alone and block.endswith(b"\r"):
            block, held = block[:-1], b"\r"  # a line feed may follow
        copy.write(block.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if alone else block)
    copy.write(b"\n" if held else b"")
    copy.flush()
    return copy


def wide(encoding: str) -> bool:
    """Return whether an encoding has zero bytes in ASCII text."""
    return not encodings.check(encoding) and b"\0" in "\n".encode(encoding)


def _decoded(name: str, blocks: Iterator[bytes], encoding: str) -> Iterator[bytes]:
    first = True
    try:
        for text in codecs.iterdecode(blocks, encoding):
            yield (text.removeprefix("\ufeff") if first else text).encode()
            first = first and not text
    except UnicodeError as error:
        raise DataError(f"{name}: not {encoding} ({error})") from None
