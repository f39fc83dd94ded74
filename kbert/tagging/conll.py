"""CoNLL columns: schemes of tags, and what a sentence's tokens and tags are as a text and its entities.

In: lines of a token and its tag (other columns between them are passed over). Out: a text, and spans of
its characters. IOB1, IOB2, BIOES (BILOU) and BMES(O) are told apart by the prefixes that occur, and all
are read as seqeval's default mode reads them, which also mends a broken sequence: a tag that does not
continue the one before it begins an entity. Where no tag has a prefix (parts of speech), each token is an
entity of its own; where all tags are prefixes (B, I, O; B, M, E, S), entities are of the one type `_`, seqeval's.
"""

import logging
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from kbert.errors import DataError
from kbert.spans import Span

log = logging.getLogger(__name__)

Scheme = Literal["IOB1", "IOB2", "BIOES", "BILOU", "BMES", "bare"]
SHOWN = 3  # broken sequences that are named; more are counted
SEPARATOR = re.compile(r"[ \t]+")  # an ideographic or a no-break space can be a token
PREFIXES = frozenset("BIESMLU")
UNTYPED = "_"
# Each scheme's prefixes, and the letters of BIOES they stand for.
LETTERS: dict[Scheme, dict[str, str]] = {
    "IOB2": {"O": "O", "B": "B", "I": "I"},
    "BIOES": {"O": "O", "B": "B", "I": "I", "E": "E", "S": "S"},
    "BILOU": {"O": "O", "B": "B", "I": "I", "L": "E", "U": "S"},
    "BMES": {"O": "O", "B": "B", "M": "I", "E": "E", "S": "S"},
    "bare": {"": "S"},  # no O: beside types it would leave open whether neighbours of one type are one entity
}


@dataclass(frozen=True)
class Reading:
    """How a file's sentences are read.

    Attributes:
        scheme: that of its tags.
        characters: whether a token is a character of unspaced text.
        untyped: whether its tags are prefixes alone.
    """

    scheme: Scheme
    characters: bool
    untyped: bool = False

    def sentence(self, tokens: Sequence[str], tags: Sequence[str]) -> tuple[str, list[Span]]:
        """The text of a sentence and its entities as spans of characters."""
        text, places = joined(tokens, self.characters)
        return text, [(places[a], places[b - 1] + len(tokens[b - 1]), kind) for a, b, kind in chunks(self.plain(tags))]

    def plain(self, tags: Sequence[str]) -> list[tuple[str, str]]:
        """Tags as letters of BIOES with their types."""
        letters = LETTERS["IOB2" if self.scheme == "IOB1" else self.scheme]
        if self.untyped:
            tags = [typed(tag) for tag in tags]
        return [(letters[prefix] if prefix != "O" else "O", kind) for prefix, kind in map(split, tags)]

    def breaks(self, before: str, after: str) -> bool:
        """Whether a tag cannot follow another one in the scheme; "" stands for a sentence's two ends."""
        (letter, kind), (letter_after, kind_after) = self.plain((before or "O", after or "O"))
        same = letter != "O" and kind == kind_after
        if self.scheme == "IOB1":
            return letter_after == "B" and not same
        continues = letter_after in "IE"
        if continues and not (letter in "BI" and same):
            return True
        return self.scheme != "IOB2" and not continues and letter in "BI"


def survey(name: str, lines: Iterable[str], tagged: bool) -> Reading:
    """How the sentences of a file are to be read; broken sequences are reported in the log.

    Args:
        name: the file, for messages.
        lines: its lines.
        tagged: whether there have to be tags.

    Raises:
        DataError: a line is malformed or tags are of mixed schemes, named as FILE:LINE.
    """
    followed: dict[tuple[str, str], list[int]] = {}  # (tag, the next tag) -> count, line of the first
    single, chinese, before = True, False, ""
    number = 0

    def follow(tag: str, line: int) -> None:
        followed.setdefault((before, tag), [0, line])[0] += 1

    for number, line in enumerate(lines, 1):
        if skipped(line):
            if before:
                follow("", number - 1)
            before = ""
            continue
        try:
            word, tag = columns(line) if tagged else (token(line), "O")
        except ValueError as error:
            raise DataError(f"{name}:{number}: {error}") from None
        single &= len(word) == 1
        chinese |= wide(word[0])
        follow(tag, number)
        before = tag
    follow("", number)
    untyped = {tag for pair in followed for tag in pair} - {"", "O"} <= PREFIXES
    schemed = {(typed(a), typed(b)): found for (a, b), found in followed.items()} if untyped else followed
    try:
        reading = Reading(scheme_of(schemed), single and chinese, untyped)
    except ValueError as error:
        raise DataError(f"{name}:{error}") from None
    broken = [(line, *pair, count) for pair, (count, line) in followed.items() if reading.breaks(*pair)]
    for place, tag, after, count in sorted(broken)[:SHOWN]:
        what = f"{after or 'the sentence ends'} behind {tag}" if tag else f"{after} at a sentence's beginning"
        log.warning("%s:%d: %s, which %s does not know (%d times in the file)", name, place, what, reading.scheme, count)
    if broken:
        total = sum(count for *_, count in broken)
        log.warning("%s: %d broken sequences of tags, each read as seqeval reads it", name, total)
    return reading


def skipped(line: str) -> bool:
    """Whether a line holds no token: blank, or the mark of a document's start."""
    line = line.strip(" \t\r\n")
    return not line or line.startswith("-DOCSTART-")


