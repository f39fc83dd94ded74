"""Names of classes, types and columns as people write them: what cannot be seen in them, and which of them look alike."""

import unicodedata
from collections.abc import Iterable

EMPTY = frozenset(("nan", "<na>", "nat"))  # what pandas writes for a missing cell, in any case
PERHAPS_EMPTY = frozenset(("none", "null", "na", "n/a", "nil", "undefined"))  # or a class of that name
JOINERS = "\u200c\u200d"  # which spelling needs in Persian and Hindi, and emoji have
# Letters and marks without a shape: soft hyphen and byte order mark are format characters (Cf) already.
SHAPELESS = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def hidden(name: str) -> str:
    """The first character of a name that cannot be seen, as `U+200B ZERO WIDTH SPACE`; empty where all can."""
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
    """The names met so far; `add` each as it is met."""

    def __init__(self, known: Iterable[str] = ()):
        self._alike: dict[str, str] = {}  # what a name looks like -> the first that does
        self._met: set[str] = set()
        for name in known:
            self.add(name)

    def add(self, name: str) -> str | None:
        """Take in a name; returns a warning where it is new and may be no name, or looks like another.

        Raises:
            ValueError: it holds what cannot be seen.
        """
        if name in self._met:
            return None
        if found := hidden(name):
            raise ValueError(f"label {name!r} holds {found}, which cannot be seen; remove it")
        self._met.add(name)
        other = self._alike.setdefault(_look(name), name)
        if other != name:
            return f"label {name!r} is another than {other!r}, from which it differs by {_difference(name, other)} only"
        if name.strip().casefold() in PERHAPS_EMPTY:
            return f"label {name!r} is learnt as a label of that name; is it a missing value?"
        return None


def missing(name: str) -> bool:
    """Whether a label is what a table has in place of a missing one."""
    return name.strip().casefold() in EMPTY


def _look(name: str) -> str:
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if not c.isspace() and c not in JOINERS)


def _difference(one: str, other: str) -> str:
    if one.casefold() == other.casefold():
        return "case"
    if "".join(one.split()) == "".join(other.split()):
        return "blanks"
    same = unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other)
    return "Unicode form" if same else "case, blanks or Unicode form"
