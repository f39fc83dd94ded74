"""Find the BERT among a file's tensors, whatever its names begin with, and separate it from the other tensors.

In: the tensors that a file lists, and an encoder's shape. Out: the encoder's tensors under the names of the table
(`names`), and the others. Read are `bert.`, `module.`, `model.bert.`, `state_dict.model.bert.`, none at all, and `bert/` or
none in TensorFlow checkpoints: whatever precedes the token embeddings is the prefix. A tensor inside the encoder that the
table lacks stays with the encoder's, so that `match` refuses it: it belongs to another architecture.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from kbert.checkpoints import foreign, names
from kbert.checkpoints.names import OUTPUTS, Naming
from kbert.checkpoints.tensor_matching import Tensor, deduplicated
from kbert.config import EncoderConfig
from kbert.errors import DataError

SEPARATORS: dict[Naming, str] = {"hugging_face": ".", "google": "/"}
WORDS: dict[Naming, str] = {"hugging_face": "embeddings.word_embeddings.weight", "google": "embeddings/word_embeddings"}
PARTS = ("embeddings", "encoder", "pooler")
BUFFERS = ("embeddings.position_ids", "embeddings.token_type_ids")  # 0, 1, 2, ... and zeros, which PyTorch stores


@dataclass(frozen=True)
class Located:
    """The tensors of a file.

    Attributes:
        encoder: those of the encoder and its pooler, by the table's names.
        beside: those of the model that the encoder is part of, such as its heads, by their names there.
        aside: all others: optimizer slots, counters, parts of other models.
    """

    encoder: dict[str, Tensor]
    beside: dict[str, Tensor]
    aside: list[Tensor]


def locate(tensors: Iterable[Tensor], config: EncoderConfig, naming: Naming, where: Path) -> Located:
    """Separate a file's tensors.

    Args:
        config: the encoder that the directory describes.
        naming: the form whose names the file uses.
        where: the file, for messages.

    Raises:
        DataError: the file holds another architecture, or several BERTs, or the same weight twice.
    """
    listed, table = list(tensors), list(names.rows(config, dict.fromkeys(OUTPUTS, 1)))
    dot = SEPARATORS[naming]
    own = f"bert{dot}"
    home = own if naming == "google" else ""  # before the encoder's names in the table
    known = {row.names[naming].removeprefix(home) for row in table if not row.of_head}
    weights = known | {row.names[naming] for row in table}
    prefix = _prefix(listed, naming, where)
    base = prefix.removesuffix(own) if prefix.endswith((own, dot + own)) else prefix
    encoder: list[tuple[str, Tensor]] = []
    beside: list[tuple[str, Tensor]] = []
    aside: list[Tensor] = []
    for tensor in listed:
        name = _respelt(tensor.name)
        outer, inner = name.removeprefix(base), name.removeprefix(prefix)
        of_encoder = name.startswith(prefix) and inner.split(dot)[0] in PARTS
        if of_encoder and inner in BUFFERS:
            continue
        if not name.startswith(base) or not tensor.shape or (naming == "google" and _slot(outer, weights)):
            aside.append(tensor)
        elif of_encoder:
            encoder.append((home + inner, tensor))
        elif outer.removeprefix(own) in known:  # some have the prefix, and some have not
            encoder.append((home + outer.removeprefix(own), tensor))
        else:
            beside.append((outer, tensor))
    return Located(deduplicated(encoder), deduplicated(beside), aside)


def _prefix(tensors: list[Tensor], naming: Naming, where: Path) -> str:
    """Return what precedes the token embeddings' name."""
    dot, words = SEPARATORS[naming], WORDS[naming]
    usual = ("", f"bert{dot}")
    found = [t.name.removesuffix(words) for t in tensors if t.name == words or t.name.endswith(dot + words)]
    foreign.check_tensors([t.name for t in tensors], found, where)
    if prefix := [prefix for prefix in usual if prefix in found]:
        return prefix[0]
    if len(found) > 1:
        raise DataError(
            f"{where}: holds {len(found)} encoders, under {', '.join(map(repr, sorted(found)))}; save the one to use alone"
        )
    return found[0] if found else next((own for own in usual[1:] if any(t.name.startswith(own) for t in tensors)), "")


def _respelt(name: str) -> str:
    """Return a tensor's name in the newer of PyTorch's two spellings."""
    return name.replace("LayerNorm.gamma", "LayerNorm.weight").replace("LayerNorm.beta", "LayerNorm.bias")


def _slot(name: str, weights: set[str]) -> bool:
    """Return whether a TensorFlow optimizer keeps a tensor for a weight: its name contains the weight's, and more."""
    parts = name.split("/")
    spans = ((start, end) for start in range(len(parts)) for end in range(start + 1, len(parts) + 1))
    return name not in weights and any("/".join(parts[start:end]) in weights for start, end in spans)
