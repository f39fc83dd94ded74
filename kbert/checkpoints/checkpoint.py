"""What every form of checkpoint comes down to, and the checks they share.

In: sizes, casing and tokens as a file states them. Out: a `Checkpoint`, or a DataError naming the file.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kbert.checkpoints.head import Head
from kbert.config import EncoderConfig, TextConfig
from kbert.data import tokenizer as text
from kbert.errors import DataError

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# Hugging Face's names of activations; `gelu_new` and Google's own gelu are the tanh approximation.
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_approximate", "gelu_pytorch_tanh": "gelu_approximate", "relu": "relu"}

# The key in tokenizer_config.json of how many tokens the vocabulary has, where kbert writes fewer than there are embeddings.
TOKENS = "kbert_tokens"
MOST_LAYERS = 1_000  # more is clearly a damaged number

# Our sizes under the names that Hugging Face and Google share.
SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}
OWN_SIZES = {name: name for name in SIZES}  # as Keras presets and kbert's own configurations have them


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint is; its weights are read when `arrays` or `heads` is called.

    Attributes:
        arrays: the encoder's weights by the backbone's variable paths (`kbert.checkpoints.names`).
        heads: those of the heads that are there: `mlm_head/…`, `nsp_head/…`, `classifier/…`, and of a kbert model all that
            is beside its encoder.
        shapes: shape by path, of all that `arrays` and `heads` give.
        ignored: tensors of heads that kbert has no use for, as the file names them.
        head: what a fine-tuned checkpoint answers with; None without one.
    """

    format: str
    encoder: EncoderConfig
    text: TextConfig
    vocabulary: list[str]
    arrays: Callable[[], Arrays]
    heads: Callable[[], Arrays]
    shapes: Shapes
    ignored: tuple[str, ...] = ()
    head: Head | None = None

    @property
    def has_pooler(self) -> bool:
        return "pooled_dense/kernel" in self.shapes

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the head's outputs, in order; empty where none are given."""
        return self.head.labels if self.head else ()

    @property
    def pooling(self) -> str | None:
        """What the head reads, as `--pooling` says it; None without one, or when not known."""
        return self.head.options.get("pooling") if self.head else None


def encoder_config(
    config: Any, where: Path, keys: Mapping[str, str], *, dropout: str, activation: str, attention_dropout: str | None = None
) -> EncoderConfig:
    """Return the encoder's shape from a JSON object.

    Args:
        config: the object.
        where: its file, for messages.
        keys: name of a size of `EncoderConfig` -> its key in the object.
        dropout: the key of the dropout.
        activation: kbert's own name of the activation.
        attention_dropout: the key of the attention weights' dropout, which is the same where it is missing.

    Raises:
        DataError: a key is missing or its value impossible.
    """
    sizes: dict[str, int] = {}
    for ours, theirs in keys.items():
        value = _present(config, theirs, where)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise DataError(f"{where}: {theirs} is {value!r}; expected a whole number of 1 or more")
        sizes[ours] = value
    if sizes["num_layers"] > MOST_LAYERS:
        raise DataError(f"{where}: {keys['num_layers']} is {sizes['num_layers']}; expected at most {MOST_LAYERS:,}")
    if sizes["hidden_dim"] % sizes["num_heads"]:
        raise DataError(
            f"{where}: {keys['num_heads']} is {sizes['num_heads']}, which does not divide "
            f"{keys['hidden_dim']}, {sizes['hidden_dim']}"
        )
    share = _fraction(_present(config, dropout, where), dropout, where)
    of_attention = config.get(attention_dropout)
    if of_attention is not None:
        of_attention = _fraction(of_attention, attention_dropout, where)
    return EncoderConfig(
        **sizes,
        dropout=share,
        activation=activation,  # type: ignore[arg-type]
        attention_dropout=None if of_attention == share else of_attention,
    )


