"""Runs of a toy model: when checkpoints are written and which are kept, exact resuming, losses that are lost."""

import errno
import os
import signal
import subprocess
import sys

import keras
import numpy as np
import pytest
import tensorflow as tf
from test_boards import events, number
from test_pipeline import CONFIG

from kbert.config import TrainConfig
from kbert.errors import DataError, KbertError
from kbert.interruption import Interrupted, handled, raised
from kbert.model_dir import ModelDir
from kbert.tasks import reports
from kbert.tasks.base import Built
from kbert.train import optimizers
from kbert.train import run as training

PER_EPOCH = 8


class Report(reports.Report):
    """Dev figures that are given."""

    def __init__(self, figures):
        super().__init__(figures if isinstance(figures, dict) else {"accuracy": figures})

    def scalars(self):
        return self.metrics

    def table(self):
        return ""

    def calibration(self):
        return {"threshold": self.metrics["accuracy"] / 2}


class Task:
    best = ("accuracy", "max")
    config = CONFIG

    def best_by(self, name):
        assert name is None
        return self.best


class Batches:
    """Numbers from the step's own seed; the batch of step `bad`, from 0, is not a number."""

    per_epoch = PER_EPOCH

    def __init__(self, bad: int | None = None):
        self.bad = -1 if bad is None else bad

    def dataset(self, start):
        def batch(step):
            x = tf.random.stateless_normal([6, 4], [1, tf.cast(step, tf.int32)])
            return tf.where(step == self.bad, np.nan, x), tf.cast(tf.reduce_sum(x, 1) > 0, tf.int32)

        return tf.data.Dataset.range(start, np.iinfo(np.int64).max).map(batch)

    def where(self, step):
        return f"row {step} of the toy"


def run(path, figures=(), bad=None, stop=None, signals=None, measuring=None, **settings) -> ModelDir:
    """Train in a directory, from where it is; `stop` ends it behind that step, as a kill would.

    `signals`: those that come during steps; `measuring`: one that comes while dev is measured.
    """
    config = TrainConfig(init="", train_data="", **{"steps": 20, "learning_rate": 0.05, **settings})
    keras.utils.set_random_seed(config.seed)
    x = keras.Input((4,))
    hidden = keras.layers.Dropout(0.4)(keras.layers.Dense(8, activation="tanh", name="hidden")(x))
    built = Built(
        model=keras.Model(x, keras.layers.Dense(2, name="outputs")(hidden)),
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        metrics=[keras.metrics.SparseCategoricalAccuracy(name="accuracy")],
    )
    directory = ModelDir(path)
    directory.check_writable()
    if directory.last() is None:
        directory.create(CONFIG, config, ["[PAD]"])
    given = iter(figures)

    def measure():
        if measuring is not None:
            os.kill(os.getpid(), measuring)
        return Report(next(given, 0.5))

    one = training.Run(Task(), built, config, directory, Batches(bad), measure)
    add = one.watch.add
    if signals is not None:

        def added(step, loss):
            add(step, loss)
            for number in signals.get(step, ()):
                os.kill(os.getpid(), number)

        one.watch.add = added
        with handled(raised, (signal.SIGTERM,)):  # as in a command
            one.fit()
    elif stop is not None:

        def added(step, loss):
            if step > stop:
                raise KeyboardInterrupt
            add(step, loss)

        one.watch.add = added
        with pytest.raises(KeyboardInterrupt):
            one.fit()
    else:
        one.fit()
    return directory


def contents(directory) -> dict[str, np.ndarray]:
    """All arrays of the last checkpoint; an optimizer's name counts those made before it in the process."""
    last = directory.last()
    state = {f"{i} {name.rsplit('/', 1)[-1]}": array for i, (name, array) in enumerate(sorted(last.state().items()))}
    return {**{str(i): array for i, array in enumerate(last.weights().values())}, **state}


def same(a, b) -> bool:
    return len(a) == len(b) and all(np.array_equal(x, y) for x, y in zip(a.values(), b.values(), strict=True))


