"""Read terms in short texts, three lines an example, the common format of SemEval-2014's aspect sets.

    The $T$ is top notch as well .
    bread
    1
    But the $T$ was horrible , as was the $T$ before .
    staff
    Negative
    We had the $T$ .
    soup
    neutral

In: lines. Out: the text with its term in place of every `$T$`, the term, the label. No TensorFlow here.
Source: Dong et al. 2014 (acl-14), songyouwei/ABSA-PyTorch, yangheng95/ABSADatasets.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kbert.data.encodings import decode

PLACE = "$T$"


def records(lines: Iterator[bytes]) -> Iterator[bytes]:
    """Yield the examples of a file's lines; blank lines between them belong to the previous one."""
    block: list[bytes] = []
    for line in lines:
        if len(block) == 3 and line.strip():
            yield b"".join(block)
            block = []
        if line.strip() or len(block) == 3:
            block = [*block[:2], b"".join([*block[2:], line])] if len(block) == 3 else [*block, line]
        else:
            raise ValueError("a blank line, expected a text with $T$, its term and its label on three lines")
    if block:
        yield b"".join(block)


def example(record: str) -> tuple[str, str, str]:
    """Parse one example into text, term and label.

    Raises:
        ValueError: there are not three lines, or the first has no `$T$`.
    """
    lines = [line.strip() for line in record.rstrip().split("\n")]
    if len(lines) != 3:
        raise ValueError(f"{len(lines)} lines, expected three: a text with $T$, its term and its label")
    text, term, label = lines
    if PLACE not in text:
        raise ValueError(f"expected a text with $T$, found {text[:60]!r}")
    return text.replace(PLACE, term), term, label


@dataclass
class Terms:
    """Three lines a row: the text with `$T$`, its term and the label. The columns are these, whatever their names."""

    encoding: str
    columns: Sequence[str]

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return records(lines)

    def values(self, record: bytes) -> tuple[str, ...]:
        return example(decode(record, self.encoding))[: len(self.columns)]
