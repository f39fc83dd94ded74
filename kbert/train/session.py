"""Run a training session: what fine-tuning and pre-training share, from the lock on the model directory to the metrics.

In: the flags, and a function that reads and checks model and data, as a `Job`. Out: a model directory.
A command imports this before TensorFlow, so that a mistake in the flags costs nothing.
"""

import logging
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from kbert import cluster, runtime
from kbert.config import EncoderConfig, ModelConfig, RunFlags, TrainConfig
from kbert.errors import UsageError
from kbert.model_dir import ModelDir
from kbert.pretrain_config import PretrainConfig
from kbert.same_run import check_same

if TYPE_CHECKING:
    from kbert.model.encoder import Encoder
    from kbert.tasks.base import Built, Storable
    from kbert.tasks.reports import Report
    from kbert.train.batching import Batches
    from kbert.train.strategies import Devices

log = logging.getLogger(__name__)


class Job(ABC):
    """A model to train and its data. It is created once everything that it needs is read and checked.

    Attributes:
        task_type: the class of the task.
        config: the model's configuration.
        vocabulary: the model's.
        train: how to train, with the checksums of the data.
    """

    task_type: "type[Storable]"
    config: ModelConfig
    vocabulary: list[str]
    train: TrainConfig | PretrainConfig

    @abstractmethod
    def set_start(self, task: Any, built: "Built", encoder: "Encoder") -> None:
        """Check that the model can be trained with these flags, and set the weights that training starts from."""

    @abstractmethod
    def prepare(
        self, task: Any, built: "Built", encoder: "Encoder", directory: ModelDir, devices: "Devices"
    ) -> "tuple[Batches, Callable[[], Report]]":
        """Return the arguments of `kbert.train.run.Run`: the batches, and a function that measures the model on dev."""

    def release(self) -> None:
        """Release what `prepare` holds, once training has ended, however it ended; by default nothing."""
        return

    @abstractmethod
    def write_metrics(self, directory: ModelDir) -> None:
        """Write and print the figures of the best checkpoint."""

    def has_metrics(self, directory: ModelDir) -> bool:
        """Return whether metrics.json has the figures of the best checkpoint."""
        return directory.metrics().get("step") == directory.best().step


def run(
    run_flags: RunFlags, train: TrainConfig | PretrainConfig, read: Callable[[Any], Callable[[], Job]], early: bool = False
) -> None:
    """Train a model, continue its training, or print that it is finished.

    Args:
        run_flags: the model directory, and whether to overwrite what it holds.
        train: how to train, as the user gave it.
        read: reads and checks the data, given `train` completed by settings of the directory's run; returns a function that
            creates the job, called after TensorFlow is imported.
        early: call `read` before TensorFlow is imported and devices are found, as it is quick.

    Raises:
        UsageError: a mistake in the flags, or another run is in the directory.
        DataError: a mistake in the data, or a directory that cannot be used.
    """
    if train.dev_data and train.dev_fraction:
        raise UsageError("--dev_data and --dev_fraction exclude each other")
    directory = ModelDir(run_flags.model_dir)
    directory.check_writable(run_flags.overwrite)
    if train.init is not None:
        directory.check_not_in(train.init)

    cluster.check(train.strategy, train.batch_size)
    with directory.held(cluster.is_chief(train.strategy)):
        made = read(directory.resolve_run(train, run_flags.overwrite)) if early else None
        runtime.start()
        from kbert.train import strategies

        with strategies.devices(train.strategy, train.batch_size, train.accumulation_steps) as devices:
            if devices.chief and not run_flags.overwrite:
                directory.set_damaged_aside()
            devices.wait()
            made = made or read(directory.resolve_run(train, run_flags.overwrite))
            _run(made(), directory, run_flags.overwrite, devices)


def _run(job: Job, directory: ModelDir, overwrite: bool, devices: "Devices") -> None:
    """Train in this process, one of those that share the work."""
    import keras

    from kbert.model.encoder import frozen_table
    from kbert.serving import build_model
    from kbert.train.precision import choose_precision
    from kbert.train.run import Run

    config, vocabulary = job.config, job.vocabulary
    if not overwrite and directory.exists():
        check_same(directory, config, job.train, vocabulary)
        finished = directory.finished(job.train)
        if finished is not None:
            if devices.chief and not job.has_metrics(directory):
                directory.write_config(config, job.train, vocabulary)
                job.write_metrics(directory)
            print(finished)
            return

    train = job.train = choose_precision(job.train, config.encoder, devices)
    keras.utils.set_random_seed(train.seed)  # initial weights, dropout, TensorFlow's own
    with devices.strategy.scope():
        task, encoder, built = build_model(job.task_type, config, vocabulary, train.arithmetic, train.dropout)
    model = built.model
    task.best_by(train.best_metric)  # an unknown name is an error now
    job.set_start(task, built, encoder)
    encoder.freeze_lower(train.freeze_layers, train.freeze_embeddings)
    if not model.trainable_variables and train.total_steps(1):
        raise UsageError(
            f"--freeze_layers={train.freeze_layers}: nothing is left to train, as the task has no weights of its own"
        )
    devices.wait()  # all processes have read the directory before the chief writes it
    if devices.chief:
        directory.begin(config, train, vocabulary, overwrite)
    devices.wait()
    print(frozen_table(model, encoder), flush=True)
    try:
        batches, measure = job.prepare(task, built, encoder, directory, devices)
        Run(task, built, train, directory, batches, measure, devices).fit()
    finally:
        job.release()
    if devices.chief:
        job.write_metrics(directory)
    print(f"\nmodel: {directory.path}")


def check_shape(shape: EncoderConfig, train: TrainConfig | PretrainConfig, max_length: int) -> None:
    """Raise UsageError if the encoder has fewer layers than are to be frozen, or fewer positions than `max_length`."""
    if train.freeze_layers > shape.num_layers:
        what = "model" if train.init is None else "checkpoint"
        raise UsageError(f"--freeze_layers={train.freeze_layers}: the {what} has {shape.num_layers} layers")
    if train.add_tokens and (train.freeze_layers or train.freeze_embeddings):
        log.warning("--add_tokens: the embeddings are frozen, so new tokens keep the embeddings that they start with")
    if max_length > shape.max_sequence_length:
        raise UsageError(f"--max_length={max_length}: the checkpoint has positions for {shape.max_sequence_length} tokens")
