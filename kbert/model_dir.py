"""Everything a trained model is, in one directory.

    config.json             what the model is and how it was trained; written before the first step
    vocab.txt
    checkpoints/step-00000502/  weights.safetensors, checkpoint.json,
                                state.safetensors (optimizer, dropout seeds, sums of the running epoch's figures)
    metrics.json            figures of the best checkpoint
    tb/                     TensorBoard
    stages/filter/          checkpoints and tb/ of what a task learns first, of --task=aspect for example

A checkpoint is one folder, written beside its place and renamed whole, so that no reader sees one
step's weights with another's figures. The newest are kept, from which a run continues, and the best, which
evaluation, prediction and export read. Checkpoints between two measurements on dev have no figures and
are never the best. One that was damaged later (checkpoints/damaged-step-...) is set aside. A run holds a lock (.lock) on the
directory, so that it is the only one that writes; readers need none. No TensorFlow here.
"""

import contextlib
import dataclasses
import itertools
import logging
import math
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError, safe_open
from safetensors.numpy import load_file, save_file

from kbert import config, recorded
from kbert.config import ModelConfig, PretrainConfig, RunConfig, TrainConfig, to_json, within
from kbert.errors import DataError, UsageError
from kbert.files import write_json, write_text
from kbert.lock import Held, Lock
from kbert.permutation import ORDER
from kbert.tasks import OPTIONS
from kbert.tasks.pretrain.options import PretrainOptions

log = logging.getLogger(__name__)

STAGES = "stages"
WRITING = ".writing-"  # begins the names of folders that are not whole yet, or no longer
REPLACED = ".replaced"  # the former run, from --overwrite to the first new checkpoint
# What may differ when the same command continues a run; everything else has to be as it was.
MAY_CHANGE = {
    "strategy",
    "accumulation_steps",
    "epochs",
    "steps",
    "early_stopping_patience",
    "test_data",
    "checkpoint_steps",
    "keep_checkpoints",
    "evaluate_steps",
    "loss_limit",
}


@dataclasses.dataclass(frozen=True, kw_only=True)
class Figures:
    """What checkpoint.json says.

    Attributes:
        step: training steps done, from the run's beginning.
        per_epoch: training steps of an epoch.
        score: the task's figure on dev, the greater the better; None where dev was not measured.
        waited: measurements on dev since the best, this one included.
        stopped: early stopping ended a run of this many steps here; 0 when it did not.
        metrics: the dev report; empty where dev was not measured.
        calibration: what the dev rows settled for `decode`, such as a threshold.
        marks: checksums of vocabulary, settings and calibration (`kbert.recorded`); empty in stages and older directories.
    """

    step: int = within(low=0)
    per_epoch: int = within(low=1)
    score: float | None = None
    waited: int = 0
    stopped: int = 0
    metrics: dict[str, Any] = dataclasses.field(default_factory=dict)
    calibration: dict[str, float] = dataclasses.field(default_factory=dict)
    marks: dict[str, int] = dataclasses.field(default_factory=dict)

    @property
    def rank(self) -> tuple[float, float]:
        """What checkpoints are compared by, the greater the better: the score, then the loss on dev, the lower the better."""
        score = -math.inf if self.score is None or math.isnan(self.score) else self.score
        loss = self.metrics.get("loss")
        return score, -loss if isinstance(loss, float) and math.isfinite(loss) else -math.inf

    @property
    def epoch(self) -> int:
        """Epochs completed."""
        return self.step // self.per_epoch

    @property
    def place(self) -> str:
        """Where in the run it is, for messages."""
        return f"step {self.step}" if self.step % self.per_epoch else f"epoch {self.epoch}"


@dataclasses.dataclass(frozen=True, kw_only=True)
class Saved(Figures):
    """One checkpoint folder."""

    path: Path

    def weights(self) -> dict[str, np.ndarray]:
        """Weight arrays by variable path."""
        return _load(self.path / "weights.safetensors")

    def state(self) -> dict[str, np.ndarray]:
        """Optimizer, seed and other arrays, as `kbert.train.run` named them."""
        return _load(self.path / "state.safetensors")

    @classmethod
    def read(cls, path: Path) -> "Saved":
        """Return the checkpoint in a folder, of which checkpoint.json alone is read; DataError when that is damaged."""
        where = path / "checkpoint.json"
        return cls(path=path, **vars(config.from_json(Figures, config.read_json(where), str(where))))


