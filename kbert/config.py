"""Define model and training configurations as frozen dataclasses, which convert to JSON and back.

One question decides where an option belongs: could changing it after training change a prediction?
Yes: `ModelConfig`. No: `TrainConfig`. A field whose metadata has a `help` text is also a flag
(`kbert.flags`), and its default is written here and nowhere else. No TensorFlow.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, Literal

from kbert.errors import UsageError
from kbert.settings import flag, within
from kbert.source import SOURCE_HELP, SourceConfig

SCHEMA = 1

Precision = Literal["float32", "bfloat16", "float16"]
Strategy = Literal["none", "mirrored", "multi_worker", "tpu"]
Pooling = Literal["cls", "mean", "max"]  # of hidden states into a vector, see `kbert.model.pooling`
Activation = Literal["gelu", "gelu_approximate", "relu"]
BERT_EPSILON = 1e-12  # of layer normalisation, in Google's releases and in every Keras preset


@dataclass(frozen=True)
class Labels:
    """The number of labels that models of a task may have, and whether they are numbers."""

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
    """The directory of a run."""

    model_dir: str = flag(help="Directory of the trained model; created if missing.")
    overwrite: bool = flag(False, help="Replace the run that --model_dir already holds.")


@dataclass(frozen=True, kw_only=True)
class EncoderConfig:
    """The shape of a BERT encoder, in KerasHub's terms. Sizes count elements; dropouts are fractions.

    `attention_dropout` is that of attention weights; None where it is the same as `dropout`, that of everything else.
    `layer_norm_epsilon` is added to the variance in every layer normalisation.
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
    layer_norm_epsilon: float = within(BERT_EPSILON, low=0.0, high=1.0)

    @property
    def attention_rate(self) -> float:
        """The dropout rate of attention weights, a fraction."""
        return self.dropout if self.attention_dropout is None else self.attention_dropout

    @property
    def rounding(self) -> int:
        """Return the largest power of two, 8 to 128, that divides the rows of the embedding table; else 1.

        Tables are rounded up to a multiple of 8, 16, … 128 rows for the sake of GPUs, so that many rows less one can be
        unused; more of them say that the vocabulary is another's, or cut short.
        """
        return next((m for m in (128, 64, 32, 16, 8) if self.vocabulary_size % m == 0), 1)


@dataclass(frozen=True, kw_only=True)
class AddedToken:
    """A unit of the text: where its content is found, the text is cut, and the rules of BERT's text apply to the rest only.

    Attributes:
        content: the token, as the vocabulary has it.
        normalized: it is found in the text as an uncased model reads it (lowercased, without accents), else as it is written.
        between: where it may be: anywhere; not beside a letter or digit (`words`); between blanks or Chinese characters alone
            (`blanks`).
        wordpiece: it is also a word or piece of the vocabulary, so other words may be made of it.
    """

    content: str
    normalized: bool = False
    between: Literal["anywhere", "words", "blanks"] = "anywhere"
    wordpiece: bool = False


@dataclass(frozen=True, kw_only=True)
class TextConfig:
    """How text becomes pieces, besides the vocabulary itself."""

    lowercase: bool
    strip_accents: bool
    added_tokens: tuple[AddedToken, ...] = ()


@dataclass(frozen=True, kw_only=True)
class ModelFlags:
    """The part of a `ModelConfig` that the user chooses for any task."""

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
        """Return a copy with another number of answers a row; None for the model's own.

        Raises:
            UsageError: the task gives one answer a row.
        """
        if n_best is None:
            return self
        if "n_best" not in self.options:
            raise UsageError(f"--n_best={n_best}: --task={self.task} has one answer a row")
        return dataclasses.replace(self, options={**self.options, "n_best": n_best})


N_BEST_HELP = (
    "Number of answers to return for each row, best first, for tasks that return several; by default the model's own number."
)


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Settings of training steps that all runs share."""

    freeze_layers: int = flag(
        0, help="Encoder layers to freeze, counted from the bottom; above 0 the embeddings are frozen too.", low=0
    )
    freeze_embeddings: bool = flag(False, help="Freeze the embeddings only.")
    add_tokens: tuple[str, ...] = flag(
        (),
        help="Tokens to add to the checkpoint's vocabulary, comma-separated, for example [E1],[/E1]: units of the text, found "
        "exactly as they are written here. New ones take the rows of [unusedN] tokens, else unused or new rows of the "
        "embedding table.",
    )
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
    precision: Literal["auto", "float32", "bfloat16", "float16"] = flag(
        "auto",
        help="Precision of the training steps; weights, evaluation and serving remain float32. auto: bfloat16 or float32, "
        "whichever is faster for this model on this machine, which is measured before training.",
    )
    cache_frozen: Literal["auto", "memory", "disk", "off"] = flag(
        "auto",
        help="Compute the frozen layers once per text, and keep their states: in memory (memory), on disk (disk), in memory up "
        "to --cache_memory and the rest on disk (auto), or compute them at every step (off).",
    )
    cache_memory: float = flag(2.0, help="Memory for the states of frozen layers, in GiB.", low=0.0)
    cache_dir: str | None = flag(
        None,
        help="Directory for states of frozen layers on disk, where later runs with the same checkpoint, frozen layers and rows "
        "find them.",
        otherwise="in --model_dir, until the run ends",
    )
    cache_dtype: Literal["float32", "float16"] = flag(
        "float32", help="Type of the kept states of frozen layers; float16 takes half of the space and rounds them."
    )
    checkpoint_steps: int = flag(0, help="Also write a checkpoint every this many steps; 0: only when dev is evaluated.", low=0)
    keep_checkpoints: int = flag(1, help="Number of newest checkpoints to keep, in addition to the best on dev.", low=1)
    evaluate_steps: int = flag(
        0, help="Also evaluate dev, and write a checkpoint, every this many steps; 0: only at the end of each epoch.", low=0
    )
    best_metric: str | None = flag(
        None,
        help="Dev metric that selects the best checkpoint, by its name in TensorBoard; an unknown name lists all of the task.",
        otherwise="the task's own: accuracy, F1, micro_f1 (multilabel), mse (regression), ...",
    )
    early_stopping_patience: int | None = flag(
        None,
        help="Stop after this many evaluations of dev in a row (one at the end of each epoch, and one every --evaluate_steps) "
        "without a better metric, or an equal one with a lower loss.",
        otherwise="never stop early",
        low=1,
    )
    weight_histograms: bool = flag(False, help="Write histograms of all weights to TensorBoard whenever dev is evaluated.")
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

    @property
    def arithmetic(self) -> Precision:
        """The precision of the training steps, once it is chosen."""
        if self.precision == "auto":
            raise ValueError("the precision has not been chosen")
        return self.precision

    def total_steps(self, per_epoch: int) -> int:
        """Return the training steps of the run, given those of an epoch."""
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
