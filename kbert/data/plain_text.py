"""Read plain text: one text a line.

    a fine film
    dull from the first scene on
    good

In: lines of bytes. Out: their texts; an empty line is an empty text. Source: text/plain of IANA.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from kbert.data.encodings import decode_line


@dataclass
class Text:
    """One text a line; an empty line is an empty text."""

    encoding: str = "utf-8"

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def values(self, record: bytes) -> tuple[str, ...]:
        return (decode_line(record, self.encoding),)
