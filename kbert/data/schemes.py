"""Tag schemes: detect them, read tags as entities, and write entities as tags.

In: the tags of sentences. Out: entities as (first token, after the last, type). IOB1, IOB2, BIOES (BILOU) and
BMES(O) are distinguished by the prefixes that occur, and all are read as seqeval's default mode reads them, which also
repairs broken sequences: a tag that does not continue the one before it begins an entity. If no tag has a prefix,
each token is an entity of its own (parts of speech), or, beside O, a run of tokens of one type is an entity (IO); if all tags
are prefixes only (B, I, O; B, M, E, S), entities have the single type `_`, as in seqeval.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Scheme = Literal["IOB1", "IOB2", "BIOES", "BILOU", "BMES", "bare", "IO"]
Chunk = tuple[int, int, str]  # first token, after the last, type
PREFIXES = frozenset("BIESMLU")
UNTYPED = "_"
# Each scheme's prefixes and the equivalent letters of BIOES.
LETTERS: dict[Scheme, dict[str, str]] = {
    "IOB2": {"O": "O", "B": "B", "I": "I"},
    "BIOES": {"O": "O", "B": "B", "I": "I", "E": "E", "S": "S"},
    "BILOU": {"O": "O", "B": "B", "I": "I", "L": "E", "U": "S"},
    "BMES": {"O": "O", "B": "B", "M": "I", "E": "E", "S": "S"},
    "bare": {"": "S"},
    "IO": {"O": "O", "": "I"},
}
OUTSIDE = 0.2  # minimum share of O for types beside it to be entities; it is less where O is a part of speech
# For seqeval's strict mode: letter before, letter, whether their types are the same; None: either way.
Pattern = tuple[str, str, bool | None]
STARTS: dict[str, list[Pattern]] = {
    "IOB1": [("O", "I", None), ("I", "I", False), ("B", "I", None), ("IB", "B", True)],
    "IOB2": [("BIO", "B", None)],
    "BIOES": [("BIOES", "BS", None)],
}
INSIDE: dict[str, list[Pattern]] = {
    "IOB1": [("BI", "I", True)],
    "IOB2": [("BI", "I", True)],
    "BIOES": [("BI", "IE", True)],
}
ENDS: dict[str, list[Pattern]] = {
    "IOB1": [("BI", "O", None), ("BI", "I", False), ("I", "B", None), ("B", "B", True)],
    "IOB2": [("BI", "OB", None), ("BI", "I", False)],
    "BIOES": [("SE", "BIOES", None)],
}


@dataclass(frozen=True)
class Tags:
    """Reads and writes the tags of a file.

    Attributes:
        scheme: the scheme of its tags.
        untyped: whether tags are prefixes without a type.
    """

    scheme: Scheme
    untyped: bool = False

    def plain(self, tags: Iterable[str]) -> list[tuple[str, str]]:
        """Convert tags to letters of BIOES with their types."""
        return list(map(self.letter, tags))

    def letter(self, tag: str) -> tuple[str, str]:
        """Convert a tag to a letter of BIOES with its type."""
        prefix, kind = split(typed(tag) if self.untyped else tag)
        return (prefix if prefix == "O" else LETTERS["IOB2" if self.scheme == "IOB1" else self.scheme][prefix]), kind

    def chunks(self, tags: Iterable[str]) -> list[Chunk]:
        """Return entities as seqeval's default mode reads them."""
        return chunks(self.plain(tags))

    def strict(self, tags: Iterable[str]) -> list[Chunk]:
        """Return entities as seqeval's strict mode reads them: none where the scheme is broken."""
        if self.scheme == "bare":
            return self.chunks(tags)
        patterns = "IOB1" if self.scheme == "IO" else self.scheme if self.scheme in STARTS else "BIOES"
        return strict_chunks(self.plain(tags), patterns)

    def written(self, entities: Iterable[Chunk], count: int) -> list[str]:
        """Write the tags of `count` tokens from sorted, non-overlapping entities."""
        letters = LETTERS["IOB2" if self.scheme == "IOB1" else self.scheme]
        spelt = {letter: prefix for prefix, letter in letters.items()}
        tags, behind, before = ["O"] * count, -1, ""
        for first, stop, kind in entities:
            for i in range(first, stop):
                letter = "I" if i > first else "B"
                if self.scheme == "IO":
                    letter = "I"
                elif self.scheme == "IOB1":
                    letter = "B" if i == first == behind and kind == before else "I"
                elif "E" in letters.values():
                    letter = "S" if stop - first == 1 else "E" if i == stop - 1 else letter
                prefix = "" if self.scheme == "bare" else spelt[letter]
                tags[i] = prefix if self.untyped else f"{prefix}-{kind}" if prefix else kind
            behind, before = stop, kind
        return tags

    def breaks(self, before: str, after: str) -> bool:
        """Return whether one tag cannot follow another in the scheme; "" is a sentence's start or end."""
        (letter, kind), (letter_after, kind_after) = self.plain((before or "O", after or "O"))
        same = letter != "O" and kind == kind_after
        if self.scheme in ("IO", "IOB1"):
            return letter_after == "B" and not same
        continues = letter_after in "IE"
        if continues and not (letter in "BI" and same):
            return True
        return self.scheme != "IOB2" and not continues and letter in "BI"


