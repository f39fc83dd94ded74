"""Segment text written without spaces into words, with a segmenter of the user's choice.

In: a segmenter's name, "jieba" or `module:function` for the user's own. Out: a function from a text to
its words, which concatenate to the text; spaces and punctuation are words too.
"""

import functools
import importlib
from collections.abc import Callable
from typing import Any

from kbert.errors import DataError, UsageError

Segmenter = Callable[[str], list[str]]


@functools.cache
def segmenter(name: str) -> Segmenter:
    """Return the segmenter of this name; cached per process, since loading a dictionary takes a second.

    Args:
        name: "jieba" (the extra `kbert-keras[jieba]`), or `module:function`, where the function takes a string and
            returns its words in order. The module is imported: name only code you trust.

    Raises:
        UsageError: no such segmenter, or it is not installed. The segmenter itself raises DataError if
            its words do not concatenate to the text.
    """
    split = _jieba() if name == "jieba" else _own(name)

    def words(text: str) -> list[str]:
        try:
            found = [*map(str, split(text))]
        except Exception as error:  # third-party code may raise anything
            raise DataError(f"--segmenter={name}: failed on {text[:60]!r}: {type(error).__name__}: {error}") from None
        if "".join(found) != text:
            raise DataError(f"--segmenter={name}: its words do not concatenate to the text {text[:60]!r}: {found[:20]}")
        return found

    return words


def _jieba() -> Callable[[str], Any]:
    try:
        import jieba
    except ImportError:
        raise UsageError("--segmenter=jieba: jieba is not installed; pip install 'kbert-keras[jieba]'") from None
    tokenizer = jieba.Tokenizer()
    # By default jieba caches its dictionary in the shared temporary folder, and trusts what it finds there.
    tokenizer.FREQ, tokenizer.total = tokenizer.gen_pfdict(tokenizer.get_dict_file())
    tokenizer.initialized = True
    cut: Callable[[str], Any] = tokenizer.cut
    return cut


def _own(name: str) -> Callable[[str], Any]:
    module, colon, function = name.partition(":")
    if not (module and colon and function):
        raise UsageError(f"--segmenter={name}: expected jieba, or module:function for your own")
    try:
        found = getattr(importlib.import_module(module), function)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"--segmenter={name}: {error}") from None
    if not callable(found):
        raise UsageError(f"--segmenter={name}: {function} is not a function")
    own: Callable[[str], Any] = found
    return own
