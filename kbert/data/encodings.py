"""Character encodings of the files that users name: which exist, and files whose bytes are UTF-8 under any name."""

import codecs
from collections.abc import Iterable

from kbert.errors import UsageError

ENOUGH = 10_000  # characters of several bytes that leave no doubt


def check(encoding: str) -> bool:
    """Return whether line ends are single bytes in an encoding, so that its lines can be distinguished.

    Raises:
        UsageError: there is no such encoding.
    """
    try:
        return "\n".encode(encoding) == b"\n"
    except UnicodeError:
        return True
    except LookupError:
        raise UsageError(f"--encoding={encoding}: no such encoding; for example utf-8, gb18030, latin-1") from None


def check_not_utf8(name: str, encoding: str, blocks: Iterable[bytes]) -> None:
    """Raise UsageError where a file is to be read in another encoding though its bytes are UTF-8.

    Chinese text in GB18030 is never UTF-8 by chance but for a few characters of two bytes.
    """
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        long, short = utf8_characters(blocks)
        if long > 1 or short > 8:
            raise UsageError(
                f"{name}: --encoding={encoding}, but its bytes are UTF-8 from beginning to end, and would be read as other "
                "characters; leave --encoding out"
            )


def utf8_characters(blocks: Iterable[bytes]) -> tuple[int, int]:
    """Return how many characters of three bytes and more, and of two, a file has in UTF-8; none where it is not UTF-8."""
    decoder, long, short = codecs.getincrementaldecoder("utf-8")(), 0, 0
    for block in blocks:
        try:
            text = decoder.decode(block)
        except UnicodeDecodeError:
            return 0, 0
        if not text.isascii():
            long += sum(c > "\u07ff" for c in text)
            short += sum("\x7f" < c <= "\u07ff" for c in text)
        if long > ENOUGH:
            break
    else:
        if decoder.getstate()[0]:
            return 0, 0  # ends within a character
    return long, short
