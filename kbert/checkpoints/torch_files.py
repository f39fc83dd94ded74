"""List and read the tensors of PyTorch's files: pytorch_model.bin, shards of it, or another file that `torch.save` wrote.

In: files. Out: tensors by name; those in nested dictionaries, such as `{"state_dict": ...}`, have dotted names. The files
are pickles, which can run code when read, so torch's own loader reads them, with `weights_only`, which runs none. Without
torch (an extra) a message gives the command that converts them elsewhere.
"""

import contextlib
import pickle
import re
import shlex
import zipfile
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np

from kbert.checkpoints.tensor_matching import Tensor
from kbert.errors import DataError
from kbert.files import check_pointer

LEAST = (2, 6)  # before, weights_only could run code: CVE-2025-32434
UNPICKLE = (
    "import glob, sys, torch, safetensors.torch as s; d = sys.argv[1]; w = {{}}; "
    "[w.update(torch.load(f, weights_only=True, map_location='cpu')) for f in glob.glob(d + '/{}')]; "
    "s.save_file({{k: v.clone().contiguous() for k, v in w.items()}}, d + '/model.safetensors')"
)


def torch_list(path: Path) -> list[Tensor]:
    """List the tensors of a file.

    Raises:
        DataError: torch is missing or too old, or the file is damaged or holds more than tensors and plain values.
    """
    return [
        Tensor(name, path, tuple(value.shape), str(value.dtype).removeprefix("torch.")) for name, value in _load(path).items()
    ]


def torch_read(tensors: list[Tensor]) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield the values of tensors of one or more files, float32."""
    for path, group in groupby(sorted(tensors, key=lambda t: t.where), key=lambda t: t.where):
        values = _load(path)
        for tensor in group:
            yield tensor, values[tensor.name].detach().float().numpy()


def check_torch(path: Path, name: str, pattern: str) -> None:
    """Raise DataError, with the command that converts the files, unless torch is installed and new enough.

    Args:
        path: the directory.
        name: a file of it, for the message.
        pattern: a glob for all of them.
    """
    with contextlib.suppress(ImportError):
        import torch  # type: ignore[import-not-found, unused-ignore]  # an extra

        version = tuple(int(part) for part in re.findall(r"\d+", torch.__version__)[:2])
        if version >= LEAST:
            return
        raise DataError(
            f"{path / name}: a pickle, which torch {torch.__version__} cannot read without the risk of running code "
            "(CVE-2025-32434); pip install 'torch>=2.6'"
        )
    raise DataError(
        f"{path}: only has {name}, which takes torch to read (pip install 'kbert-keras[torch]'), since it is a pickle, which "
        "can run code when read; convert it in an environment with torch, whose weights-only loader runs none: "
        f'python -c "{UNPICKLE.format(pattern)}" {shlex.quote(str(path))}'
    )


def _load(path: Path) -> dict[str, Any]:
    """Read a file's tensors by dotted name; of the newer format only those parts of the file that are used."""
    import torch

    check_pointer(path)
    if not path.exists():
        raise DataError(f"{path}: no such file")
    try:
        document = torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        kinds = sorted(set(re.findall(r"GLOBAL ([\w.]+)", str(error))))
        found = f" ({', '.join(kinds)})" if kinds else ""
        raise DataError(
            f"{path}: holds more than tensors and plain values{found}, as does a whole model, and reading those can run code; "
            "where it was made, save its tensors: torch.save(model.state_dict(), 'pytorch_model.bin')"
        ) from None
    except Exception as error:  # whatever the damage leads to: torch documents none
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path}: not readable by torch's weights-only loader: {reason}") from None
    return dict(_flat(document, ""))


def _flat(value: Any, name: str) -> Iterator[tuple[str, Any]]:
    import torch

    if isinstance(value, torch.Tensor):
        yield name, value
    elif isinstance(value, dict):
        for key, inner in value.items():
            yield from _flat(inner, f"{name}.{key}" if name else str(key))
