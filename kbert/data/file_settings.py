"""Resolve how to read one file from flags, the file itself and the settings used in training.

In: a file and the settings of its source. Out: the file's format, encoding, delimiter and columns. Precedence: a flag
of the command, then the file itself (its ending, its header row, bytes that are UTF-8), then what
training recorded, then the default. Where the ending is ambiguous (.txt, none), the first rows decide.
"""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Literal, NamedTuple, get_args

from kbert.data import encodings, fasttext, schemes, tagged_lines, tokens
from kbert.data.conll_columns import SEPARATOR, skipped
from kbert.data.folders import FolderFormat
from kbert.data.label_names import shown
from kbert.data.recognition import recognised
from kbert.data.rows import Rows
from kbert.data.transcoding import wide
from kbert.errors import DataError, UsageError
from kbert.source import Format, Recorded, SourceConfig

TAB = "\t"
OTHERS = (";", TAB, "|")  # delimiters of csv files, beside the comma
BINARY = ("parquet", "arrow", "xlsx")
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
        widths = [max(map(len, _cells(head[:1], "csv", _character(each))), default=0) for each in (taken, delimiter)]
        if widths[0] >= widths[1]:
            delimiter = taken
            notes.append(f"delimiter {taken} as in training")
    character = _character(delimiter)
    if kind == "csv" and delimiter == "," and (other := _other_delimiter(head, config.columns, columns)):
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


def _character(delimiter: str) -> str:
    found = {"tab": "\t", "\\t": "\t", "comma": ",", "semicolon": ";"}.get(delimiter, delimiter)
    if len(found) != 1 or found in '"\r\n':
        raise UsageError(f"--delimiter={delimiter}: expected one character, or tab")
    return found


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


def fits(kind: Format, head: Sequence[str], recorded: Recorded, columns: Sequence[str]) -> Literal["yes", "no", "unsure"]:
    """Return whether a file's first lines look like rows of training's format.

    Args:
        kind: the format to test.
        head: the file's first lines.
        recorded: the columns and labels used in training.
        columns: the columns to read.
    """
    lines = [line for line in head if line.strip()]
    if not lines:
        return "no"
    if kind == "conll":
        return _is_conll(head, recorded.labels)
    if kind == "fasttext":
        return "yes" if fasttext.fits(lines) else "no"
    if kind == "tagged":
        return "yes" if tagged_lines.fits(lines) else "no"
    if kind in BINARY:
        return "no"
    if kind == "terms":
        return "yes" if "$T$" in lines[0] else "no"
    if kind in ("json", "squad"):
        return "yes" if lines[0].lstrip().startswith("{") and any('"paragraphs"' in line for line in lines) else "no"
    if kind == "jsonl":
        try:
            row = json.loads(lines[0])
        except (ValueError, RecursionError):
            return "no"
        return "yes" if isinstance(row, dict) and set(columns) <= set(row) else "no"
    rows = _cells(lines, kind, _character(recorded.source.delimiter))
    if rows and set(columns) <= set(rows[0]):
        return "yes"  # a header row
    names = recorded.source.columns
    whole = [row for row in rows if len(row) == len(names)]
    if len(names) < 2 or not whole:
        return "no"
    if kind == "csv" and any(cell.startswith(" ") for row in whole for cell in row[1:]):
        return "no"  # the commas of sentences
    return "yes" if len(whole) == len(rows) and (kind == "tsv" or _labelled(whole, recorded)) else "unsure"


def _labelled(rows: Sequence[Sequence[str]], recorded: Recorded) -> bool:
    """Return whether a row has one of the model's labels, or the labels cannot be checked."""
    names, label = recorded.source.columns, recorded.source.label_column
    if label not in names or not recorded.labels:
        return True
    cells = [row[names.index(label)].strip() for row in rows]
    return any(not cell or cell in recorded.labels or cell[0] in "[{-0123456789" for cell in cells)


