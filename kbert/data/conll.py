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
import logging
import re
from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from kbert.data.bad_rows import AtLine
from kbert.data.label_numbers import LabelNumbers
from kbert.data.schemes import PREFIXES, Tags, chunks, scheme_of, typed
from kbert.data.spans import Written
from kbert.data.spellings import respelled
from kbert.data.tokens import TokenCounts, Tokens, joined, placed
from kbert.errors import DataError, UsageError

log = logging.getLogger(__name__)

SHOWN = 3  # broken sequences listed in the log; more are only counted
SAMPLED = 5000  # lines of a file kept for inspection
ENDS = frozenset(".!?。！？")
SEPARATOR = re.compile(r"[ \t]+")  # an ideographic or a no-break space can be a token
UNIVERSAL = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")  # the columns of CoNLL-U
NODE = re.compile(r"\d+([-.]\d+)?")
WRITE = json.JSONEncoder(ensure_ascii=False).encode


class Memo(dict[Any, Any]):
    """Keep what a function makes of a file's lines: of the first different ones, as most lines occur often."""

    KEPT = 1 << 16

    def __init__(self, of: Callable[[Any], Any]):
        super().__init__()
        self._of = of

    def __missing__(self, line: Any) -> Any:
        found = self._of(line)
        if len(self) < self.KEPT:
            self[line] = found
        return found


class Kind(Enum):
    """Lines without a token, and those that may have one."""

    END = 0  # of a sentence
    COMMENT = 1
    HASH = 2  # a comment, or where its tag is that of other lines, a token
    MALFORMED = 3


@dataclass(frozen=True)
class Columns:
    """The columns to read from each line.

    Attributes:
        word, tag: positions of token and tag from 0, or from -1 at the end; tag None: read texts only.
        names: names of all columns, if they have any; each line must have as many columns.
        word_named, tag_named: whether the user chose them explicitly, so that no plausibility check applies.
        universal: whether the lines are CoNLL-U.
        marked: tags of lines that begin with "#" but are tokens.
    """

    word: int = 0
    tag: int | None = -1
    names: tuple[str, ...] = ()
    word_named: bool = False
    tag_named: bool = False
    universal: bool = False
    marked: frozenset[str] = frozenset()

    @classmethod
    def chosen(
        cls,
        name: str,
        names: Sequence[str],
        word: str,
        tag: str | None,
        *,
        universal: bool = False,
        lenient: Container[str] = (),
        taken: Container[str] = (),
    ) -> "Columns":
        """Resolve column names or numbers.

        Args:
            name: the file, for messages.
            names: the names given by --columns, if any.
            word, tag: a name, or a number from 1 (from -1 at the end); "text" and "label" are the first and the last
                column, in CoNLL-U FORM and UPOS, where no column has that name.
            universal: whether the file is CoNLL-U.
            lenient: flags taken from training, whose names may belong to other files; fall back to the default if not found.
            taken: flags taken from training and not given now, so that their choice is checked for plausibility.

        Raises:
            UsageError: no such column.
        """
        known = tuple(names) or (UNIVERSAL if universal else ())

        def place(spec: str, default: str, otherwise: int, key: str) -> tuple[int, bool]:
            flag, named = f"--{key}", key not in taken
            if spec in known:
                return known.index(spec), named
            if re.fullmatch(r"-?[1-9]\d*", spec):
                number = int(spec)
                if known and abs(number) > len(known):
                    raise UsageError(f"{name}: {flag}={spec}: there are {len(known)} columns: {', '.join(known)}")
                return number - (number > 0), named
            if (spec == default or key in lenient) and not names:
                return otherwise, False
            hint = f"it has {', '.join(known)}" if known else "a CoNLL file has no column names; give them with --columns"
            raise UsageError(f"{name}: {flag}={spec}: no such column; {hint}, or a number (1 is the first, -1 the last)")

        first, last = (known.index("FORM"), known.index("UPOS")) if known == UNIVERSAL else (0, -1)
        at, word_named = place(word, "text", first, "text_columns")
        tag_at, tag_named = place(tag, "label", last, "label_column") if tag is not None else (None, False)
        return cls(at, tag_at, known, word_named, tag_named, universal)

    def parts(self, line: str) -> list[str]:
        """Split a line into columns; before a tab, a token may contain blanks or be one.

        Raises:
            ValueError: there are fewer columns than requested, or a different number than there are names.
        """
        if "\r" in line.strip(" \t\r\n"):
            raise ValueError("a lone carriage return within the line; end lines with a line feed")
        line = line.rstrip("\r\n")
        parts = line.split("\t") if self.universal else _parts(line.rstrip(" \t"))
        if self.names and len(parts) != len(self.names):
            raise ValueError(f"{len(parts)} columns, expected {len(self.names)} ({', '.join(self.names)}): {_shown(line)}")
        for at in (self.word, self.tag):
            if at is not None and not -len(parts) <= at < len(parts):
                raise ValueError(f"{len(parts)} columns, but column {at + (at >= 0)} is requested: {_shown(line)}")
        if self.tag is not None and len(parts) < 2:
            raise ValueError(f"one column ({parts[0]!r}), expected a token and its tag, with a tab or spaces between")
        if not parts[self.word]:
            raise ValueError(f"an empty token: {_shown(line)}")
        return parts

    def comment(self, line: str) -> bool:
        """Return whether a non-blank line holds no token; "#" with a tag that other lines have is a token."""
        if self.universal:
            node = line.partition("\t")[0]
            return line.startswith("#") or (NODE.fullmatch(node) is not None and not node.isdigit())
        if not line.startswith("#"):
            return False
        parts = _parts(line.rstrip(" \t\r\n"))
        if len(parts) == 1:
            return self.tag is not None
        return parts[-1] != "#" and self.last(parts) not in self.marked

    def last(self, parts: Sequence[str]) -> str:
        """Return the column that shows whether a line that begins with "#" is a token."""
        at = -1 if self.tag is None else self.tag
        return parts[at] if -len(parts) <= at < len(parts) else ""


