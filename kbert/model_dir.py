"""Read and write a model directory, which holds everything of a trained model.

    config.json             what the model is and how it was trained; written before the first step
    vocab.txt
    checkpoints/step-00000502/  weights.safetensors, checkpoint.json,
                                state.safetensors (optimizer, dropout seeds, metric sums of the running epoch)
    metrics.json            figures of the best checkpoint
    tb/                     TensorBoard
    stages/filter/          checkpoints and tb/ of what a task trains first, of --task=aspect for example

`kbert.kept_checkpoints` writes and drops checkpoints. A run holds a lock (.lock) on the directory, so that
it is the only writer; readers need none. No TensorFlow here.
"""

import contextlib
import dataclasses
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeVar

from kbert import recorded
from kbert.config import ModelConfig, RunConfig, TrainConfig
from kbert.errors import DataError, UsageError
from kbert.files import read_json, write_json, write_text
from kbert.kept_checkpoints import REPLACED, WRITING, KeptCheckpoints
from kbert.lock import Held, Lock
from kbert.permutation import ORDER
from kbert.pretrain_config import PretrainConfig
from kbert.saved import FIGURES, Saved, check_arrays

log = logging.getLogger(__name__)

STAGES = "stages"
Run = TypeVar("Run", bound=RunConfig)


class ModelDir(KeptCheckpoints):
    """A model directory; it need not exist yet."""

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
