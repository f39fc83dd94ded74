"""Measure a model on a table, as a whole, by the same function that serves it; also while it is trained.

In: a task with its model, and rows. Out: a `Report`.
"""

from collections.abc import Callable
from typing import Any, TypeVar

import numpy as np

from kbert.config import Precision
from kbert.data.table import Table
from kbert.model.encoder import encoder_of
from kbert.progress import Progress
from kbert.serving import Predictor, build_model, set_weights
from kbert.tasks.base import Built, Storable, Task, TrainableOnRows
from kbert.tasks.reports import Report
from kbert.train.arrays import arrays_of
from kbert.train.batches import measured_rows
from kbert.train.frozen_cache import FrozenCache

Rows = TypeVar("Rows", bound=TrainableOnRows)
Kept = TypeVar("Kept", bound=Storable)


def evaluate(
    predictor: Predictor[Rows],
    table: Table,
    description: str,
    calibrates: bool = False,
    also: Callable[[dict[str, np.ndarray], dict[str, np.ndarray]], Any] | None = None,
) -> Report:
    """Run a table's rows through the serving function and score them as a whole.

    Args:
        calibrates: find thresholds on these rows.
        also: called with the raw rows and their answers, a part at a time.
    """
    scorer = predictor.task.scorer(calibrates)
    rows, count = measured_rows(predictor.task, table)
    with Progress(count, desc=description, unit="row", leave=False) as bar:
        for raw in rows:
            predicted = {name: value.numpy() for name, value in predictor(raw).items()}
            columns = {name: column.numpy() for name, column in raw.items()}
            scorer.update(columns, predicted)
            if also is not None:
                also(columns, predicted)
            bar.update(len(next(iter(predicted.values()))))
    return scorer.result()


def dev_measure(
    task: Task, built: Built, vocabulary: list[str], table: Table, precision: Precision, cache: FrozenCache | None = None
) -> Callable[[], Report]:
    """Return a function that measures the model with its current weights on a table, in the precision of serving.

    Args:
        task, built, vocabulary, precision, cache: see `serving_model`.
        table: the dev rows.
    """
    task, serving, update = serving_model(task, built, vocabulary, precision, cache)
    predictor = Predictor(task, serving.served)

    def measure() -> Report:
        update()
        return evaluate(predictor, table, "dev", calibrates=True)

    return measure


def serving_model(
    task: Kept, built: Built, vocabulary: list[str], precision: Precision, cache: FrozenCache | None = None
) -> tuple[Kept, Built, Callable[[], None]]:
    """Return a task and model to measure while another is trained, and a function that copies its current weights to them.

    Args:
        task: the trained model's.
        built: the model that is trained.
        vocabulary: the model's.
        precision: precision of the training steps; if that of serving differs, a second model is built.
        cache: what keeps the states of frozen layers, if anything does.
    """
    if precision == task.config.serving_precision:
        return task, built, lambda: None
    copy_task, copy_encoder, copy = build_model(type(task), task.config, vocabulary, task.config.serving_precision)
    trained = encoder_of(built.model)
    if cache is not None and trained is not None:
        set_weights(copy.model, arrays_of(built.model.weights), "serving model")
        copy_encoder.freeze_lower(trained.num_frozen)
        cache.attach(copy_encoder, task.config.serving_precision)
    return copy_task, copy, lambda: set_weights(copy.model, arrays_of(built.model.weights), "serving model")
