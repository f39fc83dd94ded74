"""Run training: optimizer, schedule, steps, dev figures, checkpoints, resuming.

In: a task with its model, batches, a `RunConfig`, a model directory, and a function that measures dev. Out:
checkpoints in that directory. A run is counted in steps; a stopped run continues from its last
checkpoint as if it had not stopped: a checkpoint holds weights, optimizer, dropout seeds and the sums of the
running epoch's figures, and the batches from its step on are the same wherever a run starts.
"""

import dataclasses
import logging
import signal
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import tensorflow as tf

from kbert import progress
from kbert.config import RunConfig
from kbert.errors import DataError, KbertError
from kbert.interruption import Interrupted, Notes
from kbert.model.encoder import encoder_of
from kbert.model_dir import ModelDir
from kbert.progress import Progress
from kbert.saved import Figures, Saved
from kbert.serving import set_weights
from kbert.tasks.base import Built, Trainable
from kbert.tasks.reports import Report
from kbert.train.arrays import array_of, arrays_of
from kbert.train.batching import Batches
from kbert.train.boards import Board, Curves
from kbert.train.loss_watch import LossDiverged, LossWatch
from kbert.train.objective import Objective, Sums
from kbert.train.optimizers import last_rate, optimizer
from kbert.train.step import TrainStep
from kbert.train.strategies import Devices

log = logging.getLogger(__name__)

AGREED = 10  # steps between two exchanges of whether a worker is to stop