def token(line: str) -> str:
    """A line's token."""
    return _parts(line)[0]


def columns(line: str) -> tuple[str, str]:
    """A line's token and tag.

    Raises:
        ValueError: the line has one column, or is several.
    """
    if "\r" in line.strip(" \t\r\n"):
        raise ValueError("a lone carriage return within the line; end lines with a line feed")
    parts = _parts(line)
    if len(parts) < 2:
        raise ValueError(f"one column ({parts[0]!r}), expected a token and its tag, with a tab or spaces between")
    return parts[0], parts[-1]


def _parts(line: str) -> list[str]:
    """A line's columns, one or more; a token may hold blanks where a tab is behind it, and may be a blank itself."""
    line = line.rstrip(" \t\r\n")
    word, tab, rest = line.partition("\t")
    if tab and word:
        return [word if word.isspace() else word.strip(" "), *SEPARATOR.split(rest.lstrip(" \t"))]
    parts = SEPARATOR.split(line.lstrip(" \t"))
    return [" ", *parts] if len(parts) == 1 and line.startswith("  ") else parts


def typed(tag: str) -> str:
    """A tag that may be a prefix alone, with a type."""
    return f"{tag}-{UNTYPED}" if tag in PREFIXES else tag


def split(tag: str) -> tuple[str, str]:
    """`B-PER` as ("B", "PER"), `NOUN` as ("", "NOUN")."""
    prefix, dash, kind = tag.partition("-")
    if tag == "O" or (prefix in ("B", "I", "E", "S", "M", "L", "U") and dash and kind):
        return prefix, kind
    return "", tag


def scheme_of(followed: Mapping[tuple[str, str], Sequence[int]]) -> Scheme:
    """The scheme of a file, from which tags follow which, how often, and on which line first.

    IOB1 and IOB2 have the same letters: in IOB1 a B only parts two entities of one type.

    Raises:
        ValueError: prefixes of different schemes; the message begins with the line of the first that does not fit.
    """
    first: dict[str, int] = {}  # each prefix and the line it first stands on
    shown: dict[str, str] = {}
    begins: set[str] = set()  # prefixes of tags that do not follow one of their type
    for (before, after), (_, line) in followed.items():
        if after:
            prefix, kind = split(after)
            first[prefix] = min(line, first.get(prefix, line))
            shown[prefix] = shown.get(prefix, _shown(prefix, kind))
            if not before or split(before)[1] != kind:
                begins.add(prefix)
    fitting = [name for name, letters in LETTERS.items() if set(first) <= set(letters)]
    if not fitting:
        prefixes: set[str] = set()
        for prefix, line in sorted(first.items(), key=lambda item: item[1]):
            if not any(prefixes | {prefix} <= set(letters) for letters in LETTERS.values()):
                found = ", ".join(sorted(prefix or "tags without one" for prefix in prefixes))
                raise ValueError(
                    f"{line}: {shown[prefix]} in a file that has {found}: mixed schemes; expected "
                    "are IOB1 or IOB2 (B, I, O), BIOES, BILOU, BMES (with O), or types without a prefix and no O "
                    "(S-TYPE is a type of a single token)"
                )
            prefixes.add(prefix)
    if fitting[0] == "IOB2":
        return "IOB1" if "I" in begins and "B" not in begins else "IOB2"
    return fitting[0]  # where neither I nor M occurs, BIOES and BMES are the same


def _shown(prefix: str, kind: str) -> str:
    if prefix == "O":
        return "tag 'O'"
    return f"a tag with {prefix}-" if prefix else f"tag {kind!r} without a prefix"


def chunks(tags: Sequence[tuple[str, str]]) -> list[tuple[int, int, str]]:
    """Entities in tags of BIOES as (first, behind the last, type), read as seqeval's default mode does.

    Source: `start_of_chunk` and `end_of_chunk` of seqeval 1.2.2 (`metrics/sequence_labeling.py`), after
    the Perl script conlleval.
    """
    found: list[tuple[int, int, str]] = []
    start = -1
    before, kind_before = "O", ""
    for i, (letter, kind) in enumerate([*tags, ("O", "")]):
        begins = letter in "BS" or (letter in "IE" and (before in "EOS" or kind != kind_before))
        if start >= 0 and (begins or letter == "O"):
            found.append((start, i, kind_before))
            start = -1
        if begins:
            start = i
        before, kind_before = letter, kind
    return found


def joined(tokens: Sequence[str], characters: bool) -> tuple[str, list[int]]:
    """The text of tokens, and the character each starts at.

    A space stands between two tokens, but none beside a Chinese or Japanese character or a full-width
    mark, and none at all where the file's tokens are the characters of unspaced text.
    """
    text, places = "", []
    for token in tokens:
        if text and not characters and not wide(text[-1]) and not wide(token[0]):
            text += " "
        places.append(len(text))
        text += token
    return text, places


def wide(character: str) -> bool:
    """Whether it is of a script that is written without spaces, or a full-width mark of one."""
    code = ord(character)
    if 0xAC00 <= code <= 0xD7AF or 0x1100 <= code <= 0x11FF:
        return False  # Hangul, which has spaces
    return (code >= 0x2E80 and unicodedata.east_asian_width(character) in "WF" and code < 0x1F000) or 0x20000 <= code < 0x40000
