"""Build texts from tokens, with each token's offsets.

In: the tokens of a sentence. Out: a text, and each token's first character and the one after its last.
Whether tokens are the characters of unspaced text ("characters") or words is decided once, in training; if undecided
("auto"), it is decided for each sentence alone.
"""

import functools
import itertools
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Tokens = Literal["auto", "words", "characters"]
SINGLE = 0.9  # minimum share of one-character tokens in unspaced text
CHINESE = 0.2  # and minimum share of Chinese ones among all


@dataclass
class TokenCounts:
    """Counts of tokens, of one-character tokens, and of one-character Chinese or Japanese tokens."""

    tokens: int = 0
    single: int = 0
    wide: int = 0

    def add(self, token: str, count: int = 1) -> None:
        """Count a token that occurs so often."""
        self.tokens += count
        if len(token) == 1:
            self.single += count
            self.wide += count * wide(token)

    def add_all(self, other: "TokenCounts") -> None:
        """Add the counts of other rows."""
        self.tokens, self.single, self.wide = (
            self.tokens + other.tokens,
            self.single + other.single,
            self.wide + other.wide,
        )

    def kind(self) -> Tokens:
        """Return "characters" if nearly all tokens are single characters (a few longer ones are tolerated), else "words"."""
        return "characters" if self.single >= SINGLE * self.tokens and self.wide >= CHINESE * self.tokens else "words"


def joined(tokens: Sequence[str], kind: Tokens) -> tuple[str, list[int]]:
    """Join tokens into a text; also return the character each starts at.

    Words are separated by a space, except next to a Chinese or Japanese character or a full-width mark; characters
    of unspaced text are not separated.
    """
    spaced = " ".join(tokens)
    if spaced.isascii() and kind != "characters" and tokens:
        return spaced, [*itertools.accumulate(map(len, tokens[:-1]), lambda start, size: start + size + 1, initial=0)]
    if kind == "auto":
        counts = TokenCounts()
        for token in tokens:
            counts.add(token)
        kind = counts.kind()
    if kind == "characters":
        return "".join(tokens), [0, *itertools.accumulate(map(len, tokens[:-1]))]
    text, places = "", []
    for token in tokens:
        if text and not wide(text[-1]) and not wide(token[0]):
            text += " "
        places.append(len(text))
        text += token
    return text, places


def placed(tokens: Sequence[str], starts: Sequence[int]) -> str:
    """Write the tokens' offsets as a string: start and end (exclusive) of each, separated by blanks."""
    return " ".join([f"{start} {start + len(token)}" for token, start in zip(tokens, starts, strict=True)])


def places(written: str) -> list[tuple[int, int]]:
    """Parse what `placed` has written."""
    numbers = list(map(int, written.split()))
    return list(zip(numbers[::2], numbers[1::2], strict=True))


def wide_class() -> str:
    """Return the characters that are `wide`, as ranges of a regular expression's class."""
    codes = [code for first, stop in ((0x2E80, 0x1F000), (0x20000, 0x40000)) for code in range(first, stop) if wide(chr(code))]
    starts = [code for code, before in zip(codes, [-1, *codes], strict=False) if code != before + 1]
    ends = [code for code, behind in zip(codes, [*codes[1:], -1], strict=True) if behind != code + 1]
    return "".join(f"{chr(start)}-{chr(end)}" for start, end in zip(starts, ends, strict=True))


@functools.lru_cache(1 << 16)
def wide(character: str) -> bool:
    """Return whether a character belongs to a script written without spaces, or is a full-width mark of one."""
    code = ord(character)
    if 0xAC00 <= code <= 0xD7AF or 0x1100 <= code <= 0x11FF:
        return False  # Hangul is written with spaces
    return (code >= 0x2E80 and unicodedata.east_asian_width(character) in "WF" and code < 0x1F000) or 0x20000 <= code < 0x40000
