"""The common representation of all forms of checkpoints, and the checks they share.

In: sizes, casing and tokens as stated by files. Out: a `Checkpoint`, or a DataError naming the file.
"""

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from kbert.checkpoints.head import Head
from kbert.config import BERT_EPSILON, EncoderConfig, TextConfig
from kbert.data import vocabulary as text
from kbert.errors import DataError
from kbert.files import check_pointer, read_json

log = logging.getLogger(__name__)

Arrays = dict[str, np.ndarray]
Shapes = dict[str, tuple[int, ...]]

# Hugging Face's names for activations, of which it has several for the same function; Google's own gelu is the approximation.
ACTIVATIONS = {
    **dict.fromkeys(("gelu", "gelu_python"), "gelu"),
    **dict.fromkeys(("gelu_new", "gelu_fast", "gelu_pytorch_tanh", "gelu_python_tanh", "gelu_accurate"), "gelu_approximate"),
    "relu": "relu",
}

# The key in tokenizer_config.json for the vocabulary's number of tokens, which kbert writes if there are more embeddings.
TOKENS = "kbert_tokens"
MOST_LAYERS = 1_000  # a larger number means a damaged file
MOST_UNUSED = 0.1  # share of the embedding table without a token; more means a vocabulary cut short, or another model's

# kbert's sizes under the names that Hugging Face and Google share.
SIZES = {
    "vocabulary_size": "vocab_size",
    "num_layers": "num_hidden_layers",
    "num_heads": "num_attention_heads",
    "hidden_dim": "hidden_size",
    "intermediate_dim": "intermediate_size",
    "max_sequence_length": "max_position_embeddings",
    "num_segments": "type_vocab_size",
}
OWN_SIZES = {name: name for name in SIZES}  # as in Keras presets and kbert's own configurations


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint whose weights are read when `arrays` or `heads` is called.

    Attributes:
        arrays: returns the encoder's weights by the backbone's variable paths (`kbert.checkpoints.names`).
        heads: returns the weights of the heads present: `mlm_head/…`, `nsp_head/…`, `classifier/…`; for a kbert model, all
            weights except its encoder's.
        shapes: shape by path, of everything that `arrays` and `heads` return.
        ignored: tensors of heads that kbert does not use, by their names in the file.
        aside: tensors that are no part of the model: optimizer slots, counters, other models.
        source: the file of weights, and their type unless that is float32; empty for a preset by name.
        head: the fine-tuned output layers; None if there are none.
    """

    format: str
    encoder: EncoderConfig
    text: TextConfig
    vocabulary: list[str]
    arrays: Callable[[], Arrays]
    heads: Callable[[], Arrays]
    shapes: Shapes
    ignored: tuple[str, ...] = ()
    aside: tuple[str, ...] = ()
    source: str = ""
    head: Head | None = None

    @property
    def has_pooler(self) -> bool:
        return "pooled_dense/kernel" in self.shapes

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the head's outputs, in order; empty if not given."""
        return self.head.labels if self.head else ()

    @property
    def pooling(self) -> str | None:
        """What the head reads, as a value of `--pooling`; None without a head, or if unknown."""
        return self.head.options.get("pooling") if self.head else None