class Run:
    """One training run on one model directory.

    Args:
        task: defines the dev figure that selects the best checkpoint.
        built: the task's model, with its initial weights, its loss and its training metrics.
        config: how to train.
        directory: where checkpoints are written, and where a stopped run continues.
        batches: the training batches.
        measure: measures the current model on dev; called in the chief's process only.
        devices: where batches are computed; the model was created under their strategy.
    """

    def __init__(
        self,
        task: Trainable,
        built: Built,
        config: RunConfig,
        directory: ModelDir,
        batches: Batches,
        measure: Callable[[], Report],
        devices: Devices | None = None,
    ):
        self.task, self.model, self.config, self.directory = task, built.model, config, directory
        self.batches, self.measure, self.devices = batches, measure, devices or Devices()
        self.steps = config.total_steps(batches.per_epoch)
        with self.devices.strategy.scope():
            self.optimizer = optimizer(self.model, config, self.steps)
            self.optimizer.build(self.model.trainable_variables)
        objective = Objective(built.loss, built.metrics)
        strategy, rows = self.devices.strategy, self.devices.rows
        self.by_row = built.by_row
        self.train_step = TrainStep(self.model, self.optimizer, objective, strategy, rows, by_row=built.by_row)
        self.sums: Sums = self.train_step.zeros()  # over the steps of the current epoch
        self.watch = LossWatch(config.loss_limit)
        self.board = Board(directory.path / "tb" if self.devices.chief else None)
        self.curves = Curves(self.board, batches.per_epoch)
        self.notes = Notes()  # signals
        self._warned: set[str] = set()
        self._unproven: int | None = None  # the step of a checkpoint that replaces others once a later loss is finite

    def fit(self) -> None:
        """Train from the last checkpoint, or from the beginning, to the last step.

        Raises:
            KbertError: the loss diverged; nothing is written then.
            Interrupted: by Ctrl-C or SIGTERM; a checkpoint was written, from which the same command continues.
        """
        last = self.directory.last()
        seen = 0 if last is None else last.step
        if seen != self.devices.broadcast_from_chief(seen):
            raise DataError(
                f"{self.directory.path}: step {seen} is the last here and not for the chief: "
                "--model_dir must be on a file system that all workers share"
            )
        if last is not None:
            self._restore(last)
            log.info("continuing after %s: step %d of %d", last.place, last.step, self.steps)
        self.devices.spread_seeds(self.model)
        name, mode = self.task.best_by(self.config.best_metric)
        better = "higher" if mode == "max" else "lower"
        ties = "" if name == "loss" else "the lower loss, where dev has one, then to "
        log.info("best on dev: %s, the %s the better; ties go to %sthe earlier checkpoint", name, better, ties)
        self.board.start(self.task.config, self.config, name, str(self.directory.path))
        try:
            if not self.steps and last is None:  # a checkpoint of the untrained model
                report = self.measure() if self.devices.chief else None
                if report is not None:
                    self.board.report("dev", 0, report)
                    self._keep(0, report)
            with self.notes.taken():
                self._train(seen, last)
            if self.devices.chief:
                self.directory.drop(self.config.keep_checkpoints)
        except LossDiverged as lost:
            if self.devices.chief:
                self.directory.set_aside_behind(lost.sound)
            last = self.directory.last()
            kept = "no checkpoint was written"
            if last is not None:
                good = "last good checkpoint" if last.step <= lost.sound else "only checkpoint, which may be lost too,"
                kept = f"the {good} is {last.path}, which --init reads for a run in another --model_dir"
            batch = f"its batch was {self.batches.where(lost.step - 1)}"
            if lost.step > 1:
                batch += f"; the one before, whose gradients may have done it, was {self.batches.where(lost.step - 2)}"
            raise KbertError(f"{lost}; {batch}; {kept}") from None
        finally:
            self.board.close()

    def _train(self, done: int, last: Saved | None) -> None:
        batches = self.devices.batches(self.batches, done, by_row=self.by_row)
        self.curves.start(done, self._results())
        unmeasured = last is not None and last.score is None and self._measured_after(done)  # interrupted just then
        if unmeasured and self._finish(done, f"{done}/{self.steps}", {}, measured=True, saved=last):
            return
        since, began = done, time.monotonic()
        with Progress(self.steps, initial=done, desc="training", unit="step", delay=0, figures=self._results) as bar:
            for step in range(done + 1, self.steps + 1):
                self.sums, loss = self.train_step(batches, self.sums)
                self.watch.add(step, loss)
                self._drop(step - 1)
                bar.update()
                measured = self._measured_after(step)
                stopping = self._stopping(step, measured)
                kept = stopping or measured or _due(step, self.config.checkpoint_steps)
                if kept:
                    self.watch.check()
                    self._drop(step)
                if kept or self.curves.due(step):
                    results = self._results()
                    self.curves.add(step, results, last_rate(self.optimizer))
                    bar.show(results)
                if step % self.batches.per_epoch == 0:
                    self.sums = self.train_step.zeros()
                if kept:
                    seconds = time.monotonic() - began
                    pace = f"{step}/{self.steps} - {seconds:.0f}s - {1000 * seconds / (step - since):.0f}ms/step"
                    if self._finish(step, pace, results, measured=measured and not stopping):
                        return
                if measured:
                    since, began = step, time.monotonic()

    def _measured_after(self, step: int) -> bool:
        """Return whether dev is measured after a step."""
        ends = step % self.batches.per_epoch == 0 or step >= self.steps
        return step > 0 and (ends or _due(step, self.config.evaluate_steps))

    def _stopping(self, step: int, together: bool) -> bool:
        """Return whether any worker received a signal; they exchange it every `AGREED` steps, and where `together`."""
        asked = self.notes.number is not None
        if not self.devices.several:
            return asked
        return (together or _due(step, AGREED)) and self.devices.any(asked)

    def _finish(self, step: int, pace: str, results: dict[str, float], *, measured: bool, saved: Saved | None = None) -> bool:
        """Measure dev and write a checkpoint where they are due; return whether the run ends here.

        Args:
            step: the last step done.
            pace: of the steps so far, for the printed line.
            results: figures of the training steps.
            measured: whether to measure dev.
            saved: the checkpoint, if it is written but lacks the dev figures.

        Raises:
            Interrupted: a signal was received.
        """
        report = self._measure(step, pace, results) if measured else None
        over = self.devices.broadcast_from_chief(self.devices.chief and self._keep(step, report, saved))
        if self._stopping(step, together=True):
            number = self.notes.number or signal.SIGTERM  # a signal that another worker received
            end = "terminated" if number == signal.SIGTERM else "interrupted"
            kept = f"checkpoint {self.directory.checkpoint_path(step)}; run the same command to continue"
            raise Interrupted(number, f"{end} after step {step} of {self.steps}; {kept}")
        return bool(over)

    def _results(self) -> dict[str, float]:
        """Compute figures of the current epoch's training steps."""
        return self.train_step.results(self.sums)

    def _drop(self, watched: int) -> None:
        """Delete the checkpoints that the newest one replaces, once a later step's loss is known to be finite."""
        if self._unproven is not None and watched > self._unproven:
            self.directory.drop(self.config.keep_checkpoints)
            self._unproven = None

    def _measure(self, step: int, pace: str, results: dict[str, float]) -> Report | None:
        """Measure dev in the chief's process, print its figures after those of training, and write them to TensorBoard."""
        report = self.notes.interruptible(self.measure) if self.devices.chief else None
        figures = dict(results)
        if report is not None:
            self.board.report("dev", step, report)
            if self.config.weight_histograms:
                self.board.weights(step, self.model.weights)
            for warning in report.warnings():
                if warning not in self._warned:  # once a run, however often dev is measured
                    log.warning("dev after step %d: %s", step, warning)
            self._warned.update(report.warnings())
            figures |= {f"dev_{name}": value for name, value in report.scalars().items()}
        progress.write(" - ".join([pace, *(f"{name}: {value:.4f}" for name, value in figures.items())]))
        return report

    def _keep(self, step: int, report: Report | None, saved: Saved | None = None) -> bool:
        """Write a checkpoint, with dev's figures if dev was measured; return whether the run ends here."""
        last, best = self.directory.last(), self.directory.measured()
        figures = Figures(step=step, per_epoch=self.batches.per_epoch, waited=0 if last is None else last.waited)
        if report is not None:
            name, mode = self.task.best_by(self.config.best_metric)
            value = report.scalars().get(name)
            # A figure that cannot be computed, such as a correlation of equal scores, counts as the worst.
            if value is None and name not in self._warned:
                log.warning(
                    "dev has no %s, so the best checkpoint is the one with the lowest loss, if dev has one; it has %s",
                    name,
                    ", ".join(report.scalars()),
                )
                self._warned.add(name)
            score = -sys.float_info.max if value is None else value if mode == "max" else -value
            figures = dataclasses.replace(figures, score=score, metrics=report.metrics, calibration=report.calibration())
            waited = 0 if best is None or figures.rank > best.rank else figures.waited + 1
            patience = self.config.early_stopping_patience
            stopped = patience is not None and waited >= patience
            if stopped:
                log.info("early stopping: dev %s was measured %d times without a better one", name, waited)
            figures = dataclasses.replace(figures, waited=waited, stopped=self.steps if stopped else 0)
        if saved is None:
            encoder = encoder_of(self.model)
            absent = set() if encoder is None or encoder.has_pooler else {id(weight) for weight in encoder.pooler}
            weights = arrays_of([weight for weight in self.model.weights if id(weight) not in absent])
            if not all(np.isfinite(array).all() for array in weights.values()):
                raise LossDiverged(step, step - 1, f"weights are not numbers after step {step}: lower --learning_rate")
            self.directory.save(weights, self._state(), figures)
        elif report is not None:
            self.directory.describe(saved, figures)
        self._unproven = step
        return figures.stopped > 0

    def _unsaved(self) -> list[Any]:
        """Return the variables beyond `model.weights` that the next step depends on: optimizer and dropout seeds."""
        weights = {id(v) for v in self.model.weights}
        return [*self.optimizer.variables, *(v for v in self.model.non_trainable_variables if id(v) not in weights)]

    def _state(self) -> dict[str, np.ndarray]:
        variables = {f"{i:05d} {v.path}": array_of(v) for i, v in enumerate(self._unsaved())}
        sums = {f"sum {i:05d}": np.array(value) for i, value in enumerate(self.sums)}
        return {**variables, **sums, "watch": self.watch.state()}

    def _restore(self, saved: Saved) -> None:
        set_weights(self.model, saved.weights(), str(saved.weights_file))
        arrays, expected = saved.state(), self._state()
        where = saved.state_file
        if len(arrays) != len(expected):
            raise DataError(f"{where}: {len(arrays)} tensors, expected {len(expected)}")
        # Keras numbers optimizers within a process, so variables are matched by position, not by name.
        for name, like in zip(sorted(arrays), expected.values(), strict=True):
            if arrays[name].shape != like.shape:
                raise DataError(f"{where}: tensor {name!r} has shape {arrays[name].shape}, expected {like.shape}")
        ordered = [arrays[name] for name in sorted(arrays)]
        variables = self._unsaved()
        for variable, array in zip(variables, ordered, strict=False):
            variable.assign(array)
        *sums, watch = ordered[len(variables) :]
        self.sums = [tf.constant(array) for array in sums]
        self.watch.restore(watch)


def _due(step: int, every: int) -> bool:
    return every > 0 and step % every == 0
