"""Parse files of pre-training text into documents of sentences.

In: the lines of a file. Out: its sentences, and where documents begin. Plain text is read in one of two layouts; JSON lines
and WikiExtractor's output (`<doc ...>` to `</doc>`) contain one document each, whatever the layout. Tables, wiki markup, HTML
and JSON that is not lines are rejected by inspection.
"""

import itertools
import json
import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kbert.errors import DataError
from kbert.pretraining.sentences import sentences

log = logging.getLogger(__name__)

Layout = Literal["sentences", "documents"]
SAMPLE = 100  # non-blank lines inspected to determine a file's kind
REFUSED = dict.fromkeys((".tsv", ".csv", ".xlsx", ".xls", ".ods", ".parquet"), "a table")
REFUSED |= dict.fromkeys((".html", ".htm", ".xml"), "markup")
REFUSED |= dict.fromkeys((".conll", ".bio", ".bmes", ".bioes", ".iob", ".iob2", ".seg"), "tokens with labels")
REFUSED |= {".pdf": "a PDF document", ".docx": "a Word document"}
DOC = re.compile(r"<doc( [^<>]*)?>")
TAG = re.compile(r"</?[a-zA-Z][^<>]*>")
WIKI = re.compile(r"\[\[[^\]]+\]\]|^\{\{|^\{\||^\|[ -}]|^==.*==$|'''")
HEADER = re.compile(r"\"?\w+\"?([,;]\"?\w+\"?)+")
QUOTED = re.compile(r"\".*\",|.*,\".*\"$")
TAGGED = re.compile(r"\S+\s(.*\s)?(O|[BIMES]-\S+)")


class Sentence(NamedTuple):
    """A sentence, its line number from 1, and whether it begins a document."""

    text: str
    line: int
    opens: bool


def documents(name: str, lines: Iterable[str], layout: Layout, text_column: str) -> Iterator[Sentence]:
    """Yield the sentences of a file.

    Args:
        name: the file, for messages; its ending may show that it is not text.
        lines: stripped of surrounding white space.
        layout: of plain text: "sentences", one a line with a blank line between documents, or "documents", one a line.
        text_column: the key of the text in JSON lines.

    Raises:
        DataError: the file is not plain text, or a line differs in kind from the others.
    """
    left = enumerate(lines, 1)
    head: list[tuple[int, str]] = []
    shown: list[str] = []
    for number, line in left:
        head.append((number, line))
        if line:
            shown.append(line)
        if len(shown) == SAMPLE or len(head) == 10 * SAMPLE:
            break
    look = refused(name, shown)
    if look:
        raise DataError(
            f"{name}: {look}, but pre-training needs the text only; write it as plain text, a sentence or a document a "
            f'line, or as JSON lines {{"{text_column}": ...}}'
        )
    numbered = itertools.chain(head, left)
    if shown and _object(shown[0]) is not None:
        log.info("%s: reading JSON lines, %r of each as a document", name, text_column)
        yield from _in_documents(name, numbered, lambda line: _texts(line, text_column))
    elif shown and DOC.fullmatch(shown[0]):
        log.info("%s: reading WikiExtractor's output, a document from <doc> to </doc>", name)
        yield from _extracted(name, numbered)
    elif layout == "documents":
        yield from _in_documents(name, numbered, lambda line: [line])
    else:
        opens = True
        for number, line in numbered:
            if line:
                yield Sentence(line, number, opens)
            opens = not line


def refused(name: str, lines: Sequence[str]) -> str:
    """Return why a file is not text to learn from, judged by its ending and first lines; empty if it is."""
    if look := REFUSED.get(Path(name.removesuffix(".gz")).suffix.lower()):
        return look
    if not lines:
        return ""
    first, most = lines[0].lower(), 0.2 * len(lines)
    if first in ("[", "{") or first.startswith(("[{", '["')):
        return "JSON that is not one object a line"
    if first.startswith(("<!doctype", "<html", "<?xml", "<mediawiki")):
        return "markup (WikiExtractor extracts the text of a Wikipedia dump)"
    if first.startswith("%pdf"):
        return "a PDF document"
    if not DOC.fullmatch(lines[0]) and sum(bool(TAG.search(line)) for line in lines) > most:
        return "markup"
    if len(lines) < 3:
        return ""
    if sum(bool(WIKI.search(line)) for line in lines) > most:
        return "wiki markup (WikiExtractor extracts the text of a Wikipedia dump)"
    tabs = {line.count("\t") for line in lines}
    if len(tabs) == 1 and tabs != {0}:
        return f"a table of {tabs.pop() + 1} columns"
    mark = ";" if ";" in lines[0] else ","
    if HEADER.fullmatch(lines[0]) and all(line.count(mark) >= lines[0].count(mark) for line in lines):
        return f"a table with the columns {lines[0][:60]}"
    if sum(bool(QUOTED.match(line)) for line in lines) > 4 * most:
        return "a table of quoted cells"
    if all(TAGGED.fullmatch(line) for line in lines):
        return "tokens with labels"
    return ""


def _object(line: str) -> dict[str, Any] | None:
    try:
        found = json.loads(line) if line.startswith("{") else None
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _texts(line: str, column: str) -> list[str]:
    """Return the lines of text in a JSON object."""
    row = _object(line)
    if row is None:
        raise ValueError(f"not a JSON object: {line[:60]!r}")
    if column not in row:
        raise ValueError(f"no key {column!r}; the object has: {', '.join(row) or 'none'}; set another with --text_column")
    if not isinstance(row[column], str):
        raise ValueError(f"key {column!r}: expected a string, found {json.dumps(row[column])[:60]}")
    return row[column].splitlines()


def _in_documents(name: str, numbered: Iterable[tuple[int, str]], texts: Callable[[str], list[str]]) -> Iterator[Sentence]:
    """Yield the sentences of documents that take a line each."""
    for number, line in numbered:
        opens = True
        try:
            parts = texts(line) if line else []
        except ValueError as error:
            raise DataError(f"{name}:{number}: {error}") from None
        for sentence in itertools.chain.from_iterable(map(sentences, parts)):
            yield Sentence(sentence, number, opens)
            opens = False


def _extracted(name: str, numbered: Iterable[tuple[int, str]]) -> Iterator[Sentence]:
    """Yield the sentences of WikiExtractor's documents."""
    within, opens, number = False, True, 0
    for number, line in numbered:
        begins, ends = DOC.fullmatch(line) is not None, line == "</doc>"
        if (begins and within) or (ends and not within) or (line and not within and not begins):
            raise DataError(f"{name}:{number}: {line[:60]!r} {'within' if within else 'outside'} a document, <doc> to </doc>")
        within = (within or begins) and not ends
        if begins or ends:
            opens = True
            continue
        for sentence in sentences(line):
            yield Sentence(sentence, number, opens)
            opens = False
    if within:
        raise DataError(f"{name}:{number}: the file ends within a document; </doc> is missing")
