"""Read fastText's training files: a line a text, with its labels before it.

    __label__pos a fine film
    __label__neg dull from the first scene on
    __label__pos good

In: lines of bytes. Out: the text and its label, or a JSON list of its labels where the task takes several. Source: https://fasttext.cc/docs/en/supervised-tutorial.html.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kbert.data.bad_rows import SeveralValues
from kbert.data.encodings import decode_line

PREFIX = "__label__"


@dataclass
class FastText:
    """One text a line, after its labels; the columns are the label where `label` says so, and the text."""

    encoding: str
    columns: Sequence[str]
    label: str
    listed: bool = False  # whether the label column is a list of labels

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    def values(self, record: bytes) -> tuple[str, ...]:
        words = decode_line(record, self.encoding).split()
        if not words:
            return ()
        text = " ".join(word for word in words if not word.startswith(PREFIX))
        return tuple(self._label(words) if column == self.label else text for column in self.columns)

    def _label(self, words: Sequence[str]) -> str:
        labels = [word.removeprefix(PREFIX) for word in words if word.startswith(PREFIX)]
        if not labels:
            raise ValueError(f"0 labels (none begins with {PREFIX}), expected one")
        if len(labels) == 1 and not self.listed:
            return labels[0]
        if not self.listed:
            raise SeveralValues(f"{len(labels)} labels ({', '.join(labels)}), expected one", self.label)
        return json.dumps(labels, ensure_ascii=False)


def fits(lines: Sequence[str]) -> bool:
    """Return whether lines all begin with a label."""
    return all(line.startswith(PREFIX) for line in lines)
