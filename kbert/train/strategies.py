"""Distribute the computation of a batch: one device, all of a machine, several machines, or the cores of a TPU.

In: `--strategy`. Out: `Devices`, a `tf.distribute` strategy with what a run needs from it: which process is the
chief, its share of the batches, values from the chief, and an exit when another worker is lost.

Batch sizes are global: each replica takes every n-th row of every batch, so that with any number of
replicas the same batches are trained on, each example once an epoch.
"""

import logging
import os
from typing import Any

import keras
import tensorflow as tf

from kbert import cluster, graphs
from kbert.config import Strategy
from kbert.errors import DataError, UsageError
from kbert.interruption import Interrupted
from kbert.train.batching import Batches
from kbert.train.worker_watch import WorkerWatch, lost

log = logging.getLogger(__name__)

SEED_STRIDE = 1_000_003  # offset between the dropout seeds of neighbouring replicas
OWN_FAULTS = (tf.errors.ResourceExhaustedError, tf.errors.InvalidArgumentError)  # not caused by missing workers


def devices(name: Strategy, batch_size: int, accumulation_steps: int) -> "Devices":
    """Create the strategy; call it before anything else runs on a device.

    Args:
        name: `--strategy`.
        batch_size: rows of a whole batch, divided evenly among replicas and parts.
        accumulation_steps: parts that each replica computes in turn.

    Raises:
        UsageError: the batch cannot be divided, or the environment lacks what the strategy needs.
    """
    cluster.check(name, batch_size)
    if name == "none":
        strategy = tf.distribute.get_strategy()
    elif name == "mirrored":
        found = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        strategy = tf.distribute.MirroredStrategy([device.name for device in found])
    elif name == "multi_worker":
        log.info("waiting for all of %s", ", ".join(cluster.workers()))
        strategy = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        strategy = _tpu()
    replicas = strategy.num_replicas_in_sync
    if batch_size % (replicas * accumulation_steps):
        parts = f" of {accumulation_steps} parts each" if accumulation_steps > 1 else ""
        count = f"{replicas} replica{'s' if replicas > 1 else ''}"
        raise UsageError(f"--batch_size={batch_size} counts the whole batch and cannot be split among {count}{parts}")
    if name != "none":
        log.info("--strategy=%s: %d replicas, %d rows of a batch each", name, replicas, batch_size // replicas)
    rows = None if accumulation_steps == 1 else batch_size // replicas // accumulation_steps
    return Devices(strategy, cluster.is_chief(name), rows)


class Devices:
    """A strategy, with what a run needs from it.

    As a context manager, it waits at the end for all processes, and ends this process if another one is lost before.

    Attributes:
        strategy: models and optimizers are created in its scope.
        chief: whether this process writes files.
        several: whether there are other processes.
        rows: maximum rows that a replica computes at once; None for no limit.
    """

    def __init__(self, strategy: tf.distribute.Strategy | None = None, chief: bool = True, rows: int | None = None):
        self.strategy = strategy or tf.distribute.get_strategy()
        self.chief, self.rows = chief, rows
        self.several = isinstance(self.strategy, tf.distribute.MultiWorkerMirroredStrategy)

    def __enter__(self) -> "Devices":
        self._watch = WorkerWatch(_peers(self.strategy.cluster_resolver)) if self.several else None
        return self

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None:
            self.wait()
        if error is None or isinstance(error, Interrupted):  # then all processes end
            if self._watch is not None:
                self._watch.stop()
        elif self.several and _unreached(error):
            raise lost("the other workers cannot be reached") from None

    def batches(self, batches: Batches, start: int, *, by_row: bool = False) -> Any:
        """Return an iterator over this process's share of the batches from a step on; `by_row` is that of `Built`."""

        @graphs.builds_dataset
        def share(context: tf.distribute.InputContext) -> tf.data.Dataset:
            data = batches.dataset(start).apply(tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY))
            replicas = context.num_replicas_in_sync
            if replicas == 1:
                return data
            local = replicas // context.num_input_pipelines
            first = context.input_pipeline_id * local

            def rows(*batch: Any) -> tf.data.Dataset:
                # Rows are sorted by length: every n-th of them gives each replica about the same work.
                each = tf.data.Dataset.range(first, first + local)
                if by_row:
                    number = tf.cast(tf.unique(batch[1]["row"])[1], tf.int64)
                    part = lambda replica: lambda values: tf.boolean_mask(values, number % replicas == replica)  # noqa: E731
                else:
                    part = lambda replica: lambda values: _every(values, replica, replicas)  # noqa: E731
                return each.map(lambda replica: tf.nest.map_structure(part(replica), batch))

            return data.flat_map(rows)

        return iter(self.strategy.distribute_datasets_from_function(share))

    def broadcast_from_chief(self, value: float) -> float:
        """Broadcast a value from the chief (also a barrier)."""
        if not self.several:
            return value

        def mine(context: Any) -> tf.Tensor:
            return tf.constant(float(value) if self.chief and context.replica_id_in_sync_group == 0 else 0.0)

        values = self.strategy.experimental_distribute_values_from_function(mine)
        return float(self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None))

    def any(self, value: bool) -> bool:
        """Return whether a value is true in any process (also a barrier)."""
        if not self.several:
            return value
        values = self.strategy.experimental_distribute_values_from_function(lambda _: tf.constant(float(value)))
        return float(self.strategy.reduce(tf.distribute.ReduceOp.SUM, values, axis=None)) > 0

    def wait(self) -> None:
        """Wait until all processes call this."""
        self.broadcast_from_chief(0.0)

    def spread_seeds(self, model: keras.Model) -> None:
        """Give each replica different dropout seeds; those of replica 0, which checkpoints store, stay unchanged."""
        if self.strategy.num_replicas_in_sync == 1:
            return
        weights = {id(v) for v in model.weights}
        seeds = [v for v in model.non_trainable_variables if id(v) not in weights]

        @graphs.function
        def spread() -> None:
            replica = tf.distribute.get_replica_context().replica_id_in_sync_group
            for seed in seeds:
                seed.assign(seed + tf.cast(tf.stack([replica * SEED_STRIDE, 0]), seed.dtype))

        self.strategy.run(spread)


