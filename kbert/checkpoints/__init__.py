"""Read and write BERT checkpoints in the forms they are distributed in, detected from the files present.

In: a directory (Hugging Face, Google TF1, Keras preset, kbert model) or a preset's name. Out: a
`Checkpoint`: sizes, casing, vocabulary, and the weights under the backbone's own variable paths. It also
writes a directory in any of the first three forms. Reading never executes code: `pytorch_model.bin`, a pickle,
takes torch's weights-only loader, and a preset's config is read as data.
"""

import dataclasses
import math
from pathlib import Path
from typing import Literal, get_args

from kbert.checkpoints import (
    added_tokens,
    foreign,
    google,
    hugging_face,
    hugging_face_weights,
    kbert_model,
    keras_preset,
    places,
)
from kbert.checkpoints.checkpoint import Arrays, Checkpoint
from kbert.checkpoints.head import Head
from kbert.checkpoints.names import HEADS, PRETRAINING, of_head
from kbert.config import BERT_EPSILON
from kbert.errors import DataError, UsageError
from kbert.files import check_pointer, read_json, whole_directory
from kbert.model_dir import directory_of

Format = Literal["hugging_face", "google", "keras_preset"]
FORMATS = get_args(Format)
SHOWN = 40  # maximum labels listed in the summary
USUAL_SOURCES = ("model.safetensors", "bert_model.ckpt", "model.weights.h5")  # of which the summary says nothing
FORMS = {"hugging_face": hugging_face, "google": google, "keras_preset": keras_preset}

__all__ = ["FORMATS", "Arrays", "Checkpoint", "Format", "describe", "open_checkpoint", "summary", "write_checkpoint"]


def open_checkpoint(init: str) -> Checkpoint:
    """Open a checkpoint: check its tensors by name and shape, but do not read their values yet.

    Args:
        init: a directory (a kbert model's or one of its checkpoints, too), or the name of a KerasHub preset such as
            `bert_base_zh` (needs the network).

    Raises:
        UsageError: neither a directory nor a known preset.
        DataError: the directory is not a BERT checkpoint, a file is missing or malformed, or a
            tensor is missing, unexpected or of the wrong shape.
    """
    place = places.find(init)
    if place is None:
        return keras_preset.read_name(init)
    path, name = place
    if (directory := directory_of(path)) is not None:
        return kbert_model.read(directory, path)
    own, googles = path / "config.json", google.configuration(path)
    if name is not None:
        return google.read(path, googles or own, name)
    of_tensorflow, others = bool(google.prefixes(path)), hugging_face_weights.weights_file(path)
    if googles is not None and (of_tensorflow or not (own.exists() or others)):
        return google.read(path, googles)
    where = own if own.exists() else googles
    if where is None:
        foreign.check_weights(path)
        raise DataError(
            f"--init={init}: not a checkpoint: the directory has neither config.json (Hugging Face, Keras, kbert) "
            f"nor bert_config.json (Google){places.within(path)}"
        )
    check_pointer(where)
    config = read_json(where)
    if isinstance(config, dict) and "kbert" in config:
        return kbert_model.read(path)
    if isinstance(config, dict) and "registered_name" in config:
        return keras_preset.read(path, config)
    if of_tensorflow and others is None:
        return google.read(path, where)
    return hugging_face.read(path, config, where)


def write_checkpoint(
    checkpoint: Checkpoint, output: str, form: Format, *, approximate_gelu: bool = False, encoder_only: bool = False
) -> list[str]:
    """Write a checkpoint as a directory, atomically.

    Args:
        output: the directory; must be new or empty.
        form: the format to write.
        approximate_gelu: write a model with exact GELU even if the form only supports the tanh approximation.
        encoder_only: omit heads.

    Returns:
        Notices for the user on what could not be written.

    Raises:
        UsageError: `output` is in use, or `form` cannot represent the checkpoint.
        DataError: the checkpoint's weights are damaged, or the directory cannot be written.
    """
    path = Path(output).expanduser()
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"--output={output}: is in use; name an empty or a new directory")
    notices = []
    activation = checkpoint.encoder.activation
    if form != "hugging_face" and activation == "gelu":
        if not approximate_gelu:
            raise UsageError(
                f"--format={form}: the checkpoint uses the exact gelu, but this form implies the tanh approximation; "
                "--approximate_gelu writes it anyway, and outputs then differ in the third decimal"
            )
        notices.append("the exact GELU is written as its tanh approximation: outputs differ in the third decimal")
    if form == "keras_preset" and activation == "relu":
        raise UsageError("--format=keras_preset: the checkpoint's activation is relu; a preset's is always gelu_approximate")
    epsilon = checkpoint.encoder.layer_norm_epsilon
    if form != "hugging_face" and epsilon != BERT_EPSILON:
        raise UsageError(
            f"--format={form}: the checkpoint's layer_norm_eps is {epsilon:g}, and this form implies {BERT_EPSILON:g}; "
            "use --format=hugging_face"
        )
    layers = _layers(checkpoint)
    if encoder_only:
        if layers:
            notices.append(f"omitted: {', '.join(HEADS.get(layer, layer) for layer in layers)}")
        shapes = {path: shape for path, shape in checkpoint.shapes.items() if not of_head(path)}
        checkpoint = dataclasses.replace(checkpoint, heads=dict, shapes=shapes, head=None)
    elif why := _no_place(checkpoint, layers, FORMS[form].WRITTEN):
        raise UsageError(f"--format={form}: {why}; --encoder_only writes the encoder only")
    elif checkpoint.head is not None and checkpoint.head.calibration:
        found = ", ".join(f"{name} {value:.4f}" for name, value in checkpoint.head.calibration.items())
        notices.append(f"omitted: calibration found on dev rows ({found}), which this form cannot store")
    head = checkpoint.head
    if head is not None and head.kind == "classifier" and head.options.get("long_text", "head") != "head":
        notices.append(f"omitted: --long_text={head.options['long_text']}; of long texts this form reads the head only")
    if "sop_head" in layers and not encoder_only and form != "keras_preset":  # which stores no heads and reports that
        notices.append(f"omitted: {HEADS['sop_head']}; BERT has no such head")
        arrays = {name: array for name, array in checkpoint.heads().items() if not name.startswith("sop_head/")}
        checkpoint = dataclasses.replace(checkpoint, heads=lambda: arrays)
    with whole_directory(path) as beside:
        notices += FORMS[form].write(checkpoint, beside)
    return notices


