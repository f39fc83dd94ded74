"""Names of classes, types and columns as people write them: what cannot be seen in them, and which of them look alike."""

import logging
import re
import unicodedata
from pathlib import Path

from kbert.errors import DataError

log = logging.getLogger(__name__)

EMPTY = frozenset(("nan", "<na>", "nat"))  # what pandas writes for a missing cell, in any case
PERHAPS_EMPTY = frozenset(("none", "null", "na", "n/a", "nil", "undefined"))  # or a class of that name
NUMBER = re.compile(r"[+-]?[0-9]{1,15}(\.[0-9]+)?")
JOINERS = "\u200c\u200d"  # which spelling needs in Persian and Hindi, and emoji have
# Letters and marks without a shape: soft hyphen and byte order mark are format characters (Cf) already.
SHAPELESS = frozenset("\u115f\u1160\u17b4\u17b5\u2800\u3164\uffa0")


def hidden(name: str) -> str:
    """Return the first character of a name that cannot be seen, as `U+200B ZERO WIDTH SPACE`; empty where all can."""
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
    """The names met so far; `add` each as it is met.

    Args:
        what: they are of, for messages.
        chosen: the user lists them, so that what pandas writes for a missing cell may be a name.
    """

    def __init__(self, what: str = "label", chosen: bool = False):
        self.what, self.chosen = what, chosen
        self.met: set[str] = set()
        self._alike: dict[str, str] = {}  # what a name looks like -> the first that does

    def add(self, name: str) -> str | None:
        """Take in a name; returns a warning where it is new and may be no name, or looks like another.

        Raises:
            ValueError: it is empty, holds what cannot be seen, or is what pandas writes for a missing cell.
        """
        if name in self.met:
            return None
        if not name:
            raise ValueError(f"the {self.what} is empty")
        if any(unicodedata.category(c) in ("Cc", "Cs") for c in name):
            raise ValueError(f"{self.what} {name!r} holds a line end, a control character or half a character")
        if found := hidden(name):
            raise ValueError(f"{self.what} {name!r} holds {found}, which cannot be seen; remove it")
        if name != name.strip():
            raise ValueError(f"{self.what} {name!r} begins or ends with a blank")
        if name.casefold() in EMPTY and not self.chosen:
            raise ValueError(
                f"{self.what} {name!r} is what pandas writes for a missing value; remove the row, or fill it, "
                f"or if it is one of the {self.what}s, name them by --labels"
            )
        self.met.add(name)
        other = self._alike.setdefault(_look(name), name)
        if other != name:
            return f"{self.what} {name!r} is another than {other!r}, from which it differs by {_difference(name, other)} only"
        if name.casefold() in PERHAPS_EMPTY and not self.chosen:
            return f"{self.what} {name!r} is taken as one of that name; is it a missing value?"
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


def _look(name: str) -> str:
    if NUMBER.fullmatch(name):
        return repr(float(name))
    return "".join(c for c in unicodedata.normalize("NFKC", name).casefold() if not c.isspace() and c not in JOINERS)


def _difference(one: str, other: str) -> str:
    if NUMBER.fullmatch(one):
        return "how the number is written"
    if one.casefold() == other.casefold():
        return "case"
    if "".join(one.split()) == "".join(other.split()):
        return "blanks"
    same = unicodedata.normalize("NFKC", one) == unicodedata.normalize("NFKC", other)
    return "Unicode form" if same else "case, blanks or Unicode form"