def _fraction(value: Any, key: str | None, where: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise DataError(f"{where}: {key} is {value!r}; expected a fraction from 0, below 1")
    return float(value)


def bert_config(config: Any, where: Path, names: Mapping[str, str] = ACTIVATIONS) -> EncoderConfig:
    """Return the encoder's shape from Hugging Face's or Google's configuration; `names` are the activations it may state."""
    act = _present(config, "hidden_act", where)
    if not isinstance(act, str) or act not in names:
        raise DataError(f"{where}: hidden_act is {act!r}; kbert knows {', '.join(names)}")
    if config.get("layer_norm_eps", 1e-12) != 1e-12:
        raise DataError(f"{where}: layer_norm_eps is {config['layer_norm_eps']!r}; kbert reads 1e-12")
    dropouts = {"dropout": "hidden_dropout_prob", "attention_dropout": "attention_probs_dropout_prob"}
    return encoder_config(config, where, SIZES, activation=names[act], **dropouts)


def written_sizes(encoder: EncoderConfig) -> dict[str, Any]:
    """Return what Hugging Face's and Google's configurations both state of an encoder, by their keys."""
    sizes = {theirs: getattr(encoder, ours) for ours, theirs in SIZES.items()}
    dropouts = {"attention_probs_dropout_prob": encoder.attention_rate, "hidden_dropout_prob": encoder.dropout}
    return {**sizes, **dropouts, "initializer_range": 0.02}


def _present(config: Any, key: str, where: Path) -> Any:
    if not isinstance(config, dict):
        raise DataError(f"{where}: expected an object, found {type(config).__name__}")
    if key not in config:
        raise DataError(f"{where}: not a BERT config: {key!r} is missing")
    return config[key]


def only_value(settings: Mapping[str, Any], only: Mapping[str, Any], where: Path) -> None:
    """Raise DataError when one of the settings is there and has another value than the one kbert runs."""
    for key, value in only.items():
        found = settings.get(key)
        if found is not None and found != value:
            raise DataError(f"{where}: {key} is {found!r}; kbert reads {value!r}")


def say_added(tokens: list[str], where: Path) -> None:
    """Say that tokens beyond the vocabulary are left out: they are matched before BERT's own rules begin."""
    if tokens:
        shown = ", ".join(tokens[:5]) + (", …" if len(tokens) > 5 else "")
        log.warning("%s: %d added tokens are left out, texts that hold them are read without: %s", where, len(tokens), shown)


def read_vocabulary(
    path: Path, encoder: EncoderConfig, *, stated: int | None = None, added: Mapping[str, Path] | None = None
) -> list[str]:
    """Return the tokens of a `vocab.txt` that goes with an encoder.

    A last line without an end is said, since a cut through the last token cannot be inferred from it.

    Args:
        stated: how many there are, where another file says so.
        added: tokens that the embedding table has rows for besides, each with the file that names it; they are left out, and
            those that the vocabulary lacks are said.

    Raises:
        DataError: see `check_size`; or the file is no vocabulary.
    """
    vocabulary = text.read_vocabulary(path)
    if stated not in (None, len(vocabulary)):
        raise DataError(f"{path}: {len(vocabulary):,} tokens, and {TOKENS} of tokenizer_config.json is {stated:,}")
    beyond = {token: where for token, where in (added or {}).items() if token not in set(vocabulary)}
    for where in dict.fromkeys(beyond.values()):
        say_added([token for token, file in beyond.items() if file == where], where)
    full = stated is not None and len(vocabulary) <= encoder.vocabulary_size
    check_size(encoder.vocabulary_size if full else len(vocabulary), encoder, path, len(beyond))
    if not path.read_bytes().endswith(b"\n"):
        if len(vocabulary) + len(beyond) < encoder.vocabulary_size:
            raise DataError(f"{path}: ends in the middle of line {len(vocabulary):,}; is the file cut short?")
        log.warning("%s: its last line has no end; if the file was cut there, its last token is wrong", path)
    return vocabulary


def check_size(tokens: int, encoder: EncoderConfig, where: Path, added: int = 0) -> None:
    """Raise DataError unless tokens fill the embedding table, up to `added` ones and what rounding its size up would add."""
    rows = encoder.vocabulary_size
    if tokens > rows:
        raise DataError(f"{where}: {tokens:,} tokens, but the checkpoint has {rows:,} embeddings")
    if rows - tokens - added >= encoder.rounding:
        raise DataError(f"{where}: {tokens:,} tokens, but the checkpoint has {rows:,} embeddings; is the file cut short?")
