"""Read how a sentence-transformers directory computes sentence vectors: modules.json and the settings it names.

In: a checkpoint's directory. Out: its pooling, dense layers, whether vectors are scaled to length 1, and its longest input;
None if there is no modules.json. Source: sentence-transformers 2 to 5, `Pooling`, `Dense`, `Normalize`.
"""

import logging
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import numpy as np

from kbert.checkpoints import hugging_face_weights, places
from kbert.checkpoints.checkpoint import Arrays, only_value
from kbert.config import Pooling, TextConfig
from kbert.errors import DataError
from kbert.files import read_json
from kbert.tasks.options import Projection, TextVector

log = logging.getLogger(__name__)

# In the order in which several are concatenated.
LEGACY = {
    "pooling_mode_cls_token": "cls",
    "pooling_mode_max_tokens": "max",
    "pooling_mode_mean_tokens": "mean",
    "pooling_mode_mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
    "pooling_mode_weightedmean_tokens": "weightedmean",
    "pooling_mode_lasttoken": "lasttoken",
}
POOLINGS: tuple[str, ...] = get_args(Pooling)
# Functions of torch, as `activation_function` of a Dense names them.
ACTIVATIONS: dict[str, Any] = {"Identity": "identity", "Tanh": "tanh", "ReLU": "relu", "GELU": "gelu", "Sigmoid": "sigmoid"}
ONLY_DENSE = {"module_input_name": "sentence_embedding", "module_output_name": "sentence_embedding"}
AVOID = "; --pooling=... sets the checkpoint's own settings aside"


@dataclass(frozen=True)
class SentenceSettings:
    """Settings stated in a sentence-transformers directory.

    Attributes:
        pooling: names of `kbert.model.pooling`, whose vectors are concatenated in this order; special tokens are included.
        normalize: whether vectors are scaled to length 1.
        max_length: longest input in tokens, special tokens included; None if not stated.
        projections: dense layers between pooling and scaling.
        similarity: how two vectors are compared.
        prompt: the name of the text that sentence-transformers prepends to every input, which kbert does not; None for none.
        layers: reads the weights of the projections, `projection_0/kernel` and so on.
    """

    pooling: tuple[str, ...]
    normalize: bool
    max_length: int | None
    projections: tuple[Projection, ...] = ()
    similarity: str = "cosine"
    prompt: str | None = None
    layers: Callable[[], Arrays] = field(default=dict, compare=False)


def is_sentence_transformers(init: str) -> bool:
    """Return whether what `--init` names is a directory of sentence-transformers."""
    return (places.downloaded(Path(init).expanduser()) / "modules.json").exists()


def other_vectors(init: str, text: TextConfig, vector: TextVector) -> str | None:
    """Say how a directory makes vectors, where a run that starts from it makes them in another way; None if it does not."""
    try:
        settings = read_sentence_settings(init, lowercase=text.lowercase)
    except DataError as error:
        return f"{str(error).removesuffix(AVOID)}; this run sets its vectors aside"
    if settings is None or (settings.pooling, settings.projections) == ((vector.pooling,), ()):
        return None
    own = ", ".join([" and ".join(settings.pooling), *map(str, settings.projections)])
    return (
        f"--init={init}: its own vectors ({own}) are set aside, and this run's have --pooling={vector.pooling}; kbert adopt "
        "makes a model of it, which --init keeps"
    )


