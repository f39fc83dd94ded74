"""kbert's own model directories as checkpoints, so that one task continues from another.

In: a model directory. Out: a `Checkpoint` of the kept epoch, with the vocabulary and the casing it was
trained with.
"""

from pathlib import Path

from kbert.checkpoints import names
from kbert.checkpoints.checkpoint import OWN_SIZES, Checkpoint, encoder_config, read_vocabulary
from kbert.checkpoints.foreign import Weights, match
from kbert.checkpoints.names import HEADS
from kbert.checkpoints.tensor_files import safetensors_list, safetensors_read
from kbert.config import to_json
from kbert.errors import DataError
from kbert.model_dir import ModelDir

# The parts of a model that the table knows; heads of other tasks are none of another task's business.
KNOWN = ("token_embedding", "position_embedding", "segment_embedding", "embeddings_layer_norm", "transformer_layer_")


def read(path: Path, saved: Path | None = None) -> Checkpoint:
    """What a model directory holds, in its best checkpoint or the one that is `saved` in it.

    Raises:
        DataError: no epoch is finished, or a file is missing or damaged.
    """
    directory, where = ModelDir(path), path / "config.json"
    model = directory.read_config()[0]
    sizes = to_json(model.encoder)
    encoder = encoder_config(sizes, where, OWN_SIZES, dropout="dropout", activation=model.encoder.activation)
    vocabulary = read_vocabulary(path / "vocab.txt", encoder)
    if saved is None and directory.measured() is None:
        raise DataError(f"--init={path}: a kbert model without a checkpoint yet; its training has not finished an epoch")
    file = (saved or directory.best().path) / "weights.safetensors"
    tensors = {tensor.name: tensor for tensor in safetensors_list(file)}
    ignored = tuple(sorted(name for name in tensors if not name.startswith((*KNOWN, "pooled_dense/", *HEADS))))
    kept = {name: tensor for name, tensor in tensors.items() if name not in ignored}
    kernel = kept.get("classifier/kernel")
    table = names.rows(encoder, kernel.shape[-1] if kernel and kernel.shape else 0)
    matched = match(kept, table, None, file, ("pooled_dense", *HEADS))
    # A pooler of zeros is none: so the encoder keeps the place of one that its checkpoint did not have.
    pooler = [matched[p][1] for p in ("pooled_dense/kernel", "pooled_dense/bias") if p in matched]
    if not any(array.any() for _, array in safetensors_read(pooler)):
        matched = {p: found for p, found in matched.items() if not p.startswith("pooled_dense/")}
    weights = Weights(None, matched, safetensors_read)
    return Checkpoint(
        format="kbert",
        encoder=encoder,
        text=model.text,
        vocabulary=vocabulary,
        arrays=weights.encoder,
        heads=weights.heads,
        shapes=weights.shapes,
        ignored=ignored,
        labels=model.labels if kernel else (),
        pooling=model.options.get("pooling") if kernel else None,
    )
