"""What a model is and how it was trained, as frozen dataclasses that go to JSON and back.

One question decides where an option lives: could changing it after training change a prediction?
Yes: `ModelConfig`. No: `TrainConfig`. A field whose metadata has a `help` text is also a flag
(`kbert.flags`), and its default is written here and nowhere else. No TensorFlow.
"""

import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from kbert.errors import DataError, UsageError

SCHEMA = 1

Precision = Literal["float32", "bfloat16", "float16"]
Activation = Literal["gelu", "gelu_approximate", "relu"]


def flag(default: Any = dataclasses.MISSING, *, help: str, **limits: Any) -> Any:
    """A dataclass field that is also a flag; `limits` are `low` and `high`, both inclusive."""
    return field(default=default, metadata={"help": help, **limits})


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of a BERT encoder, in KerasHub's terms. Sizes count elements; `dropout` is a fraction."""

    vocabulary_size: int
    num_layers: int
    num_heads: int
    hidden_dim: int
    intermediate_dim: int
    max_sequence_length: int = 512
    num_segments: int = 2
    dropout: float = 0.1
    activation: Activation = "gelu_approximate"


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How text becomes pieces, besides the vocabulary itself."""

    lowercase: bool
    strip_accents: bool


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """The part of a `ModelConfig` that the user chooses, whatever the task."""

    max_length: int = flag(
        128,
        help="Longest input, in tokens, with [CLS] and [SEP]; longer texts are cut, or read in windows where the task can.",
        low=3,
    )


@dataclass(frozen=True, kw_only=True)
class ModelConfig(ModelFlags):
    """Everything that changes a prediction. `fields` are the raw inputs' names, `options` the task's own."""

    task: str
    fields: tuple[str, ...]
    labels: tuple[str, ...]
    options: dict[str, Any]
    encoder: EncoderConfig
    text: TextConfig
    serving_precision: Precision = "float32"

    def with_n_best(self, n_best: int | None) -> "ModelConfig":
        """The same with another number of answers a row; None for the model's own.

        Raises:
            UsageError: the task gives one answer a row.
        """
        if n_best is None:
            return self
        if "n_best" not in self.options:
            raise UsageError(f"--n_best={n_best}: --task={self.task} has one answer a row")
        return dataclasses.replace(self, options={**self.options, "n_best": n_best})


@dataclass(frozen=True, kw_only=True)
class SourceConfig:
    """How rows are read from a SOURCE."""

    columns: tuple[str, ...] = flag(
        (), help="Names of the columns, comma-separated, for tsv/csv files that have no header row."
    )
    text_columns: tuple[str, ...] = flag(("text",), help="Column holding the text; two, comma-separated, for pairs of texts.")
    label_column: str = flag("label", help="Column holding the label, or what else is to be learnt.")
    encoding: str = flag("utf-8", help="Character encoding of the files, for example gb18030.")
    format: Literal["auto", "tsv", "csv", "jsonl", "txt", "conll", "squad"] = flag(
        "auto",
        help="Format of the files; auto goes by the ending (.tsv .csv .jsonl .txt .conll .bmes .bio, .json for squad, each "
        "also .gz).",
    )
    tfds_dir: str | None = flag(
        None, help="Where TFDS data sets are kept; by default TFDS's own folder (~/tensorflow_datasets)."
    )


# The same fields without defaults, for commands on a trained model: what is not given is as in training.
SourceOverrides = dataclasses.make_dataclass(
    "SourceOverrides",
    [
        (f.name, hint | None, field(default=None, metadata={**f.metadata, "default": "as in training"}))
        for f, hint in zip(dataclasses.fields(SourceConfig), typing.get_type_hints(SourceConfig).values(), strict=True)
    ],
    frozen=True,
    kw_only=True,
)


def overridden(recorded: SourceConfig, overrides: Any) -> SourceConfig:
    """The recorded source settings, with those that were given in their place."""
    given = {name: value for name, value in vars(overrides).items() if value is not None}
    return dataclasses.replace(recorded, **given)


N_BEST_HELP = (
    "How many answers to give for each row, best first, where the task knows several; by default the model's own number."
)
SOURCE_HELP = "files (tsv, csv, jsonl, txt, conll, squad, each also .gz; globs work), or tfds:name[/config]:split"


@dataclass(frozen=True, kw_only=True)
class TrainConfig:
    """How a model is trained; nothing here changes a prediction of the model once it is trained."""

    init: str = flag(help="Checkpoint to start from: a directory (Hugging Face, Keras preset, kbert model) or a preset's name.")
    train_data: str = flag(help=f"Training data: {SOURCE_HELP}.")
    dev_data: str | None = flag(None, help="Data that picks the best epoch, a SOURCE like --train_data.")
    dev_fraction: float | None = flag(
        None,
        help="Without --dev_data: fraction of the training rows set aside to pick the best epoch "
        "(0.1 when neither is given). Equal texts stay on one side.",
        low=0.001,
        high=0.9,
    )
    test_data: str | None = flag(None, help="Data the kept checkpoint is evaluated on at the end, a SOURCE.")
    labels: str | None = flag(
        None, help="File of the labels, one a line, in the order wanted; by default those of the training data, sorted."
    )
    source: SourceConfig = SourceConfig()
    freeze_layers: int = flag(0, help="Encoder layers to freeze, counted from the bottom; above 0 the embeddings too.", low=0)
    freeze_embeddings: bool = flag(False, help="Freeze the embeddings alone.")
    batch_size: int = flag(32, help="Rows a training step.", low=1)
    epochs: int = flag(3, help="Passes over the training data.", low=1)
    learning_rate: float = flag(5e-5, help="Peak learning rate of AdamW.", low=0.0)
    warmup_ratio: float = flag(
        0.1, help="Fraction of all steps over which the learning rate rises from 0; it then falls to 0.", low=0.0, high=1.0
    )
    weight_decay: float = flag(0.01, help="Decoupled weight decay; none on biases and LayerNorm.", low=0.0)
    precision: Precision = flag(
        "float32", help="Arithmetic of the training steps; weights, evaluation and serving stay float32."
    )
    early_stopping_patience: int | None = flag(
        None, help="Stop after this many epochs without a better dev figure; by default never.", low=1
    )
    seed: int = flag(0, help="Seed of initial weights, dropout and the order of the rows.", low=0, high=2**32 - 1)
    train_data_crc32: int | None = None  # of the rows read, so that a run is not continued on others


def to_json(value: Any) -> Any:
    """A dataclass as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(value)))


def from_json(cls: type, data: Any, where: str) -> Any:
    """The dataclass `cls` from plain JSON values.

    Raises:
        DataError: a key is unknown or missing, or a value has the wrong type; `where` names the place.
    """
    if not isinstance(data, Mapping):
        raise DataError(f"{where}: expected an object, found {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise DataError(f"{where}: unknown key {unknown[0]!r}; this version of kbert knows {', '.join(known)}")
    values = {}
    for name, spec in known.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}: {name}")
        elif spec.default is dataclasses.MISSING:
            raise DataError(f"{where}: key {name!r} is missing")
    return cls(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _value(args[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(args[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return value
    if origin is Literal and value in args:
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    allowed = f"one of {', '.join(map(str, args))}" if origin is Literal else str(getattr(hint, "__name__", hint))
    raise DataError(f"{where}: expected {allowed}, found {value!r}")


def read_json(path: Path) -> Any:
    """The JSON document in a file.

    Raises:
        DataError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(f"{path}: not readable as JSON: {error}") from None
