"""Publish a predictor as the next version of an export directory, which TensorFlow Serving polls.

A version is written to a sibling whose name is not a number, which a polling server ignores, certified there, and renamed.
"""

import contextlib
import errno
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from kbert.errors import DataError, UsageError
from kbert.serving import certificate, golden, warmup
from kbert.serving.predictor import Predictor
from kbert.settings import to_json


def export(
    predictor: Predictor[Any],
    export_dir: str | Path,
    version: int | None = None,
    *,
    certify: bool = True,
    target_serving: str | None = None,
    keep_versions: int | None = None,
    warmup_rows: dict[str, Any] | None = None,
) -> Path:
    """Write `export_dir/VERSION`, the next free number by default, for TensorFlow Serving.

    Args:
        certify: whether to publish it only with a certificate (`prove`).
        target_serving: oldest release of TensorFlow Serving that has to have its operations.
        keep_versions: how many versions to keep; older ones are deleted once the new one is there.
        warmup_rows: the fields of `serving_default`, bytes [rows] each, to warm a server up with besides the golden rows.

    Raises:
        UsageError: the version exists.
        DataError: the directory cannot be written, or the certificate fails; then nothing is published.
    """
    parent = Path(export_dir).expanduser()
    if (parent / "saved_model.pb").exists():
        raise UsageError(f"--export_dir={parent}: is itself an exported version; name the folder above it")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        _check_free(parent, version)
        beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=parent))
        try:
            beside.chmod(0o755)
            _write(beside, predictor, certify, target_serving, warmup_rows)
            number = _publish(beside, parent, version)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
        if keep_versions is not None:
            _drop(parent, keep_versions, number)
    except OSError as error:
        raise DataError(f"--export_dir={parent}: cannot be written: {error.strerror}") from None
    return parent / str(number)


def _write(
    folder: Path, predictor: Predictor[Any], certify: bool, target: str | None, warmup_rows: dict[str, Any] | None
) -> None:
    predictor.save(str(folder))
    extra = folder / "assets.extra"
    extra.mkdir()
    about: dict[str, Any] = to_json(predictor.task.config)
    (extra / "kbert.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    if certify:
        prove(folder, predictor, target, warmup_rows)


def prove(folder: Path, predictor: Predictor[Any], target: str | None, warmup_rows: dict[str, Any] | None) -> None:
    """Write golden answers, report and warm-up requests of a SavedModel that is not published yet.

    Raises:
        DataError: see `kbert.serving.certificate.certify`.
    """
    requests = golden.requests(predictor)
    signatures = predictor.task.signatures()
    rows = warmup_rows or golden.rows(predictor.task)
    methods = {name: signature.method for name, signature in signatures.items()}
    warmup.write(folder / "assets.extra", [*requests, *warmup.lengths(predictor.task), *warmup.batches(rows)], methods)
    certificate.certify(folder, predictor, requests, target)


def _versions(parent: Path) -> list[int]:
    return sorted(int(path.name) for path in parent.iterdir() if re.fullmatch(r"[0-9]+", path.name))


def _check_free(parent: Path, version: int | None) -> None:
    if version in _versions(parent):
        raise UsageError(f"--version={version}: {parent / str(version)} exists; a served version is never overwritten")


def _publish(folder: Path, parent: Path, version: int | None) -> int:
    """Rename the folder to its number; another export may take a free one at the same moment."""
    while True:
        _check_free(parent, version)
        number = max(_versions(parent), default=0) + 1 if version is None else version
        try:
            os.rename(folder, parent / str(number))
        except OSError as error:
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise
        else:
            return number


def _drop(parent: Path, keep: int, published: int) -> None:
    """Delete the oldest versions but `keep`, never the one just published; each is first renamed out of a server's sight."""
    for number in _versions(parent)[:-keep]:
        if number != published:
            gone = Path(tempfile.mkdtemp(prefix=".deleting-", dir=parent))
            with contextlib.suppress(FileNotFoundError):  # another export has deleted it
                os.rename(parent / str(number), gone / str(number))
            shutil.rmtree(gone)
