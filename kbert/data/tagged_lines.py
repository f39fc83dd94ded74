"""Read sentences a line, each token with its tag after a slash or a bar.

    Ada/B-PER lives/O in/O Oslo/B-LOC ./O
    It/O rains/O ./O
    北京/B-LOC 下雨/O 。/O

In: lines of bytes. Out: as in `kbert.data.sentences`. The separator is that of the whole file; after bars the last part is the
tag (`Oslo|NNP|B-LOC`). Sources: the corpora of the People's Daily and of MSRA, C&C's and CoNLL's sentences with bars.
"""

import itertools
from collections import Counter
from collections.abc import Sequence
from typing import IO

from kbert.data.encodings import decode_line
from kbert.data.sentences import Sentences
from kbert.data.tokens import Tokens
from kbert.errors import DataError
from kbert.source import SourceConfig

SEPARATORS = "/|"
FIRST = 200  # lines inspected
HALF = 0.5  # minimum share of lines that are as they should be; `Sentences.values` reports the others


class TaggedLines(Sentences):
    """One sentence a line; see `kbert.data.sentences.Sentences`.

    Args:
        separator: the character between a token and its tag.
        parts: how many it separates in each token.
    """

    def __init__(self, encoding: str, tagged: bool, tokens: Tokens | None, separator: str, parts: int):
        super().__init__(encoding, tagged, tokens)
        self.separator, self.parts = separator, parts

    def lists(self, record: bytes) -> tuple[list[str], list[str], tuple[str, ...]]:
        words, tags = [], []
        for item in decode_line(record, self.encoding).split():
            word, *rest = item.rsplit(self.separator, self.parts - 1)
            if len(rest) != self.parts - 1 or not word or not rest[-1]:
                expected = self.separator.join(["TOKEN", *["..."] * (self.parts - 2), "TAG"])
                raise ValueError(f"expected {expected}, found {item[:60]!r}")
            if (self.separator == "/" and word != "[" and word.startswith("[")) or "]" in rest[-1]:
                raise ValueError(f"brackets around several tokens, which kbert does not read: {item[:60]!r}; remove them")
            words.append(word)
            tags.append(rest[-1])
        return words, tags if self.tagged else [], ()


def layout_of(
    name: str, stream: IO[bytes], encoding: str, tagged: bool, config: SourceConfig, tokens: Tokens | None
) -> TaggedLines:
    """Create the layout of a file; the stream is at its first line.

    Raises:
        DataError: the first lines are nothing of the kind, or tags mix schemes.
    """
    start = stream.tell()
    lines = [line.decode(encoding, "replace") for line in itertools.islice(stream, FIRST)]
    written = separator_of([line for line in lines if line.strip()], share=HALF)
    if written is None:
        raise DataError(f"{name}: its first lines are not tokens with their tags after a slash or a bar (Oslo/B-LOC)")
    stream.seek(start)
    return TaggedLines(encoding, tagged, tokens, *written).surveyed(name, stream, config)


def separator_of(lines: Sequence[str], share: float = 1.0) -> tuple[str, int] | None:
    """Return what separates tokens from their tags, and the parts of a token; None if the lines are nothing of the kind.

    Args:
        lines: lines of a file.
        share: the share of them in which each token must have a tag.
    """
    for separator in SEPARATORS:
        counts = Counter(item.count(separator) for line in lines for item in line.split())
        most = next((count for count, _ in counts.most_common() if count), 0)
        parts = 1 + (min(most, 1) if separator == "/" else most)  # a token may contain slashes, such as a date
        fit = sum(all(_fits(item, separator, parts) for item in line.split()) for line in lines)
        if parts > 1 and fit and fit >= share * len(lines):
            return separator, parts
    return None


def _fits(item: str, separator: str, parts: int) -> bool:
    found = item.rsplit(separator, parts - 1)
    return len(found) == parts and bool(found[0]) and bool(found[-1])


def fits(lines: Sequence[str]) -> bool:
    """Return whether lines are all tokens with their tags."""
    return separator_of(lines) is not None