def curves(path) -> dict[str, dict[int, float]]:
    found = {tag: points for tag, points in events(path / "tb").items() if "/" in tag[:6]}
    tensors = {tag: points[0][1].tensor for tag, points in found.items()}
    scalars = {tag: found[tag] for tag, first in tensors.items() if not first.tensor_shape.dim and first.dtype == tf.float32}
    return {tag: {step: number(value) for step, value in points} for tag, points in scalars.items()}


def steps(directory) -> list[int]:
    return [saved.step for saved in directory.checkpoints()]


def test_checkpoints_by_step_the_newest_and_the_best_are_kept(tmp_path):
    directory = run(tmp_path / "m", figures=[0.1, 0.9, 0.3], checkpoint_steps=3, keep_checkpoints=2)
    assert steps(directory) == [16, 18, 20]  # measured at 8, 16 and 20
    assert directory.best().step == 16 and directory.best().calibration == {"threshold": 0.45}
    by_step = {saved.step: saved for saved in directory.checkpoints()}
    assert by_step[18].score is None and by_step[18].metrics == {} and by_step[20].score == 0.3
    assert [by_step[step].waited for step in (16, 18, 20)] == [0, 0, 1]
    assert steps(run(tmp_path / "one", figures=[0.9, 0.1, 0.3], checkpoint_steps=3)) == [8, 20]
    assert steps(run(tmp_path / "often", figures=[0.1, 0.2, 0.9, 0.3, 0.4, 0.5], evaluate_steps=5)) == [10, 20]


def test_what_is_not_measured_is_never_the_best(tmp_path, capsys):
    directory = run(tmp_path / "m", stop=5, checkpoint_steps=2)
    assert steps(directory) == [2, 4] and directory.measured() is None  # 2 goes when the loss of step 5 is seen
    with pytest.raises(DataError, match="no checkpoint yet; the training run has checkpoints, but has not measured dev"):
        directory.best()
    directory = run(tmp_path / "m", stop=19, checkpoint_steps=2)
    assert steps(directory) == [8, 16, 18] and directory.best().step == 8


def test_a_reader_outlives_a_checkpoint_that_is_dropped(tmp_path, monkeypatch):
    directory = run(tmp_path / "m", figures=[0.9, 0.1, 0.2])
    best = directory.best()
    original = ModelDir.best

    def dropped_meanwhile(self):
        found = original(self)
        monkeypatch.setattr(ModelDir, "best", original)
        best.path.rename(best.path.with_name(".writing-gone"))
        return found

    monkeypatch.setattr(ModelDir, "best", dropped_meanwhile)
    assert directory.best_weights()[0].step == 20


@pytest.mark.parametrize("settings", [{}, {"optimizer": "lamb"}, {"precision": "float16"}], ids=["adamw", "lamb", "scaled"])
def test_any_step_resumes_exactly(tmp_path, settings):
    settings = {**settings, "checkpoint_steps": 3, "loss_limit": 1e6}
    whole = run(tmp_path / "whole", figures=[0.1, 0.2, 0.3], **settings)
    for stop in (2, 7, 16):  # before the first checkpoint; after steps 6 and 16, an epoch's end
        run(tmp_path / "m", figures=[0.1, 0.2], stop=stop, **settings)
    assert not same(contents(whole), contents(ModelDir(tmp_path / "m")))
    resumed = run(tmp_path / "m", figures=[0.3], **settings)
    assert same(contents(whole), contents(resumed)) and any("seed_generator" in name for name in contents(resumed))
    assert curves(tmp_path / "m") == curves(tmp_path / "whole")
    rates = [optimizers.WarmupDecay(0.05, 20, 2)(step - 1) for step in (3, 6, 8)]  # those that the steps were taken with
    assert [curves(tmp_path / "m")["train/learning_rate"][step] for step in (3, 6, 8)] == pytest.approx(rates)
    assert sorted(curves(tmp_path / "m")["train/loss"]) == [3, 6, 8, 9, 12, 15, 16, 18, 20]