@dataclass
class Survey:
    """Statistics of one file's lines.

    Attributes:
        lines: the first of them: line number, position in the sentence from 0, columns.
        tags: frequency of each tag.
        widths: number of lines by number of columns.
        ends: number of tokens that end a sentence (full stops and the like).
        malformed: number of lines that are not columns, or not in the encoding; they are left out.
        followed: (tag, the next tag; "" at a sentence's ends) -> frequency, and the line of the first occurrence.
    """

    columns: Columns
    counts: TokenCounts = field(default_factory=TokenCounts)
    lines: list[tuple[int, int, list[str]]] = field(default_factory=list)
    tags: Counter[str] = field(default_factory=Counter)
    widths: Counter[int] = field(default_factory=Counter)
    sentences: int = 0
    ends: int = 0
    malformed: int = 0
    followed: dict[tuple[str, str], list[int]] = field(default_factory=dict)


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
    _tags: Memo = field(init=False, repr=False, compare=False)  # of a tag: its letter and type, and its JSON

    def __post_init__(self) -> None:
        object.__setattr__(self, "_read", Memo(self._token))
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
        read = [self._tags[tag] for tag in tags]
        found = chunks([letter for letter, _ in read])
        spans = [(starts[first], starts[stop - 1] + len(words[stop - 1]), kind) for first, stop, kind in found]
        start, end, kinds = map(list, zip(*spans, strict=True)) if spans else ([], [], [])
        spelt = ", ".join([quoted for _, quoted in read])
        gold = f'{{"start": {start}, "end": {end}, "type": {WRITE(kinds)}, "tags": [{spelt}], "scheme": {self._scheme}}}'
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


def survey(lines: Iterable[str | None], columns: Columns) -> Survey:
    """Collect statistics over a file.

    Args:
        lines: the file's lines; None where one is not in the encoding.
        columns: the columns to read.
    """
    seen = Survey(columns)
    marked: set[str] = set()
    before, place, number, followed = "", 0, 0, seen.followed
    read, tally, tags, tagged = Memo(functools.partial(_kind, columns)), Counter[str](), seen.tags, columns.tag is not None

    def follow(tag: str, line: int) -> None:
        followed.setdefault((before, tag), [0, line])[0] += 1

    for number, line in enumerate(lines, 1):
        if line is None:
            seen.malformed += 1
            continue
        found = read[line]
        if found is Kind.HASH:
            tag = columns.last(_parts(line.rstrip(" \t\r\n")))
            marked.add(tag)
            found = _token(columns, line) if tag in tags else Kind.COMMENT
        if type(found) is Kind:
            if found is Kind.MALFORMED:
                seen.malformed += 1
            elif found is Kind.END:
                if before:
                    follow("", number - 1)
                before, place = "", 0
            continue
        parts, tag = found
        tally[line] += 1
        if len(parts) > 1:
            tags[tag] += 1
        if place == 0:
            seen.sentences += 1
            if len(tally) >= Memo.KEPT:
                _count(seen, tally)
        if len(seen.lines) < SAMPLED:
            seen.lines.append((number, place, parts))
        place += 1
        if tagged:
            if (pair := followed.get((before, tag))) is None:
                followed[before, tag] = [1, number]
            else:
                pair[0] += 1
            before = tag
    if before:
        follow("", number)
    _count(seen, tally)
    seen.columns = replace(columns, marked=frozenset(marked & seen.tags.keys()))
    return seen


