"""Read and write config.json of a model directory: model and training configuration, with every setting checked.

In: a file. Out: a `ModelConfig` and a `TrainConfig` or `PretrainConfig`; or an error that names file, key, value and what is
allowed. And marks: checksums of the vocabulary and of each setting that changes predictions. A checkpoint stores those it was
trained with, so that it is never used with others. No TensorFlow here.
"""

import importlib.metadata
import json
import math
import unicodedata
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import kbert
from kbert import config
from kbert.config import ModelConfig, RunConfig, TrainConfig
from kbert.errors import DataError, UsageError
from kbert.files import read_json, write_json
from kbert.pretrain_config import PretrainConfig
from kbert.settings import from_json, to_json
from kbert.tasks import RECORDED

PACKAGES = ("tensorflow", "tensorflow-text", "keras", "keras-nlp", "numpy")
VOCABULARY = "vocab.txt"  # name of its mark
CALIBRATION = "calibration"  # name of the mark of a checkpoint's thresholds


def write(path: Path, model: ModelConfig, train: RunConfig) -> None:
    """Write config.json."""
    versions = {name: importlib.metadata.version(name) for name in PACKAGES}
    document = {
        "kbert": {"schema": config.SCHEMA, "version": kbert.__version__, "packages": versions},
        "model": to_json(model),
        "train": to_json(train),
    }
    write_json(path, document)


def read(path: Path) -> tuple[ModelConfig, TrainConfig | PretrainConfig]:
    """Read both configurations.

    Raises:
        DataError: a newer schema, an unknown or missing key, or a value that is not allowed.
    """
    document = read_json(path)
    if not isinstance(document, dict) or not isinstance(document.get("kbert"), dict):
        raise DataError(f"{path}: not written by kbert")
    schema = document["kbert"].get("schema")
    if schema != config.SCHEMA:
        by = document["kbert"].get("version")
        raise DataError(f"{path}: schema {schema!r} of kbert {by}; kbert {kbert.__version__} reads schema {config.SCHEMA}")
    model = from_json(ModelConfig, document.get("model"), f"{path}: model")
    check_model(model, f"{path}: model")
    train = from_json(RECORDED[model.task].TRAINED_BY, document.get("train"), f"{path}: train")
    return model, train


def check_model(model: ModelConfig, where: str) -> None:
    """Raise DataError if values, each allowed, do not go together."""
    if model.task not in RECORDED:
        raise DataError(f"{where}: task: expected one of {', '.join(RECORDED)}, found {model.task!r}")
    task, encoder = RECORDED[model.task], model.encoder
    options = from_json(task, model.options, f"{where}: options")
    if model.fields not in task.FIELDS:
        allowed = " or ".join(json.dumps(fields) for fields in task.FIELDS)
        raise DataError(f"{where}: fields: expected {allowed} for task {model.task}, found {json.dumps(model.fields)}")
    _check_labels(model, options.allowed_labels, f"{where}: labels")
    if encoder.hidden_dim % encoder.num_heads:
        raise DataError(
            f"{where}: encoder: num_heads: expected a number that divides hidden_dim, {encoder.hidden_dim}, "
            f"found {encoder.num_heads}"
        )
    segments = options.segments(model.fields)
    if segments > encoder.num_segments:
        raise DataError(
            f"{where}: encoder: num_segments: expected at least {segments} for fields {json.dumps(model.fields)}, "
            f"found {encoder.num_segments}"
        )
    if model.max_length > encoder.max_sequence_length:
        raise DataError(
            f"{where}: max_length: expected at most {encoder.max_sequence_length}, the encoder's max_sequence_length, "
            f"found {model.max_length}"
        )
    try:
        options.check(model.max_length)
    except UsageError as error:
        raise DataError(f"{where}: options: {error}") from None


def _check_labels(model: ModelConfig, allowed: config.Labels, where: str) -> None:
    labels = model.labels
    twice = next((label for label in labels if labels.count(label) > 1), None) if len(set(labels)) < len(labels) else None
    if twice is not None:
        raise DataError(f"{where}: expected different ones, found {twice!r} twice")
    for label in labels:
        if not label.strip() or any(unicodedata.category(c) in ("Cc", "Cs") for c in label):
            raise DataError(f"{where}: expected text without line ends and control characters, found {label!r}")
        if allowed.numbers and not _is_number(label):
            raise DataError(f"{where}: expected numbers for task {model.task}, found {label!r}")
    if allowed.numbers and list(labels) != sorted(labels, key=float):
        raise DataError(f"{where}: expected ascending numbers, found {', '.join(labels)}")
    if len(labels) not in allowed.counts:
        raise DataError(f"{where}: expected {allowed} for task {model.task}, found {len(labels)}")


def _is_number(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def marks(model: ModelConfig, vocabulary: list[str]) -> dict[str, int]:
    """Compute checksums, by name, of the vocabulary and of each setting of a model."""
    settings = _flat(to_json(model))
    return {VOCABULARY: _mark(vocabulary), **{name: _mark(value) for name, value in settings.items()}}


def calibration_mark(calibration: Mapping[str, float]) -> dict[str, int]:
    """Compute the checksum, by its name, of a checkpoint's calibration, such as a threshold."""
    return {CALIBRATION: _mark({name: float(value) for name, value in sorted(calibration.items())})}


def check_calibration(kept: Mapping[str, int], calibration: Mapping[str, float], where: Path) -> None:
    """Raise DataError if a checkpoint's thresholds differ from those it was written with; `where` is their file."""
    if CALIBRATION in kept and kept[CALIBRATION] != calibration_mark(calibration)[CALIBRATION]:
        raise DataError(f"{where}: calibration: {json.dumps(calibration)[:200]} is not what dev rows gave; undo the change")


def check_marks(kept: Mapping[str, int], model: ModelConfig, vocabulary: list[str], directory: Path, trained: Path) -> None:
    """Raise DataError if the vocabulary or a setting differs from what a checkpoint was trained with.

    Args:
        kept: the checkpoint's marks; names without a mark, as in directories of an older kbert, are not checked.
        model, vocabulary: the contents of the directory's config.json and vocab.txt.
        directory, trained: the directory and the checkpoint, for the message.
    """
    settings = _flat(to_json(model))
    for name, mark in kept.items():
        if name == VOCABULARY and mark != _mark(vocabulary):
            raise DataError(
                f"{directory / VOCABULARY}: not the vocabulary that {trained.name} was trained with (found "
                f"{len(vocabulary):,} tokens, the model has {model.encoder.vocabulary_size:,}); was it cut short or edited?"
            )
        if name not in (VOCABULARY, CALIBRATION) and mark != _mark(settings.get(name)):
            found = json.dumps(settings.get(name), ensure_ascii=False)
            raise DataError(
                f"{directory / 'config.json'}: model: {name}: {found[:200]} differs from what {trained.name} was trained with; "
                "undo the change"
            )


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Flatten nested objects into one with dotted names."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= _flat(value, f"{prefix}{name}.") if isinstance(value, dict) else {prefix + name: value}
    return flat


def _mark(value: Any) -> int:
    if isinstance(value, float) and value.is_integer():
        value = int(value)  # JSON does not distinguish them
    return zlib.crc32(json.dumps(value).encode())
