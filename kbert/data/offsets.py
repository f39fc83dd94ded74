"""Convert offsets between the units that files count: characters, UTF-16 units, or bytes of UTF-8.

In: a text and an offset in one of these units. Out: the same offset in characters, as Python counts them. Also which offsets
are inside a word, where no correct span begins or ends. Scripts without spaces have no such offsets except
before a combining mark. No TensorFlow.
"""

import itertools
import unicodedata
from bisect import bisect_left

from kbert.source import Offsets

FILLERS = frozenset("\u115f\u1160\u2800\u3164\uffa0")  # invisible letters and signs
JOINER = "\u200d"


class Places:
    """Converts the offsets of one text from a unit to characters."""

    def __init__(self, text: str, unit: Offsets):
        self._starts: list[int] | None = None  # offsets of each character and of the text's end; None if equal to characters
        if unit != "characters" and not text.isascii():
            width = _units if unit == "utf16" else _bytes
            self._starts = [0, *itertools.accumulate(map(width, text))]

    def character(self, place: int, last: bool = False) -> int:
        """Return the character that starts at an offset; beyond the text, as far beyond it.

        Args:
            last: whether the offset follows the last unit of a span, which may be the first of its character's units.

        Raises:
            ValueError: the offset is inside a character.
        """
        starts = self._starts
        if starts is None or place < 0:
            return place
        if place > starts[-1]:
            return len(starts) - 1 + place - starts[-1]
        at = bisect_left(starts, place)
        if starts[at] != place and not last:
            raise ValueError(f"offset {place} is inside a character")
        return at


def blank(character: str) -> bool:
    """Return whether a character is invisible: white space, control and format characters, fillers."""
    return character.isspace() or character in FILLERS or unicodedata.category(character) in ("Cc", "Cf", "Zs")


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Trim blanks from the edges of a span; return it empty, at `start`, if it is all blank."""
    first, last = start, end
    while first < last and blank(text[first]):
        first += 1
    while last > first and blank(text[last - 1]):
        last -= 1
    return (first, last) if first < last else (start, start)


def inside_word(text: str, place: int) -> bool:
    """Return whether an offset separates letters or digits of one word, or a character and its marks."""
    if not 0 < place < len(text):
        return False
    before, behind = text[place - 1], text[place]
    if unicodedata.category(behind) in ("Mn", "Me") or JOINER in (before, behind) or "\U0001f3fb" <= behind <= "\U0001f3ff":
        return True
    return (_letter(before) and _letter(behind)) or (before.isdigit() and behind.isdigit())


def _letter(character: str) -> bool:
    """Return whether it is a Latin, Greek or Cyrillic letter: scripts with spaces, where spans consist of whole words."""
    return character.isalpha() and (character < "\u0530" or "\u1e00" <= character < "\u2000")


def _units(character: str) -> int:
    return 2 if character > "\uffff" else 1


def _bytes(character: str) -> int:
    return 1 + sum(character >= limit for limit in ("\x80", "\u0800", "\U00010000"))