def read_sentence_settings(init: str, *, lowercase: bool) -> SentenceSettings | None:
    """Read the settings of a directory; None if it has none.

    Args:
        init: the checkpoint as the user named it; a preset's name has no settings.
        lowercase: whether the checkpoint's tokenizer lowercases.

    Raises:
        DataError: a file is malformed, or the settings are not supported.
    """
    path = places.downloaded(Path(init).expanduser())
    where = path / "modules.json"
    if not where.exists():
        return None
    modules = read_json(where)
    if not isinstance(modules, list) or not all(
        isinstance(m, dict) and isinstance(m.get("type"), str) and isinstance(m.get("path"), str) for m in modules
    ):
        raise DataError(f"{where}: expected a list of modules, each with type and path")
    kinds = [module["type"].rpartition(".")[2] for module in modules]
    if not re.fullmatch("Transformer( Pooling( Dense| Dropout)*( Normalize)?)?", " ".join(kinds)):
        raise DataError(
            f"{where}: its modules are {', '.join(kinds)}; kbert reads Transformer, Pooling, Dense and Normalize, in this order"
            f"{AVOID}"
        )
    folders = [path / module["path"] for module in modules]
    if any(path.resolve() not in (f.resolve(), *f.resolve().parents) for f in folders):
        raise DataError(f"{where}: a module's path is outside the directory")
    pooling = _pooling(folders[1] / "config.json") if "Pooling" in kinds else ("mean",)
    prompts = path / "config_sentence_transformers.json"
    settings = _object(prompts) if prompts.exists() else {}
    default = settings.get("default_prompt_name")
    if default is not None:
        log.warning("%s: its prompt %r is not prepended to the texts; include it in the input", prompts, default)
    dense = [folder for folder, kind in zip(folders, kinds, strict=True) if kind == "Dense"]
    projections = tuple(_projection(folder / "config.json") for folder in dense)
    return SentenceSettings(
        pooling,
        "Normalize" in kinds,
        _max_length(folders[0] / "sentence_bert_config.json", lowercase),
        projections,
        str(settings.get("similarity_fn_name") or "cosine"),
        str(default) if default is not None and _prompts(settings).get(default, default) else None,
        lambda: {name: array for i, folder in enumerate(dense) for name, array in _weights(i, folder, projections[i]).items()},
    )


def _prompts(settings: dict[str, Any]) -> dict[str, Any]:
    found = settings.get("prompts")
    return found if isinstance(found, dict) else {}


def _projection(where: Path) -> Projection:
    config = _object(where)
    only_value(config, ONLY_DENSE, where)
    size, bias = config.get("out_features"), config.get("bias", True)
    if not isinstance(size, int) or isinstance(size, bool) or size < 1:
        raise DataError(f"{where}: out_features is {size!r}; expected a whole number of 1 or more")
    found = str(config.get("activation_function", "Tanh")).rpartition(".")[2]  # sentence-transformers' default
    if found not in ACTIVATIONS:
        raise DataError(f"{where}: activation_function is {found}; kbert supports {', '.join(ACTIVATIONS)}{AVOID}")
    return Projection(size=size, activation=ACTIVATIONS[found], bias=bool(bias))


def _weights(number: int, folder: Path, projection: Projection) -> Arrays:
    """Read a Dense module's weights, [in, out] and [out]."""
    file, tensors, read = hugging_face_weights.find(folder)
    found = {tensor.name: np.asarray(array, np.float32) for tensor, array in read(tensors)}
    if set(found) != {"linear.weight", *(["linear.bias"] if projection.bias else [])}:
        raise DataError(f"{file}: has {', '.join(sorted(found)) or 'no tensor'}; expected linear.weight and linear.bias")
    if found["linear.weight"].shape[:1] != (projection.size,) or not all(np.isfinite(a).all() for a in found.values()):
        raise DataError(f"{file}: linear.weight does not have {projection.size} finite rows")
    kernel = {f"projection_{number}/kernel": np.ascontiguousarray(found["linear.weight"].T)}
    return kernel | ({f"projection_{number}/bias": found["linear.bias"]} if projection.bias else {})


def _pooling(where: Path) -> tuple[str, ...]:
    config = _object(where)
    found = config.get("pooling_mode", [name for key, name in LEGACY.items() if config.get(key)] or "mean")
    names = [found] if isinstance(found, str) else found
    if not isinstance(names, list) or not names or not all(name in POOLINGS for name in names):
        raise DataError(f"{where}: the pooling is {found!r}; kbert supports {', '.join(POOLINGS)}{AVOID}")
    return tuple(names)


def _max_length(where: Path, lowercase: bool) -> int | None:
    config = _object(where) if where.exists() else {}
    if config.get("do_lower_case") and not lowercase:
        raise DataError(f"{where}: do_lower_case is true for a cased checkpoint, which kbert does not read{AVOID}")
    length = config.get("max_seq_length")
    if length is not None and (not isinstance(length, int) or isinstance(length, bool) or length < 3):
        raise DataError(f"{where}: max_seq_length is {length!r}; expected a whole number of 3 or more")
    return length


def _object(where: Path) -> dict[str, Any]:
    found = read_json(where)
    if not isinstance(found, dict):
        raise DataError(f"{where}: expected an object, found {type(found).__name__}")
    return found
