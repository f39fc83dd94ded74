"""Write output files and directories atomically."""

import contextlib
import glob
import io
import json
import os
import secrets
import shlex
import shutil
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO, Any

from kbert.errors import DataError, UsageError

POINTER = b"version https://git-lfs.github.com/spec/"

def patterns(source: str) -> list[str]:
    """Return the paths and globs of a source, which commas separate; a path that contains a comma is one."""
    path = os.path.expanduser(source)
    alone = "," not in source or os.path.exists(path) or glob.glob(path, recursive=True)
    return [source] if alone else [part.strip() for part in source.split(",")]


def expanded(pattern: str) -> list[str]:
    """Return the files and folders that a path or a glob names."""
    path = os.path.expanduser(pattern)
    return [path] if os.path.exists(path) else sorted(glob.glob(path, recursive=True))


def check_apart(flag: str, name: str, inputs: Mapping[str, str | None]) -> None:
    """Raise UsageError if a file to write is one that is read, under this name or another.

    Args:
        flag: the flag that gives the file, for messages.
        name: the file.
        inputs: the files read, each a file or a glob, by flag; None for nothing.
    """
    path = Path(name).expanduser()
    for other, source in inputs.items():
        if source is not None and path.exists():
            for each in [name for pattern in patterns(source) for name in expanded(pattern)]:
                if os.path.exists(each) and os.path.samefile(each, path):
                    alone = each == os.path.expanduser(source)
                    among = f"that of {other}={source}" if alone else f"among the files of {other}={source}"
                    raise UsageError(f"{flag}={name}: the file is {among}, and would be overwritten")


def check_output(flag: str, name: str, inputs: Mapping[str, str | None]) -> None:
    """Raise DataError, before any work, if a file cannot be written, or UsageError as `check_apart` does."""
    check_apart(flag, name, inputs)
    path = Path(name).expanduser()
    if path.is_dir():
        raise DataError(f"{flag}={name}: cannot be written: it is a directory")
    if not os.access(path.resolve().parent, os.W_OK):
        raise DataError(f"{flag}={name}: cannot be written: its folder is missing or not writable")


@contextlib.contextmanager
def whole(path: Path) -> Iterator[IO[str]]:
    """Write a text file under a temporary name and rename it; write pipes and devices directly.

    Raises:
        DataError: the file cannot be written.
    """
    with _whole(path, "w", encoding="utf-8") as file:
        yield file


@contextlib.contextmanager
def whole_binary(path: Path) -> Iterator[IO[bytes]]:
    """Write a binary file like `whole`."""
    with _whole(path, "wb") as file:
        yield file


@contextlib.contextmanager
def _whole(path: Path, mode: str, encoding: str | None = None) -> Iterator[IO[Any]]:
    target = Path(os.path.realpath(path.expanduser()))  # replace a symlink's target, not the symlink
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
    """Provide a new, empty file beside `target` that replaces it on success and is removed on failure.

    Its name is random, and an existing file is never opened: others with access to the folder
    cannot redirect the output.

    Raises:
        OSError: it cannot be created or renamed.
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
    """Open a text file as `whole` does, or standard output for `-`; UTF-8 either way.

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
        # Else the interpreter would flush again at exit, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise DataError(f"standard output: cannot be written: {error.strerror}") from None


def write_text(path: Path, text: str) -> None:
    """Write a text file atomically."""
    with whole(path) as file:
        file.write(text)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as a JSON file, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


@contextlib.contextmanager
def whole_directory(path: Path) -> Iterator[Path]:
    """Provide a directory to fill beside `path`, renamed to it on success and removed on failure.

    Raises:
        DataError: it cannot be written, or `path` exists and is not empty.
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


def check_pointer(file: Path) -> None:
    """Raise DataError if a file is a Git LFS pointer, the text that Git stores in place of a large file."""
    try:
        with file.open("rb") as opened:
            begins = opened.read(len(POINTER))
    except OSError:  # for the reader of the file to report
        return
    if begins == POINTER:
        raise DataError(
            f"{file}: is a Git LFS pointer, not the file itself; run `git lfs pull` in {shlex.quote(str(file.parent))}, or "
            "download the file"
        )


def read_json(path: Path) -> Any:
    """The JSON document in a file.

    Raises:
        DataError: the file is missing, unreadable or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))  # with or without a byte-order mark
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (OSError, ValueError, RecursionError) as error:
        check_pointer(path)
        raise DataError(f"{path}: not readable as JSON: {error}") from None
