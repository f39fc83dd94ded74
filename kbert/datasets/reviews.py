"""The common base of the review data sets: unique texts, fixed splits, `text` and `label` features.

Splits are determined by a hash of the text, so that no text is in two of them and every machine gets the same.
"""

import abc
import hashlib
import re
import unicodedata
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import tensorflow_datasets as tfds

SHARES = {"train": range(8), "dev": range(8, 9), "test": range(9, 10)}


def normalised(text: str) -> str:
    """Normalise case, width, punctuation and white space, in which copies of a text differ."""
    return re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", text).lower())


def split_of(text: str) -> str:
    """Return the split of a text: "train" (8 in 10), "dev" or "test" (1 in 10 each)."""
    tenth = int(hashlib.sha256(normalised(text).encode()).hexdigest()[:8], 16) % 10
    return next(name for name, share in SHARES.items() if tenth in share)


def unique(rows: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """Yield distinct rows of (text, label); drop texts with two labels."""
    kept: dict[str, tuple[str, str] | None] = {}
    for text, label in rows:
        key = normalised(text)
        first = kept.setdefault(key, (text, label)) if key else None
        if first is not None and first[1] != label:
            kept[key] = None
    return (row for row in kept.values() if row is not None)


class Reviews(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """Builds data sets of positive and negative texts; subclasses read the raw files."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Run tools/fetch_demo.py, which puts the raw files in place."
    ABOUT: str

    @staticmethod
    @abc.abstractmethod
    def read(folder: Path) -> Iterator[tuple[str, str]]:
        """Yield (text, "positive" or "negative") rows of the raw files in `folder`."""

    def _info(self) -> Any:
        labels = tfds.features.ClassLabel(names=["negative", "positive"])
        features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "label": labels})
        return self.dataset_info_from_configs(description=self.ABOUT, features=features)

    def _split_generators(self, dl_manager: Any) -> Any:
        rows = list(unique(self.read(Path(dl_manager.manual_dir))))
        return {name: self._generate_examples(rows, name) for name in SHARES}

    def _generate_examples(self, rows: list[tuple[str, str]], split: str) -> Iterator[tuple[int, dict[str, str]]]:
        for number, (text, label) in enumerate(rows):
            if split_of(text) == split:
                yield number, {"text": text, "label": label}
