"""Pre-training as a `Job`: plain text or shards, and a checkpoint or a shape, in; a pre-trained model and its figures out."""

import dataclasses
import functools
import logging
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np

from kbert import checkpoints, graphs
from kbert.checkpoints.names import HEADS
from kbert.checkpoints.new_tokens import add_tokens
from kbert.config import ModelConfig, ModelFlags, TextConfig
from kbert.data.vocabulary import read_vocabulary
from kbert.model.encoder import Encoder
from kbert.model_dir import ModelDir
from kbert.permutation import seed_of
from kbert.pretrain_config import PretrainConfig
from kbert.pretraining.batches import PretrainingBatches
from kbert.pretraining.measure import measurer, unigram
from kbert.pretraining.sources import learnt_and_held_out
from kbert.pretraining.start import StartFlags, check_flags, shape_of
from kbert.serving import tokenizer_of
from kbert.tasks import task_of
from kbert.tasks.base import Built
from kbert.tasks.pretrain.options import PretrainOptions
from kbert.tasks.pretrain.task import Pretrain
from kbert.tasks.reports import Report
from kbert.train import frozen_cache
from kbert.train.batching import Batches
from kbert.train.evaluation import serving_model
from kbert.train.session import Job
from kbert.train.strategies import Devices

log = logging.getLogger(__name__)

MEASURED_ROWS = 64  # held-out examples that go through the model at once


class Pretraining(Job):
    """A model that learns from plain text.

    Args:
        start: what a model from scratch is.
        train: how to train.
        model_flags: the limits of the model.
        options: the objective.

    Raises:
        UsageError: the model cannot do what the flags ask for.
        DataError: a mistake in the checkpoint, the vocabulary, the text or the shards.
    """

    task_type = Pretrain

    def __init__(self, start: StartFlags, train: PretrainConfig, model_flags: ModelFlags, options: PretrainOptions):
        self.options = options
        self.checkpoint = None if train.init is None else checkpoints.open_checkpoint(train.init)
        if self.checkpoint is None:
            assert start.vocab is not None
            self.vocabulary = read_vocabulary(Path(start.vocab).expanduser())
            shape = shape_of(start, len(self.vocabulary), model_flags.max_length)
            casing = TextConfig(lowercase=start.lowercase, strip_accents=start.lowercase)
        else:
            log.info("%s", checkpoints.describe(self.checkpoint))
            self.checkpoint = add_tokens(self.checkpoint, train.add_tokens, train.seed)
            self.vocabulary, shape, casing = self.checkpoint.vocabulary, self.checkpoint.encoder, self.checkpoint.text
        check_flags(shape, train, model_flags, options)
        self.config = ModelConfig(
            task=task_of(options),
            fields=("text",),
            labels=(),
            options=dataclasses.asdict(options),
            encoder=shape,
            text=casing,
            max_length=model_flags.max_length,
        )
        self.task = Pretrain(self.config, tokenizer_of(tuple(self.vocabulary), casing))
        self.examples, self.held_out = learnt_and_held_out(train, options, self.config, self.task.tokenizer)
        self.train: PretrainConfig = dataclasses.replace(
            train,
            train_data_crc32=self.examples.digest,
            dev_data_crc32=self.held_out.digest,
            max_predictions=train.predictions(model_flags.max_length),
        )

    @functools.cached_property
    def unigram_nll(self) -> np.ndarray:
        """The nats of each piece under its frequency in the training text, float64 [vocabulary]."""
        return unigram(self.examples.frequencies())

    def set_start(self, task: Pretrain, built: Built, encoder: Encoder) -> None:
        # Else hundreds of steps go by until the head knows how frequent each piece is, and the layers learn nothing from them.
        nll = self.unigram_nll
        unused = encoder.config.vocabulary_size - len(nll)  # rows of the embedding table: as rare as a piece can be
        built.model.get_layer("mlm_head").output_bias.assign(-np.pad(nll, (0, unused), constant_values=nll.max()))
        if self.checkpoint is not None:
            _load(self.checkpoint, built.model, encoder)
        elif self.options.pairs is None:
            encoder.drop_pooler()

    def prepare(
        self, task: Pretrain, built: Built, encoder: Encoder, directory: ModelDir, devices: Devices
    ) -> tuple[Batches, Callable[[], Report]]:
        with devices.strategy.scope():  # which says how many train
            encoder.compiled = graphs.worth_compiling(built.model.trainable_variables)
        log.info("%d examples an epoch, %d held out", len(self.examples), len(self.held_out))
        make = functools.partial(
            PretrainingBatches,
            pairs=self.options.pairs,
            seed=seed_of(self.train.seed, self.train.data_order),
            max_length=self.config.max_length,
        )
        most = self.examples.most if self.train.strategy == "tpu" else None
        batches = make(self.examples, batch_size=self.train.batch_size, predictions=most)
        if reason := frozen_cache.why_not(self.train, repeats=False, per_epoch=batches.per_epoch):
            log.info("frozen layers are computed at every step: %s", reason)
        # Measured on one device and in one part, however large the batches of training are.
        held_out = make(self.held_out, batch_size=MEASURED_ROWS)
        count = min(held_out.per_epoch, -(-self.train.dev_examples // MEASURED_ROWS))
        _, serving, update = serving_model(task, built, self.vocabulary, self.train.arithmetic)
        figures = measurer(serving.model, held_out, count, self.unigram_nll)

        def measure() -> Report:
            update()
            return task.report(figures())

        return batches, measure

    def write_metrics(self, directory: ModelDir) -> None:
        best = directory.best()
        directory.write_metrics({"step": best.step, "epoch": best.epoch, "dev": best.metrics})
        print(f"\nheld out, {best.place}, the best there:\n{self.task.report(best.metrics).table()}")


def _load(checkpoint: checkpoints.Checkpoint, model: keras.Model, encoder: Encoder) -> None:
    """Set the checkpoint's weights, the heads' too where it has them."""
    if checkpoint.head is not None:
        log.warning("the checkpoint's %s is set aside: it answers another task", checkpoint.head)
    if not encoder.load(checkpoint.arrays(), checkpoint.format):
        log.warning("the checkpoint has no pooler, which pairs are learnt with: it starts at random values")
    variables = {weight.path: weight for weight in model.weights}
    arrays = checkpoint.heads()
    for part, name in HEADS.items():
        ours = [path for path in variables if path.startswith(f"{part}/")]
        if not all(path in arrays for path in ours):
            log.warning("the checkpoint has no head for %s: its weights start at random values", name)
            continue
        for path in ours:
            variables[path].assign(arrays[path])
