"""What a model is and how it was trained, as frozen dataclasses that go to JSON and back.

One question decides where an option lives: could changing it after training change a prediction?
Yes: `ModelConfig`. No: `TrainConfig`. A field whose metadata has a `help` text is also a flag
(`kbert.flags`), and its default is written here and nowhere else. No TensorFlow.
"""

import csv
import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal

from kbert.errors import DataError, UsageError

SCHEMA = 1

Precision = Literal["float32", "bfloat16", "float16"]
Strategy = Literal["none", "mirrored", "multi_worker", "tpu"]
Activation = Literal["gelu", "gelu_approximate", "relu"]
Offsets = Literal["characters", "utf16", "bytes"]
Ends = Literal["exclusive", "inclusive"]


def flag(default: Any = dataclasses.MISSING, *, help: str, otherwise: str | None = None, **limits: Any) -> Any:
    """A dataclass field that is also a flag.

    Args:
        otherwise: what happens without it, where that is not one value.
        limits: `low` and `high`, both inclusive.
    """
    shown = {} if otherwise is None else {"default": otherwise}
    return field(default=default, metadata={"help": help, **shown, **limits})


def within(default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """A dataclass field that is no flag, with limits (`low` and `high`, both inclusive) that `from_json` holds it to."""
    return field(default=default, metadata=limits)


@dataclass(frozen=True)
class Labels:
    """How many labels a task's models have, and whether these are numbers."""

    least: int = 0
    most: int = 1_000_000
    numbers: bool = False

    @property
    def counts(self) -> range:
        return range(self.least, self.most + 1)

    def __str__(self) -> str:
        return f"{self.least} or more" if self.most else "none"


NO_LABELS = Labels(most=0)


@dataclass(frozen=True, kw_only=True)
class RunFlags:
    """Where a run is kept."""

    model_dir: str = flag(help="Directory of the trained model; created if missing.")
    overwrite: bool = flag(False, help="Replace the run that --model_dir already holds.")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of a BERT encoder, in KerasHub's terms. Sizes count elements; dropouts are fractions.

    `attention_dropout` is that of attention weights; None where it is the same as `dropout`, that of everything else.
    """

    vocabulary_size: int = within(low=1)
    num_layers: int = within(low=1, high=1000)
    num_heads: int = within(low=1)
    hidden_dim: int = within(low=1)
    intermediate_dim: int = within(low=1)
    max_sequence_length: int = within(512, low=1)
    num_segments: int = within(2, low=1)
    dropout: float = within(0.1, low=0.0, high=1.0)
    activation: Activation = "gelu_approximate"
    attention_dropout: float | None = within(None, low=0.0, high=1.0)

    @property
    def attention_rate(self) -> float:
        """Dropout of attention weights, a fraction."""
        return self.dropout if self.attention_dropout is None else self.attention_dropout

    @property
    def rounding(self) -> int:
        """What the rows of the embedding table are a multiple of.

        Tables are rounded up to a multiple of 8, 16, … 128 rows for the sake of GPUs, so that many rows less one can be
        unused; more of them say that the vocabulary is another's, or cut short.
        """
        return next((m for m in (128, 64, 32, 16, 8) if self.vocabulary_size % m == 0), 1)


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
        help="Maximum input length in tokens, including [CLS] and [SEP]; longer texts are truncated, or read in windows by "
        "tasks that support it.",
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
        (), help="Column names, comma-separated, for tsv/csv files without a header row, and for conll."
    )
    text_columns: tuple[str, ...] = flag(
        ("text",),
        help="Column of the text; two, comma-separated, for pairs of texts. For conll the column of the tokens, by its name in"
        " --columns or its number (1 is the first, -1 the last), by default the first (FORM in CoNLL-U).",
    )
    label_column: str = flag(
        "label",
        help="Column of the label, or of another target. For conll the column of the tags, by name or number, by default the "
        "last (UPOS in CoNLL-U).",
    )
    encoding: str = flag("utf-8", help="Character encoding of the files, for example gb18030.")
    delimiter: str = flag(",", help="Column separator of csv files; `tab` for a tab.")
    format: Literal["auto", "tsv", "csv", "jsonl", "txt", "conll", "squad", "terms"] = flag(
        "auto",
        help="File format; auto infers it from the extension (.tsv .csv .jsonl .txt .conll .bmes .bio, .json for squad, .seg "
        "for terms, each also .gz).",
    )
    tfds_dir: str | None = flag(None, help="Directory of the TFDS data sets.", otherwise="TFDS's own, ~/tensorflow_datasets")

    offsets: Offsets | None = flag(
        None,
        help="Unit of the offsets of entities and answers (start, end, answer_start): characters, UTF-16 code units, as in "
        "JavaScript, Java and C#, or UTF-8 bytes.",
        otherwise="characters; if most entities then cut words, that is an error",
    )
    ends: Ends | None = flag(
        None,
        help="Whether the `end` of an entity is the offset after its last character (exclusive) or that of its last character "
        "(inclusive).",
        otherwise="exclusive; inclusive in CLUENER's layout",
    )

    def read_by(self, fields: Sequence[str]) -> "SourceConfig":
        """The same for a trained model with these raw inputs: without further columns, which training alone reads."""
        return dataclasses.replace(self, text_columns=self.text_columns[: len(fields)])

    @property
    def label_columns(self) -> tuple[str, ...]:
        """The columns that `label_column` names, comma-separated; a name with a comma stands in double quotes."""
        return tuple(name.strip() for name in next(csv.reader([self.label_column], skipinitialspace=True), ()))


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


@dataclass(frozen=True, kw_only=True)
class Recorded:
    """What training said of its files, for later ones where these say nothing themselves.

    Attributes:
        source: training's flags; where a later command has a flag of its own, that.
        ending: of the training file, for example .tsv.
        labels: the model's.
        given: the flags that a later command has of its own; None where the command is training's.
    """

    source: SourceConfig
    ending: str = ""
    labels: tuple[str, ...] = ()
    given: tuple[str, ...] | None = None

    @classmethod
    def of(cls, source: SourceConfig, file: str, labels: tuple[str, ...]) -> "Recorded":
        """What training on a file said."""
        return cls(source=source, ending=Path(file.removesuffix(".gz")).suffix.lower(), labels=labels)

    def overridden(self, overrides: Any = None) -> tuple[SourceConfig, "Recorded"]:
        """What holds for a later command on the model: what it says itself, and what training said besides.

        The names of the columns are training's unless given; so is where TFDS keeps its data. How a file is written
        (`WRITTEN`) it may say itself.
        """
        given = {} if overrides is None else {name: value for name, value in vars(overrides).items() if value is not None}
        both = dataclasses.replace(self.source, **given)
        # Several columns are the model's outputs in the order of training, in which they are read whatever the order given.
        if sorted(both.label_columns) == sorted(self.source.label_columns):
            both = dataclasses.replace(both, label_column=self.source.label_column)
        own = {name: given.get(name, getattr(SourceConfig(), name)) for name in WRITTEN}
        return dataclasses.replace(both, **own), dataclasses.replace(
            self, source=both, given=None if overrides is None else tuple(given)
        )


WRITTEN = ("columns", "encoding", "format", "delimiter")  # of a SourceConfig: how files are written


N_BEST_HELP = (
    "Number of answers to return for each row, best first, for tasks that return several; by default the model's own number."
)
SOURCE_HELP = "files (tsv, csv, jsonl, txt, conll, squad, terms, each also .gz; globs work), or tfds:name[/config]:split"


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """How the steps of a run go, whatever it learns and from what."""

    freeze_layers: int = flag(
        0, help="Encoder layers to freeze, counted from the bottom; above 0 the embeddings are frozen too.", low=0
    )
    freeze_embeddings: bool = flag(False, help="Freeze the embeddings only.")
    batch_size: int = flag(32, help="Rows per training step, over all replicas and accumulation steps.", low=1)
    accumulation_steps: int = flag(
        1,
        help="Split each batch into this many parts, computed one after another, and add up their gradients: less memory, same"
        " result. --batch_size remains the size of the whole batch.",
        low=1,
    )
    strategy: Strategy = flag(
        "none",
        help="How a batch is distributed: one device (none); all GPUs of this machine (mirrored); several machines, each "
        "running the same command with TF_CONFIG set and --model_dir on a shared file system (multi_worker); a TPU (tpu).",
    )
    epochs: int = flag(3, help="Passes over the training data; 0 evaluates and stores the model without training.", low=0)
    steps: int | None = flag(None, help="Number of training steps, instead of --epochs.", low=1)
    optimizer: Literal["adamw", "lamb"] = flag("adamw", help="AdamW, or LAMB for batches of thousands of rows.")
    learning_rate: float = flag(5e-5, help="Peak learning rate.", low=0.0)
    warmup_ratio: float = flag(
        0.1, help="Fraction of all steps over which the learning rate rises from 0; it then decays to 0.", low=0.0, high=1.0
    )
    decay_power: float = flag(
        1.0,
        help="Shape of the decay after the warm-up: the learning rate is proportional to the fraction of steps left, raised to"
        " this power; 1 is linear.",
        low=0.0,
    )
    clip_norm: float = flag(1.0, help="Clip the gradient of the whole batch to this norm; 0 disables clipping.", low=0.0)
    weight_decay: float = flag(0.01, help="Decoupled weight decay; not applied to biases and LayerNorm.", low=0.0)
    dropout: float | None = flag(
        None,
        help="Dropout rate of the encoder during this run, for hidden states and attention weights alike. It is not stored: a "
        "later --init from this model uses the original rates.",
        otherwise="the checkpoint's own rates; 0.1 from scratch",
        low=0.0,
        high=0.9,
    )
    precision: Precision = flag(
        "float32", help="Precision of the training steps; weights, evaluation and serving remain float32."
    )
    checkpoint_steps: int = flag(0, help="Also write a checkpoint every this many steps; 0: only when dev is evaluated.", low=0)
    keep_checkpoints: int = flag(1, help="Number of newest checkpoints to keep, in addition to the best on dev.", low=1)
    evaluate_steps: int = flag(
        0, help="Also evaluate dev, and write a checkpoint, every this many steps; 0: only at the end of each epoch.", low=0
    )
    early_stopping_patience: int | None = flag(
        None,
        help="Stop after this many evaluations of dev in a row (one at the end of each epoch, and one every --evaluate_steps) "
        "without a better metric, or an equal one with a lower loss.",
        otherwise="never stop early",
        low=1,
    )
    seed: int = flag(0, help="Seed of initial weights, dropout and row order.", low=0, high=2**32 - 1)
    loss_limit: float = flag(
        0.0,
        help="Stop when the loss of a step exceeds this multiple of its running mean (over about the last hundred steps); 0 "
        "disables this check. A loss that is NaN or infinite always stops the run.",
        low=0.0,
    )
    train_data_crc32: int | None = None  # of the rows read, so that a run is not continued on others
    dev_data_crc32: int | None = None  # nor the best checkpoint chosen by others
    # How rows are ordered and dev rows set aside (`kbert.permutation`, `kbert.tasks.splits`); 1 where the run did not keep it.
    data_order: int = 1

    def total_steps(self, per_epoch: int) -> int:
        """Training steps of the run, given those of an epoch."""
        return self.epochs * per_epoch if self.steps is None else self.steps


@dataclass(frozen=True, kw_only=True)
class TrainConfig(RunConfig):
    """How a model is trained; nothing here changes a prediction of the model once it is trained."""

    init: str = flag(
        help="Checkpoint to start from: a directory (Hugging Face, Google TF1, Keras preset, kbert model) or the name of a "
        "preset."
    )
    train_data: str = flag(help=f"Training data: {SOURCE_HELP}.")
    dev_data: str | None = flag(None, help="Data to select the best checkpoint on, a SOURCE like --train_data.")
    dev_fraction: float | None = flag(
        None,
        help="Without --dev_data: fraction of the training rows held out to select the best checkpoint (0.1 when neither is "
        "given). Equal texts stay in one split.",
        low=0.001,
        high=0.9,
    )
    test_data: str | None = flag(None, help="Data to evaluate the best checkpoint on after training, a SOURCE.")
    new_head: bool = flag(
        False,
        help="Start with a randomly initialised head. By default the head of a fine-tuned --init is kept if it was trained for"
        " the same task with the same labels; otherwise a message gives the reason.",
    )
    labels: str | None = flag(
        None,
        help="File of the labels, one per line, in the desired order.",
        otherwise="the labels of the training data, sorted",
    )
    source: SourceConfig = SourceConfig()


TEXT_HELP = "Key of the text in JSON lines, of which each object is a document."


@dataclass(frozen=True, kw_only=True)
class ExampleFlags:
    """How pre-training examples are made of plain text, wherever that is done."""

    layout: Literal["sentences", "documents"] = flag(
        "sentences",
        help="Layout of the text files: one sentence per line with a blank line between documents, or one document per line, "
        "which is split into sentences (Chinese and English). JSON lines and the output of WikiExtractor are recognised.",
    )
    text_column: str = flag("text", help=TEXT_HELP)
    encoding: str = flag("utf-8", help="Character encoding of the files, for example gb18030.")
    segmenter: str | None = flag(
        None,
        help="Word segmenter for --mask_unit=word and span: jieba (pip install 'kbert-keras[jieba]'), or module:function of "
        "your own.",
        otherwise="words are separated by spaces; each Chinese character is a word",
    )
    mask_unit: Literal["piece", "word", "span"] = flag(
        "piece", help="Unit to mask as a whole: WordPieces, words, or spans of 1 to 10 words as in SpanBERT."
    )
    mask_rate: float = flag(0.15, help="Fraction of an example's tokens to predict.", low=0.01, high=0.9)
    max_predictions: int | None = flag(
        None,
        help="Maximum number of predictions per example.",
        otherwise="--mask_rate of --max_length, rounded up: 20 for 128 tokens, 77 for 512, as in the paper",
        low=1,
    )
    short_seq_prob: float = flag(
        0.1, help="Fraction of the documents that are cut into pairs of a random shorter length.", low=0.0, high=1.0
    )

    def predictions(self, max_length: int) -> int:
        """How many predictions an example of up to `max_length` tokens has, at most."""
        return math.ceil(self.mask_rate * max_length) if self.max_predictions is None else self.max_predictions


@dataclass(frozen=True, kw_only=True)
class PretrainConfig(RunConfig, ExampleFlags):
    """How a model is pre-trained on plain text; nothing here changes an answer of the model once it is trained."""

    DEFAULTS: ClassVar[dict[str, Any]] = {"learning_rate": 1e-4, "warmup_ratio": 0.01, "epochs": 10, "loss_limit": 3.0}
    source: ClassVar[SourceConfig] = SourceConfig()  # how `kbert.predict` reads texts to fill

    train_data: str = flag(
        help="Text to learn from: plain text files (.gz and globs work, - for standard input), or *.tfrecord shards of kbert "
        "make_pretraining_data."
    )
    init: str | None = flag(
        None, help="Checkpoint to continue from, with its vocabulary and shape; without it, --vocab starts from scratch."
    )
    dev_data: str | None = flag(None, help="Held-out text or shards, evaluated but not trained on; as --train_data.")
    dev_fraction: float | None = flag(
        None,
        help="Without --dev_data: fraction of the documents held out (0.05 when neither is given). Equal documents stay in one"
        " split.",
        low=0.0001,
        high=0.9,
    )
    dev_examples: int = flag(2000, help="Maximum number of held-out examples to evaluate.", low=1)
    skip_damaged_shards: bool = flag(False, help="Skip shards that are damaged or truncated, and list them.")


def to_json(value: Any) -> Any:
    """A dataclass as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(value)))


