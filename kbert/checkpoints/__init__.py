"""BERT checkpoints in any of the forms they are distributed in, read by looking at what is there.

In: a directory (Hugging Face, Google TF1, Keras preset, kbert model) or a preset's name. Out: a
`Checkpoint`: shape, casing, vocabulary, and the weights under the backbone's own variable paths. And
back: a directory of any of the first three forms. Nothing read here can execute: pickled
`pytorch_model.bin` files are refused, and a preset's config is read as data.
"""

import dataclasses
import math
from pathlib import Path
from typing import Literal, get_args

from kbert.checkpoints import google, hugging_face, kbert_model, keras_preset
from kbert.checkpoints.checkpoint import Arrays, Checkpoint
from kbert.checkpoints.names import HEADS
from kbert.config import read_json
from kbert.errors import DataError, UsageError
from kbert.files import whole_directory

Format = Literal["hugging_face", "google", "keras_preset"]
FORMATS = get_args(Format)

__all__ = ["FORMATS", "Arrays", "Checkpoint", "Format", "describe", "open_checkpoint", "summary", "write_checkpoint"]


def open_checkpoint(init: str) -> Checkpoint:
    """Read what a checkpoint is; its tensors are checked by name and shape, their values not read yet.

    Args:
        init: a directory, a kbert model's or one of its checkpoints too, or the name of a KerasHub preset such as
            `bert_base_zh` (needs the network).

    Raises:
        UsageError: neither a directory nor a known preset.
        DataError: the directory is no BERT checkpoint, or a file of it is missing or malformed, or a
            tensor is missing, left over or of the wrong shape.
    """
    path = Path(init).expanduser()
    if not path.is_dir():
        return keras_preset.read_name(init)
    if (path / "bert_config.json").exists() and (list(path.glob("*.ckpt*")) or not (path / "config.json").exists()):
        return google.read(path)
    if (path / "checkpoint.json").exists():
        return kbert_model.read(path.resolve().parent.parent, path)
    if not (path / "config.json").exists():
        raise DataError(
            f"--init={init}: no checkpoint: the directory has neither config.json (Hugging Face, Keras, kbert) "
            "nor bert_config.json (Google)"
        )
    config = read_json(path / "config.json")
    if isinstance(config, dict) and "kbert" in config:
        return kbert_model.read(path)
    if isinstance(config, dict) and "registered_name" in config:
        return keras_preset.read(path, config)
    return hugging_face.read(path, config)


def write_checkpoint(checkpoint: Checkpoint, output: str, form: Format, *, approximate_gelu: bool = False) -> list[str]:
    """Write a checkpoint as a directory, which appears when it is whole.

    Args:
        output: the directory; it may exist if it is empty.
        form: what to write.
        approximate_gelu: write a model of the exact GELU even where only its tanh approximation can be said.

    Returns:
        What the user should know: what could not be written along.

    Raises:
        UsageError: `output` is in use, or `form` cannot say what the checkpoint is.
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
                f"--format={form}: the checkpoint's activation is the exact gelu, and this form means the tanh approximation "
                "by it; --approximate_gelu writes it all the same, for outputs that differ in the third decimal"
            )
        notices.append("the exact GELU is written as its tanh approximation: outputs differ in the third decimal")
    if form == "keras_preset" and activation == "relu":
        raise UsageError("--format=keras_preset: the checkpoint's activation is relu; a preset's is always gelu_approximate")
    write = {"hugging_face": hugging_face.write, "google": google.write, "keras_preset": keras_preset.write}[form]
    if "sop_head/bias" in checkpoint.shapes and form != "keras_preset":  # which holds no head and says so
        notices.append(f"left out: {HEADS['sop_head']}; BERT has no such head")
        arrays = {name: array for name, array in checkpoint.heads().items() if not name.startswith("sop_head/")}
        checkpoint = dataclasses.replace(checkpoint, heads=lambda: arrays)
    with whole_directory(path) as beside:
        notices += write(checkpoint, beside)
    return notices


def describe(checkpoint: Checkpoint) -> str:
    """One line for the user."""
    e, t = checkpoint.encoder, checkpoint.text
    return (
        f"{checkpoint.format} BERT: {e.num_layers} layers, {e.hidden_dim} wide, {e.num_heads} heads, "
        f"{len(checkpoint.vocabulary):,} tokens, {'uncased' if t.lowercase else 'cased'}, {e.activation}"
    )


def summary(checkpoint: Checkpoint) -> str:
    """All that is to be said of a checkpoint, a line each."""
    e, t = checkpoint.encoder, checkpoint.text
    unused = e.vocabulary_size - len(checkpoint.vocabulary)
    heads = ["pooler"] if checkpoint.has_pooler else ["no pooler"]
    heads += [name for part, name in HEADS.items() if part != "classifier" and f"{part}/{_LAST[part]}" in checkpoint.shapes]
    outputs = checkpoint.shapes.get("classifier/bias", (0,))[0]
    if outputs:
        named = ", ".join(checkpoint.labels[:5]) + (", …" if outputs > 5 else "")
        heads.append(f"classifier of {outputs} labels" + (f" ({named})" if checkpoint.labels else ""))
    if checkpoint.pooling not in (None, "pooler"):
        heads[-1] += f" over --pooling={checkpoint.pooling}"
    lines = {
        "format": checkpoint.format,
        "layers": f"{e.num_layers}, each with {e.num_heads} heads",
        "width": f"{e.hidden_dim}, in the feed-forward layers {e.intermediate_dim:,}",
        "longest input": f"{e.max_sequence_length} tokens, in {e.num_segments} segments",
        "vocabulary": f"{len(checkpoint.vocabulary):,} tokens" + (f" and {unused} unused rows" if unused else ""),
        "casing": f"{'lowercased' if t.lowercase else 'as written'}, accents {'stripped' if t.strip_accents else 'kept'}",
        "activation": {"gelu": "gelu (exact)", "gelu_approximate": "gelu (tanh approximation)", "relu": "relu"}[e.activation],
        "heads": ", ".join(heads),
    }
    if checkpoint.ignored:
        others = len(checkpoint.ignored) - 1
        lines["not read"] = checkpoint.ignored[0] + (f" and {others} more tensors" if others else "")
    lines["parameters"] = f"{sum(math.prod(shape) for shape in checkpoint.shapes.values()):,}"
    return "\n".join(f"{name + ':':<16}{value}" for name, value in lines.items())


_LAST = {"mlm_head": "output_bias", "nsp_head": "bias", "sop_head": "bias"}  # a weight that tells of its head
