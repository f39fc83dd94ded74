"""Read rows that are sentences of tokens with their tags: lists in JSON, tagged lines, rows of a table.

In: records that each hold one sentence. Out: its text, the tokens' offsets and the gold, as `kbert.data.conll` gives them.
"""

import dataclasses
import itertools
from abc import abstractmethod
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import IO, Self

from kbert.data.conll import Reading
from kbert.data.conll_columns import Columns
from kbert.data.conll_survey import SAMPLED, Survey, scheme
from kbert.data.label_numbers import LabelNumbers
from kbert.data.suspicion import check_lists
from kbert.data.token_layouts import Tokenised
from kbert.data.tokens import Tokens
from kbert.source import SourceConfig


class Sentences(Tokenised):
    """A layout of one sentence a record.

    Args:
        encoding: the file's.
        tagged: whether tags are read.
        tokens: as in `kbert.data.indexing.open_table`.
    """

    def __init__(self, encoding: str, tagged: bool, tokens: Tokens | None):
        counts = Survey(Columns()).counts
        super().__init__(encoding, Reading(Columns(), None, tokens or "auto", counts), tokens is not None)
        self.tagged = tagged

    def records(self, lines: Iterator[bytes]) -> Iterator[bytes]:
        return lines

    @abstractmethod
    def lists(self, record: bytes) -> tuple[list[str], list[str], tuple[str, ...]]:
        """Return a row's tokens, its tags, and its other columns; no tokens where there is no row."""

    def surveyed(self, name: str, stream: IO[bytes], config: SourceConfig) -> Self:
        """Read the file once to find out how tags and tokens are written; return the layout.

        Args:
            stream: positioned at the file's first record. Malformed rows are left out; `values` reports them.

        Raises:
            DataError: tags mix schemes (named as FILE:LINE).
        """
        seen, followed = Survey(Columns(), self.reading.counts), dict[tuple[str, str], list[int]]()
        number = 1
        for record in _whole(self.records(iter(stream))):
            try:
                words, tags, _ = self.lists(record)
            except ValueError:
                words, tags = [], []
            for word in words:
                seen.counts.add(word)
            seen.tags.update(tags)
            if len(seen.lines) < SAMPLED:
                rows = zip(words, tags, strict=True) if self.tagged else ()
                seen.lines.extend((number, place, list(row)) for place, row in enumerate(rows))
            for pair in itertools.pairwise(["", *tags, ""]):
                followed.setdefault(pair, [0, number])[0] += 1
            number += record.count(b"\n")
        if self.tagged:
            seen.widths[2] = seen.counts.tokens
            kind, usual = scheme(name, followed, config.tag_scheme == "IO", LabelNumbers(config.label_names))
            seen.tags = Counter({usual.get(tag, tag): count for tag, count in seen.tags.items()})
            check_lists(name, seen, kind)
            self.reading = dataclasses.replace(self.reading, tags=kind, usual=usual)
            self.note = "; ".join(filter(None, (self.note, self.reading.note)))
        return self

    def values(self, record: bytes) -> tuple[str, ...]:
        words, tags, others = self.lists(record)
        if not words:
            return ()
        text, places, gold = self.reading.row(words, tags)
        return (text, *([places] if self.placed else []), *([gold] if self.tagged else []), *others)


def _whole(records: Iterable[bytes]) -> Iterator[bytes]:
    """Yield records up to where the file cannot be split into records, which is reported when its rows are read."""
    try:
        yield from records
    except ValueError:
        return