def test_a_signal_ends_a_run_between_two_steps(tmp_path):
    whole = run(tmp_path / "whole", figures=[0.1, 0.9, 0.3])
    with pytest.raises(Interrupted, match="terminated after step 5 of 20; checkpoint .*step-00000005; run the same") as caught:
        run(tmp_path / "m", signals={5: [signal.SIGTERM]})
    directory = ModelDir(tmp_path / "m")
    assert caught.value.exit_code == 143 and steps(directory) == [5] and directory.measured() is None
    # At an epoch's end dev is not measured any more, or its measurement is broken off; the next run makes up for it.
    with pytest.raises(Interrupted, match="interrupted after step 8 of 20") as caught:
        run(tmp_path / "m", signals={8: [signal.SIGINT]})
    assert caught.value.exit_code == 130 and directory.last().step == 8 and directory.measured() is None
    with pytest.raises(Interrupted, match="after step 8 of 20"):
        run(tmp_path / "m", measuring=signal.SIGINT)
    with pytest.raises(Interrupted, match="after step 16 of 20"):
        run(tmp_path / "m", figures=[0.1], signals={16: [signal.SIGTERM]})
    assert directory.measured().step == 8 and directory.last().score is None
    # As when the last step is interrupted: the run is not finished.
    with pytest.raises(Interrupted, match="after step 20 of 20"):
        run(tmp_path / "m", figures=[0.9], signals={20: [signal.SIGTERM]})
    assert directory.finished(TrainConfig(init="", train_data="", steps=20)) is None
    run(tmp_path / "m", figures=[0.3])
    assert directory.finished(TrainConfig(init="", train_data="", steps=20))
    assert same(contents(whole), contents(directory))
    assert [(saved.step, saved.score, saved.waited) for saved in directory.checkpoints()] == [(16, 0.9, 0), (20, 0.3, 1)]
    # The second one does not wait for the step.
    with pytest.raises(Interrupted, match="^interrupted$"):
        run(tmp_path / "twice", signals={3: [signal.SIGTERM, signal.SIGINT]})
    assert steps(ModelDir(tmp_path / "twice")) == []
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_of_equal_figures_the_lower_loss_is_the_best(tmp_path):
    figures = [{"accuracy": 0.5, "loss": 0.9}, {"accuracy": 0.5, "loss": 0.4}, {"accuracy": 0.5, "loss": 0.4}]
    directory = run(tmp_path / "m", figures=figures, keep_checkpoints=3)
    assert directory.best().step == 16 and [saved.waited for saved in directory.checkpoints()] == [0, 0, 1]
    # A figure that is not a number is never the best.
    figures = [{"accuracy": 0.2}, {"accuracy": float("nan")}, {"accuracy": 0.1}]
    directory = run(tmp_path / "none", figures=figures, keep_checkpoints=3)
    assert directory.best().step == 8 and directory.last().waited == 2


def test_a_failed_save_leaves_nothing(tmp_path, monkeypatch):
    def full(arrays, path):
        path.write_bytes(bytes(100))
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("kbert.kept_checkpoints.save_file", full)
    with pytest.raises(DataError, match="could not be written: .*No space left"):
        run(tmp_path / "m")
    assert list((tmp_path / "m" / "checkpoints").iterdir()) == []


def test_one_run_at_a_time_writes_a_directory(tmp_path):
    directory = ModelDir(tmp_path)
    left = [tmp_path / "checkpoints" / ".writing-1", tmp_path / "stages" / "filter" / "checkpoints" / ".writing-2"]
    (tmp_path / ".lock").write_text("{}")  # as a killed process leaves it
    for path in left:
        path.mkdir(parents=True)
    with directory.held():
        assert not any(path.exists() for path in left)  # those of killed runs
        left[0].mkdir()  # our own
        with pytest.raises(DataError, match=f"a run is writing it .process {os.getpid()} on .*, since 20"), directory.held():
            pass
        assert left[0].exists()
        with directory.held(chief=False):  # another worker of the same run
            pass
        # Processes that we start do not hold it on.
        child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    with directory.held():
        child.communicate(b"\n")