def _layers(checkpoint: Checkpoint) -> list[str]:
    """Return the names of the checkpoint's head layers."""
    return list(dict.fromkeys(path.split("/")[0] for path in checkpoint.shapes if of_head(path)))


def _no_place(checkpoint: Checkpoint, layers: list[str], written: tuple[str, ...]) -> str | None:
    """Return why a form that supports these kinds of heads cannot represent a fine-tuned checkpoint; None if it can."""
    head = checkpoint.head
    if head is None:
        return None
    beyond = [layer for layer in layers if layer not in (*PRETRAINING, *written)]
    if beyond:
        return f"this form cannot store {', '.join(HEADS.get(layer, layer) for layer in beyond)} of the checkpoint's head"
    if head.kind not in written:
        return f"this form cannot represent how --task={head.task} computes its {head.kind}"
    if head.kind == "classifier" and checkpoint.pooling != "pooler":
        return f"the checkpoint's classifier reads --pooling={checkpoint.pooling}, but in this form it reads the pooler"
    return None


def describe(checkpoint: Checkpoint) -> str:
    """Describe a checkpoint in one line."""
    e, t = checkpoint.encoder, checkpoint.text
    return (
        f"{checkpoint.format} BERT: {e.num_layers} layers, {e.hidden_dim} wide, {e.num_heads} heads, "
        f"{len(checkpoint.vocabulary):,} tokens, {'uncased' if t.lowercase else 'cased'}, {e.activation}"
    )


def summary(checkpoint: Checkpoint) -> str:
    """Describe a checkpoint in full, one property a line."""
    e, t = checkpoint.encoder, checkpoint.text
    unused = e.vocabulary_size - len(checkpoint.vocabulary)
    heads = ["pooler"] if checkpoint.has_pooler else ["no pooler"]
    heads += [name for part, name in PRETRAINING.items() if part in _layers(checkpoint)]
    if checkpoint.head is not None:
        heads.append(_described(checkpoint, checkpoint.head))
    lines = {
        "format": checkpoint.format,
        **({"weights": checkpoint.source} if checkpoint.source not in ("", *USUAL_SOURCES) else {}),
        "layers": f"{e.num_layers}, each with {e.num_heads} heads",
        "width": f"{e.hidden_dim}, in the feed-forward layers {e.intermediate_dim:,}",
        "longest input": f"{e.max_sequence_length} tokens, in {e.num_segments} segments",
        "vocabulary": f"{len(checkpoint.vocabulary):,} tokens" + (f" and {unused} unused rows" if unused else ""),
        "casing": f"{'lowercased' if t.lowercase else 'as written'}, accents {'stripped' if t.strip_accents else 'kept'}",
        "activation": {"gelu": "gelu (exact)", "gelu_approximate": "gelu (tanh approximation)", "relu": "relu"}[e.activation],
        **({"layer norm": f"epsilon {e.layer_norm_epsilon:g}"} if e.layer_norm_epsilon != BERT_EPSILON else {}),
        "heads": ", ".join(heads),
    }
    if t.added_tokens:
        lines["added tokens"] = added_tokens.first_few([token.content for token in t.added_tokens])
    if checkpoint.ignored:
        lines["not read"] = _first(checkpoint.ignored)
    if checkpoint.aside:
        lines["set aside"] = f"{_first(checkpoint.aside)}, of an optimizer or another model"
    lines["parameters"] = f"{sum(math.prod(shape) for shape in checkpoint.shapes.values()):,}"
    return "\n".join(f"{name + ':':<16}{value}" for name, value in lines.items())


def _first(tensors: tuple[str, ...]) -> str:
    others = len(tensors) - 1
    return tensors[0] + (f" and {others} more tensors" if others else "")


def _described(checkpoint: Checkpoint, head: Head) -> str:
    """Describe a task's head: its kind, outputs and accompanying parts."""
    found = HEADS.get(head.kind, head.kind.replace("_", " "))
    if head.labels:
        labels = ", ".join(head.labels[:SHOWN]) + (", …" if len(head.labels) > SHOWN else "")
        found += f" of {head.size} label{'s'[: head.size != 1]} ({labels})"
    elif head.kind == "classifier":
        found += f" of {head.size} labels"
    beside = [layer for layer in _layers(checkpoint) if layer not in (*PRETRAINING, head.kind)]
    found += f" with {', '.join(beside)}" if beside else ""
    if checkpoint.pooling not in (None, "pooler", "auto"):
        found += f" over --pooling={checkpoint.pooling}"
    return found + (f", of --task={head.task}" if head.task else "")
