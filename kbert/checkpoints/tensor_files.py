"""List and read the tensors of safetensors and TensorFlow checkpoint files."""

from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open

from kbert import runtime
from kbert.checkpoints.tensor_matching import Tensor
from kbert.errors import DataError
from kbert.files import check_pointer

# Raised by TensorFlow's reader for damaged files, besides its own errors: Python's, depending on the damage.
UNREADABLE = (ValueError, RuntimeError, IndexError)


def safetensors_list(path: Path) -> list[Tensor]:
    """List the tensors of a safetensors file from its header; raise DataError if it is damaged or truncated."""
    check_pointer(path)
    try:
        with safe_open(path, framework="numpy") as file:
            slices = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (not a dict)
            return [Tensor(name, path, tuple(s.get_shape()), s.get_dtype()) for name, s in slices.items()]
    except FileNotFoundError:
        raise DataError(f"{path}: no such file") from None
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not readable as safetensors: {error}") from None


def safetensors_read(tensors: list[Tensor]) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield the values of tensors of one or more safetensors files."""
    runtime.start()
    for path, group in groupby(sorted(tensors, key=lambda t: t.where), key=lambda t: t.where):
        try:
            # Read through TensorFlow, since numpy has no bfloat16.
            with safe_open(path, framework="tf") as file:
                for tensor in group:
                    yield tensor, file.get_tensor(tensor.name).numpy()
        except (SafetensorError, OSError) as error:
            raise DataError(f"{path}: not readable as safetensors: {error}") from None


def tensorflow_list(prefix: Path) -> list[Tensor]:
    """List the tensors of a TensorFlow checkpoint, `prefix.index` and `prefix.data-…`, from its index."""
    reader = _reader(prefix)
    types, shapes = reader.get_variable_to_dtype_map(), reader.get_variable_to_shape_map()
    return [Tensor(name, prefix, tuple(shape), types[name].name) for name, shape in shapes.items()]


def tensorflow_read(tensors: list[Tensor]) -> Iterator[tuple[Tensor, np.ndarray]]:
    """Yield the values of tensors of one TensorFlow checkpoint."""
    if not tensors:
        return
    reader = _reader(tensors[0].where)
    import tensorflow as tf

    for tensor in tensors:
        try:
            yield tensor, np.asarray(reader.get_tensor(tensor.name))
        except (tf.errors.OpError, *UNREADABLE) as error:
            raise _unreadable(tensor.where, error) from None


def _reader(prefix: Path) -> Any:
    values = list(prefix.parent.glob(prefix.name + ".data-*"))
    for file in (prefix.with_name(prefix.name + ".index"), *values):
        check_pointer(file)
    if not values:
        raise DataError(f"{prefix}.data-00000-of-00001: no such file")
    runtime.start()
    import tensorflow as tf

    try:
        return tf.train.load_checkpoint(str(prefix))
    except (tf.errors.OpError, *UNREADABLE) as error:
        raise _unreadable(prefix, error) from None


def _unreadable(prefix: Path, error: Exception) -> DataError:
    reason = (str(error).strip().splitlines() or ["no reason given"])[0]
    return DataError(f"{prefix}: not readable as a TensorFlow checkpoint: {reason}")
