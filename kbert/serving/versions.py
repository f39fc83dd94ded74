"""Write a predictor as the next version of an export directory, which TensorFlow Serving polls."""

import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any

from kbert.errors import DataError, UsageError
from kbert.serving.predictor import Predictor
from kbert.settings import to_json


def export(predictor: Predictor[Any], export_dir: str | Path, version: int | None = None) -> Path:
    """Write `export_dir/VERSION`, the next free number by default, for TensorFlow Serving.

    It is written to a sibling whose name is not a number, which a polling server ignores, then renamed.

    Raises:
        UsageError: the version exists.
        DataError: the directory cannot be written.
    """
    parent = Path(export_dir).expanduser()
    if (parent / "saved_model.pb").exists():
        raise UsageError(f"--export_dir={parent}: is itself an exported version; name the folder above it")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(p.name) for p in parent.iterdir() if re.fullmatch(r"[0-9]+", p.name)]
        number = max(taken, default=0) + 1 if version is None else version
        if number in taken:
            raise UsageError(f"--version={number}: {parent / str(number)} exists; a served version is never overwritten")
        beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=parent))
        try:
            beside.chmod(0o755)
            predictor.save(str(beside))
            extra = beside / "assets.extra"
            extra.mkdir()
            about: dict[str, Any] = to_json(predictor.task.config)
            (extra / "kbert.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            os.rename(beside, parent / str(number))
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise DataError(f"--export_dir={parent}: cannot be written: {error.strerror}") from None
    return parent / str(number)