def test_a_damaged_checkpoint_is_stepped_over(tmp_path, caplog):
    settings = {"checkpoint_steps": 3, "keep_checkpoints": 3}
    whole = run(tmp_path / "whole", **settings)
    directory = run(tmp_path / "m", stop=16, **settings)
    assert steps(directory) == [8, 9, 12, 15, 16]
    *_, before, newest = (saved.path for saved in directory.checkpoints())
    state = (newest / "state.safetensors").read_bytes()
    (newest / "state.safetensors").write_bytes(state[: len(state) // 2])
    (before / "checkpoint.json").write_bytes(b"")
    with pytest.raises(DataError, match="checkpoint.json: not readable as JSON"):
        directory.checkpoints()
    caplog.set_level("WARNING", "kbert.kept_checkpoints")
    directory.set_damaged_aside()
    assert (
        f"{newest / 'state.safetensors'}: not readable as safetensors" in caplog.text and "damaged-step-00000015" in caplog.text
    )
    assert steps(directory) == [8, 9, 12] and (newest.parent / "damaged-step-00000016").exists()
    assert same(contents(whole), contents(run(tmp_path / "m", **settings)))

    # Where none is whole, none is touched; --overwrite starts over.
    for saved in directory.checkpoints():
        (saved.path / "weights.safetensors").unlink()
    left = steps(directory)
    with pytest.raises(DataError, match="no other is complete: use --overwrite to start over"):
        directory.set_damaged_aside()
    assert steps(directory) == left
    (directory.last().path / "checkpoint.json").write_text("{")
    directory.create(CONFIG, TrainConfig(init="", train_data=""), ["[PAD]"])
    assert steps(directory) == [] and (tmp_path / "m" / ".replaced" / "checkpoints").exists()


def test_early_stopping_counts_measurements_over_interruptions(tmp_path, capsys):
    figures = [0.5, 0.9, 0.8, 0.7, 0.6]
    settings = {"evaluate_steps": 2, "early_stopping_patience": 3, "steps": 100}
    run(tmp_path / "m", figures=figures[:3], stop=7, **settings)
    directory = run(tmp_path / "m", figures=figures[3:], **settings)
    assert directory.last().step == 10 and directory.last().stopped == 100 and directory.best().step == 4
    # Asked to go on, it stops at the next measurement that is no better.
    directory = run(tmp_path / "m", figures=[0.6], **{**settings, "steps": 101})
    assert directory.last().step == 12 and directory.last().stopped == 101


def test_a_lost_loss_names_step_batch_and_last_good_checkpoint(tmp_path):
    with pytest.raises(KbertError) as caught:
        run(tmp_path / "m", bad=12, checkpoint_steps=2)
    directory = ModelDir(tmp_path / "m")
    # What the lost loss was computed with may be what is wrong: the checkpoint before has been shown to be in order.
    assert steps(directory) == [8, 10] and all(np.isfinite(array).all() for array in contents(directory).values())
    last = directory.last().path
    assert last.with_name("lost-step-00000012").exists()
    assert str(caught.value).startswith("the loss is not a number at step 13: lower --learning_rate")
    batches = "its batch was row 12 of the toy; the one before, whose gradients may have done it, was row 11 of the toy"
    assert str(caught.value).endswith(
        f"; {batches}; the last good checkpoint is {last}, which --init reads for a run in another --model_dir"
    )
    with pytest.raises(KbertError, match="at step 1: .*; no checkpoint was written"):
        run(tmp_path / "first", bad=0)
    # The only one is not taken away, nor the only one that is measured.
    with pytest.raises(KbertError, match="at step 9: .*; the only checkpoint, which may be lost too, is .*step-00000008"):
        run(tmp_path / "only", bad=8, checkpoint_steps=3)
    assert steps(ModelDir(tmp_path / "only")) == [6, 8]
    # The weights after a step are looked at too: its loss was a number still.
    with pytest.raises(KbertError, match="weights are not numbers after step 1: .*; its batch was row 0 of the toy"):
        run(tmp_path / "weights", learning_rate=1e30, weight_decay=1e30, warmup_ratio=0.0, checkpoint_steps=1)
    assert steps(ModelDir(tmp_path / "weights")) == []
