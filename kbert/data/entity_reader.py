"""Convert entity offsets to characters, and reject files whose offsets evidently count something else.

In: the text and the gold column of each row. Out: the same with entities as JSON triples `[start, end, type]`, in characters
of the text, ends exclusive, blanks trimmed. What the offsets count shows only over all rows: entities that begin or end
inside words mean that the offsets count something else. No TensorFlow.
"""

import json
import logging
import typing
from collections import Counter
from typing import NamedTuple

from kbert.data.offsets import Places, inside_word, trimmed
from kbert.data.spans import Entity, Span, Written, entities
from kbert.errors import DataError
from kbert.source import Ends, Offsets, SourceConfig

log = logging.getLogger(__name__)

FEW = 3  # entities that cut words; fewer are ignored
SHOWN = 2  # rows quoted in a message


class Counting(NamedTuple):
    """The unit of offsets. `ends` None: exclusive, or as the file's layout defines them."""

    offsets: Offsets = "characters"
    ends: Ends | None = None

    def flags(self, now: "Counting") -> str:
        """Return the flags that change `now` into this."""
        return " ".join(f"--{name}={value}" for name, value in self._asdict().items() if value != getattr(now, name))


class EntityReader:
    """Convert the gold column of rows, given the text; see `kbert.data.indexing.open_table`.

    Args:
        source: the settings; its `offsets` and `ends` are used where given.
    """

    def __init__(self, source: SourceConfig):
        self.counting = Counting(source.offsets or "characters", source.ends)
        self.settled = source.offsets is not None and source.ends is not None
        ends = dict.fromkeys((source.ends, *typing.get_args(Ends)))
        others = (Counting(unit, end) for unit in typing.get_args(Offsets) for end in ends)
        # Those that differ in one setting first.
        self.others = sorted(
            {*others} - {self.counting}, key=lambda c: (c.flags(self.counting).count("--"), c.flags(self.counting))
        )
        self.surveying = True
        self.rows: list[str] = []  # examples of rows with entities that cut words
        self.found = self.cut = self.blank = self.empty = 0
        self.moved: Counter[Counting] = Counter()  # entities that move under another counting
        self.mended: Counter[Counting] = Counter()  # those that cut words now, and not after moving
        self.spoilt: Counter[Counting] = Counter()  # those that cut words only after moving

    def __call__(self, values: tuple[str, ...]) -> tuple[str, ...]:
        text, gold, *others = values
        written = entities(gold)
        try:
            spans = placed(written, text, self.counting)
        except ValueError as error:
            fits = [other for other in self.others if _fits(written, text, other)]
            raise ValueError(
                f"{error}{f'; with {fits[0].flags(self.counting)} the entities of this row fit' if fits else ''}"
            ) from None
        edged = [(*trimmed(text, start, end), kind) for start, end, kind in spans]
        if self.surveying:
            self._survey(written, text, spans)
            self.empty += sum(start == end for start, end, _ in edged)
            self.blank += sum(
                start < end and (start, end) != span[:2] for (start, end, _), span in zip(edged, spans, strict=True)
            )
        found = sorted(span for span in edged if span[0] < span[1])
        return (text, Written(json.dumps(found, ensure_ascii=False), found), *others)

    def finish(self, name: str) -> None:
        """Log what was found over all rows of a source.

        Raises:
            DataError: most entities cut words, or another counting would fix most of those that do.
        """
        self.surveying = False
        self._check(name)
        if self.empty:
            log.warning("%s: %d entities contain only blanks and are dropped", name, self.empty)
        if self.blank:
            log.warning("%s: %d of %d entities begin or end with blanks, which are trimmed", name, self.blank, self.found)

    def _check(self, name: str) -> None:
        """Raise DataError, or warn, if entities cut words."""
        if self.cut < FEW:
            return
        better = [other for other in self.others if self.mended[other] >= FEW and self.mended[other] > self.moved[other] / 2]
        better = [other for other in better if 4 * self.spoilt[other] < self.mended[other]]
        if not better and self.cut <= self.found / 2:
            return
        best = max(better, key=lambda other: self.mended[other], default=None)  # the simplest of equals
        said = (
            f"{name}: {self.cut} of {self.found} entities begin or end inside a word, as their offsets are read now:\n"
            + "".join(f"  {row}\n" for row in self.rows)
            + "The offsets may count UTF-16 units, as JavaScript, Java and C# do (--offsets=utf16), or bytes "
            "(--offsets=bytes), or name the last character (--ends=inclusive)"
            + (f"; with {best.flags(self.counting)} {self.mended[best]} of these {self.cut} would not" if best else "")
        )
        if self.settled:
            log.warning("%s", said)
        else:
            raise DataError(f"{said}. If the offsets are right, give --offsets=characters --ends=exclusive")

    def _survey(self, written: list[Entity], text: str, spans: list[Span]) -> None:
        """Count a row's entities that cut words, and those that would under other countings."""
        cuts = [_cuts(text, start, end) for start, end, _ in spans]
        self.found, self.cut = self.found + len(spans), self.cut + sum(cuts)
        if any(cuts) and len(self.rows) < SHOWN:
            start, end, kind = spans[cuts.index(True)]
            before, behind = text[max(0, start - 20) : start], text[end : end + 20]
            self.rows.append(f"{kind}: {before}[{text[start:end]}]{behind}".replace("\n", " "))
        for other in self.others:
            if text.isascii() and other.offsets != self.counting.offsets:
                continue
            for entity, (start, end, _), cut in zip(written, spans, cuts, strict=True):
                try:
                    there = placed([entity], text, other)[0][:2]
                except ValueError:
                    self.moved[other] += 1
                    self.spoilt[other] += 1
                    continue
                if there != (start, end):
                    cuts_there = _cuts(text, *there)
                    self.moved[other] += 1
                    self.mended[other] += cut and not cuts_there
                    self.spoilt[other] += cuts_there and not cut