class ModelDir:
    """A model directory; it need not exist yet."""

    def __init__(self, path: str | Path):
        self.path = Path(path).expanduser()
        self._marks: dict[str, int] = {}

    def exists(self) -> bool:
        """Return whether a kbert run is here, finished or not.

        Raises:
            DataError: config.json is not readable.
        """
        path = self.path / "config.json"
        document = config.read_json(path) if path.exists() else None
        return isinstance(document, dict) and "kbert" in document

    def check_writable(self, overwrite: bool = False) -> None:
        """Raise DataError, before work is spent, when nothing can be written here, or what is here is damaged or no model."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=self.path):
                pass
        except OSError as error:
            raise DataError(f"--model_dir={self.path}: cannot be written: {error.strerror}") from None
        if overwrite and (self.path / "vocab.txt").exists() and (self.path / "checkpoints").exists():
            return  # whatever has become of its config.json
        if not self.exists() and any(p.name != "tb" and not p.name.startswith(".") for p in self.path.iterdir()):
            raise DataError(f"--model_dir={self.path}: holds other files and no kbert model; name an empty or a new directory")

    def data_order(self, overwrite: bool) -> int:
        """Return the `RunConfig.data_order` of a run that starts here: that of the run it continues, else the newest."""
        return ORDER if overwrite or not self.exists() else self.read_config()[1].data_order

    def check_not_in(self, init: str) -> None:
        """Raise UsageError when a run would start from a checkpoint that it writes over."""
        place, own = Path(init).expanduser().resolve(), self.path.resolve()
        if place.exists() and own in (place, *place.parents):  # else it is a preset's name
            raise UsageError(f"--init={init} is in --model_dir={self.path}; name another --model_dir")

    @contextlib.contextmanager
    def held(self, chief: bool = True) -> Iterator[None]:
        """Be the only run that writes here; what killed ones left half-written is removed.

        Args:
            chief: whether this process writes; of several that work on one run only one does, and only it holds the lock.

        Raises:
            DataError: another run is at work here.
        """
        if not chief:
            yield
            return
        try:
            lock = Lock(self.path / ".lock")
        except Held as holder:
            raise DataError(
                f"--model_dir={self.path}: a run is writing it ({holder}); wait for its end, or name another --model_dir"
            ) from None
        except OSError as error:
            raise DataError(f"--model_dir={self.path}: cannot be written: {error.strerror}") from None
        with lock:
            for stale in (*self.path.glob(f"checkpoints/{WRITING}*"), *self.path.glob(f"{STAGES}/*/checkpoints/{WRITING}*")):
                shutil.rmtree(stale)
            yield

    def begin(self, model: ModelConfig, train: RunConfig, vocabulary: list[str], overwrite: bool) -> None:
        """Start again where no run is or it is to be replaced, or continue with the one that is here."""
        if overwrite or not self.exists():
            shutil.rmtree(self.path / STAGES, ignore_errors=True)
        if overwrite or not self.exists() or self.last() is None:
            self.create(model, train, vocabulary)
        else:
            self.write_config(model, train, vocabulary)

    def create(self, model: ModelConfig, train: RunConfig, vocabulary: list[str]) -> None:
        """Start again: set what a former run left aside until this one has a checkpoint, write the configuration."""
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
        except DataError:  # a damaged one, but who knows
            return not (self.path / REPLACED).exists()

    def stage(self, name: str) -> "ModelDir":
        """Return where something that is learnt first has its checkpoints; its weights become part of the model's."""
        return ModelDir(self.path / STAGES / name)

    def write_config(self, model: ModelConfig, train: RunConfig, vocabulary: list[str]) -> None:
        """Write config.json; checkpoints that are saved from here on bear the marks of this model and its vocabulary."""
        recorded.write(self.path / "config.json", model, train)
        self._marks = recorded.marks(model, vocabulary)

    def read_config(self) -> tuple[ModelConfig, TrainConfig | PretrainConfig]:
        """Return both configurations.

        Raises:
            DataError: no kbert model, a newer schema, an unknown or missing key, a value that is not allowed.
        """
        path = self.path / "config.json"
        if not self.path.is_dir():
            raise DataError(f"--model_dir={self.path}: no such directory")
        if not path.exists():
            raise DataError(f"--model_dir={self.path}: no kbert model (it has no config.json)")
        return recorded.read(path)

    def read_model(self, saved: Saved) -> tuple[ModelConfig, list[str]]:
        """Return the model's configuration and vocabulary.

        Raises:
            DataError: they are damaged, or not those that a checkpoint was trained with.
        """
        model, vocabulary = self.read_config()[0], self.vocabulary()
        recorded.check_marks(saved.marks, model, vocabulary, self.path, saved.path)
        recorded.check_calibration(saved.marks, saved.calibration, saved.path / "checkpoint.json")
        rows = model.encoder.vocabulary_size
        if len(vocabulary) > rows:
            raise DataError(f"{self.path / 'vocab.txt'}: {len(vocabulary):,} tokens, but the model has {rows:,} embeddings")
        if not saved.marks and rows - len(vocabulary) >= model.encoder.rounding:  # of an older kbert: nothing else tells
            log.warning(
                "%s: %s tokens, but the model has %s embeddings; is the file cut short?",
                *(self.path / "vocab.txt", f"{len(vocabulary):,}", f"{rows:,}"),
            )
        return model, vocabulary

    def finished(self, train: RunConfig) -> str | None:
        """Return what there is to say of a run that is over; None where there is more to do."""
        last = self.last()
        if last is None:
            return None
        steps = train.total_steps(last.per_epoch)
        if last.score is None or (last.step < steps and steps > last.stopped):  # without a score: interrupted at its end
            return None
        early = " (stopped early)" if last.stopped else ""
        return (
            f"{self.path} is finished: {last.step} steps, {last.epoch} epochs{early}. "
            f"Raise --{'epochs' if train.steps is None else 'steps'} to continue, or use --overwrite to start anew."
        )

    def check_same(self, model: ModelConfig, train: RunConfig, vocabulary: list[str]) -> None:
        """Raise UsageError, naming the difference, unless the run recorded here is this one."""
        was_model, was_train = self.read_config()
        last = self.last()
        ways_out = "use --overwrite to start anew, or another --model_dir"
        if was_model.task != model.task:
            raise UsageError(f"--model_dir={self.path} holds a model of --task={was_model.task}, not {model.task}; {ways_out}")
        kind = OPTIONS.get(model.task, PretrainOptions)
        since = {f.name: f.default for f in dataclasses.fields(kind)}  # what options were before they could be given
        missing = since.keys() - was_model.options.keys()
        was_model = dataclasses.replace(was_model, options={**since, **was_model.options})
        for name, was, now in [*_differences(was_train, train), *_differences(was_model, model)]:
            if name == "tokens" and name in missing:
                raise UsageError(
                    f"--model_dir={self.path} has a run of an older kbert, which learnt and measured words where rows come "
                    "with tokens; kbert now learns and measures the tokens, so that the figures do not compare. "
                    f"--init={self.path} with another --model_dir continues from its weights; --overwrite begins a new run"
                )
            unknown = was is None and name == "dev_data_crc32"  # a run from before it was kept
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
        """Return the tokens of vocab.txt.

        Raises:
            DataError: it is missing, or cut short in the middle of a line.
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
        """Return the checkpoints that are whole, oldest first."""
        saved = []
        for path in sorted((self.path / "checkpoints").glob("step-*")):
            try:
                saved.append(Saved.read(path))
            except DataError:
                if path.exists():
                    raise
                continue  # a run that continues has dropped it meanwhile
        return saved

    def set_damaged_aside(self) -> None:
        """Rename checkpoints of which a file is missing, cut short or no longer what it was, so that a run continues without.

        Of the arrays the names and sizes are checked; a file whose numbers alone have changed is not found.

        Raises:
            DataError: none is whole; nothing is renamed then.
        """
        damaged: dict[Path, str] = {}
        whole = False
        for path in sorted((self.path / "checkpoints").glob("step-*")):
            try:
                Saved.read(path)
                for name in ("weights.safetensors", "state.safetensors"):
                    _check(path / name)
                whole = True
            except DataError as error:
                damaged[path] = str(error)
        if damaged and not whole:
            raise DataError(f"{next(reversed(damaged.values()))}; no other checkpoint is whole: use --overwrite to start anew")
        for path, found in damaged.items():
            aside = path.with_name(f"damaged-{path.name}")
            shutil.rmtree(aside, ignore_errors=True)
            os.rename(path, aside)
            log.warning("%s; it is now called %s, and the run goes on from what is whole", found, aside.name)

    def last(self) -> Saved | None:
        """Return the newest checkpoint, from which a run continues."""
        return max(self.checkpoints(), key=lambda s: s.step, default=None)

    def measured(self) -> Saved | None:
        """Return the checkpoint with the best dev figure (ties: lower loss, then the earlier); None if there is none."""
        measured = [saved for saved in self.checkpoints() if saved.score is not None]
        return max(measured, key=lambda s: (s.rank, -s.step), default=None)

    def best(self) -> Saved:
        """As `measured`.

        Raises:
            DataError: none is there yet.
        """
        saved = self.measured()
        if saved is None:
            former = f"; the run it replaces is in {self.path / REPLACED}" if (self.path / REPLACED).exists() else ""
            state = "has not finished an epoch" if self.last() is None else "has checkpoints, but has not measured dev"
            raise DataError(f"--model_dir={self.path}: no checkpoint yet; the training run {state}{former}")
        return saved

    def best_weights(self) -> tuple[Saved, dict[str, np.ndarray]]:
        """`best` with its weights, also while a run continues and drops it for a better one.

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
        """Write one checkpoint; returns its folder."""
        parent = self.path / "checkpoints"
        parent.mkdir(exist_ok=True)
        place = self.checkpoint_path(figures.step)
        try:
            new = Path(tempfile.mkdtemp(prefix=WRITING, dir=parent))
            try:
                new.chmod(0o755)
                save_file(weights, new / "weights.safetensors")
                save_file(state, new / "state.safetensors")
                self._write_figures(new, figures)
                for file in new.glob("*.safetensors"):
                    file.chmod((new / "checkpoint.json").stat().st_mode & 0o777)  # safetensors lets only the owner read
                for path in (*new.iterdir(), new):  # on the disk before older ones are dropped
                    _synced(path)
                os.rename(new, place)
            finally:  # on a full disk it would keep the disk full
                shutil.rmtree(new, ignore_errors=True)
            _synced(parent)
        except (OSError, SafetensorError) as error:
            raise DataError(f"{place}: could not be written: {error}") from None
        if self.measured() is not None:
            shutil.rmtree(self.path / REPLACED, ignore_errors=True)
        return place

    def describe(self, saved: Saved, figures: Figures) -> None:
        """Add figures to a checkpoint that was written without: those of its own weights."""
        self._write_figures(saved.path, figures)

    def _write_figures(self, path: Path, figures: Figures) -> None:
        marks = {**self._marks, **recorded.calibration_mark(figures.calibration)} if self._marks else {}
        write_json(path / "checkpoint.json", to_json(dataclasses.replace(figures, marks=marks)))

    def drop(self, keep: int) -> None:
        """Drop the checkpoints that are neither best nor among the `keep` newest."""
        best = self.measured()
        whole = sorted(self.checkpoints(), key=lambda s: s.step)
        for saved in whole[: max(0, len(whole) - keep)]:
            if best is None or saved.path != best.path:
                # Out of sight first, so that a reader never meets a half-deleted folder.
                gone = saved.path.with_name(f"{WRITING}{saved.path.name}")
                os.rename(saved.path, gone)
                shutil.rmtree(gone)

    def set_aside_behind(self, step: int) -> None:
        """Rename the checkpoints of later steps, which may have gone wrong; none where no other is left, or none measured."""
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
        """Return what `write_metrics` wrote; empty where nothing is."""
        path = self.path / "metrics.json"
        metrics = config.read_json(path) if path.exists() else {}
        return metrics if isinstance(metrics, dict) else {}

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        write_json(self.path / "metrics.json", metrics)


def _synced(path: Path) -> None:
    """Have a file or a folder's list of names written to the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _load(path: Path) -> dict[str, np.ndarray]:
    try:
        arrays: dict[str, np.ndarray] = load_file(path)
        return arrays
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not readable as safetensors: {error}") from None


def _check(path: Path) -> None:
    """Raise DataError unless a file of arrays is as long as its first bytes say; the arrays are not read."""
    try:
        with safe_open(path, framework="numpy"):
            pass
    except (SafetensorError, OSError) as error:
        raise DataError(f"{path}: not readable as safetensors: {error}") from None


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
