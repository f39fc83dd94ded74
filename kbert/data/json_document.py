"""Read a JSON document of any size from front to back: the items of its list, one at a time.

    [{"text": "a fine film", "label": "pos"},
     {"text": "dull", "label": "neg"},
     {"text": "good", "label": "pos"}]

In: blocks of text. Out: the items of a document that is a list; of an object, its values, those that are lists item by item.
Memory holds one item and a block. Source: RFC 8259.
"""

import json
from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

SPACE = " \t\r\n"
NEAR = 16  # characters before the end of what is read so far, where an error may be that the rest is missing


class Part(NamedTuple):
    """An item of a list, or a value that is no list: with its key in the document ("" in a list), and its number from 0."""

    key: str
    value: Any
    number: int | None  # None: no item of a list


class _Text:
    """The characters of a document, of which a window is held."""

    def __init__(self, blocks: Iterable[str]):
        self._blocks = iter(blocks)
        self._text, self._at, self._line, self._ended = "", 0, 1, False
        self._decoder = json.JSONDecoder()

    def next(self) -> str:
        """Return the next character that is no white space, without passing it; "" at the end."""
        while True:
            while self._at < len(self._text) and self._text[self._at] in SPACE:
                self._at += 1
            if self._at < len(self._text) or self._ended:
                return self._text[self._at : self._at + 1]
            self._more()

    def skip(self, allowed: str) -> str:
        """Pass the next character.

        Raises:
            ValueError: it is none of these.
        """
        found = self.next()
        if not found or found not in allowed:
            raise self.error(f"expected {' or '.join(allowed)}", self._at)
        self._at += 1
        return found

    def value(self) -> Any:
        """Pass a value and return it."""
        self.next()
        while True:
            try:
                value, end = self._decoder.raw_decode(self._text, self._at)
            except RecursionError:
                raise ValueError("JSON nested too deeply") from None
            except json.JSONDecodeError as error:
                cut = error.msg.startswith("Unterminated string") or error.pos >= len(self._text) - NEAR
                if self._ended or not cut:
                    raise self.error(error.msg, error.pos) from None
            else:
                if end < len(self._text) or self._ended:  # else a number may continue
                    self._at = end
                    return value
            self._more()

    def error(self, message: str, at: int) -> ValueError:
        """Return the error for what is found at a character of the window."""
        shown = self._text[at : at + 40]
        line = self._line + self._text.count("\n", 0, at)
        return ValueError(f"line {line}: " + (f"not JSON: {message}, found {shown!r}" if shown else "the JSON is cut off"))

    def _more(self) -> None:
        """Read at least as much as is held, so that a long item is not tried again too often."""
        self._line += self._text.count("\n", 0, self._at)
        held = [self._text[self._at :]]
        self._at, size = 0, 0
        while size <= len(held[0]) and not self._ended:
            block = next(self._blocks, None)
            self._ended = block is None
            held.append(block or "")
            size += len(held[-1])
        self._text = "".join(held)


def parts(blocks: Iterable[str]) -> Iterator[Part]:
    """Yield a document's parts in order.

    Raises:
        ValueError: it is not JSON; the message names the line.
    """
    text = _Text(blocks)
    first = text.next()
    if first == "[":
        yield from _items(text, "")
    elif first == "{":
        text.skip("{")
        if text.next() == "}":
            text.skip("}")
        else:
            while True:
                key = text.value()
                if not isinstance(key, str):
                    raise ValueError(f"not JSON: {str(key)[:40]!r} is not a key")
                text.skip(":")
                if text.next() == "[":
                    yield from _items(text, key)
                else:
                    yield Part(key, text.value(), None)
                if text.skip(",}") == "}":
                    break
    else:
        yield Part("", text.value(), None)
    if text.next():
        raise text.error("the document has ended", text._at)


def _items(text: _Text, key: str) -> Iterator[Part]:
    text.skip("[")
    if text.next() == "]":
        text.skip("]")
        return
    number = 0
    while True:
        yield Part(key, text.value(), number)
        number += 1
        if text.skip(",]") == "]":
            return
