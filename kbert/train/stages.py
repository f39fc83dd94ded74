"""Train what a task needs before its own model: a stage has a model and checkpoints of its own (`kbert.tasks.base.Stage`)."""

import dataclasses
import logging
from typing import Any

from kbert.config import RunConfig
from kbert.data.table import Table
from kbert.model_dir import ModelDir
from kbert.permutation import seed_of
from kbert.serving import Predictor, set_weights
from kbert.tasks.base import Stage
from kbert.train.batches import TableBatches, training_examples
from kbert.train.evaluation import evaluate
from kbert.train.run import Run

log = logging.getLogger(__name__)

# Settings of the main run that its stages do not take over.
OF_STAGES: dict[str, Any] = {
    "accumulation_steps": 1,
    "steps": None,
    "precision": "float32",
    "early_stopping_patience": None,
    "evaluate_steps": 0,
    "best_metric": None,
    "loss_limit": 0.0,
}


def learn_first(stage: Stage, rows: Table, dev: Table, config: RunConfig, directory: ModelDir) -> None:
    """Train what a task needs before its own model, or load it if it is trained; keep its best weights.

    Args:
        stage: the stage to train.
        rows, dev: the task's training rows and dev rows.
        config: the settings of the task's run, whose batches and seed the stage shares.
        directory: the stage's model directory.
    """
    directory.path.mkdir(parents=True, exist_ok=True)
    directory.set_damaged_aside()
    config = dataclasses.replace(config, **OF_STAGES, **stage.settings)
    if directory.finished(config) is None:
        learnt = rows if stage.rows is None else stage.rows
        examples = training_examples(stage.task, learnt, config.seed, stage.built.model)
        seed = seed_of(config.seed, config.data_order)
        batches = TableBatches(stage.task, examples, batch_size=config.batch_size, seed=seed)
        predictor = Predictor(stage.task, stage.built.served)
        log.info("first the %s: %d steps", stage.name, config.total_steps(batches.per_epoch))
        Run(stage.task, stage.built, config, directory, batches, lambda: evaluate(predictor, dev, "dev", True)).fit()
    saved, weights = directory.best_weights()
    set_weights(stage.built.model, weights, str(saved.weights_file))
