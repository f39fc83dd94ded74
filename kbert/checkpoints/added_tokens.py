"""Read the tokens added to a vocabulary, which are units of the text, wherever versions of transformers keep them.

    tokenizer.json          "added_tokens": [{"id": 30522, "content": "[E1]", "normalized": false, "single_word": false, ...}]
    tokenizer_config.json   "added_tokens_decoder": {"30522": {"content": "[E1]", ...}}
                            "additional_special_tokens": ["[E1]"], "never_split": ["[E1]"]
    added_tokens.json       {"[E1]": 30522}                                        in the absence of an added_tokens_decoder
    special_tokens_map.json {"additional_special_tokens": ["[E1]"]}                likewise

In: a directory and the vocabulary of WordPiece. Out: the tokens, and the vocabulary with them at their ids. BERT's own special
tokens are left out: written in a text they are text. `never_split` is read as by the slow tokenizer; the fast one ignores it.
"""

import dataclasses
import logging
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from kbert.checkpoints.casing import read_settings, read_tokenizer
from kbert.config import AddedToken, TextConfig
from kbert.data.vocabulary import CLS, MASK, PAD, SEP, UNKNOWN, numbered
from kbert.errors import DataError
from kbert.files import read_json

log = logging.getLogger(__name__)

OWN = (UNKNOWN, CLS, SEP, PAD, MASK)
SHOWN = 5


class Listed(NamedTuple):
    """A token, its id if a file gives one, and that file."""

    token: AddedToken
    id: int | None
    where: Path


def listed(path: Path) -> dict[str, Listed]:
    """Return the added tokens that a directory's files name, by content, in the order in which they count.

    Raises:
        DataError: a file is malformed.
    """
    found: dict[str, Listed] = {}
    for where, entry in _entries(path):
        content, number = entry.get("content"), entry.get("id")
        if not isinstance(content, str) or not (number is None or (isinstance(number, int) and number >= 0)):
            raise DataError(f"{where}: not a tokenizer: added token {str(entry)[:80]}; expected its content and its id")
        special = bool(entry.get("special"))
        normalized = bool(entry.get("normalized", not special))
        token = AddedToken(content=content, normalized=normalized, between="words" if entry.get("single_word") else "anywhere")
        if "\n" in content:
            log.warning("%s: added token %r is read as white space: it has a line end", where, content)
        elif content and content not in OWN:
            found.setdefault(content, Listed(token, number, where))
    return found


def _entries(path: Path) -> Iterator[tuple[Path, Mapping[str, Any]]]:
    """Yield all entries, with the file of each, those that count first."""
    file, config = path / "tokenizer.json", path / "tokenizer_config.json"
    beside, special_map = path / "added_tokens.json", path / "special_tokens_map.json"
    settings = read_settings(path)
    yield from ((file, _object(entry, file)) for entry in read_tokenizer(path).get("added_tokens") or [])
    decoder = settings.get("added_tokens_decoder")
    specials = [(config, token) for token in _specials(settings)]
    if decoder is not None:
        for number, entry in _object(decoder, config).items():
            if not number.isdecimal():
                raise DataError(f"{config}: added_tokens_decoder: {number!r} is not an id")
            yield config, {**_object(entry, config), "id": int(number)}
    else:
        if special_map.exists():
            specials += [(special_map, token) for token in _specials(_object(read_json(special_map), special_map))]
        names = {token if isinstance(token, str) else _object(token, where).get("content") for where, token in specials}
        for content, number in _object(read_json(beside), beside).items() if beside.exists() else ():
            yield beside, {"content": content, "id": number, "special": content in names}
    for where, token in specials:
        yield where, {"special": True, **({"content": token} if isinstance(token, str) else _object(token, where))}


def _specials(settings: Mapping[str, Any]) -> list[Any]:
    """Return the special tokens beyond BERT's own, each a string or an object."""
    found: list[Any] = []
    for name in ("additional_special_tokens", "extra_special_tokens"):
        value = settings.get(name) or []
        found += value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
    return found


def _object(value: Any, where: Path) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise DataError(f"{where}: not a tokenizer: expected an object, found {str(value)[:80]!r}")
    return value


def placed(
    found: Mapping[str, Listed], path: Path, vocabulary: list[str], casing: TextConfig, rows: int
) -> tuple[list[str], TextConfig]:
    """Put added tokens at their ids, and the directory's `never_split` ones where they are.

    Tokens without a row of the embedding table are logged: they remain plain text.

    Args:
        found: see `listed`.
        path: the directory.
        vocabulary: the tokens of WordPiece.
        casing: how text is read.
        rows: of the embedding table.

    Raises:
        DataError: an id is another token's, or `never_split` is not a list of tokens.
    """
    ids, whole, tokens, outside = numbered(vocabulary), list(vocabulary), [], []
    for content, (token, number, where) in found.items():
        if content not in ids:
            number = len(whole) if number is None else number
            if number >= rows:
                outside.append(content)
                continue
            whole += [""] * (number + 1 - len(whole))
            if whole[number] and not unused(whole[number]):
                raise DataError(f"{where}: added token {content!r} has id {number}, which is that of {whole[number]!r}")
            whole[number] = content
        tokens.append(dataclasses.replace(token, wordpiece=content in ids))
    if outside:
        log.warning(
            "%s: %d added tokens have no row among the %s embeddings and are tokenized as plain text: %s",
            *(found[outside[0]].where, len(outside), f"{rows:,}", first_few(outside)),
        )
    tokens += _never_split(path, whole, {token.content for token in tokens}, casing.lowercase)
    return whole, dataclasses.replace(casing, added_tokens=tuple(tokens))


def _never_split(path: Path, vocabulary: list[str], beside: set[str], lowercase: bool) -> list[AddedToken]:
    """Return the tokens of `never_split`, which are units where they are between blanks."""
    where = path / "tokenizer_config.json"
    contents = read_settings(path).get("never_split") or []
    if not isinstance(contents, list) or not all(isinstance(content, str) for content in contents):
        raise DataError(f"{where}: never_split is {str(contents)[:80]!r}; expected a list of tokens")
    contents = [content for content in contents if content.strip() and content not in beside and content not in OWN]
    never = [content for content in contents if lowercase and content != content.lower()]
    if never:
        log.warning(
            "%s: %d tokens of never_split have capitals and the text is lowercased first, so they are never found, as in "
            "transformers: %s; --add_tokens makes them units of the text",
            *(where, len(never), first_few(never)),
        )
    known = numbered(vocabulary)
    if missing := [content for content in contents if content not in known and content not in never]:
        log.warning("%s: %d tokens of never_split are not in the vocabulary: %s", where, len(missing), first_few(missing))
    return [
        AddedToken(content=content, normalized=True, between="blanks", wordpiece=content in known)
        for content in contents
        if content not in never
    ]


def unused(token: str) -> bool:
    """Return whether a token is a placeholder, whose row is free (`[unused1]`)."""
    return token.startswith("[unused") and token.endswith("]")


def first_few(contents: Sequence[str]) -> str:
    """Return some tokens, for a message."""
    return ", ".join(contents[:SHOWN]) + (", …" if len(contents) > SHOWN else "")