def _unreached(error: BaseException) -> bool:
    """Return whether an error may be caused by the loss of another worker, and not by this one."""
    return isinstance(error, tf.errors.OpError) and not isinstance(error, OWN_FAULTS) and "DataError: " not in str(error)


def _peers(resolver: tf.distribute.cluster_resolver.ClusterResolver) -> list[str]:
    """Return TensorFlow's names of the other workers."""
    spec, own = resolver.cluster_spec(), (resolver.task_type, resolver.task_id)
    tasks = [(job, task) for job in spec.jobs for task in spec.task_indices(job)]
    return [f"/job:{job}/replica:0/task:{task}" for job, task in tasks if (job, task) != own]


def _every(values: tf.Tensor, first: tf.Tensor, step: int) -> tf.Tensor:
    """Return every n-th row from a first one; if the number of rows is static, so is that of the result, as TPUs need."""
    rows = values.shape[0]
    if rows is None:
        return values[first::step]
    return tf.reshape(values, [rows // step, step, *values.shape[1:]])[:, first]


def _tpu() -> tf.distribute.Strategy:
    """Return the TPU named by TPU_NAME, or the local one. Follows TensorFlow's documentation; not tested on a TPU."""
    name = os.environ.get("TPU_NAME", "local")
    try:
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(tpu=name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
        return tf.distribute.TPUStrategy(resolver)
    except (ValueError, tf.errors.OpError) as error:
        raise DataError(f"--strategy=tpu: no TPU {name!r} here: {str(error).splitlines()[0]}") from None
