"""Add tokens to a checkpoint, as units of the text that a run learns: markers of entities, for example.

In: a `Checkpoint` and the tokens. Out: a `Checkpoint` whose vocabulary has them. A token of the vocabulary keeps its row. A
new one takes the row of an [unusedN], else a row of the embedding table beyond the vocabulary, else a new row: the mean of all,
with noise of BERT's initial spread, so that new tokens differ.
"""

import dataclasses
import logging
from collections.abc import Sequence

import numpy as np

from kbert.checkpoints.added_tokens import unused
from kbert.checkpoints.checkpoint import Arrays, Checkpoint
from kbert.config import AddedToken
from kbert.data.vocabulary import numbered
from kbert.errors import UsageError

log = logging.getLogger(__name__)

TABLE, SPREAD = "token_embedding/embeddings", 0.02
PER_TOKEN = "mlm_head/"  # prefix of a head's arrays, some with a row for each token


def add_tokens(checkpoint: Checkpoint, contents: Sequence[str], seed: int = 0) -> Checkpoint:
    """Add tokens to a checkpoint.

    Args:
        checkpoint: the checkpoint; its arrays are read when the result's are.
        contents: the tokens, found in the text exactly as they are written here.
        seed: of new rows.

    Raises:
        UsageError: a token is blank, has blanks at its edges or a line end, or is named twice.
    """
    for content in contents:
        if not content.strip() or content != content.strip() or "\n" in content:
            raise UsageError(f"--add_tokens: expected tokens without line ends and blanks at their edges, found {content!r}")
        if list(contents).count(content) > 1:
            raise UsageError(f"--add_tokens: {content} is named twice")
    vocabulary, tokens = list(checkpoint.vocabulary), list(checkpoint.text.added_tokens)
    known, free = numbered(vocabulary), [i for i, token in enumerate(vocabulary) if unused(token) and token not in contents]
    rows, places = checkpoint.encoder.vocabulary_size, []
    for content in contents:
        tokens = [token for token in tokens if token.content != content]
        tokens.append(AddedToken(content=content, wordpiece=content in known))
        if content in known:
            places.append(f"{content} (of the vocabulary)")
        elif free:
            places.append(f"{content} (row of {vocabulary[free[0]]})")
            vocabulary[free.pop(0)] = content
        else:
            places.append(f"{content} ({'unused' if len(vocabulary) < rows else 'new'} row)")
            vocabulary.append(content)
    if places:
        log.info("added tokens: %s", ", ".join(places))
    more = max(0, len(vocabulary) - rows)
    shapes = {
        path: (rows + more, *shape[1:]) if _per_token(path, shape, rows) else shape for path, shape in checkpoint.shapes.items()
    }

    def grown(arrays: Arrays) -> Arrays:
        return {path: _grown(a, more, seed) if _per_token(path, a.shape, rows) else a for path, a in arrays.items()}

    return dataclasses.replace(
        checkpoint,
        vocabulary=vocabulary,
        text=dataclasses.replace(checkpoint.text, added_tokens=tuple(tokens)),
        encoder=dataclasses.replace(checkpoint.encoder, vocabulary_size=rows + more),
        arrays=lambda: grown(checkpoint.arrays()),
        heads=lambda: grown(checkpoint.heads()),
        shapes=shapes,
    )


def _per_token(path: str, shape: Sequence[int], rows: int) -> bool:
    return path == TABLE or (path.startswith(PER_TOKEN) and shape[0] == rows)


def _grown(array: np.ndarray, more: int, seed: int) -> np.ndarray:
    """Return an array with more rows. A new token's bias in a masked LM is the least of all."""
    if array.ndim == 1:
        return np.pad(array, (0, more), constant_values=array.min())
    noise = np.random.default_rng(seed).normal(0, SPREAD, (more, array.shape[1]))
    return np.concatenate([array, array.mean(0) + noise.astype(array.dtype)]) if more else array
