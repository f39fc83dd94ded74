"""Copy the values of variables to arrays, for checkpoints and for copies of a model."""

from typing import Any

import keras
import numpy as np


def array_of(variable: Any) -> np.ndarray:
    """Copy the value of a variable."""
    return np.array(keras.ops.convert_to_numpy(variable), order="C")  # a copy, which keeps scalars scalar


def arrays_of(variables: list[Any]) -> dict[str, np.ndarray]:
    """Copy the values of variables, by their paths."""
    return {v.path: array_of(v) for v in variables}
