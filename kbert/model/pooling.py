"""Pool hidden states into one vector a row, for sentence vectors.

In: hidden states [rows, tokens, hidden] and which tokens count, [rows, tokens]. Out: [rows, hidden].
Nothing here has weights; BERT's own pooler, which has, is in `kbert.model.heads.Pool`. The arithmetic is in
float32, whatever the precision of the hidden states.
"""

from typing import Any

from keras import ops

from kbert.config import Pooling


def counted(padding_mask: Any, special_tokens: bool) -> Any:
    """Return which tokens a mean or a maximum includes, 0 or 1, int32 [rows, tokens].

    Args:
        padding_mask: 1 for tokens, 0 for padding, [rows, tokens].
        special_tokens: include [CLS] and the final [SEP] too, as sentence-transformers does. Otherwise
            they are included only for texts without other tokens, so that these have a vector.
    """
    mask = ops.cast(padding_mask, "int32")
    if special_tokens:
        return mask
    followed = ops.pad(mask[:, 1:], [[0, 0], [0, 1]])  # the last token has none after it
    inner = followed * ops.cast(ops.arange(ops.shape(mask)[1])[None, :] > 0, "int32")
    return ops.where(ops.any(inner > 0, 1, keepdims=True), inner, mask)


def pool(hidden: Any, counts: Any, pooling: Pooling) -> Any:
    """Pool to one vector a row: that of [CLS], or the mean or the maximum over included tokens; float32 [rows, hidden].

    Args:
        hidden: [rows, tokens, hidden].
        counts: see `counted`; every row includes a token. Ignored for "cls".
    """
    if pooling == "cls":
        return ops.cast(hidden[:, 0], "float32")
    hidden = ops.cast(hidden, "float32")
    kept = ops.cast(counts, "float32")[:, :, None]
    if pooling == "mean":
        return ops.sum(hidden * kept, 1) / ops.sum(kept, 1)
    return ops.max(ops.where(kept > 0, hidden, -float("inf")), 1)


def normalized(vectors: Any) -> Any:
    """Scale vectors [rows, size] to length 1 (L2), float32; a zero vector stays zero."""
    vectors = ops.cast(vectors, "float32")
    length = ops.sqrt(ops.sum(ops.square(vectors), -1, keepdims=True))
    return vectors / ops.maximum(length, 1e-12)  # the bound of torch's `normalize`
