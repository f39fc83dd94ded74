"""Check names of classes, types and columns: invisible characters, missing values and look-alikes."""

import logging
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path

from kbert.errors import DataError

log = logging.getLogger(__name__)

EMPTY = frozenset(("nan", "<na>", "nat"))  # how pandas writes a missing cell, case-insensitive
PERHAPS_EMPTY = frozenset(("none", "null", "na", "n/a", "nil", "undefined"))  # a missing cell, or a class of that name
NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]+)?")
JOINERS = "\u200c\u200d"  # needed in Persian and Hindi spelling and in emoji
# Invisible letters and marks: soft hyphen and byte order mark are format characters (Cf) already.
SHAPELESS = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def hidden(name: str) -> str:
    """Return the first invisible character of a name, as `U+200B ZERO WIDTH SPACE`; empty if there is none."""
    for i, character in enumerate(name):
        if character in SHAPELESS or (unicodedata.category(character) == "Cf" and not _joins(name, i)):
            return f"U+{ord(character):04X} {unicodedata.name(character, 'without a name')}"
    return ""


def _joins(name: str, i: int) -> bool:
    around = name[i - 1 : i] + name[i + 1 : i + 2]
    return name[i] in JOINERS and len(around) == 2 and all(_joined(c) for c in around)


def _joined(character: str) -> bool:
    kind, han = unicodedata.category(character), 0x2E80 <= ord(character) <= 0x9FFF
    return not character.isascii() and not han and (kind[0] in "LM" or kind in ("So", "Sk"))


class LabelNames:
    """The distinct names seen so far; `add` each one.

    Args:
        what: the kind of name, for messages.
        chosen: whether the user lists the names, so that "nan" and the like may be names.
    """

    def __init__(self, what: str = "label", chosen: bool = False):
        self.what, self.chosen = what, chosen
        self.met: set[str] = set()
        self._alike: dict[str, str] = {}  # normalised form -> the first name with it

    def add(self, name: str) -> str | None:
        """Add a name; return a warning if it is new and may be a missing value, or looks like another.

        Raises:
            ValueError: it is empty, contains invisible characters, or is how pandas writes a missing cell.
        """
        if name in self.met:
            return None
        if not name:
            raise ValueError(f"the {self.what} is empty")
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
            raise ValueError(f"{self.what} {name!r} contains a line end, a control character or half a character")
        if found := hidden(name):
            raise ValueError(f"{self.what} {name!r} contains {found}, which is invisible; remove it")
        if name != name.strip():
            raise ValueError(f"{self.what} {name!r} begins or ends with a blank")
        if name.casefold() in EMPTY and not self.chosen:
            raise ValueError(
                f"{self.what} {name!r} is how pandas writes a missing value; remove the row, fill it, "
                f"or if it is one of the {self.what}s, list them with --labels"
            )
        self.met.add(name)
        other = self._alike.setdefault(_look(name), name)
        if other != name:
            return f"{self.what} {name!r} is distinct from {other!r}, but differs from it only by {_difference(name, other)}"
        if name.casefold() in PERHAPS_EMPTY and not self.chosen:
            return f"{self.what} {name!r} is taken as a {self.what}; is it a missing value?"
        return None


def read_labels(path: str | None) -> list[str] | None:
    """Read the labels file that `--labels` names, one label a line, blank lines left out; None where no file is named.

    Raises:
        DataError: it is not readable, or a label is malformed or occurs twice.
    """
    if path is None:
        return None
    try:
        lines = Path(path).expanduser().read_text(encoding="utf-8-sig").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--labels={path}: not readable: {error}") from None
    names, labels = LabelNames(chosen=True), []
    for number, line in enumerate(lines, 1):
        if line.strip():
            labels.append(line.strip())
            try:
                note = names.add(labels[-1])
            except ValueError as error:
                raise DataError(f"--labels={path}:{number}: {error}") from None
            if note:
                log.warning("--labels=%s:%d: %s", path, number, note)
    twice = {label for label in labels if labels.count(label) > 1}
    if twice:
        raise DataError(f"--labels={path}: {min(twice)!r} stands twice")
    return labels


def shown(names: Iterable[str]) -> str:
    """List names for a message; those with characters or outer blanks that cannot be seen are quoted and escaped."""
    return ", ".join(name if name.isprintable() and name == name.strip() else repr(name) for name in names)


def alike(name: str, names: Iterable[str]) -> tuple[str, str] | None:
    """Return the first of other names that looks like one, and what they differ by; None if none does."""
    look = _look(_visible(name))
    other = next((each for each in names if _look(_visible(each)) == look), None)
    if other is None:
        return None
    invisible = next(filter(None, map(hidden, (name, other))), "")
    return other, f"{invisible}, which is invisible" if invisible else _difference(name, other)


def not_among(name: str, names: Iterable[str]) -> str:
    """Return, for a message that a name is not among those allowed, which of them it looks like; empty if none."""
    found = alike(name, names)
    return "" if found is None else f" ({found[0]!r} differs from it only by {found[1]})"


def missing_name(name: str, others: Sequence[str], flag: str | None) -> str:
    """Return, for a message that a column is missing, which other looks like it, or the flag that reads another.

    Args:
        name: the missing column.
        others: the columns that are not read.
        flag: the flag that names the column, if there is one.
    """
    if found := alike(name, others):
        return f"; {found[0]!r} differs from it only by {found[1]}{f', {flag}= reads it' if flag else ''}"
    return f"; {flag}= reads another column" if flag and others else ""


def _visible(name: str) -> str:
    return "".join(c for c in name if c not in SHAPELESS and unicodedata.category(c) not in ("Cf", "Cc"))


def _look(name: str) -> str:
    if NUMBER.fullmatch(name):
        return repr(float(name))
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if not c.isspace() and c not in JOINERS)


def _difference(one: str, other: str) -> str:
    if NUMBER.fullmatch(one):
        return "number format"
    if one.casefold() == other.casefold():
        return "case"
    if "".join(one.split()) == "".join(other.split()):
        return "blanks"
    same = unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other)
    return "Unicode form" if same else "case, blanks or Unicode form"
