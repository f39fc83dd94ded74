"""Read and write a model directory, which holds everything of a trained model.

    config.json             what the model is and how it was trained; written before the first step
    vocab.txt
    checkpoints/step-00000502/  weights.safetensors, checkpoint.json,
                                state.safetensors (optimizer, dropout seeds, metric sums of the running epoch)
    metrics.json            figures of the best checkpoint
    tb/                     TensorBoard
    stages/filter/          checkpoints and tb/ of what a task trains first, of --task=aspect for example

A checkpoint is one folder, written under a temporary name and renamed, so that no reader sees one
step's weights with another's figures. The newest are kept, from which a run resumes, and the best, which
evaluation, prediction and export read. Checkpoints between two evaluations on dev have no figures and
are never the best. Checkpoints damaged later are renamed (checkpoints/damaged-step-...). A run holds a lock (.lock) on the
directory, so that it is the only writer; readers need none. No TensorFlow here.
"""

import contextlib
import dataclasses
import itertools
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import save_file

from kbert import recorded
from kbert.config import ModelConfig, PretrainConfig, RunConfig, TrainConfig
from kbert.errors import DataError, UsageError
from kbert.files import read_json, write_json, write_text
from kbert.lock import Held, Lock
from kbert.permutation import ORDER
from kbert.saved import FIGURES, STATE, WEIGHTS, Figures, Saved, check_arrays
from kbert.settings import to_json
from kbert.tasks import RECORDED

log = logging.getLogger(__name__)

STAGES = "stages"
Run = TypeVar("Run", bound=RunConfig)
WRITING = ".writing-"  # name prefix of folders that are not complete yet, or no longer
REPLACED = ".replaced"  # the former run, from --overwrite to the first new checkpoint
# What may differ when the same command resumes a run; everything else must be equal.
MAY_CHANGE = {
    "strategy",
    "accumulation_steps",
    "epochs",
    "steps",
    "early_stopping_patience",
    "test_data",
    "cache_frozen",
    "cache_memory",
    "cache_dir",
    "checkpoint_steps",
    "keep_checkpoints",
    "evaluate_steps",
    "loss_limit",
    "skip_bad_rows",
}


