"""Keep the checkpoints of a run: write whole ones, find the newest and the best, drop the others.

A checkpoint is one folder, written under a temporary name and renamed, so that no reader sees one
step's weights with another's figures. The newest are kept, from which a run resumes, and the best, which
evaluation, prediction and export read. Checkpoints between two evaluations on dev have no figures and
are never the best. Checkpoints damaged later are renamed (checkpoints/damaged-step-...). No TensorFlow here.
"""

import dataclasses
import logging
import os
import shutil
import tempfile
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from kbert import recorded
from kbert.errors import DataError
from kbert.files import write_json
from kbert.saved import FIGURES, STATE, WEIGHTS, Figures, Saved, check_arrays
from kbert.settings import to_json

log = logging.getLogger(__name__)

WRITING = ".writing-"  # name prefix of folders that are not complete yet, or no longer
REPLACED = ".replaced"  # the former run, from --overwrite to the first new checkpoint


class KeptCheckpoints:
    """The checkpoints in a model directory; it need not exist yet."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self._marks: dict[str, int] = {}

    def checkpoints(self) -> list[Saved]:
        """List the complete checkpoints, oldest first."""
        saved = []
        for path in sorted((self.path / "checkpoints").glob("step-*")):
            try:
                saved.append(Saved.read(path))
            except DataError:
                if path.exists():
                    raise
                continue  # dropped meanwhile by a running training
        return saved

    def set_damaged_aside(self) -> None:
        """Rename checkpoints with missing, truncated or altered files, so that a run resumes without them.

        Names and sizes of arrays are checked; a file in which only numbers have changed is not detected.

        Raises:
            DataError: no checkpoint is complete; nothing is renamed.
        """
        damaged: dict[Path, str] = {}
        whole = False
        for path in sorted((self.path / "checkpoints").glob("step-*")):
            try:
                Saved.read(path)
                for name in (WEIGHTS, STATE):
                    check_arrays(path / name)
                whole = True
            except DataError as error:
                damaged[path] = str(error)
        if damaged and not whole:
            raise DataError(f"{next(reversed(damaged.values()))}; no other is complete: use --overwrite to start over")
        for path, found in damaged.items():
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(path, aside)
            log.warning("%s; renamed to %s; the run continues from the remaining checkpoints", found, aside.name)

    def last(self) -> Saved | None:
        """Return the newest checkpoint, from which a run resumes."""
        return max(self.checkpoints(), key=lambda s: s.step, default=None)

    def measured(self) -> Saved | None:
        """Return the checkpoint with the best dev figure (ties: lower loss, then the earlier), or an adopted one, or None."""
        measured = [saved for saved in self.checkpoints() if saved.score is not None or saved.adopted]
        return max(measured, key=lambda s: (s.rank, -s.step), default=None)

    def best(self) -> Saved:
        """Return the result of `measured`, which must exist.

        Raises:
            DataError: there is none yet.
        """
        saved = self.measured()
        if saved is None:
            former = f"; the run it replaces is in {self.path / REPLACED}" if (self.path / REPLACED).exists() else ""
            state = "has not finished an epoch" if self.last() is None else "has checkpoints, but has not measured dev"
            raise DataError(f"--model_dir={self.path}: no checkpoint yet; the training run {state}{former}")
        return saved

    def best_weights(self) -> tuple[Saved, dict[str, np.ndarray]]:
        """Return `best` with its weights, even if a running training replaces it meanwhile.

        Raises:
            DataError: there is none, or its file is damaged.
        """
        while True:
            saved = self.best()
            try:
                return saved, saved.weights()
            except DataError:
                if saved.path.exists():
                    raise

    def checkpoint_path(self, step: int) -> Path:
        """Return the folder of a step's checkpoint."""
        return self.path / "checkpoints" / f"step-{step:08d}"

    def save(self, weights: dict[str, np.ndarray], state: dict[str, np.ndarray], figures: Figures) -> Path:
        """Write a checkpoint; return its folder."""
        parent = self.path / "checkpoints"
        parent.mkdir(exist_ok=True)
        place = self.checkpoint_path(figures.step)
        try:
            new = Path(tempfile.mkdtemp(prefix=WRITING, dir=parent))
            try:
                new.chmod(0o755)
                # safetensors writes an array's memory as it is, whatever its order.
                save_file({name: np.ascontiguousarray(array) for name, array in weights.items()}, new / WEIGHTS)
                save_file(state, new / STATE)
                self._write_figures(new, figures)
                for file in new.glob("*.safetensors"):
                    file.chmod((new / FIGURES).stat().st_mode & 0o777)  # safetensors allows the owner only
                for path in (*new.iterdir(), new):  # flush to disk before older ones are dropped
                    _synced(path)
                os.rename(new, place)
            finally:  # else it would keep a full disk full
                shutil.rmtree(new, ignore_errors=True)
            _synced(parent)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{place}: could not be written: {error}") from None
        if self.measured() is not None:
            shutil.rmtree(self.path / REPLACED, ignore_errors=True)
        return place

    def describe(self, saved: Saved, figures: Figures) -> None:
        """Add figures to a checkpoint written without: those of its own weights."""
        self._write_figures(saved.path, figures)

    def _write_figures(self, path: Path, figures: Figures) -> None:
        marks = {**self._marks, **recorded.calibration_mark(figures.calibration)} if self._marks else {}
        write_json(path / FIGURES, to_json(dataclasses.replace(figures, marks=marks)))

    def drop(self, keep: int) -> None:
        """Delete the checkpoints that are neither best nor among the `keep` newest."""
        best = self.measured()
        whole = sorted(self.checkpoints(), key=lambda s: s.step)
        for saved in whole[: max(0, len(whole) - keep)]:
            if best is None or saved.path != best.path:
                # Rename first, so that a reader never sees a half-deleted folder.
                gone = saved.path.with_name(f"{WRITING}{saved.path.name}")
                os.rename(saved.path, gone)
                shutil.rmtree(gone)

    def set_aside_behind(self, step: int) -> None:
        """Rename the checkpoints of later steps, which may have diverged, unless none would be left, or none evaluated."""
        found = self.checkpoints()
        left = [saved for saved in found if saved.step <= step]
        if not left or (self.measured() is not None and all(saved.score is None for saved in left)):
            return
        for saved in found:
            if saved.step > step:
                aside = saved.path.with_name(f"lost-{saved.path.name}")
                shutil.rmtree(aside, ignore_errors=True)
                os.rename(saved.path, aside)


def _synced(path: Path) -> None:
    """Flush a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
