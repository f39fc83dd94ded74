"""Compute what frozen layers give for the training and dev rows once per run (`--cache_frozen`).

In: a task's model with frozen layers, and its examples. Out: an encoder that reads their states from a
`kbert.model.state_cache.StateCache`, filled before the first step. Every run fills it in the same order and batches,
so that a resumed run, or one that finds the states of an earlier run, has the same bits as one that was never stopped.
"""

import hashlib
import json
import logging
import shutil
import time
from collections.abc import Callable
from pathlib import Path

import keras
import tensorflow as tf

from kbert import graphs
from kbert.config import Precision, RunConfig, TrainConfig
from kbert.errors import UsageError
from kbert.lock import Held, Lock
from kbert.model.encoder import Encoder
from kbert.model.state_cache import StateCache
from kbert.progress import Progress
from kbert.settings import to_json
from kbert.train.batching import SortedBatches

log = logging.getLogger(__name__)

FILL_ROWS = 64  # rows of a batch that fills the cache; a constant, see above
GIB = 1 << 30


def why_not(train: RunConfig, repeats: bool, per_epoch: int) -> str | None:
    """Return the reason not to cache, "" if it needs no mention; None if caching is possible and useful.

    Args:
        train: how to train.
        repeats: whether the encoder's inputs are the same in every epoch.
        per_epoch: training steps of an epoch.

    Raises:
        UsageError: the flags ask for a cache that cannot be, or name a directory that would not be used.
    """
    if train.cache_dir is not None and train.cache_frozen in ("off", "memory"):
        raise UsageError(f"--cache_dir={train.cache_dir}: is for --cache_frozen=disk or auto, not {train.cache_frozen}")
    if train.cache_frozen == "off" or (not train.freeze_layers and train.cache_frozen == "auto"):
        return ""
    impossible = None
    if not train.freeze_layers:
        impossible = "no layer is frozen (--freeze_layers)"
    elif not repeats:
        impossible = "the inputs of the encoder are drawn afresh in each epoch"
    elif train.strategy in ("multi_worker", "tpu"):
        impossible = f"--strategy={train.strategy} is not supported"
    if impossible and train.cache_frozen != "auto":
        raise UsageError(f"--cache_frozen={train.cache_frozen}: {impossible}")
    if not impossible and train.cache_frozen == "auto" and train.total_steps(per_epoch) <= per_epoch:
        impossible = "each row is read in one epoch only"
    return impossible


class FrozenCache:
    """The caches of a run: that of training, and that of dev where its arithmetic is another.

    Args:
        train: how to train; its data's checksums are part of the cache's identity.
        model_dir: where blocks go beyond `--cache_memory`, until the run ends; `--cache_dir` replaces it.
    """

    def __init__(self, train: TrainConfig, model_dir: Path):
        self._train = train
        self._temporary = train.cache_dir is None
        self._parent = model_dir / "frozen_cache" if train.cache_dir is None else Path(train.cache_dir).expanduser()
        self._open: list[tuple[Encoder, StateCache, Lock | None]] = []

    def attach(self, encoder: Encoder, precision: Precision) -> None:
        """Make an encoder read the states of its frozen layers from a cache; before its graph is traced.

        Args:
            encoder: with its weights, and layers frozen.
            precision: of its arithmetic.
        """
        train, lock = self._train, None
        folder: Path | None = self._parent / self._key(encoder, precision)
        assert folder is not None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            lock = Lock(folder / "lock")
        except Held as holder:
            log.warning("%s: in use (%s); states of frozen layers are kept in memory only", folder, holder)
            folder = None
        except OSError as error:
            log.warning("%s: %s; states of frozen layers are kept in memory only", folder, error.strerror)
            folder = None
        memory = 0 if train.cache_frozen == "disk" and folder is not None else int(train.cache_memory * GIB)
        if train.cache_frozen == "memory":
            folder = None
        encoder.cache = StateCache(encoder.config.hidden_dim, dtype=train.cache_dtype, memory=memory, folder=folder)
        self._open.append((encoder, encoder.cache, lock))

    def fill(self, model: keras.Model, batches_of: Callable[[int], SortedBatches]) -> None:
        """Compute the states of all training inputs that are not kept yet.

        Args:
            model: reads them from its encoder.
            batches_of: returns an epoch's batches of so many rows, in an order that does not depend on the run.
        """
        _, cache, _ = self._open[0]
        batches = batches_of(FILL_ROWS)
        found, began = len(cache), time.monotonic()

        @graphs.function
        def read(iterator: tf.data.Iterator) -> tf.Tensor:
            inputs, *_ = next(iterator)
            model(inputs, training=False)  # what is above the frozen layers is not computed, as nothing reads it
            return tf.constant(True)

        with Progress(batches.count, desc="frozen layers", unit="row", leave=False) as bar:
            iterator = iter(batches.dataset(0))
            for step in range(batches.per_epoch):
                read(iterator)
                bar.update(min(FILL_ROWS, batches.count - step * FILL_ROWS))
        seconds = time.monotonic() - began
        log.info("states of %d frozen layers: %s, in %.1f s", self._train.freeze_layers, cache.describe(found), seconds)

    def close(self) -> None:
        """Release memory; remove the blocks of a cache that has no `--cache_dir`."""
        for encoder, cache, lock in self._open:
            encoder.cache = None
            cache.close()
            if lock is not None:
                lock.release()
        if self._temporary:
            shutil.rmtree(self._parent, ignore_errors=True)

    def _key(self, encoder: Encoder, precision: Precision) -> str:
        """Return the name of the folder for these weights, this arithmetic and these rows."""
        train = self._train
        settings = {
            "encoder": to_json(encoder.config),
            "layers": encoder.num_frozen,
            "precision": precision,
            "dtype": train.cache_dtype,
            "train": train.train_data_crc32,
            "dev": train.dev_data_crc32,
        }
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode())
        frozen = [*encoder.embedding_layers, *encoder.backbone.transformer_layers[: encoder.num_frozen]]
        for weight in (weight for layer in frozen for weight in layer.weights):
            digest.update(weight.numpy().tobytes())
        return digest.hexdigest()[:16]