def placed(written: list[Entity], text: str, counting: Counting) -> list[Span]:
    """Convert entities to characters of their text, ends exclusive, in the order given.

    Raises:
        ValueError: an entity is outside the text, is empty, or its surface differs from the text there.
    """
    places = Places(text, counting.offsets)
    unit = {"characters": "characters", "utf16": "UTF-16 units", "bytes": "bytes"}[counting.offsets]
    found = []
    for entity in written:
        inclusive = entity.inclusive if counting.ends is None else counting.ends == "inclusive"
        how = f"{unit} {entity.start} to {entity.end} ({'inclusive' if inclusive else 'exclusive'})"
        try:
            start, end = places.character(entity.start), places.character(entity.end + inclusive, last=inclusive)
        except ValueError as error:
            raise ValueError(f"entity {entity.kind!r} at {how}: {error}") from None
        if not 0 <= start < end <= len(text):
            raise ValueError(
                f"entity {entity.kind!r} at {how}; the text has {len(text)} characters, and an entity must start inside it "
                "and end after its start"
            )
        surface = entity.surface
        if surface is not None and _bare(surface) != _bare(text[start:end]):
            raise ValueError(f"entity {entity.kind!r} {surface!r} is at {how}, where the text has {text[start:end]!r}")
        found.append((start, end, entity.kind))
    return found


def _fits(written: list[Entity], text: str, counting: Counting) -> bool:
    """Return whether all of a row's entities are inside their text, match their surfaces and cut no word."""
    try:
        return not any(_cuts(text, start, end) for start, end, _ in placed(written, text, counting))
    except ValueError:
        return False


def _cuts(text: str, start: int, end: int) -> bool:
    start, end = trimmed(text, start, end)
    return inside_word(text, start) or inside_word(text, end)


def _bare(surface: str) -> str:
    return surface[slice(*trimmed(surface, 0, len(surface)))]
