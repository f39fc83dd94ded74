"""Read fastText's training files: a line a text, with its label before it.

    __label__pos a fine film
    __label__neg dull from the first scene on
    __label__pos good

In: lines of bytes. Out: the text and its label. Source: https://fasttext.cc/docs/en/supervised-tutorial.html.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kbert.data.encodings import decode_line

PREFIX = "__label__"


@dataclass
class FastText:
    """One text a line, after its label; the columns are the label where `label` says so, and the text."""

    encoding: str
    columns: Sequence[str]
    label: str

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def values(self, record: bytes) -> tuple[str, ...]:
        words = decode_line(record, self.encoding).split()
        if not words:
            return ()
        labels = [word for word in words if word.startswith(PREFIX)]
        if len(labels) != 1 and self.label in self.columns:
            raise ValueError(f"{len(labels)} labels ({', '.join(labels) or f'none begins with {PREFIX}'}), expected one")
        text = " ".join(word for word in words if not word.startswith(PREFIX))
        return tuple(labels[0].removeprefix(PREFIX) if column == self.label else text for column in self.columns)


def fits(lines: Sequence[str]) -> bool:
    """Return whether lines all begin with a label."""
    return all(line.startswith(PREFIX) for line in lines)
