"""Resolve how to read one file from flags, the file itself and the settings used in training.

In: a file and the settings of its source. Out: the file's format, encoding, delimiter and columns. Precedence: a flag
of the command, then the file itself (its ending, its header row, bytes that are UTF-8), then what
training recorded, then the default. Where the ending is ambiguous (.txt, none), the first rows decide.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, get_args

from kbert.data import encodings, tagged_lines
from kbert.data.delimiters import TAB, cells, character_of, other_delimiter
from kbert.data.folders import FolderFormat
from kbert.data.recognition import recognised
from kbert.data.rows import Rows
from kbert.data.trained_format import BINARY, fits
from kbert.data.transcoding import wide
from kbert.errors import DataError, UsageError
from kbert.source import Format, Recorded, SourceConfig

SAMPLE = 1 << 18  # bytes of a file to inspect
ROWS = 200  # lines of a file to inspect
ENDINGS: dict[str, Format] = {".tsv": "tsv", ".csv": "csv", ".jsonl": "jsonl", ".txt": "txt", ".json": "json", ".seg": "terms"}
ENDINGS |= {".xml": "semeval", ".ann": "brat", ".parquet": "parquet", ".arrow": "arrow", ".feather": "arrow", ".xlsx": "xlsx"}
ENDINGS |= dict.fromkeys((".conll", ".conllu", ".bio", ".bmes", ".bioes", ".iob", ".iob2"), "conll")
CHOOSING = frozenset(("text_columns", "label_column"))  # the flags that choose the columns of tokens and tags
ALL = "|".join(get_args(Format))


@dataclass(frozen=True)
class FileSettings:
    """Resolved settings of one file; `note` says what was taken from training."""

    format: Format | FolderFormat
    encoding: str
    columns: tuple[str, ...] = ()  # names given by flags
    recorded_columns: tuple[str, ...] = ()  # names given by training's flags
    delimiter: str = ","
    note: str = ""
    lenient: frozenset[str] = frozenset()  # flags taken from training, whose names may belong to other files
    taken: frozenset[str] = frozenset()  # those not given now, so that a column number may not fit
    labels: tuple[str, ...] = ()  # the model's labels
    label_column: str = ""  # name given in training


def resolve_settings(
    name: str,
    stream: IO[bytes],
    config: SourceConfig,
    recorded: Recorded | None,
    columns: Sequence[str],
    tokenised: bool = False,
) -> FileSettings:
    """Resolve the settings of one file.

    Args:
        name: the file's name; `<stdin>` has no ending.
        stream: its bytes; must be seekable.
        config: the flags' values, or defaults.
        recorded: the settings used in training; None if there was no training.
        columns: the columns to read.
        tokenised: whether the task reads tokens.

    Raises:
        UsageError: the format cannot be determined, or the encoding or delimiter does not exist or does not fit the file.
        DataError: the first rows only partly fit training's format.
    """
    if name.startswith("tfds:") or isinstance(name, Rows):
        return FileSettings("jsonl", "utf-8")  # as kbert copied it
    notes = []
    known = ENDINGS.get(_ending(name)) if config.format == "auto" else config.format
    if known in BINARY:
        return FileSettings(known, "utf-8")
    encoding = _encoding(name, stream, config.encoding, recorded)
    if recorded and recorded.source.encoding != config.encoding:
        notes.append(f"{encoding} {'as in training' if encoding != config.encoding else 'unlike in training'}")
    stream.seek(0)
    head = _head(stream.read(SAMPLE), encoding)
    kind = _format(name, head, config, recorded, columns, tokenised)
    if recorded and config.format == "auto" and kind != ENDINGS.get(_ending(name), "txt"):
        notes.append(f"{kind} as in training")
    delimiter = config.delimiter
    if recorded and kind == "csv" and recorded.source.delimiter != delimiter:
        taken = recorded.source.delimiter
        widths = [max(map(len, cells(head[:1], "csv", character_of(each))), default=0) for each in (taken, delimiter)]
        if widths[0] >= widths[1]:
            delimiter = taken
            notes.append(f"delimiter {taken} as in training")
    character = character_of(delimiter)
    if kind == "csv" and delimiter == "," and (other := other_delimiter(head, config.columns, columns)):
        character = other
        notes.append(f"csv with the delimiter {'tab' if other == TAB else other}")
    if config.delimiter != "," and kind != "csv":
        raise UsageError(f"{name}: --delimiter={config.delimiter} is for csv, and the file is read as {kind}; add --format=csv")
    return FileSettings(
        kind,
        encoding,
        config.columns,
        recorded.source.columns if recorded and not config.columns else (),
        character,
        f"read as {', '.join(notes)}" if notes else "",
        CHOOSING.difference(recorded.given or ()) if recorded else frozenset(),
        CHOOSING.difference(recorded.given) if recorded and recorded.given is not None else frozenset(),
        recorded.labels if recorded else (),
        recorded.source.label_column if recorded else "",
    )


def _ending(name: str) -> str:
    return Path(name.removesuffix(".gz")).suffix.lower()


def _format(
    name: str,
    head: Sequence[str],
    config: SourceConfig,
    recorded: Recorded | None,
    columns: Sequence[str],
    tokenised: bool,
) -> Format | Literal["brat"]:
    if config.format == "jsonl" and _is_document(head):
        raise UsageError(f"{name}: a JSON document, not JSON lines of one object each; --format=json reads it")
    if config.format != "auto":
        return config.format
    ending = _ending(name)
    if ending in (".xls", ".ods"):
        raise UsageError(f"{name}: a spreadsheet of a kind that kbert does not read; save it as .xlsx or as CSV in UTF-8")
    own = "txt" if name == "<stdin>" else ENDINGS.get(ending)
    if own == "json" and _is_json_lines(head, columns):
        own = "jsonl"
    elif own == "jsonl" and _is_document(head):
        own = "json"
    if own == "conll" and tokenised and tagged_lines.fits([line for line in head if line.strip()]):
        own = "tagged"
    trained = None
    if recorded:
        trained = ENDINGS.get(recorded.ending) if recorded.source.format == "auto" else recorded.source.format
    certain = own not in (None, "txt")
    # An ending that training also read as something else is not evidence.
    if recorded and trained and trained != own and (not certain or ending == recorded.ending):
        found = fits(trained, head, recorded, columns)
        if found == "yes":
            return trained
        if own == "txt" and len(columns) > 1:  # plain text has one column
            return (recognised(name, head, columns, tokenised) if found == "no" else None) or trained
        if found == "unsure" and not certain:
            raise DataError(
                f"{name}: its first rows may be {trained}, as in training, or plain texts; "
                f"--format={trained} or --format=txt decides"
            )
    if own in (None, "txt"):
        own = recognised(name, head, columns, tokenised) or own
    if own is None:
        hint = f" and the rows are not {trained} as in training;" if trained else ";"
        raise UsageError(f"{name}: the ending {ending or '(none)'} does not determine the format{hint} add --format={ALL}")
    return own


def _is_json_lines(head: Sequence[str], columns: Sequence[str]) -> bool:
    """Return whether a .json file holds an object a line, and is no document."""
    lines = [line for line in head if line.strip()][:2]
    try:
        rows = [json.loads(line) for line in lines]
    except (ValueError, RecursionError):
        return False
    if len(rows) == 1 and isinstance(rows[0], dict):
        return all(column in rows[0] and not isinstance(rows[0][columns[0]], dict) for column in columns)
    return len(rows) == 2 and all(isinstance(row, dict) for row in rows)


def _is_document(head: Sequence[str]) -> bool:
    """Return whether a file begins as a JSON document does, and not with an object in one line."""
    first = next((line.strip() for line in head if line.strip()), "")
    if not first.startswith("["):
        return first == "{"
    try:
        return any(isinstance(item, dict | list) for item in json.loads(first))
    except ValueError:
        return True  # it continues in the next line, or is longer than the part that was read
    except RecursionError:
        return False


def _head(sample: bytes, encoding: str) -> list[str]:
    """Return the first complete lines of a file, or its only line."""
    lines = sample.splitlines(keepends=True)[: ROWS + 1]
    if len(lines) > 1 and not lines[-1].endswith(b"\n"):
        last = lines.pop()
        lines += [last] if len(sample) < SAMPLE and len(lines) < ROWS else []
    try:
        text = b"".join(lines[:ROWS]).decode(encoding, "replace").removeprefix("\ufeff")
    except UnicodeError:  # idna and punycode do not support "replace"
        return [""]
    return [line.rstrip("\r") for line in text.removesuffix("\n").split("\n")]


def _encoding(name: str, stream: IO[bytes], given: str, recorded: Recorded | None) -> str:
    """Return the file's encoding; UTF-8 if its bytes are UTF-8, whatever training read."""
    given, wanted = (encoding_of_lines(each) for each in (given, recorded.source.encoding if recorded else given))
    if not (encodings.check(given) and encodings.check(wanted)):
        return given  # which is refused, except for documents
    stream.seek(0)
    blocks = iter(lambda: stream.read(1 << 20), b"")
    if wanted == given:
        encodings.check_not_utf8(name, given, blocks)
        return given
    return given if any(encodings.utf8_characters(blocks)) else wanted


def encoding_of_lines(encoding: str) -> str:
    """Return the encoding of a file as it is read: plain UTF-8 if it has a byte order mark, or was copied from UTF-16."""
    return "utf-8" if encoding.lower().replace("_", "-") == "utf-8-sig" or wide(encoding) else encoding
