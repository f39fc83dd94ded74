"""Read one checkpoint of a model directory: its figures at once, its arrays when they are needed.

`kbert.kept_checkpoints` writes them; `kbert.model_dir` describes the folder. No TensorFlow here.
"""

import dataclasses
import math
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file

from kbert.errors import DataError
from kbert.files import check_pointer, read_json
from kbert.settings import from_json, within

WEIGHTS, STATE, FIGURES = "weights.safetensors", "state.safetensors", "checkpoint.json"  # the files of a checkpoint


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """The content of checkpoint.json.

    Attributes:
        step: training steps done since the start of the run.
        per_epoch: training steps of an epoch.
        score: the task's figure on dev, higher is better; None if dev was not evaluated.
        waited: evaluations on dev since the best, this one included.
        stopped: number of steps of the run that early stopping ended here; 0 if it did not.
        metrics: the dev report; empty if dev was not evaluated.
        calibration: values found on dev rows for `decode`, such as a threshold.
        adopted: whether another toolkit trained it (`kbert.tasks.adoption`), so that it has no figures on dev.
        marks: checksums of vocabulary, settings and calibration (`kbert.recorded`); empty in stages and older directories.
    """

    step: int = within(low=0)
    per_epoch: int = within(low=1)
    score: float | None = None
    waited: int = 0
    stopped: int = 0
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    calibration: dict[str, float] = dataclasses.field(default_factory=dict)
    adopted: bool = False
    marks: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def rank(self) -> tuple[float, float]:
        """The key for comparing checkpoints, higher is better: the score, then the negative loss on dev."""
        score = -math.inf if self.score is None or math.isnan(self.score) else self.score
        loss = self.metrics.get("loss")
        return score, -loss if isinstance(loss, float) and math.isfinite(loss) else -math.inf

    @property
    def epoch(self) -> int:
        """Completed epochs."""
        return self.step // self.per_epoch

    @property
    def place(self) -> str:
        """The position in the run, for messages."""
        return f"step {self.step}" if self.step % self.per_epoch else f"epoch {self.epoch}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved(Figures):
    """A checkpoint folder."""

    path: Path

    @property
    def weights_file(self) -> Path:
        return self.path / WEIGHTS

    @property
    def state_file(self) -> Path:
        return self.path / STATE

    def weights(self) -> dict[str, np.ndarray]:
        """Read weight arrays by variable path."""
        return _load(self.weights_file)

    def state(self) -> dict[str, np.ndarray]:
        """Read optimizer, seed and other arrays, as named by `kbert.train.run`."""
        return _load(self.state_file)

    @classmethod
    def read(cls, path: Path) -> "Saved":
        """Open the checkpoint in a folder, reading only checkpoint.json; raise DataError if that is damaged."""
        where = path / FIGURES
        return cls(path=path, **vars(from_json(Figures, read_json(where), str(where))))


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays: dict[str, np.ndarray] = load_file(path)
        return arrays
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def check_arrays(path: Path) -> None:
    """Raise DataError unless a file of arrays is as long as its header says; the arrays are not read."""
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise _unreadable(path, error) from None


def _unreadable(path: Path, error: Exception) -> DataError:
    check_pointer(path)
    return DataError(f"{path}: not readable as safetensors: {error}" if path.exists() else f"{path}: no such file")
