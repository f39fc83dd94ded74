"""Build a task with its encoder and model, and load those of a model directory as a predictor."""

import dataclasses
import functools
from pathlib import Path
from typing import Any, TypeVar

import keras
import numpy as np

from kbert import config
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError
from kbert.model.encoder import Encoder, encoder_of
from kbert.model_dir import ModelDir
from kbert.serving.predictor import Predictor
from kbert.tasks import task_class
from kbert.tasks.base import Built, Storable

# Keras's dtype policies; the mixed ones keep float32 weights.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}

K = TypeVar("K", bound=Storable)


def build_model(
    task_type: type[K],
    model_config: config.ModelConfig,
    vocabulary: list[str],
    precision: config.Precision,
    dropout: float | None = None,
) -> tuple[K, Encoder, Built]:
    """Build task, encoder and model of a configuration, with random weights.

    Args:
        precision: of the arithmetic.
        dropout: in the encoder, attention weights too, while this model is trained; by default the configuration's.
    """
    task = task_type(model_config, tokenizer_of(tuple(vocabulary), model_config.text))
    shape = model_config.encoder
    if dropout is not None:
        shape = dataclasses.replace(shape, dropout=dropout, attention_dropout=None)
    encoder = Encoder(shape, POLICIES[precision])
    return task, encoder, task.build(encoder)


@functools.lru_cache(maxsize=2)
def tokenizer_of(vocabulary: tuple[str, ...], casing: config.TextConfig) -> Tokenizer:
    """Return the tokenizer, shared by the models of a run: it has no state, and its graph takes a second to trace."""
    return Tokenizer(vocabulary, **vars(casing))


def set_weights(model: keras.Model, arrays: dict[str, np.ndarray], where: str) -> None:
    """Set all of a model's weights by variable path; an unused pooler may be missing.

    Raises:
        DataError: a weight is missing, unexpected or of the wrong shape.
    """
    variables = {weight.path: weight for weight in model.weights}
    encoder = encoder_of(model)
    if encoder is not None and not any(weight.trainable or weight.path in arrays for weight in encoder.pooler):
        encoder.drop_pooler()
        for weight in encoder.pooler:
            del variables[weight.path]
    for name in sorted(set(arrays) ^ set(variables)):
        raise DataError(f"{where}: tensor {name!r} is {'left over' if name in arrays else 'missing'}")
    for name, variable in variables.items():
        if tuple(arrays[name].shape) != tuple(variable.shape):
            raise DataError(f"{where}: tensor {name!r} has shape {arrays[name].shape}, expected {tuple(variable.shape)}")
        variable.assign(arrays[name])


def load(model_dir: str | Path, n_best: int | None = None) -> Predictor[Any]:
    """Load the best checkpoint of a model directory, of any task, as a predictor.

    Args:
        model_dir: the directory.
        n_best: number of answers for a row, instead of the model's own.

    Raises:
        DataError: no kbert model there, no checkpoint yet, or a file of it is damaged.
        UsageError: `n_best` of a task that gives one answer.
    """
    directory = ModelDir(model_dir)
    directory.read_config()[0].with_n_best(n_best)
    saved, weights = directory.best_weights()
    recorded, vocabulary = directory.read_model(saved)
    model_config = recorded.with_n_best(n_best)
    task_type = task_class(model_config.task)
    task, _, built = build_model(task_type, model_config, vocabulary, model_config.serving_precision)
    task.calibrate(saved.calibration)
    set_weights(built.model, weights, str(saved.weights_file))
    return Predictor(task, built.served, final=True)
