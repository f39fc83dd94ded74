"""English movie-review snippets, positive or negative by the mean of twenty people's ratings.

From the additional resources of the package vaderSentiment (MIT licence): C. J. Hutto and E. Gilbert,
"VADER: A Parsimonious Rule-based Model for Sentiment Analysis of Social Media Text", ICWSM 2014. The
sentences are those of Pang and Lee 2005, and so contain most of SST-2's test sentences: never start
an SST-2 run from a model trained on these.
"""

from collections.abc import Iterator
from pathlib import Path

from kbert.datasets.reviews import Reviews

NEUTRAL = 0.5  # ratings range from -4 to 4; texts rated within this distance of 0 are dropped
RAW = "movieReviewSnippets_GroundTruth.txt"


class MovieSnippets(Reviews):
    """`tfds:movie_snippets`: `text` and `label`, splits train, dev and test."""

    ABOUT = __doc__ or ""

    @staticmethod
    def read(folder: Path) -> Iterator[tuple[str, str]]:
        for line in (folder / RAW).read_text(encoding="utf-8").splitlines():
            _, rating, text = line.split("\t")
            if abs(float(rating)) > NEUTRAL:
                yield text.strip(), "positive" if float(rating) > 0 else "negative"
