"""Read a JSON document as rows: a list of objects, SQuAD's and CMRC's documents, Label Studio's tasks.

    [{"text": "a fine film", "label": "pos"},
     {"text": "dull", "label": "neg"},
     {"text": "good", "label": "pos"}]

In: a document's bytes. Out: each row with its place. A list may be the document itself or the one list of objects in it.
Source: pandas' `to_json(orient="records")`.
"""

import codecs
import json
from collections.abc import Iterator, Sequence
from typing import IO, Any

from kbert.data import label_studio, squad
from kbert.data.json_document import Part, parts
from kbert.source import SourceConfig

BLOCK = 1 << 18


def rows(name: str, stream: IO[bytes], encoding: str, config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of a document as (place, row), or (place, reason) of one that is malformed.

    Raises:
        ValueError: the document is not JSON, or holds no rows.
    """
    try:
        yield from _rows(codecs.iterdecode(iter(lambda: stream.read(BLOCK), b""), encoding), config, columns)
    except UnicodeDecodeError:
        raise ValueError(f"not {encoding}; name the file's encoding with --encoding=") from None


def _rows(blocks: Iterator[str], config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    key: str | None = None
    others: list[Part] = []
    for part in parts(_unmarked(blocks)):
        if part.number is None:
            others.append(part)
            continue
        if not isinstance(part.value, dict | list) and key is None:
            others.append(part)  # a list of something else than rows
            continue
        if key not in (None, part.key):
            raise ValueError(f"two lists of rows, {key!r} and {part.key!r}; keep one of them in a file of its own")
        key = part.key
        yield from _of_item(part.key, part.number, part.value, config, columns)
    if key is None:
        named = {part.key: part.value for part in others if part.key}
        if set(columns) <= set(named) and not any(isinstance(named[column], dict) for column in columns):
            yield "row 1", named  # the whole document is one row
            return
        if set(columns) <= set(named):
            values = ", ".join(f"{column!r} is {json.dumps(named[column], ensure_ascii=False)[:60]}" for column in columns)
            raise ValueError(
                f"columns, not rows ({values}); to_json(orient='records') of pandas writes rows, with lines=True JSON lines"
            )
        if others and not (len(others) == 1 and others[0].value == []):
            shown = ", ".join(named) or json.dumps(others[0].value, ensure_ascii=False)
            raise ValueError(f"a JSON document without a list of objects ({shown[:80]}); expected [{{...}}, ...]")


def _unmarked(blocks: Iterator[str]) -> Iterator[str]:
    """Yield the blocks without the byte-order mark at the start."""
    yield next(blocks, "").removeprefix("\ufeff")
    yield from blocks


def _of_item(key: str, number: int, item: Any, config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    """Yield the rows of an item of the document's list."""
    place = f"{key}[{number}]" if key else f"row {number + 1}"
    if isinstance(item, list):
        if len(item) != len(columns):
            yield place, f"a list of {len(item)} values, expected {len(columns)} ({', '.join(columns)}) or an object"
        else:
            yield place, dict(zip(columns, item, strict=True))
    elif not isinstance(item, dict):
        yield place, f"expected an object, found {json.dumps(item, ensure_ascii=False)[:60]}"
    elif "paragraphs" in item or (key == "data" and not item):
        for row in squad.article(item, place):
            yield f"question {row['id']!r}", row
    elif "qas" in item:
        for row in squad.paragraph(item, place):
            yield f"question {row['id']!r}", row
    elif label_studio.is_task(item):
        try:
            yield place, label_studio.row(item, tuple(columns), config.label_column)
        except ValueError as error:
            yield place, str(error)
    elif "question" in item and "context" in item:
        yield (f"question {item['id']!r}" if isinstance(item.get("id"), str | int) else place), item
    else:
        yield place, item
