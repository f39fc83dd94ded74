"""Output files and directories that appear under their name only when they are whole."""

import contextlib
import io
import json
import os
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from kbert.errors import DataError


def check_output(flag: str, name: str) -> None:
    """Raise DataError, before any work, when a file of this name cannot be written."""
    path = Path(name).expanduser()
    if path.is_dir():
        raise DataError(f"{flag}={name}: cannot be written: it is a directory")
    if not os.access(path.resolve().parent, os.W_OK):
        raise DataError(f"{flag}={name}: cannot be written: its folder is missing or closed to us")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[str]]:
    """Write a text file beside its place and rename it there; pipes and devices are written directly.

    Raises:
        DataError: the file cannot be written.
    """
    with _whole(path, "w", encoding="utf-8") as file:
        yield file


@contextlib.contextmanager
def whole_binary(path: Path) -> Iterator[IO[bytes]]:
    """The same for a file of bytes."""
    with _whole(path, "wb") as file:
        yield file


@contextlib.contextmanager
def _whole(path: Path, mode: str, encoding: str | None = None) -> Iterator[IO[Any]]:
    target = Path(os.path.realpath(path.expanduser()))  # what a symlink stands for is replaced, not the symlink
    direct = target.exists() and not target.is_file()
    beside = target if direct else target.with_name(f".{target.name}.{os.getpid()}")
    try:
        with open(beside, mode, encoding=encoding) as file:
            yield file
        if not direct:
            os.replace(beside, target)
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None
    finally:
        if not direct:
            beside.unlink(missing_ok=True)


@contextlib.contextmanager
def output(name: str) -> Iterator[IO[str]]:
    """A text file that `whole` writes, or standard output for `-`; UTF-8 either way.

    Raises:
        DataError: it cannot be written.
    """
    if name != "-":
        with whole(Path(name)) as file:
            yield file
        return
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding="utf-8")
    try:
        yield sys.stdout
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # Else the interpreter would try once more on its way out, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise DataError(f"standard output: cannot be written: {error.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with whole(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as a JSON file."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """A directory to fill beside `path`, renamed to it when all went well and removed when not.

    Raises:
        DataError: it cannot be written, or `path` is there and not empty.
    """
    target = path.expanduser().resolve()
    beside = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        yield beside
        os.rename(beside, target)  # over an empty directory too
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
