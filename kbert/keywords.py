"""Python's arguments by name as the flags of the same names, so that both are checked alike.

In: arguments by name. Out: instances of the dataclasses that the flags fill (`kbert.flags.parse`). Rows given as Python
objects become `kbert.data.rows.Rows`. Errors are exceptions in Python's spelling: `--epochs=0` becomes `epochs=0`, and
`train_data:17` becomes `row 17 of train_data`. No TensorFlow.
"""

import contextlib
import csv
import dataclasses
import difflib
import io
import numbers
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from kbert import flags
from kbert.data.rows import Rows
from kbert.errors import UsageError, for_user

T = TypeVar("T")


def instances(
    groups: Callable[[str | None], Sequence[type]], given: Mapping[str, Any], *, takes_task: Any = False
) -> list[Any]:
    """The dataclasses that the arguments fill.

    Args:
        groups: task name (None unless `takes_task`) -> dataclasses that hold the flags.
        given: values by flag name; a list stands for names between commas, None for the default; `flagfile` names a file
            of flags, which the others override.
        takes_task: whether `task` is among them; see `kbert.flags.main`.

    Raises:
        UsageError: an argument is unknown, missing, of the wrong type or out of range.
    """
    rows = {name: value for name, value in given.items() if isinstance(value, Rows)}
    first = sorted((item for item in given.items() if item[1] is not None), key=lambda item: item[0] != "flagfile")
    filled = flags.parse("kbert", "", [f"--{name}={_text(name, value)}" for name, value in first], groups, takes_task)
    if filled is None:
        raise UsageError("unknown argument --help; Python's help() shows the arguments")
    known = {spec.name for each in filled for spec, _ in flags.specs(type(each))} | {"task", "flagfile"}
    for name in given:
        if name not in known:  # it is None, else parsing has said so
            close = difflib.get_close_matches(name, known, n=1)
            raise UsageError(f"unknown argument {name}{f' (did you mean {close[0]}?)' if close else ''}")
    for i, each in enumerate(filled):
        of_group = {spec.name for spec in dataclasses.fields(each)}
        filled[i] = dataclasses.replace(each, **{name: value for name, value in rows.items() if name in of_group})
    return filled


def source(name: str, value: Any) -> Any:
    """The name of a source as it is, anything else as `Rows`; None stays None."""
    if value is None or isinstance(value, str | os.PathLike):
        return value
    return Rows(name, value)


@contextlib.contextmanager
def errors_in_python(*arguments: Any) -> Iterator[None]:
    """Raise errors that are meant for the user in Python's spelling.

    Args:
        arguments: those that name sources.

    Raises:
        UsageError, DataError: an argument or the data is wrong.
        KbertError: the loss diverged, or memory is used up.
    """
    try:
        yield
    except Exception as error:
        found = for_user(error)
        if found is None:
            raise
        message = _in_python(str(found), [each for each in arguments if isinstance(each, Rows)])
        if any(str(found) == f"{each}: no such file" for each in arguments):
            message += "; a string names a file, rows and texts are given as a list"
        raise type(found)(message) from None


def _in_python(message: str, rows: Sequence[Rows]) -> str:
    message = message.removesuffix("; --help lists the flags").replace("unknown flag --", "unknown argument --")
    message = message.removeprefix("flag --")
    for name in rows:
        message = re.sub(rf"(?<![\w/.]){name}:(\d+)", rf"row \1 of {name}", message)
    return re.sub(r"(?<![\w-])--(?=[a-z])", "", message)


def _text(name: str, value: Any) -> str:
    """A value as a flag spells it."""
    if isinstance(value, str | os.PathLike):
        return os.fspath(value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, numbers.Real):
        return str(value)
    if isinstance(value, list | tuple) and all(isinstance(item, str | int) for item in value):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(value)
        return line.getvalue()
    raise UsageError(f"{name}: expected a string, a number or a list of strings, found {type(value).__name__}")
