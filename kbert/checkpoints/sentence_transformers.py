"""Read how a sentence-transformers directory computes sentence vectors: modules.json and the settings it names.

In: a checkpoint's directory. Out: its pooling, whether vectors are scaled to length 1, and its longest input;
None if there is no modules.json. Source: sentence-transformers 2 to 5, `Pooling`, `Normalize`.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kbert.checkpoints import places
from kbert.errors import DataError
from kbert.files import read_json
from kbert.model.pooling import POOLINGS

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
AVOID = "; --pooling=... sets the checkpoint's own settings aside"


@dataclass(frozen=True)
class SentenceSettings:
    """Settings stated in a sentence-transformers directory.

    Attributes:
        pooling: names of `kbert.model.pooling`, whose vectors are concatenated in this order; special tokens are included.
        normalize: whether vectors are scaled to length 1.
        max_length: longest input in tokens, special tokens included; None if not stated.
    """

    pooling: tuple[str, ...]
    normalize: bool
    max_length: int | None


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
    if kinds not in (["Transformer"], ["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"]):
        raise DataError(f"{where}: its modules are {', '.join(kinds)}; kbert reads Transformer, Pooling and Normalize{AVOID}")
    folders = [path / module["path"] for module in modules]
    if any(path.resolve() not in (f.resolve(), *f.resolve().parents) for f in folders):
        raise DataError(f"{where}: a module's path is outside the directory")
    pooling = _pooling(folders[1] / "config.json") if "Pooling" in kinds else ("mean",)
    prompts = path / "config_sentence_transformers.json"
    default = _object(prompts).get("default_prompt_name") if prompts.exists() else None
    if default is not None:
        log.warning("%s: its prompt %r is not prepended to the texts; include it in the input", prompts, default)
    return SentenceSettings(pooling, "Normalize" in kinds, _max_length(folders[0] / "sentence_bert_config.json", lowercase))


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