def _kind(columns: Columns, line: str) -> Kind | tuple[list[str], str]:
    """Return a line's columns, and that of its tag; or what else it is."""
    if skipped(line):
        return Kind.END
    if columns.comment(line):
        return Kind.COMMENT if columns.universal else Kind.HASH
    return _token(columns, line)


def _token(columns: Columns, line: str) -> Kind | tuple[list[str], str]:
    try:
        parts = columns.parts(line)
    except ValueError:
        return Kind.MALFORMED
    return parts, columns.last(parts)


def _count(seen: Survey, lines: Counter[str]) -> None:
    """Count the tokens of lines that occur so often, and forget these."""
    for line, count in lines.items():
        parts = seen.columns.parts(line)
        word = parts[seen.columns.word]
        seen.counts.add(word, count)
        seen.widths[len(parts)] += count
        seen.ends += count * (word in ENDS)
    lines.clear()


def scheme(
    name: str, followed: dict[tuple[str, str], list[int]], io: bool = False, numbers: LabelNumbers | None = None
) -> tuple[Tags, Mapping[str, str]]:
    """Infer the tag scheme from which tags follow which; log broken sequences.

    Args:
        name: the file, for messages.
        followed: as in `Survey`.
        io: whether types without prefixes beside O are entities, however rare O is.
        numbers: names of numbered tags, if any.

    Returns:
        The scheme, and the usual spelling of each tag, if the file has another.

    Raises:
        DataError: the tags mix schemes.
    """
    counts: Counter[str] = Counter()
    usual = {}
    for (_, tag), (count, line) in followed.items():
        try:
            usual[tag] = numbers(tag) if tag and numbers else tag
        except ValueError as error:
            raise DataError(f"{name}:{line}: {error}") from None
        if tag:
            counts[usual[tag]] += count
    if numbers and numbers.tags and counts and "O" not in counts:
        raise DataError(f"{name}: no tag is 0, which is O in --label_names={numbers.path}; do the numbers count from 1?")
    spelt = respelled(counts)
    usual = {tag: spelt.get(name, name) for tag, name in usual.items()}
    if any(tag != name for tag, name in usual.items()):
        given, followed = followed, {}
        for pair, (count, line) in given.items():
            one, other = (usual[tag] for tag in pair)
            was, first = followed.get((one, other), (0, line))
            followed[one, other] = [was + count, min(first, line)]
    else:
        usual = {}
    untyped = {tag for pair in followed for tag in pair} - {"", "O"} <= PREFIXES
    schemed = {(typed(a), typed(b)): found for (a, b), found in followed.items()} if untyped else followed
    try:
        tags = Tags(scheme_of(schemed, io), untyped)
    except ValueError as error:
        raise DataError(f"{name}:{error}") from None
    broken = [(line, *pair, count) for pair, (count, line) in followed.items() if tags.breaks(*pair)]
    for place, tag, after, count in sorted(broken)[:SHOWN]:
        what = f"{after or 'the sentence ends'} after {tag}" if tag else f"{after} at the start of a sentence"
        log.warning("%s:%d: %s, which is invalid in %s (%d times in the file)", name, place, what, tags.scheme, count)
    if broken:
        total = sum(count for *_, count in broken)
        log.warning("%s: %d broken tag sequences, read as seqeval reads them", name, total)
    return tags, usual


def skipped(line: str) -> bool:
    """Return whether a line ends a sentence: a blank line or the start of a document."""
    line = line.strip(" \t\r\n")
    return not line or line.startswith("-DOCSTART-")


def first_line(lines: Iterable[str]) -> str:
    """Return the first line that is neither blank nor a comment."""
    return next((line for line in lines if not skipped(line) and not line.startswith("#")), "")


def is_universal(line: str) -> bool:
    """Return whether a line is a CoNLL-U token."""
    parts = line.rstrip("\r\n").split("\t")
    return len(parts) == len(UNIVERSAL) and NODE.fullmatch(parts[0]) is not None


def _parts(line: str) -> list[str]:
    """Split a line at tabs, or else at blanks and tabs."""
    word, tab, rest = line.partition("\t")
    if tab and word:
        word = word if word.isspace() else word.strip(" ")
        if "\t" in rest:
            return [word, *(part.strip(" ") for part in rest.split("\t") if part.strip(" "))]
        return [word, *SEPARATOR.split(rest.lstrip(" "))]
    parts = SEPARATOR.split(line.lstrip(" \t"))
    return [" ", *parts] if len(parts) == 1 and line.startswith("  ") else parts


def _shown(line: str) -> str:
    return repr(line if len(line) <= 80 else line[:80] + "…")
