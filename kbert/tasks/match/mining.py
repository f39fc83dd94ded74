"""Mine hard negatives: for each title, the texts of other rows that look most like its match.

In: a table of pairs and a function from texts to vectors. Out: a pool of rows for each row. Rows are compared
within random blocks, so that time is linear in the rows and memory bounded (except for the pools).
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from kbert.progress import Progress
from kbert.tasks.match.negatives import OtherRows

BLOCK = 20_000  # rows of a block
SPARE = 64  # extra candidates, since some are the title's own
QUERIES = 512  # titles compared at once
TEXTS = 64  # texts encoded at once
FEATURES = 2**20

# Texts [rows] of titles and of texts -> their vectors, of length 1: arrays or sparse matrices [rows, features].
Vectors = Callable[[np.ndarray, np.ndarray], tuple[Any, Any]]


def pools(others: OtherRows, vectors: Vectors, size: int, seed: int) -> np.ndarray:
    """Find the rows whose texts are nearest to each row's title, best first; int32 [rows, size], padded with -1.

    Texts without anything in common with the title (a product of 0 or less) are excluded.
    """
    found = np.full((len(others), size), -1, np.int32)
    order = np.random.default_rng([seed]).permutation(len(others))
    with Progress(len(others), desc="mining hard negatives", unit="row", leave=False) as bar:
        for first in range(0, len(others), BLOCK):
            rows = np.sort(order[first : first + BLOCK])
            columns = list(others.table.read(rows).values())
            titles, texts = vectors(columns[0], columns[1])
            for start in range(0, len(rows), QUERIES):
                asked = rows[start : start + QUERIES]
                scores = titles[start : start + QUERIES] @ texts.T
                scores = scores.toarray() if hasattr(scores, "toarray") else scores  # [queries, rows]
                kept = min(size + SPARE, len(rows))
                nearest = np.argpartition(-scores, kept - 1, 1)[:, :kept]
                near = np.take_along_axis(scores, nearest, 1)
                near[others.clash(asked[:, None], rows[nearest])] = 0.0
                by_score = np.argsort(-near, 1, kind="stable")[:, :size]
                nearest, near = (np.take_along_axis(values, by_score, 1) for values in (nearest, near))
                found[asked, : by_score.shape[1]] = np.where(near > 0, rows[nearest], -1)
                bar.update(len(asked))
    return found


def by_words(pieces: Callable[[np.ndarray], list[list[int]]]) -> Vectors:
    """Vectorise by tf-idf of word pieces and adjacent pairs, with scikit-learn; document frequencies are those of the block.

    Args:
        pieces: texts [rows] -> the ids of each one's word pieces.
    """

    def vectors(titles: np.ndarray, texts: np.ndarray) -> tuple[Any, Any]:
        from sklearn.feature_extraction.text import HashingVectorizer, TfidfTransformer

        counts = HashingVectorizer(
            analyzer="word", token_pattern=r"\S+", lowercase=False, ngram_range=(1, 2),
            n_features=FEATURES, alternate_sign=False, norm=None,
        )  # fmt: skip
        of_titles, of_texts = (
            counts.transform(" ".join(map(str, ids)) for ids in pieces(column)) for column in (titles, texts)
        )
        weigh = TfidfTransformer(sublinear_tf=True).fit(of_texts)
        return weigh.transform(of_titles), weigh.transform(of_texts)

    return vectors


def by_vectors(read: Callable[[np.ndarray], np.ndarray]) -> Vectors:
    """Vectorise by a model.

    Args:
        read: texts [rows] -> vectors of length 1, [rows, hidden]; called with few texts of similar length.
    """

    def in_order(texts: np.ndarray) -> np.ndarray:
        order = np.argsort([len(text) for text in texts], kind="stable")
        found = np.concatenate([read(texts[order[i : i + TEXTS]]) for i in range(0, len(order), TEXTS)])
        return np.asarray(found[np.argsort(order)])

    return lambda titles, texts: (in_order(titles), in_order(texts))
