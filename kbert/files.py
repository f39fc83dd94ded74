"""Output files and directories that appear under their name only when they are whole."""

import contextlib
import glob
import io
import json
import os
import secrets
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from kbert.errors import DataError, UsageError


def check_apart(flag: str, name: str, inputs: Mapping[str, str | None]) -> None:
    """Raise UsageError when a file to be written is one that is read, under this name or another.

    Args:
        flag: that names the file, for messages.
        name: the file.
        inputs: what is read, a file or a glob, by its flag; None for nothing.
    """
    path = Path(name).expanduser()
    for other, source in inputs.items():
        if source is not None and path.exists():
            found = os.path.expanduser(source)
            for each in [found] if os.path.exists(found) else glob.iglob(found, recursive=True):
                if os.path.exists(each) and os.path.samefile(each, path):
                    among = f"among the files of {other}={source}" if each != found else f"that of {other}={source}"
                    raise UsageError(f"{flag}={name}: the file is {among}, and would be overwritten")


def check_output(flag: str, name: str, inputs: Mapping[str, str | None]) -> None:
    """Raise, before any work, when a file of this name cannot be written (DataError), or as `check_apart` does."""
    check_apart(flag, name, inputs)
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
    """Return the same for a file of bytes."""
    with _whole(path, "wb") as file:
        yield file


@contextlib.contextmanager
def _whole(path: Path, mode: str, encoding: str | None = None) -> Iterator[IO[Any]]:
    target = Path(os.path.realpath(path.expanduser()))  # what a symlink stands for is replaced, not the symlink
    direct = target.exists() and not target.is_file()
    try:
        with (
            contextlib.nullcontext(target) if direct else replaced(target) as place,
            open(place, mode, encoding=encoding) as file,
        ):
            yield file
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror}") from None


@contextlib.contextmanager
def replaced(target: Path) -> Iterator[Path]:
    """Return a new, empty file beside `target` that takes its place when all went well, and is removed when not.

    Its name cannot be foreseen, and what has that name already is never opened: nobody else who may write into the folder
    can have us write elsewhere.

    Raises:
        OSError: it cannot be made or renamed.
    """
    beside = _beside(target)
    try:
        os.close(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666))  # less the umask
        yield beside
        os.replace(beside, target)
    finally:
        beside.unlink(missing_ok=True)


def _beside(target: Path) -> Path:
    return target.with_name(f".{target.name[:40]}.{secrets.token_hex(8)}")


@contextlib.contextmanager
def output(name: str) -> Iterator[IO[str]]:
    """Return a text file that `whole` writes, or standard output for `-`; UTF-8 either way.

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
        # Else the interpreter would try again on its way out, and complain.
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
    """Return a directory to fill beside `path`, renamed to it when all went well and removed when not.

    Raises:
        DataError: it cannot be written, or `path` is there and not empty.
    """
    target = path.expanduser().resolve()
    beside = _beside(target)
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        beside.mkdir()
        yield beside
        os.rename(beside, target)  # over an empty directory too
    except OSError as error:
        raise DataError(f"{path}: cannot be written: {error.strerror or error}") from None
    finally:
        shutil.rmtree(beside, ignore_errors=True)
