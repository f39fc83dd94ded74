"""Collect statistics over the lines of a CoNLL file, and infer its tag scheme.

In: lines and `Columns`. Out: a `Survey`, by which columns are checked and sentences read (`kbert.data.conll`).
"""

import itertools
import logging
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import Enum
from typing import Any

from kbert.data.conll_columns import Columns, skipped, split_line
from kbert.data.label_numbers import LabelNumbers
from kbert.data.memo import Memo
from kbert.data.schemes import PREFIXES, Tags, scheme_of, typed
from kbert.data.spellings import respelled
from kbert.data.tokens import TokenCounts
from kbert.errors import DataError

log = logging.getLogger(__name__)

SHOWN = 3  # broken sequences listed in the log; more are only counted
SAMPLED = 5000  # lines of a file kept for inspection
COUNTED = 4096  # tokens counted at once, which is faster than one by one
ENDS = frozenset(".!?。！？")


class Kind(Enum):
    """Lines without a token, and those that may have one."""

    END = 0  # of a sentence
    COMMENT = 1
    HASH = 2  # a comment, or where its tag is that of other lines, a token
    MALFORMED = 3


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


def survey(lines: Iterable[str | None], columns: Columns) -> Survey:
    """Collect statistics over a file.

    Args:
        lines: the file's lines; None where one is not in the encoding.
        columns: the columns to read.
    """
    seen = Survey(columns)
    known: set[str] = set()  # tags of the tokens so far
    marked: set[str] = set()

    def kind(line: str | None) -> Kind | tuple[list[str], str]:
        if line is None:
            return Kind.MALFORMED
        if skipped(line):
            return Kind.END
        if columns.comment(line):
            return Kind.COMMENT if columns.universal else Kind.HASH
        return token(line)

    def token(line: str) -> Kind | tuple[list[str], str]:
        try:
            parts = columns.parts(line)
        except ValueError:
            return Kind.MALFORMED
        tag = columns.last(parts)
        if len(parts) > 1:
            known.add(tag)
        return parts, tag

    # Of the lines since the last count: tokens, and the tags in order, with "" at the ends of sentences, and their lines.
    read, tally, tags, numbers = Memo(kind), Counter[str](), [""], [0]
    tokens: list[Any] = []
    place, number, tagged = 0, 0, columns.tag is not None

    def count() -> None:
        tally.update(tokens)
        if len(tally) >= Memo.KEPT:
            _count(seen, tally, read)
        _count_pairs(seen.followed, tags, numbers)
        tokens.clear()
        del tags[:-1], numbers[:-1]

    for number, line in enumerate(lines, 1):
        found = read[line]
        if found is Kind.HASH:
            assert line is not None
            tag = columns.last(split_line(line.rstrip(" \t\r\n")))
            marked.add(tag)
            found = token(line) if tag in known else Kind.COMMENT
        if type(found) is Kind:
            if found is Kind.MALFORMED:
                seen.malformed += 1
            elif found is Kind.END:
                if tags[-1]:
                    tags.append("")
                    numbers.append(number - 1)
                place = 0
            continue
        parts, tag = found
        if len(tokens) >= COUNTED:
            count()
        tokens.append(line)
        if place == 0:
            seen.sentences += 1
        if len(seen.lines) < SAMPLED:
            seen.lines.append((number, place, parts))
        place += 1
        if tagged:
            tags.append(tag)
            numbers.append(number)
    if tags[-1]:
        tags.append("")
        numbers.append(number)
    count()
    _count(seen, tally, read)
    seen.columns = replace(columns, marked=frozenset(marked & seen.tags.keys()))
    return seen


def _count_pairs(followed: dict[tuple[str, str], list[int]], tags: list[str], numbers: list[int]) -> None:
    """Count which tags follow which, in `Survey.followed`; `numbers` are the lines of the tags."""
    pairs = [*itertools.pairwise(tags)]
    for pair, count in Counter(pairs).items():
        if (seen := followed.get(pair)) is None:
            followed[pair] = [count, numbers[pairs.index(pair) + 1]]
        else:
            seen[0] += count


def _count(seen: Survey, lines: Counter[str], read: Memo) -> None:
    """Count the tokens of lines that occur so often, and forget these."""
    for line, count in lines.items():
        found = read[line]
        parts = seen.columns.parts(line) if type(found) is Kind else found[0]  # a token that begins with "#"
        word = parts[seen.columns.word]
        seen.counts.add(word, count)
        seen.widths[len(parts)] += count
        if len(parts) > 1:
            seen.tags[seen.columns.last(parts)] += count
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
