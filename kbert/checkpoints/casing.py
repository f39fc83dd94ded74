"""Read casing settings: tokenizer_config.json and tokenizer.json.

In: a directory. Out: a `TextConfig`; DataError names the file whose settings kbert does not support.
"""

from pathlib import Path
from typing import Any

from kbert.checkpoints.checkpoint import TOKENS, only_value
from kbert.checkpoints.foreign import check_tokenizer
from kbert.config import TextConfig
from kbert.data import vocabulary as text
from kbert.errors import DataError
from kbert.files import check_pointer, read_json

# Settings that would change the ids of a text, with the only value that kbert supports. (The fast tokenizers' limit of
# 100 characters a word is not among them: BERT's own is 200.)
ONLY: dict[str, Any] = {"tokenize_chinese_chars": True, "do_basic_tokenize": True}
ONLY |= {"unk_token": text.UNKNOWN, "cls_token": text.CLS, "sep_token": text.SEP, "pad_token": text.PAD}
ONLY_NORMALIZER = {"clean_text": True, "handle_chinese_chars": True}
ONLY_MODEL = {"continuing_subword_prefix": "##", "unk_token": text.UNKNOWN}


def read_tokenizer(path: Path) -> dict[str, Any]:
    """Read tokenizer.json; empty if there is none."""
    return _object(path / "tokenizer.json")


def read_settings(path: Path) -> dict[str, Any]:
    """Read tokenizer_config.json; empty if there is none."""
    return _object(path / "tokenizer_config.json")


def _object(file: Path) -> dict[str, Any]:
    check_pointer(file)
    found = read_json(file) if file.exists() else {}
    if not isinstance(found, dict):
        raise DataError(f"{file}: expected an object, found {type(found).__name__}")
    return found


def read_casing(path: Path, config: dict[str, Any]) -> TextConfig:
    """Read the casing from tokenizer_config.json, else tokenizer.json, else config.json; else uncased, as in transformers."""
    file = path / "tokenizer_config.json"
    settings = read_settings(path)
    check_tokenizer(settings, file)
    check_tokenizer(config, path / "config.json")
    only_value({k: v.get("content") if isinstance(v, dict) else v for k, v in settings.items()}, ONLY, file)
    tokenizer = read_tokenizer(path)
    normalizer, model = tokenizer.get("normalizer"), tokenizer.get("model")
    said: dict[str, Any] = {}
    if isinstance(model, dict):
        only_value(model, ONLY_MODEL, path / "tokenizer.json")
    if isinstance(normalizer, dict) and normalizer.get("type") == "BertNormalizer":
        only_value(normalizer, ONLY_NORMALIZER, path / "tokenizer.json")
        said = {"do_lower_case": normalizer.get("lowercase"), "strip_accents": normalizer.get("strip_accents")}
    places = [(settings, file), (said, path / "tokenizer.json"), (config, path / "config.json")]
    source, where = next((place for place in places if "do_lower_case" in place[0]), ({}, path))
    lowercase = _flag(source, "do_lower_case", where)
    strip = _flag(source, "strip_accents", where)
    if strip is None:
        strip = _flag(settings, "strip_accents", file)
    lowercase = True if lowercase is None else lowercase
    return TextConfig(lowercase=lowercase, strip_accents=lowercase if strip is None else strip)


def _flag(source: dict[str, Any], key: str, where: Path) -> bool | None:
    value = source.get(key)
    if value is not None and not isinstance(value, bool):
        raise DataError(f"{where}: {key} is {value!r}; expected true or false")
    return value


def stated_tokens(path: Path) -> int | None:
    """Return the number of tokens in the vocabulary, which kbert writes if it is less than the number of embeddings."""
    found = read_settings(path).get(TOKENS)
    if found is not None and (not isinstance(found, int) or isinstance(found, bool)):
        raise DataError(f"{path / 'tokenizer_config.json'}: {TOKENS} is {found!r}; expected a whole number")
    return found