def encoder_config(
    config: Any,
    where: Path,
    keys: Mapping[str, str],
    *,
    dropout: str,
    activation: str,
    attention_dropout: str | None = None,
    epsilon: str | None = None,
) -> EncoderConfig:
    """Parse the encoder's sizes from a JSON object.

    Args:
        config: the object.
        where: its file, for messages.
        keys: field of `EncoderConfig` -> its key in the object.
        dropout: the key of the dropout rate.
        activation: kbert's name of the activation.
        attention_dropout: the key of the attention dropout; defaults to the dropout rate if missing.
        epsilon: the key of layer normalisation's epsilon; defaults to BERT's if missing.

    Raises:
        DataError: a key is missing or its value is invalid.
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
    added = config.get(epsilon)
    return EncoderConfig(
        **sizes,
        dropout=share,
        activation=activation,  # type: ignore[arg-type]
        attention_dropout=None if of_attention == share else of_attention,
        layer_norm_epsilon=BERT_EPSILON if added is None else _fraction(added, epsilon, where),
    )


def _fraction(value: Any, key: str | None, where: Path) -> float:
    if not isinstance(value, int | float) or isinstance(value, bool) or not 0 <= value < 1:
        raise DataError(f"{where}: {key} is {value!r}; expected a fraction from 0, below 1")
    return float(value)


def bert_config(config: Any, where: Path, names: Mapping[str, str] = ACTIVATIONS) -> EncoderConfig:
    """Parse Hugging Face's or Google's configuration; `names` are the activations allowed in it."""
    act = _present(config, "hidden_act", where)
    if not isinstance(act, str) or act not in names:
        raise DataError(f"{where}: hidden_act is {act!r}; kbert supports {', '.join(names)}")
    return encoder_config(
        config,
        where,
        SIZES,
        activation=names[act],
        dropout="hidden_dropout_prob",
        attention_dropout="attention_probs_dropout_prob",
        epsilon="layer_norm_eps",
    )


def written_sizes(encoder: EncoderConfig) -> dict[str, Any]:
    """Return the encoder's sizes by the keys that Hugging Face and Google share."""
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
    """Raise DataError if a setting is present with another value than the one kbert supports."""
    for key, value in only.items():
        found = settings.get(key)
        if found is not None and found != value:
            raise DataError(f"{where}: {key} is {found!r}; kbert reads {value!r}")


def vocabulary_file(path: Path, config: Any) -> Path:
    """Return a directory's file of tokens: vocab.txt, or the one that `vocab_file` names in a configuration.

    Raises:
        DataError: there is neither; other text files are named.
    """
    usual = path / "vocab.txt"
    if usual.exists():
        return usual
    beside = path / "tokenizer_config.json"
    for settings in (read_json(beside) if beside.exists() else {}, config):
        named = settings.get("vocab_file") if isinstance(settings, dict) else None
        if isinstance(named, str) and named and (file := path / Path(named).name).is_file():
            return file
    others = sorted(file.name for file in path.glob("*.txt"))
    hint = f"; if {' or '.join(others)} is the vocabulary, rename it" if others else ""
    raise DataError(f"{usual}: no such file{hint}")


def read_vocabulary(path: Path, encoder: EncoderConfig, *, stated: int | None = None, added: Iterable[str] = ()) -> list[str]:
    """Read the `vocab.txt` of an encoder.

    Warn if the last line has no line end, since truncation inside the last token cannot be detected otherwise.

    Args:
        stated: the number of tokens, if another file states it.
        added: tokens that may have embedding rows beyond the vocabulary's.

    Raises:
        DataError: see `check_size`; or the file is not a vocabulary.
    """
    check_pointer(path)
    vocabulary = text.read_vocabulary(path)
    if stated not in (None, len(vocabulary)):
        raise DataError(f"{path}: {len(vocabulary):,} tokens, but {TOKENS} of tokenizer_config.json is {stated:,}")
    beyond = set(added) - set(vocabulary)
    full = stated is not None and len(vocabulary) <= encoder.vocabulary_size
    check_size(encoder.vocabulary_size if full else len(vocabulary), encoder, path, len(beyond))
    if not path.read_bytes().endswith(b"\n"):
        if len(vocabulary) + len(beyond) < encoder.vocabulary_size:
            raise DataError(f"{path}: ends in the middle of line {len(vocabulary):,}; is the file cut short?")
        log.warning("%s: the last line has no line end; if the file was truncated, the last token is wrong", path)
    return vocabulary


def check_size(tokens: int, encoder: EncoderConfig, where: Path, added: int = 0) -> None:
    """Compare the number of tokens, and of `added` ones beyond them, with the rows of the embedding table.

    Tables are often rounded up. More rows without a token are logged.

    Raises:
        DataError: there are more tokens than rows, or so few that the file is probably cut short, or another model's.
    """
    rows = encoder.vocabulary_size
    if tokens > rows:
        raise DataError(f"{where}: {tokens:,} tokens, but the checkpoint has {rows:,} embeddings")
    unused = rows - tokens - added
    if unused >= encoder.rounding:
        found = f"{where}: {tokens:,} tokens, but the checkpoint has {rows:,} embeddings"
        if unused > MOST_UNUSED * rows:
            raise DataError(f"{found}; is the file cut short?")
        log.warning("%s; %s rows are unused", found, f"{unused:,}")
