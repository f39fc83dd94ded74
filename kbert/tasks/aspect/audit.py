"""Check rows of texts and aspects before training, and collect the labels.

In: rows, one by one: a text and a label for each aspect, or a text, an aspect and its label. Out: the labels, in
order; errors about a row or about all of them. No TensorFlow here.
"""

import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence

from kbert.errors import DataError, UsageError
from kbert.tasks.aspect.labels import LABELS, NOT_MENTIONED, label_of
from kbert.tasks.aspect.options import Aspect

NEARLY_ALL = 0.95  # fraction of the rows


class AspectAudit:
    """Collects the labels, or checks rows against given labels.

    Args:
        source: name of the data, for messages.
        aspects: the model's; empty if rows name terms of their own.
        wide: whether each aspect has a column.
        allowed: the labels; None if the rows define them.
        learns: whether the filter is the network, which learns from mentions in the rows.
    """

    def __init__(self, source: str, aspects: Sequence[Aspect], wide: bool, allowed: Sequence[str] | None, learns: bool = False):
        self.source, self.wide, self.learns = source, wide, learns
        self.names = [aspect.name for aspect in aspects]
        self.known = set(self.names)
        try:
            self.allowed = None if allowed is None else tuple(map(label_of, allowed))
        except ValueError as error:
            raise DataError(f"--labels: {error}") from None
        if self.allowed is not None and len(set(self.allowed)) < len(self.allowed):
            raise DataError(f"--labels: a label is listed twice: {', '.join(self.allowed)}")
        self.found: Counter[str] = Counter()
        self.mentioned: Counter[str] = Counter()
        self.coarse = {aspect.name: aspect.coarse for aspect in aspects}
        self.told, self.said = Counter[str](), Counter[str]()  # texts labelled for a coarse aspect, and those that mention it
        self.texts: dict[str, dict[int, bool]] = {}  # if rows name their aspect: whether any row of a text mentions it

    def __call__(self, values: tuple[str, ...]) -> None:
        if self.wide:
            if len(values) != 1 + len(self.names):
                raise UsageError(
                    f"--label_column names {len(values) - 1} columns, the model has {len(self.names)} aspects: "
                    f"{', '.join(self.names)}"
                )
            labels = {name: self._label(name, value) for name, value in zip(self.names, values[1:], strict=True)}
            self._count(labels)
            self.told.update(set(self.coarse.values()))
            self.said.update({self.coarse[name] for name, label in labels.items() if label != NOT_MENTIONED})
            return
        text, aspect, value = values
        if all(unicodedata.category(character)[0] in "CZ" for character in aspect):
            raise ValueError("the aspect is empty")
        if self.known and aspect not in self.known:
            raise ValueError(f"aspect {aspect!r} is not among those of --aspect_names: {', '.join(self.names)}")
        label = self._label(aspect, value)
        self._count({aspect: label})
        if aspect in self.coarse:
            texts = self.texts.setdefault(self.coarse[aspect], {})
            texts[hash(text)] = texts.get(hash(text), False) or label != NOT_MENTIONED

    def _label(self, aspect: str, value: str) -> str:
        try:
            label = label_of(value)
        except ValueError as error:
            raise ValueError(f"aspect {aspect!r}: label {error}") from None
        if self.allowed is not None and label not in self.allowed:
            raise ValueError(
                f"aspect {aspect!r}: label {label!r} is not among the model's labels, which come from the training rows "
                f"unless --labels lists them: {', '.join(self.allowed)}"
            )
        return label

    def _count(self, labels: Mapping[str, str]) -> None:
        self.found.update(labels.values())
        self.mentioned.update(name for name, label in labels.items() if name in self.known and label != NOT_MENTIONED)

    @property
    def labels(self) -> tuple[str, ...]:
        """The labels found, in `LABELS`' order."""
        return tuple(label for label in LABELS if label in (self.found if self.allowed is None else self.allowed))

    def finish(self) -> None:
        """Do nothing: any allowed labels can be evaluated."""

    def check_learnable(self) -> list[str]:
        if set(self.found) == {NOT_MENTIONED}:
            raise DataError(f"{self.source}: no aspect is mentioned in any row (every label is -2); there is nothing to learn")
        if len(self.found) < 2:
            raise DataError(f"{self.source}: one label only ({', '.join(self.found)}); a classifier needs two or more")
        notes = []
        if not self.known and self.found[NOT_MENTIONED]:
            notes.append(
                f"{self.source}: rows are labelled -2, not mentioned, so their aspects seem not to be terms occurring in "
                "the texts; list the aspects in --aspect_names"
            )
        if self.learns and self.known and not self.found[NOT_MENTIONED] and self.allowed and NOT_MENTIONED in self.allowed:
            raise UsageError(
                f"{self.source}: no row is labelled -2 (not mentioned), though --labels lists it, and only from such rows "
                "does --filter=tfn learn which texts mention an aspect; use another --filter"
            )
        silent = [name for name in self.names if not self.mentioned[name]]
        if silent:
            notes.append(f"{self.source}: no row mentions {', '.join(map(repr, silent))}")
        for coarse, texts in self.texts.items():
            self.told[coarse], self.said[coarse] = len(texts), sum(texts.values())
        everywhere = [repr(name) for name, count in self.said.items() if count > NEARLY_ALL * self.told[name]]
        if everywhere and self.learns:
            notes.append(
                f"{self.source}: nearly all rows mention {', '.join(everywhere)}, so --filter=tfn, which learns which do, "
                "learns little of it; --aspect_names can list finer coarse aspects"
            )
        return notes
