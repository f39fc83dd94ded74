"""Read the outputs of a tagger: which type each has, and whether it begins, continues or ends an entity. No TensorFlow.

In: the names of the outputs: O, B-..., I-... of each type, as kbert trains them, or those of a tagger that another toolkit
trained, in its own order and scheme (IOB1, IOB2, BIOES, BILOU, BMES, types alone). Out: `Outputs`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from kbert.data.schemes import LETTERS, PREFIXES, Scheme, Tags, split, typed
from kbert.data.spans import tag_names
from kbert.data.spellings import respelled

# The letters that training needs of each type.
NEEDED: dict[Scheme, str] = {"IOB2": "BI", "BIOES": "BIES", "BILOU": "BIES", "BMES": "BIES", "bare": "S", "IO": "I"}


@dataclass(frozen=True)
class Outputs:
    """The outputs of a tagger.

    Attributes:
        names: in the usual spelling, in order.
        tags: the scheme.
        types: the types of entities, in the order of their numbers.
        kinds: the number of each output's type, -1 for O.
        letters: what each does, a letter of BIOES.
    """

    names: tuple[str, ...]
    tags: Tags
    types: tuple[str, ...]
    kinds: tuple[int, ...]
    letters: tuple[str, ...]

    @classmethod
    def read(cls, labels: Sequence[str], types: Sequence[str] | None = None) -> "Outputs":
        """Read the names of outputs.

        Args:
            labels: the names, in order.
            types: the order of the types; by default that of their first outputs.

        Raises:
            ValueError: they are of no one scheme, or two are the same tag.
        """
        spelt = respelled(dict.fromkeys(labels, 1))
        names = tuple(spelt.get(label, label) for label in labels)
        untyped = {*names} - {"O"} <= PREFIXES
        prefixes = {split(typed(name) if untyped else name)[0] for name in names}
        scheme = next((scheme for scheme, letters in LETTERS.items() if prefixes <= set(letters)), None)
        if scheme is None:
            raise ValueError(
                f"its labels are {', '.join(labels[:16])}; expected are those of one scheme: IOB1 or IOB2 (B, I, O), BIOES, "
                "BILOU, BMES, or types without prefixes"
            )
        tags = Tags(scheme, untyped)
        letters = tags.plain(names)
        found = dict.fromkeys(kind for letter, kind in letters if letter != "O")
        order = {kind: i for i, kind in enumerate(found if types is None else types)}
        counts = Counter(letters)
        twice = next((name for name, letter in zip(labels, letters, strict=True) if counts[letter] > 1), None)
        if twice is not None:
            raise ValueError(f"two of its labels are the same tag as {twice}")
        kinds = tuple(-1 if letter == "O" else order[kind] for letter, kind in letters)
        return cls(names, tags, tuple(order), kinds, tuple(letter for letter, _ in letters))

    @property
    def plain(self) -> bool:
        """Whether they are kbert's own, in whatever order."""
        return set(self.names) == set(tag_names(self.types)) and not self.tags.untyped

    @property
    def lacking(self) -> str | None:
        """The first tag that rows may have and no output; None if there is none."""
        wanted = [(kind, letter) for kind in range(len(self.types)) for letter in NEEDED[self.tags.scheme]]
        found = set(zip(self.kinds, self.letters, strict=True))
        outside = [] if self.tags.scheme == "bare" else [(-1, "O")]
        for kind, letter in (*outside, *wanted):
            if (kind, letter) not in found:
                return letter if kind < 0 else f"{letter}-{self.types[kind]}"
        return None

    def numbers(self, tags: np.ndarray, words: np.ndarray) -> np.ndarray:
        """Convert tags to the numbers of these outputs.

        Args:
            tags: as `kbert.data.spans.tag_numbers` returns them, int32, of all rows' words in order.
            words: how many words each row has, shape [rows].
        """
        place = dict(zip(zip(self.kinds, self.letters, strict=True), range(len(self.kinds)), strict=True))
        row = np.repeat(np.arange(len(words)), words)
        inside = (tags > 0) & (tags % 2 == 0)
        goes_on = np.append(inside[1:] & (row[1:] == row[:-1]), False)[: len(tags)]
        letters = NEEDED[self.tags.scheme]
        table = np.full((len(self.types) + 1, 2, 2), place.get((-1, "O"), -1), np.int32)  # [types, inside, continues]
        for kind in range(len(self.types)):
            for of, letter in {(0, 1): "B", (0, 0): "S", (1, 1): "I", (1, 0): "E"}.items():
                known = letter if letter in letters else {"S": "B", "E": "I"}.get(letter, letter)
                table[(kind, *of)] = place[kind, known if known in letters else letters]
        found: np.ndarray = table[np.where(tags > 0, (tags - 1) // 2, len(self.types)), inside.astype(int), goes_on.astype(int)]
        return found