def typed(tag: str) -> str:
    """Add the untyped type to a tag that is a prefix alone."""
    return f"{tag}-{UNTYPED}" if tag in PREFIXES else tag


def split(tag: str) -> tuple[str, str]:
    """Split `B-PER` into ("B", "PER"), `NOUN` into ("", "NOUN")."""
    prefix, dash, kind = tag.partition("-")
    if tag == "O" or (prefix in ("B", "I", "E", "S", "M", "L", "U") and dash and kind):
        return prefix, kind
    return "", tag


def scheme_of(followed: Mapping[tuple[str, str], Sequence[int]], io: bool = False) -> Scheme:
    """Infer a file's scheme from which tags follow which, how often, and on which line first.

    IOB1 and IOB2 have the same letters: in IOB1 a B only separates two adjacent entities of one type.

    Args:
        followed: (tag, the next tag; "" at a sentence's ends) -> frequency, and the line of the first occurrence.
        io: whether types without prefixes beside O are entities, however rare O is.

    Raises:
        ValueError: prefixes of different schemes, or tags that can be read in two ways; the message begins with the line of the
            first misfit.
    """
    first: dict[str, int] = {}  # each prefix and the line where it first occurs
    shown: dict[str, str] = {}
    begins: set[str] = set()  # prefixes of tags that do not follow one of their type
    for (before, after), (_, line) in followed.items():
        if after:
            prefix, kind = split(after)
            first[prefix] = min(line, first.get(prefix, line))
            shown[prefix] = shown.get(prefix, _shown(prefix, kind))
            if not before or split(before)[1] != kind:
                begins.add(prefix)
    if set(first) == {"O", ""}:
        total = sum(count for (_, tag), (count, _) in followed.items() if tag)
        share = sum(count for (_, tag), (count, _) in followed.items() if tag == "O") / total
        if io or share >= OUTSIDE:
            return "IO"
        tag = shown[""].removesuffix(" without a prefix")
        raise ValueError(
            f"{max(first.values())}: {share:.0%} of the tokens have the tag 'O', the others have none of B-, I-, such as "
            f"{tag}: O may be outside any entity, and a run of tokens of one type an entity "
            "(--tag_scheme=IO reads it so), or one of the types, as a part of speech (rename it)"
        )
    fitting = [name for name, letters in LETTERS.items() if set(first) <= set(letters)]
    if not fitting:
        prefixes: set[str] = set()
        for prefix, line in sorted(first.items(), key=lambda item: item[1]):
            if not any(prefixes | {prefix} <= set(letters) for letters in LETTERS.values()):
                found = ", ".join(sorted(prefix or "tags without one" for prefix in prefixes))
                raise ValueError(
                    f"{line}: {shown[prefix]} in a file that has {found}: mixed schemes; expected "
                    "are IOB1 or IOB2 (B, I, O), BIOES, BILOU, BMES (with O), or types without a prefix, with O (IO) or "
                    "without (S-TYPE is a type of a single token)"
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
    """Read entities from BIOES tags as (first, after the last, type), as seqeval's default mode does.

    Source: `start_of_chunk` and `end_of_chunk` of seqeval 1.2.2 (`metrics/sequence_labeling.py`), after
    the Perl script conlleval.
    """
    found: list[tuple[int, int, str]] = []
    start = -1
    before, kind_before = "O", ""
    for i, (letter, kind) in enumerate([*tags, ("O", "")]):
        if letter == before == "O":
            continue
        begins = letter in "BS" or (letter in "IE" and (before in "EOS" or kind != kind_before))
        if start >= 0 and (begins or letter == "O"):
            found.append((start, i, kind_before))
            start = -1
        if begins:
            start = i
        before, kind_before = letter, kind
    return found


def strict_chunks(tags: Sequence[tuple[str, str]], scheme: str) -> list[Chunk]:
    """Read entities from BIOES tags as seqeval's strict mode does, by the patterns of IOB1, IOB2 or BIOES.

    Source: `Tokens.entities` of seqeval 1.2.2 (`scheme.py`).
    """

    def matches(patterns: dict[str, list[Pattern]], i: int) -> bool:
        (before, kind_before), (letter, kind) = padded[i - 1] if i else ("O", ""), padded[i]
        return any(
            before in first and letter in second and same in (None, kind == kind_before)
            for first, second, same in patterns[scheme]
        )

    padded, found, i = [*tags, ("O", "")], [], 0
    while i < len(tags):
        if not matches(STARTS, i):
            i += 1
            continue
        stop = i + 1
        while matches(INSIDE, stop):
            stop += 1
        if matches(ENDS, stop):
            found.append((i, stop, padded[i][1]))
        i = stop
    return found
