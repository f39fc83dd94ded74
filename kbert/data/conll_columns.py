"""Split the lines of a CoNLL file into columns, and find those of token and tag."""

import re
from collections.abc import Container, Iterable, Sequence
from dataclasses import dataclass

from kbert.errors import UsageError

SEPARATOR = re.compile(r"[ \t]+")  # an ideographic or a no-break space can be a token
UNIVERSAL = ("ID", "FORM", "LEMMA", "UPOS", "XPOS", "FEATS", "HEAD", "DEPREL", "DEPS", "MISC")  # the columns of CoNLL-U
NODE = re.compile(r"\d+([-.]\d+)?")


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
        parts = line.split("\t") if self.universal else split_line(line.rstrip(" \t"))
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
        parts = split_line(line.rstrip(" \t\r\n"))
        if len(parts) == 1:
            return self.tag is not None
        return parts[-1] != "#" and self.last(parts) not in self.marked

    def last(self, parts: Sequence[str]) -> str:
        """Return the column that shows whether a line that begins with "#" is a token."""
        at = -1 if self.tag is None else self.tag
        return parts[at] if -len(parts) <= at < len(parts) else ""


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


def split_line(line: str) -> list[str]:
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
