"""Decode files: check the encodings that users name, detect files that are UTF-8 under another name, decode records."""

import codecs
from collections.abc import Iterable

from kbert.errors import UsageError

ENOUGH = 10_000  # multi-byte characters after which there is no doubt


def check(encoding: str) -> bool:
    """Return whether line ends are single bytes in an encoding, so that lines can be split as bytes.

    Raises:
        UsageError: no such encoding.
    """
    try:
        return "\n".encode(encoding) == b"\n"
    except UnicodeError:
        return True
    except LookupError:
        raise UsageError(f"--encoding={encoding}: no such encoding; for example utf-8, gb18030, latin-1") from None


def check_not_utf8(name: str, encoding: str, blocks: Iterable[bytes]) -> None:
    """Raise UsageError if a file is to be read in another encoding although its bytes are UTF-8.

    Text in GB18030 is never UTF-8 by accident, except for a few two-byte characters.
    """
    if codecs.lookup(encoding).name not in ("utf-8", "utf-8-sig"):
        long, short = utf8_characters(blocks)
        if long > 1 or short > 8:
            raise UsageError(
                f"{name}: --encoding={encoding}, but the whole file is valid UTF-8 and would be decoded to wrong"
                " characters; leave --encoding out"
            )


def utf8_characters(blocks: Iterable[bytes]) -> tuple[int, int]:
    """Count a file's characters of three or more, and of two, bytes in UTF-8; zeros if it is not UTF-8."""
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
            return 0, 0  # truncated within a character
    return long, short


def decode(record: bytes, encoding: str) -> str:
    """Decode a record's bytes.

    Raises:
        ValueError: they are not in the encoding.
    """
    try:
        return record.decode(encoding)
    except UnicodeDecodeError as error:
        found = record[error.start : error.start + 4].hex(" ")
        raise ValueError(f"bytes {found} are not {encoding}; name the file's encoding with --encoding=") from None


def decode_line(record: bytes, encoding: str) -> str:
    """Decode a line without its line end: LF, CR LF, or CR CR LF, into which copying in text mode turns CR LF."""
    return decode(record, encoding).removesuffix("\n").removesuffix("\r").removesuffix("\r")


def escaped(record: bytes, encoding: str) -> str:
    """Decode a record; bytes that are not in the encoding are escaped."""
    try:
        return record.decode(encoding, "backslashreplace")
    except UnicodeError:  # a codec that cannot escape, such as idna
        return record.decode("ascii", "backslashreplace")


def quote(record: bytes, encoding: str) -> str:
    """Quote a record in a message, shortened."""
    line = decode_line(record, encoding)
    return repr(line if len(line) <= 60 else line[:60] + "…")
