"""The training run: optimizer, schedule, epochs, dev figures, checkpoints, resuming.

In: a task with its model, tables, a `TrainConfig`, a model directory. Out: checkpoints in that
directory, each written at an epoch's end after the dev rows went through the serving function.
"""

import logging
import math
import sys
from typing import Any

import keras
import numpy as np
from tqdm import tqdm

from kbert import pipeline
from kbert.boards import Board, Curves
from kbert.config import TrainConfig
from kbert.errors import DataError, KbertError
from kbert.model_dir import ModelDir, Saved
from kbert.optimizers import optimizer
from kbert.serving import Predictor, build, set_weights
from kbert.sources import Table
from kbert.tasks.base import Report, Task

log = logging.getLogger(__name__)


def evaluate(predictor: Predictor, table: Table, description: str, calibrates: bool = False) -> Report:
    """The table's rows through the serving function, scored as a whole; `calibrates`: thresholds are found on them."""
    scorer = predictor.task.scorer(calibrates)
    with tqdm(total=len(table), desc=description, unit="row", leave=False, delay=1, disable=None) as bar:
        for raw in pipeline.raw_rows(predictor.task, table, gold=True):
            predicted = {name: value.numpy() for name, value in predictor(raw).items()}
            scorer.update({name: column.numpy() for name, column in raw.items()}, predicted)
            bar.update(len(next(iter(predicted.values()))))
    return scorer.result()


class EpochEnd(keras.callbacks.Callback):
    """Measures dev, writes a checkpoint, and stops early when told to."""

    def __init__(self, run: "Run"):
        super().__init__()
        self.run = run

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        if not math.isfinite((logs or {}).get("loss", 0.0)):
            last = self.run.directory.last()
            kept = f"the last good checkpoint is {last.path}" if last else "no checkpoint was written"
            raise KbertError(
                f"the loss is not a number at step {int(self.model.optimizer.iterations)}: "
                f"lower --learning_rate, or train in another --precision; {kept}"
            )

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        report = self.run.end_epoch(epoch + 1)
        if logs is not None:
            logs.update({f"dev_{name}": value for name, value in report.scalars().items()})


class Run:
    """One training run on one model directory."""

    def __init__(
        self,
        task: Task,
        model: keras.Model,
        vocabulary: list[str],
        train: Table,
        dev: Table,
        config: TrainConfig,
        directory: ModelDir,
    ):
        self.task, self.model, self.config, self.directory = task, model, config, directory
        self.examples, self.dev_table = pipeline.Examples(task, train), dev
        if config.precision == task.config.serving_precision:
            self.predictor = Predictor(task, model)
        else:
            # Dev is measured in the arithmetic that is served, so that the figures are those of serving.
            serving_task, _, serving_model = build(task.config, vocabulary, task.config.serving_precision)
            self.predictor = Predictor(serving_task, serving_model)
        self.board = Board(directory.path / "tb")
        self.waited = 0

    def fit(self) -> None:
        """Train from the last checkpoint, or from the beginning, to the last epoch."""
        config = self.config
        per_epoch = pipeline.steps(len(self.examples), config.batch_size)
        self.model.compile(
            optimizer=optimizer(self.model, config, per_epoch * config.epochs), jit_compile=False, **self.task.compile_args()
        )
        self.model.optimizer.build(self.model.trainable_variables)
        last = self.directory.last()
        done = 0 if last is None else last.epoch
        if last is not None:
            self._restore(last)
            log.info("continuing after epoch %d of %d", done, config.epochs)
        self.board.start(self.task.config, config, self.task.best[0])
        batches = pipeline.training_batches(
            self.examples, batch_size=config.batch_size, seed=config.seed, epochs=range(done, config.epochs)
        )
        self.model.fit(
            batches,
            epochs=config.epochs,
            initial_epoch=done,
            steps_per_epoch=per_epoch,
            shuffle=False,
            callbacks=[EpochEnd(self), Curves(self.board)],
            verbose=1 if sys.stdout.isatty() else 2,
        )
        self.board.close()

    def end_epoch(self, epoch: int) -> Report:
        if self.predictor.model is not self.model:
            set_weights(self.predictor.model, _arrays(self.model.weights), "serving model")
        report = evaluate(self.predictor, self.dev_table, "dev", calibrates=True)
        name, mode = self.task.best
        value = report.scalars()[name]
        score = value if mode == "max" else -value
        before = [saved.score for saved in self.directory.checkpoints()]
        self.waited = 0 if not before or score > max(before) else self.waited + 1
        patience = self.config.early_stopping_patience
        stopped = patience is not None and self.waited >= patience
        self.directory.save(
            _arrays(self.model.weights),
            self._state(),
            epoch=epoch,
            score=score,
            stopped=self.config.epochs if stopped else 0,
            metrics=report.metrics,
            calibration=report.calibration(),
        )
        self.board.report("dev", int(self.model.optimizer.iterations), report)
        if stopped:
            log.info("early stopping: no better dev %s for %d epochs", name, patience)
            self.model.stop_training = True
        return report

    def _unsaved(self) -> list[Any]:
        """What `model.weights` leaves out but the next step depends on: optimizer and dropout seeds."""
        weights = {id(v) for v in self.model.weights}
        return [*self.model.optimizer.variables, *(v for v in self.model.non_trainable_variables if id(v) not in weights)]

    def _state(self) -> dict[str, np.ndarray]:
        return {f"{i:05d} {v.path}": _array(v) for i, v in enumerate(self._unsaved())}

    def _restore(self, saved: Saved) -> None:
        set_weights(self.model, saved.weights(), str(saved.path / "weights.safetensors"))
        arrays, variables = saved.state(), self._unsaved()
        where = saved.path / "state.safetensors"
        if len(arrays) != len(variables):
            raise DataError(f"{where}: {len(arrays)} tensors, expected {len(variables)}")
        for name, variable in zip(sorted(arrays), variables, strict=True):
            if tuple(arrays[name].shape) != tuple(variable.shape):
                raise DataError(f"{where}: tensor {name!r} has shape {arrays[name].shape}, expected {tuple(variable.shape)}")
            variable.assign(arrays[name])
        best = self.directory.best()
        self.waited = saved.epoch - best.epoch


def _array(variable: Any) -> np.ndarray:
    return np.array(keras.ops.convert_to_numpy(variable), order="C")  # a copy, which keeps scalars scalar


def _arrays(variables: list[Any]) -> dict[str, np.ndarray]:
    return {v.path: _array(v) for v in variables}


def seed(value: int) -> None:
    """Seed everything random in the process: initial weights, dropout, TensorFlow's own."""
    keras.utils.set_random_seed(value)