def changed(value: Any, defaults: Mapping[str, Any] | None = None) -> set[str]:
    """Names of the flags of a dataclass, dotted in nested ones, whose values are not the defaults.

    Args:
        value: the dataclass.
        defaults: those of a task, which come before the fields' own; as do those of the dataclass itself.
    """
    known = {**getattr(value, "DEFAULTS", {}), **(defaults or {})}
    found: set[str] = set()
    for spec in dataclasses.fields(value):
        now = getattr(value, spec.name)
        if dataclasses.is_dataclass(now):
            found |= {f"{spec.name}.{name}" for name in changed(now, defaults)}
        elif "help" in spec.metadata and now != known.get(spec.name, spec.default):
            found.add(spec.name)
    return found


def from_json(cls: type, data: Any, where: str) -> Any:
    """The dataclass `cls` from plain JSON values.

    Raises:
        DataError: a key is unknown or missing, or a value has the wrong type or is beyond its field's limits; `where` names
            the place.
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
            _check_limits(values[name], spec.metadata, f"{where}: {name}")
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
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
        return {key: item if args[1] is Any else _value(args[1], item, f"{where}: {key}") for key, item in value.items()}
    if origin is Literal and value in args:
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    allowed = f"one of {', '.join(map(str, args))}" if origin is Literal else str(getattr(hint, "__name__", hint))
    raise DataError(f"{where}: expected {allowed}, found {value!r}")


def _check_limits(value: Any, limits: Mapping[str, Any], where: str) -> None:
    """Raise DataError for a number that is not finite, or not between `low` and `high`."""
    low, high = limits.get("low"), limits.get("high")
    if (
        isinstance(value, int | float)
        and limits
        and not (math.isfinite(value) and (low is None or low <= value) and (high is None or value <= high))
    ):
        expected = (
            f"from {low} to {high}"
            if None not in (low, high)
            else f"of at least {low}"
            if low is not None
            else "that is finite"
        )
        raise DataError(f"{where}: expected a number {expected}, found {value!r}")


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