def _is_conll(head: Sequence[str], labels: Sequence[str]) -> Literal["yes", "no", "unsure"]:
    """Return whether lines are tokens with a model's tags, or tokens alone with blank lines between sentences."""
    kinds = {*labels, schemes.UNTYPED}
    lines = [SEPARATOR.split(line.strip(" \t")) for line in head if not skipped(line)]
    tagged = [line for line in lines if any(c == "O" or schemes.split(schemes.typed(c))[1] in kinds for c in line[1:])]
    if any(len(line) > 1 for line in lines):
        return "yes" if 2 * len(tagged) > len(lines) else "unsure" if _columned(lines) else "no"
    blanks = sum(skipped(line) for line in head)
    short = sum(len(line[0]) == 1 or (len(line[0]) < 20 and not tokens.wide(line[0][0])) for line in lines)
    return "yes" if 2 * blanks < len(lines) and blanks > 0 and 10 * short > 9 * len(lines) else "no"


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


def _columned(lines: Sequence[Sequence[str]]) -> bool:
    """Return whether lines are columns whose last holds prefixed tags, even of other types."""
    widths, last = {len(line) for line in lines}, [line[-1] for line in lines]
    return len(widths) == 1 and all(tag == "O" or schemes.split(tag)[0] for tag in last) and {*last} != {"O"}


def _cells(lines: Sequence[str], kind: str, delimiter: str) -> list[list[str]]:
    if kind == "tsv":
        return [line.split("\t") for line in lines]
    try:
        return list(csv.reader((line + "\n" for line in lines), delimiter=delimiter))
    except csv.Error:
        return []


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


def _other_delimiter(head: Sequence[str], given: Sequence[str], columns: Sequence[str]) -> str:
    """Return the one delimiter that gives the columns to read, where commas do not; empty if there is none.

    Args:
        head: the file's first lines.
        given: the names of --columns, if any.
        columns: the columns to read.
    """

    def separates(delimiter: str) -> bool:
        rows = [row for row in _cells(head, "csv", delimiter) if row]
        return bool(rows) and (all(len(row) == len(given) for row in rows) if given else set(columns) <= set(rows[0]))

    fitting = [] if len(given) == 1 or separates(",") else [each for each in OTHERS if separates(each)]
    return fitting[0] if len(fitting) == 1 else ""


class Header(NamedTuple):
    """A table's column names and where they come from; `note` explains the source if it is not obvious."""

    names: Sequence[str]
    first: bool  # whether the first row holds them
    source: str
    note: str = ""


def header_row(name: str, first: Sequence[str], settled: FileSettings, columns: Sequence[str]) -> Header:
    """Return a table's column names, from flags, its first row or training.

    Raises:
        DataError: the first row looks like a header but contradicts the flags.
    """
    given = settled.columns
    if not given:
        if not settled.recorded_columns or set(columns) <= set(first):
            note = "its first row names its columns" if settled.recorded_columns else ""
            return Header(first, True, "its first row names", note)
        given = settled.recorded_columns
    source = "--columns names" if settled.columns else "--columns named in training"
    if not set(columns) <= set(given):
        return Header(given, False, source)  # which is an error in itself
    alike = [_plain(a) == _plain(b) for a, b in zip(first, given, strict=False)]
    if alike and all(alike) and len(first) == len(given):
        return Header(given, True, source, "its first row is a header and is not read as data")
    if any(alike) or (len(first) > 1 and sorted(map(_plain, first)) == sorted(map(_plain, given))):
        raise DataError(
            f"{name}: its first row ({shown(first)[:80]}) looks like a header but differs from what {source}: "
            f"{', '.join(given)}; remove it, or leave --columns out, or give the first row's names"
        )
    if not settled.columns and len(first) == len(given) and settled.label_column in given:
        text, label = first[list(given).index(columns[0])], first[list(given).index(settled.label_column)]
        if text in settled.labels and label and label not in settled.labels:
            raise DataError(
                f"{name}: the columns are {', '.join(given)} as in training, but the first row has a label of the model "
                f"as text ({text!r}) and none as label ({label[:40]!r}); if their order differs, set --columns="
            )
    taken = "" if settled.columns else f"columns are {', '.join(given)} as in training, and the first row is data"
    return Header(given, False, source, taken)


def _plain(name: str) -> str:
    return name.strip().casefold()


def repeats(fields: Sequence[str], header: Sequence[str]) -> bool:
    """Return whether a row repeats the header, as when files with headers were concatenated."""
    return len(fields) > 1 and [_plain(f.removeprefix("\ufeff")) for f in fields] == [*map(_plain, header)]
