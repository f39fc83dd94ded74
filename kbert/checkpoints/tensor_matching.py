"""Match a file's tensors with the table of names, checking all before reading any value.

In: the tensors that a file lists (name, shape, type). Out: `Weights`, which read values under kbert's paths
on demand, or a DataError naming the file and the tensor that is missing, unexpected or of another shape.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kbert.checkpoints.checkpoint import Arrays, Shapes
from kbert.checkpoints.names import Naming, Row, output_rows
from kbert.errors import DataError

# As safetensors, PyTorch, TensorFlow and Keras name them.
FLOATS = {
    **{name: name for name in ("float64", "float32", "float16", "bfloat16")},
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
}


@dataclass(frozen=True)
class Tensor:
    """A tensor as listed in a file."""

    name: str
    where: Path
    shape: tuple[int, ...]
    dtype: str

    def __str__(self) -> str:
        return f"{self.where}: tensor {self.name!r}"


Read = Callable[[list[Tensor]], Iterator[tuple[Tensor, np.ndarray]]]


@dataclass(frozen=True)
class Weights:
    """The matched tensors of a checkpoint.

    Attributes:
        naming: the form whose names and shapes the file uses; None for kbert's own.
        matched: path -> row of the table and tensor of the file.
        read: reads the values of tensors.
    """

    naming: Naming | None
    matched: dict[str, tuple[Row, Tensor]]
    read: Read

    @property
    def shapes(self) -> Shapes:
        return {path: row.shape for path, (row, _) in self.matched.items()}

    def source(self, file: Path) -> str:
        """Name the file, and the types of the weights unless all are float32."""
        types = sorted({FLOATS[tensor.dtype] for _, tensor in self.matched.values()})
        return file.name if types == ["float32"] else f"{file.name}, {' and '.join(types)}"

    def encoder(self) -> Arrays:
        """Read the encoder's arrays by path, including the pooler if present."""
        return self._arrays(row for row, _ in self.matched.values() if not row.of_head)

    def heads(self) -> Arrays:
        """Read the heads' arrays by path."""
        return self._arrays(row for row, _ in self.matched.values() if row.of_head)

    def _arrays(self, wanted: Iterable[Row]) -> Arrays:
        rows = {self.matched[row.path][1].name: row for row in wanted}
        arrays: Arrays = {}
        for tensor, array in self.read([self.matched[row.path][1] for row in rows.values()]):
            row = rows[tensor.name]
            array = np.asarray(array, np.float32) if self.naming is None else row.read(array, self.naming)
            if not np.isfinite(array).all():
                raise DataError(f"{tensor} contains values that are not finite")
            arrays[row.path] = array
        return arrays


def match(
    tensors: Mapping[str, Tensor], rows: Iterable[Row], naming: Naming | None, where: Path, optional: Iterable[str]
) -> dict[str, tuple[Row, Tensor]]:
    """Match each row of the table with its tensor.

    Args:
        tensors: by the table's names, without those that the caller ignores.
        rows: the table; its parts in `optional` may be missing as a whole.
        naming: the form whose names and shapes to compare with; None for kbert's own.
        where: the file, for messages about missing tensors.

    Raises:
        DataError: a tensor is missing, unexpected, of the wrong shape or not floating-point.
    """
    table = list(rows)
    name = {row.path: row.names[naming] if naming else row.path for row in table}
    there = {row.part for row in table if name[row.path] in tensors}
    absent = set(optional) - there
    matched: dict[str, tuple[Row, Tensor]] = {}
    for row in table:
        if row.part in absent:
            continue
        if name[row.path] not in tensors:
            raise DataError(f"{where}: tensor {name[row.path]!r} is missing")
        tensor = tensors[name[row.path]]
        expected = row.stored(naming) if naming else row.shape
        if tensor.shape != expected:
            raise DataError(f"{tensor} has shape {tensor.shape}, expected {expected}")
        if tensor.dtype not in FLOATS:
            raise DataError(f"{tensor} holds {tensor.dtype} values, expected floating-point numbers")
        matched[row.path] = row, tensor
    for left in sorted(set(tensors) - set(name.values())):
        raise DataError(f"{tensors[left]} is not part of this BERT")
    return matched


def sizes(tensors: Mapping[str, Tensor], parts: Iterable[str], naming: Naming) -> dict[str, int]:
    """Return the number of outputs of the heads in `OUTPUTS` whose tensors are all present; one head at most."""
    for part in parts:
        kernel, bias = (row.names[naming] for row in output_rows(part, 1, 1))
        shape = tensors[kernel].shape if {kernel, bias} <= set(tensors) else ()
        if len(shape) == 2 and (part != "span" or shape[0] == 2):
            return {part: shape[0]}
    return {}


def deduplicated(pairs: Iterable[tuple[str, Tensor]]) -> dict[str, Tensor]:
    """Return tensors by the table's names; raise DataError if two are the same weight."""
    tensors: dict[str, Tensor] = {}
    for name, tensor in pairs:
        if name in tensors:
            raise DataError(f"{tensor} is the same weight as {tensors[name].name!r}")
        tensors[name] = tensor
    return tensors
