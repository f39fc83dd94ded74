"""Resolve a SOURCE to files, copying what does not support random access.

In: a source's name: files, folders or globs, comma-separated, gzipped or not, stdin, a TFDS split, or Python's `Rows`. Out:
names, each with a temporary copy where needed; the system deletes it when the process ends, however it ends.
"""

import gzip
import json
import os
import sys
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Any

import numpy as np

from kbert import runtime
from kbert.data.bad_rows import BadRows
from kbert.data.rows import Rows
from kbert.errors import DataError, UsageError
from kbert.files import expanded, patterns
from kbert.progress import Progress, over
from kbert.source import SourceConfig

STDIN = "-"
MOST_FILES = 65_535  # two bytes of the index
SMALL = 16 << 20  # bytes, which are read in about the time that TensorFlow takes to be imported


def files_of(source: str, config: SourceConfig, columns: Sequence[str], bad: BadRows) -> Iterator[tuple[str, IO[bytes] | None]]:
    """Yield the files and folders of a source as (name, copy if it has no random access); `bad` takes in malformed rows."""
    if isinstance(source, Rows):
        yield source, source.spool(config.columns or columns, columns, bad)
        return
    if source.startswith("tfds:"):
        yield source, _spool_tfds(source, config)
        return
    if source == STDIN:
        if sys.stdin is None:
            raise DataError("standard input is closed; name a file")
        yield "<stdin>", _spool("<stdin>", sys.stdin.buffer)
        return
    names: list[str] = []
    for pattern in patterns(source):
        found = expanded(pattern)
        if not found:
            raise DataError(f"{pattern or source}: no such file")
        if twice := {*names} & {*found}:
            raise DataError(f"{source}: {min(twice)} is listed twice")
        names += found
    if len(names) > MOST_FILES:
        raise DataError(f"{source}: {len(names):,} files; join them into at most {MOST_FILES:,}")
    for name in names:
        packed = name.endswith(".gz")
        if os.path.isdir(name) or (not packed and os.path.isfile(name)):
            yield name, None
            continue
        try:
            # A pipe can be read only once, and a gzip file only from its start.
            with gzip.open(name) if packed else open(name, "rb") as stream:
                copy = _spool(name, stream)
        except (OSError, EOFError, zlib.error) as error:
            raise DataError(f"{name}: not readable{' as gzip' if packed else ''}: {error}") from None
        yield name, copy


def are_small(*sources: str | None) -> bool:
    """Return whether sources are files of `SMALL` bytes in all, so that they can be read before TensorFlow is imported."""
    size = 0
    for source in filter(None, sources):
        if isinstance(source, Rows) or source.startswith("tfds:") or source == STDIN:
            return False
        for name in (Path(name) for pattern in patterns(source) for name in expanded(pattern)):
            files = name.rglob("*") if name.is_dir() else [name]
            size += sum(file.stat().st_size for file in files if file.is_file())
    return size <= SMALL


def temporary() -> IO[bytes]:
    """Create an unnamed temporary file."""
    return tempfile.TemporaryFile(prefix="kbert-")


def reopened(name: str, copy: IO[bytes] | None) -> IO[bytes]:
    """Open a file, or its copy, for reading; the caller closes it."""
    return open(name, "rb") if copy is None else os.fdopen(os.dup(copy.fileno()), "rb")


def opened(name: str, copy: IO[bytes] | None) -> IO[bytes]:
    """Open a file, or its copy, for reading; raise DataError if it is missing or unreadable."""
    try:
        return reopened(name, copy)
    except OSError as error:
        raise DataError(f"{name}: {error.strerror}") from None


def _spool(name: str, stream: Any) -> IO[bytes]:
    copy = temporary()
    with Progress(unit="B", unit_scale=True, desc=f"copying {name}") as bar:
        while block := stream.read(1 << 20):
            copy.write(block)
            bar.update(len(block))
    copy.flush()
    return copy


def _spool_tfds(source: str, config: SourceConfig) -> IO[bytes]:
    """Convert a TFDS split to JSON lines; class labels by name."""
    runtime.start()
    import tensorflow_datasets as tfds

    name, _, split = source.removeprefix("tfds:").partition(":")
    if not name or not split:
        raise UsageError(f"{source}: expected tfds:name[/config]:split")
    folder = None if config.tfds_dir is None else os.path.expanduser(config.tfds_dir)
    try:
        builder = tfds.builder(name, data_dir=folder)
    except (tfds.core.DatasetNotFoundError, ValueError) as error:
        raise DataError(
            f"{source}: TFDS has no data set {name!r} prepared under {folder or 'its default folder'}, and none "
            f"it could download by that name ({str(error).splitlines()[0]}); kbert's demo sets are made by tools/fetch_demo.py"
        ) from None
    try:
        if not builder.is_prepared():
            builder.download_and_prepare()
        data = builder.as_dataset(split=split)
    except Exception as error:  # TFDS has no base class for what downloading and split names raise
        raise DataError(f"{source}: {str(error).splitlines()[0]}") from None
    features = builder.info.features
    copy = temporary()
    for row in over(tfds.as_numpy(data), desc=f"copying {source}", unit="row"):
        plain = {column: _plain(features[column], value) for column, value in row.items()}
        copy.write(json.dumps(plain, ensure_ascii=False).encode() + b"\n")
    copy.flush()
    return copy


def _plain(feature: Any, value: Any) -> Any:
    if hasattr(feature, "int2str") and np.ndim(value) == 0 and value >= 0:
        return feature.int2str(int(value))
    if isinstance(value, bytes):
        return value.decode("utf-8", "replace")
    if isinstance(value, dict):  # a TFDS sequence: {name: array}
        return {name: [_plain(feature[name], item) for item in column] for name, column in value.items()}
    if np.ndim(value) == 1 and value.dtype.kind in "OSUiub":  # tokens, or their tags
        inner = getattr(feature, "feature", None)
        return [_plain(inner, item) for item in value]
    return value.item() if np.ndim(value) == 0 else None
