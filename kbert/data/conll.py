"""Read CoNLL columns: one token a line with its tag in another column, a blank line between sentences.

    EU B-ORG
    rejects O

    Oslo B-LOC

    It O
    rains O

In: lines, and which columns hold token and tag. Out: a sentence's text, its tokens' offsets, and its gold: entities
as spans of the text's characters, with the tags they were read from. Columns are separated by tabs or blanks; CoNLL-U is
read too. Comments (`# ...`), document marks (-DOCSTART-) and, in CoNLL-U, ranges (1-2) and empty nodes (1.1) hold no token.
Source: Tjong Kim Sang and De Meulder 2003 (CoNLL-2003), https://universaldependencies.org/format.html (CoNLL-U).
"""

import functools
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from kbert.data.bad_rows import AtLine
from kbert.data.conll_columns import Columns, skipped
from kbert.data.memo import Memo
from kbert.data.schemes import Tags, chunks
from kbert.data.spans import Written
from kbert.data.tokens import TokenCounts, Tokens, joined, placed

WRITE = json.JSONEncoder(ensure_ascii=False).encode


@dataclass(frozen=True)
class Reading:
    """Parse one file's sentences.

    Attributes:
        columns: the columns to read.
        tags: the scheme of the tags; None to read texts only.
        tokens: whether a token is a word or a character of unspaced text.
        counts: statistics of the tokens.
        usual: the usual spelling of each tag, if the file has another (see `kbert.data.spellings`).
    """

    columns: Columns
    tags: Tags | None
    tokens: Tokens
    counts: TokenCounts
    usual: Mapping[str, str] = field(default_factory=dict)
    _read: Memo = field(init=False, repr=False, compare=False)  # of a line: its token and tag
    _quoted: Memo = field(init=False, repr=False, compare=False)  # of a type: its JSON
    _tags: Memo = field(init=False, repr=False, compare=False)  # of a tag: its letter and type, and its JSON

    def __post_init__(self) -> None:
        object.__setattr__(self, "_read", Memo(self._token))
        object.__setattr__(self, "_quoted", Memo(WRITE))
        object.__setattr__(self, "_tags", Memo(self._tag))

    @property
    def note(self) -> str:
        """Return how tags are read, if that is not obvious."""
        if self.tags is not None and self.tags.scheme == "IO":
            return "types without prefixes beside O (IO): a run of tokens of one type is one entity"
        shown = [f"{tag} as {usual}" for tag, usual in self.usual.items() if tag != usual and usual != "O"]
        return f"tags are read as {', '.join(shown[:2])}{' and so on' if shown[2:] else ''}" if shown else ""

    def row(self, words: Sequence[str], tags: Sequence[str] | None) -> tuple[str, str, str]:
        """Return the text, the tokens' offsets, and the gold: JSON of entities over the text, and the tags themselves."""
        text, starts = joined(words, self.tokens)
        written = placed(words, starts)
        if tags is None or self.tags is None:
            return text, written, ""
        letters, spelt = zip(*[self._tags[tag] for tag in tags], strict=True)
        found = chunks(letters)
        spans = [(starts[first], starts[stop - 1] + len(words[stop - 1]), kind) for first, stop, kind in found]
        start, end = [first for first, _, _ in spans], [stop for _, stop, _ in spans]
        kinds, quoted = ", ".join([self._quoted[kind] for _, _, kind in spans]), ", ".join(spelt)
        gold = f'{{"start": {start}, "end": {end}, "type": [{kinds}], "tags": [{quoted}], "scheme": {self._scheme}}}'
        return text, written, Written(gold, spans)

    def _tag(self, tag: str) -> tuple[tuple[str, str], str]:
        assert self.tags is not None
        usual = self.usual.get(tag, tag)
        return self.tags.letter(usual), WRITE(usual)

    @functools.cached_property
    def _scheme(self) -> str:
        assert self.tags is not None
        return WRITE([self.tags.scheme, *(["untyped"] if self.tags.untyped else [])])

    def sentence(self, lines: Iterable[str]) -> tuple[str, str, str] | None:
        """Return a sentence's text, its tokens' offsets (see `placed`), and its gold; None if there is no token."""
        lines, read = list(lines), self._read
        try:
            rows = [found for line in lines if (found := read[line]) is not None]
        except ValueError as error:
            raise AtLine(str(error), next(number for number, line in enumerate(lines) if self._malformed(line))) from None
        if not rows:
            return None
        words, tags = zip(*rows, strict=True)
        return self.row(words, None if self.columns.tag is None else tags)

    def _token(self, line: str) -> tuple[str, str] | None:
        if skipped(line) or self.columns.comment(line):
            return None
        parts = self.columns.parts(line)
        return parts[self.columns.word], "" if self.columns.tag is None else parts[self.columns.tag]

    def _malformed(self, line: str) -> bool:
        try:
            self._token(line)
        except ValueError:
            return True
        return False


def read_tags(gold: str | bytes) -> tuple[Tags, list[str]] | None:
    """Return the tags that a row's gold was read from, with their scheme; None if it was given as entities."""
    value = json.loads(gold)
    if not isinstance(value, dict) or not isinstance(value.get("scheme"), list):
        return None
    scheme, *untyped = value["scheme"]
    return Tags(scheme, bool(untyped)), value["tags"]
