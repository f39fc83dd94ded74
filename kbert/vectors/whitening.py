"""Whiten vectors: rotate and scale them so that their covariance is the identity.

In: vectors [rows, size], in any number of parts. Out: a mean and a matrix that whiten any vector.
Source: Su et al. 2021, "Whitening Sentence Representations for Better Semantics and Faster Retrieval".
"""

import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from kbert.errors import DataError
from kbert.files import whole_binary

log = logging.getLogger(__name__)

# A direction whose variance is a smaller fraction of the largest is treated as rounding error.
LEAST_VARIANCE = 1e-9


@dataclass(frozen=True)
class Whitening:
    """`(vector - mean) @ kernel`; float32 [size] and [size, kept]."""

    mean: np.ndarray
    kernel: np.ndarray

    @classmethod
    def fit(cls, parts: Callable[[], Iterable[np.ndarray]], size: int, kept: int | None = None) -> "Whitening":
        """Fit the mean and matrix to vectors that are read twice, in parts; memory holds a [size, size] matrix.

        Directions in which the vectors do not vary, which exist if there are fewer vectors than their size, cannot
        be scaled to variance 1: they become zeros, with a warning.

        Args:
            parts: returns the vectors from the start at each call, [rows, size] a part.
            size: size of a vector.
            kept: number of directions to keep, by descending variance; all by default.

        Raises:
            DataError: the vectors are all equal.
        """
        rows, total = 0, np.zeros(size)
        for part in parts():
            rows, total = rows + len(part), total + part.sum(0, dtype=np.float64)
        mean = total / max(rows, 1)
        covariance = np.zeros((size, size))
        for part in parts():
            centred = part.astype(np.float64) - mean
            covariance += centred.T @ centred / rows
        variance, directions = (values[..., ::-1] for values in np.linalg.eigh(covariance))  # greatest first
        varied = int((variance > LEAST_VARIANCE * variance[0]).sum()) if rows and variance[0] > 1e-12 else 0
        if not varied:
            raise DataError(f"whitening: the {rows:,} vectors are all equal, so there is no variance to scale")
        kept = size if kept is None else kept
        if varied < kept:
            log.warning(
                "whitening: %d vectors vary in %d directions only; the other %d of %d are zeros",
                rows,
                varied,
                kept - varied,
                kept,
            )
        scale = np.where(np.arange(size) < varied, 1 / np.sqrt(np.maximum(variance, LEAST_VARIANCE * variance[0])), 0.0)
        return cls(mean.astype(np.float32), np.ascontiguousarray((directions * scale)[:, :kept], np.float32))

    def save(self, path: Path) -> None:
        """Save it as safetensors."""
        with whole_binary(path) as file:
            file.write(save({"mean": self.mean, "kernel": self.kernel}))

    @classmethod
    def load(cls, path: Path, size: int) -> "Whitening":
        """Load what `save` has written.

        Raises:
            DataError: the file is missing, damaged, or for vectors of another size.
        """
        try:
            arrays = load_file(path)
        except FileNotFoundError:
            raise DataError(f"--whitening={path}: no such file; --fit_whitening writes one") from None
        except (OSError, SafetensorError, ValueError) as error:
            raise DataError(f"--whitening={path}: not readable as safetensors: {error}") from None
        if set(arrays) != {"mean", "kernel"} or arrays["mean"].ndim != 1 or arrays["kernel"].ndim != 2:
            raise DataError(f"--whitening={path}: expected the tensors mean and kernel, as --fit_whitening writes them")
        mean, kernel = (arrays[name].astype(np.float32) for name in ("mean", "kernel"))
        if mean.shape != (size,) or kernel.shape[0] != size:
            raise DataError(f"--whitening={path}: is for vectors of {len(mean)} numbers, these have {size}")
        if not (np.isfinite(mean).all() and np.isfinite(kernel).all()):
            raise DataError(f"--whitening={path}: contains values that are not finite")
        return cls(mean, kernel)