class ModelDir:
    """A model directory; it need not exist yet."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self._marks: dict[str, int] = {}

    def exists(self) -> bool:
        """Return whether the directory holds a kbert run, finished or not.

        Raises:
            DataError: config.json is not readable.
        """
        path = self.path / "config.json"
        document = read_json(path) if path.exists() else None
        return isinstance(document, dict) and "kbert" in document

    def check_writable(self, overwrite: bool = False) -> None:
        """Raise DataError, before any work, if the directory cannot be written, is damaged, or is not a model."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise DataError(f"--model_dir={self.path}: cannot be written: {error.strerror}") from None
        if overwrite and (self.path / "vocab.txt").exists() and (self.path / "checkpoints").exists():
            return  # whatever the state of its config.json
        if not self.exists() and any(p.name != "tb" and not p.name.startswith(".") for p in self.path.iterdir()):
            raise DataError(f"--model_dir={self.path}: holds other files and no kbert model; give an empty or a new directory")

    def resolve_run(self, train: Run, overwrite: bool) -> Run:
        """Return how to train, completed by what a run that it resumes recorded: the order of rows, and an `auto` precision."""
        if overwrite or not self.exists():
            return dataclasses.replace(train, data_order=ORDER)
        recorded = self.read_config()[1]
        precision = recorded.precision if train.precision == "auto" else train.precision
        return dataclasses.replace(train, data_order=recorded.data_order, precision=precision)

    def check_not_in(self, init: str) -> None:
        """Raise UsageError if a run would start from a checkpoint that it overwrites."""
        place, own = Path(init).expanduser().resolve(), self.path.resolve()
        if place.exists() and own in (place, *place.parents):  # else a preset's name
            raise UsageError(f"--init={init} is in --model_dir={self.path}; give another --model_dir")

    @contextlib.contextmanager
    def held(self, chief: bool = True) -> Iterator[None]:
        """Lock the directory against other runs; remove incomplete files of killed ones.

        Args:
            chief: whether this process writes; of several processes of one run only the chief does, and holds the lock.

        Raises:
            DataError: another run is using the directory.
        """
        if not chief:
            yield
            return
        try:
            lock = Lock(self.path / ".lock")
        except Held as holder:
            raise DataError(
                f"--model_dir={self.path}: a run is writing it ({holder}); wait for its end, or give another --model_dir"
            ) from None
        except OSError as error:
            raise DataError(f"--model_dir={self.path}: cannot be written: {error.strerror}") from None
        with lock:
            for stale in (*self.path.glob(f"checkpoints/{WRITING}*"), *self.path.glob(f"{STAGES}/*/checkpoints/{WRITING}*")):
                shutil.rmtree(stale)
            yield

    def begin(self, model: ModelConfig, train: RunConfig, vocabulary: list[str], overwrite: bool) -> None:
        """Start a run, replacing an existing one if requested, or resume the existing one."""
        if overwrite or not self.exists():
            shutil.rmtree(self.path / STAGES, ignore_errors=True)
        if overwrite or not self.exists() or self.last() is None:
            self.create(model, train, vocabulary)
        else:
            self.write_config(model, train, vocabulary)

    def create(self, model: ModelConfig, train: RunConfig, vocabulary: list[str]) -> None:
        """Start over: move a former run aside until this one has a checkpoint, and write the configuration."""
        if self._worth_keeping():
            shutil.rmtree(self.path / REPLACED, ignore_errors=True)
            (self.path / REPLACED).mkdir()
            for name in ("checkpoints", "tb", "config.json", "vocab.txt", "metrics.json"):
                if (self.path / name).exists():
                    os.rename(self.path / name, self.path / REPLACED / name)
        for name in ("checkpoints", "tb"):
            shutil.rmtree(self.path / name, ignore_errors=True)
        self.write_config(model, train, vocabulary)
        write_text(self.path / "vocab.txt", "".join(token + "\n" for token in vocabulary))

    def _worth_keeping(self) -> bool:
        """Return whether to keep the present run while another replaces it; it then replaces an earlier run kept so."""
        try:
            return self.last() is not None and (self.measured() is not None or not (self.path / REPLACED).exists())
        except DataError:  # damaged, but possibly still of value
            return not (self.path / REPLACED).exists()

    def stage(self, name: str) -> "ModelDir":
        """Return the directory for the checkpoints of a stage trained first; its weights become part of the model's."""
        return ModelDir(self.path / STAGES / name)

    def write_config(self, model: ModelConfig, train: RunConfig, vocabulary: list[str]) -> None:
        """Write config.json; checkpoints saved from here on carry the marks of this model and its vocabulary."""
        recorded.write(self.path / "config.json", model, train)
        self._marks = recorded.marks(model, vocabulary)

    def read_config(self) -> tuple[ModelConfig, TrainConfig | PretrainConfig]:
        """Read both configurations.

        Raises:
            DataError: not a kbert model, a newer schema, an unknown or missing key, or a value that is not allowed.
        """
        path = self.path / "config.json"
        if not self.path.is_dir():
            raise DataError(f"--model_dir={self.path}: no such directory")
        if not path.exists():
            raise DataError(f"--model_dir={self.path}: not a kbert model (it has no config.json)")
        return recorded.read(path)

    def read_model(self, saved: Saved) -> tuple[ModelConfig, list[str]]:
        """Read the model's configuration and vocabulary.

        Raises:
            DataError: they are damaged, or not those that a checkpoint was trained with.
        """
        model, vocabulary = self.read_config()[0], self.vocabulary()
        recorded.check_marks(saved.marks, model, vocabulary, self.path, saved.path)
        recorded.check_calibration(saved.marks, saved.calibration, saved.path / FIGURES)
        rows = model.encoder.vocabulary_size
        if len(vocabulary) > rows:
            raise DataError(f"{self.path / 'vocab.txt'}: {len(vocabulary):,} tokens, but the model has {rows:,} embeddings")
        if not saved.marks and rows - len(vocabulary) >= model.encoder.rounding:  # older kbert: no mark to compare
            log.warning(
                "%s: %s tokens, but the model has %s embeddings; is the file cut short?",
                *(self.path / "vocab.txt", f"{len(vocabulary):,}", f"{rows:,}"),
            )
        return model, vocabulary

    def finished(self, train: RunConfig) -> str | None:
        """Return a message if the run is finished; None if there is more to do."""
        last = self.last()
        if last is None:
            return None
        steps = train.total_steps(last.per_epoch)
        if last.score is None or (last.step < steps and steps > last.stopped):  # no score: lacks the final evaluation
            return None
        early = " (stopped early)" if last.stopped else ""
        return (
            f"{self.path} is finished: {last.step} steps, {last.epoch} epochs{early}. "
            f"Raise --{'epochs' if train.steps is None else 'steps'} to continue, or use --overwrite to start over."
        )

    def check_same(self, model: ModelConfig, train: RunConfig, vocabulary: list[str]) -> None:
        """Raise UsageError, naming the difference, unless the recorded run has the same settings."""
        was_model, was_train = self.read_config()
        last = self.last()
        ways_out = "use --overwrite to start over, or another --model_dir"
        if was_model.task != model.task:
            raise UsageError(f"--model_dir={self.path} holds a model of --task={was_model.task}, not {model.task}; {ways_out}")
        kind = RECORDED[model.task]
        since = {f.name: f.default for f in dataclasses.fields(kind)}  # values of options that did not exist then
        missing = since.keys() - was_model.options.keys()
        was_model = dataclasses.replace(was_model, options={**since, **was_model.options})
        for name, was, now in [*_differences(was_train, train), *_differences(was_model, model)]:
            if name == "tokens" and name in missing:
                raise UsageError(
                    f"--model_dir={self.path} has a run of an older kbert, trained and evaluated on words, though rows have "
                    "tokens; kbert now trains and evaluates on the tokens, so the figures are not comparable. "
                    f"--init={self.path} with another --model_dir continues from its weights; --overwrite begins a new run"
                )
            unknown = was is None and name == "dev_data_crc32"  # a run from before it was recorded
            if name not in MAY_CHANGE and not unknown:
                raise UsageError(f"--model_dir={self.path} has a run with {name} {_short(was)}, not {_short(now)}; {ways_out}")
        if last is not None:
            self.read_model(last)
        before = self.vocabulary()
        for line, (token, other) in enumerate(itertools.zip_longest(before, vocabulary), 1):
            if token != other:
                was, now = ("missing" if each is None else repr(each) for each in (token, other))
                found = f"line {line} was {was}, not {now}"
                raise UsageError(f"--model_dir={self.path} has a run with another vocabulary: {found}; {ways_out}")

    def vocabulary(self) -> list[str]:
        """Read the tokens of vocab.txt.

        Raises:
            DataError: it is missing, or truncated in the middle of a line.
        """
        path = self.path / "vocab.txt"
        try:
            *tokens, rest = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise DataError(f"{path}: not readable: {error}") from None
        if rest or not tokens:
            raise DataError(f"{path}: ends in the middle of line {len(tokens) + 1:,}; is the file cut short?")
        return tokens

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
        """Return the checkpoint with the best dev figure (ties: lower loss, then the earlier); None if there is none."""
        measured = [saved for saved in self.checkpoints() if saved.score is not None]
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

    def check_whole(self) -> None:
        """Raise DataError unless the best checkpoint's files are there and whole, and the vocabulary; arrays are not read."""
        while True:
            saved = self.best()
            self.vocabulary()
            try:
                return check_arrays(saved.weights_file)
            except DataError:
                if saved.path.exists():  # else a running training has replaced it
                    raise

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
                save_file(weights, new / WEIGHTS)
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

    def metrics(self) -> dict[str, Any]:
        """Read what `write_metrics` has written; empty if there is nothing."""
        path = self.path / "metrics.json"
        metrics = read_json(path) if path.exists() else {}
        return metrics if isinstance(metrics, dict) else {}

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        write_json(self.path / "metrics.json", metrics)


def directory_of(checkpoint: Path) -> Path | None:
    """Return the model directory that a checkpoint's folder is in; None where the path is not such a folder."""
    return checkpoint.resolve().parent.parent if (checkpoint / FIGURES).exists() else None


def _synced(path: Path) -> None:
    """Flush a file or a folder's entries to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _differences(was: Any, now: Any) -> list[tuple[str, Any, Any]]:
    found = []
    for spec in dataclasses.fields(was):
        a, b = getattr(was, spec.name), getattr(now, spec.name)
        if dataclasses.is_dataclass(a):
            found += _differences(a, b)
        elif isinstance(a, dict) and isinstance(b, dict):
            found += [(str(key), a.get(key), b.get(key)) for key in sorted({*a, *b}) if a.get(key) != b.get(key)]
        elif a != b:
            found.append((spec.name, a, b))
    return found


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 80 else text[:80] + "…"
