"""Read kbert's own model directories as checkpoints, so that one task continues from another.

In: a model directory. Out: a `Checkpoint` of the best epoch, with the vocabulary and casing it was
trained with, and its head: every array except the encoder's.
"""

from pathlib import Path

import numpy as np

from kbert.checkpoints import names
from kbert.checkpoints.checkpoint import OWN_SIZES, Arrays, Checkpoint, Shapes, encoder_config
from kbert.checkpoints.head import Head
from kbert.checkpoints.names import HEADS, OUTPUTS, PRETRAINING, Row
from kbert.checkpoints.tensor_files import safetensors_list, safetensors_read
from kbert.checkpoints.tensor_matching import Weights, match
from kbert.config import ModelConfig
from kbert.data.vocabulary import check_vocabulary
from kbert.errors import DataError
from kbert.model_dir import ModelDir
from kbert.saved import Saved
from kbert.settings import to_json
from kbert.tasks import options_of

EPSILON = "encoder.layer_norm_epsilon"  # a setting that came with poolers known from their presence
OUTPUT_LAYERS = (*OUTPUTS, "score", "aspect_classifier")


def read(path: Path, saved: Path | None = None) -> Checkpoint:
    """Read a model directory's best checkpoint, or the one in `saved`.

    Raises:
        DataError: no epoch is finished, or a file is missing or damaged.
    """
    directory, where = ModelDir(path), path / "config.json"
    model = directory.read_config()[0]
    sizes = to_json(model.encoder)
    encoder = encoder_config(
        sizes,
        where,
        OWN_SIZES,
        activation=model.encoder.activation,
        dropout="dropout",
        attention_dropout="attention_dropout",
        epsilon="layer_norm_epsilon",
    )
    if saved is None and directory.measured() is None:
        raise DataError(f"--init={path}: a kbert model without a checkpoint yet; its training has not finished an epoch")
    kept = directory.best() if saved is None else Saved.read(saved)
    vocabulary = directory.read_model(kept)[1]
    check_vocabulary(vocabulary, str(path / "vocab.txt"))
    file = kept.weights_file
    tensors = {tensor.name: tensor for tensor in safetensors_list(file)}
    table = list(names.rows(encoder))
    known = {row.path for row in table}
    own = [Row(name, tensor.shape, tensor.shape, {}) for name, tensor in tensors.items() if name not in known]
    matched = match(tensors, [*table, *(row for row in own if row.of_head)], None, file, ("pooled_dense", *HEADS))
    if EPSILON not in kept.marks:  # of an older kbert, which stored a pooler of zeros for none
        pooler = [matched[p][1] for p in ("pooled_dense/kernel", "pooled_dense/bias") if p in matched]
        if not any(array.any() for _, array in safetensors_read(pooler)):
            matched = {p: found for p, found in matched.items() if not p.startswith("pooled_dense/")}
    weights = Weights(None, matched, safetensors_read)

    head = _head(model, kept, weights.shapes)

    def heads() -> Arrays:
        """The head's weights, those of a regression in the unit of its targets, as other libraries have them."""
        arrays = weights.heads()
        deviation, mean = (None if head is None else head.options.get(f"target_{name}") for name in ("deviation", "mean"))
        if deviation is not None and not model.labels and "classifier/bias" in arrays:
            arrays["classifier/kernel"] = (arrays["classifier/kernel"] * deviation).astype(np.float32)
            arrays["classifier/bias"] = (arrays["classifier/bias"] * deviation + mean).astype(np.float32)
        return arrays

    return Checkpoint(
        format="kbert",
        encoder=encoder,
        text=model.text,
        vocabulary=vocabulary,
        arrays=weights.encoder,
        heads=heads,
        shapes=weights.shapes,
        head=head,
    )


def _head(model: ModelConfig, saved: Saved, shapes: Shapes) -> Head | None:
    """Return the model's head; None if it was pre-trained."""
    if any(path.startswith(tuple(PRETRAINING)) for path in shapes):
        return None
    outputs = {path.removesuffix("/bias"): shapes[path][0] for path in shapes if path.removesuffix("/bias") in OUTPUT_LAYERS}
    kind, size = next(iter(outputs.items()), ("vectors", 0))
    labels = options_of(model).outputs_of(model.labels)
    if kind not in ("vectors", "score", "span") and labels and len(labels) != size:
        raise DataError(f"{saved.path}: {kind} has {size} outputs, but config.json has labels for {len(labels)}")
    return Head(kind, size, labels, model.options, model.task, model.max_length, saved.calibration)
