"""Make a trained model a function from raw strings to answers, and export that function as a SavedModel.

`Predictor` is `decode(model(encode(raw)))` in one graph. Evaluation, prediction and the exported
model all call it, so what is served is what was measured.
"""

import dataclasses
import functools
import json
import os
import re
import shutil
import tempfile
from pathlib import Path
from typing import Any, Generic, TypeVar

import keras
import numpy as np
import tensorflow as tf

from kbert import config, graphs
from kbert.data.tokenizer import Tokenizer
from kbert.errors import DataError, UsageError
from kbert.model.chunks import in_chunks
from kbert.model.encoder import Encoder, encoder_of
from kbert.model_dir import ModelDir
from kbert.settings import to_json
from kbert.tasks import task_class
from kbert.tasks.base import Built, Servable, Signature, Storable, Tensors

# Keras's dtype policies; the mixed ones keep float32 weights.
POLICIES = {"float32": "float32", "bfloat16": "mixed_bfloat16", "float16": "mixed_float16"}
# Tokens, padding included, that pass through the encoder at once. Smaller chunks hold less padding and stay in the caches:
# in place of 8,192, 1,024 took 20 to 28 % less processor time on short texts, 55 % on texts of up to 256 tokens (six
# layers of 384 units, two cores with AVX512-BF16 and AMX). An accelerator needs larger ones, as each chunk costs it a launch.
TOKEN_BUDGET = 1024
ACCELERATOR_TOKEN_BUDGET = 8192


def token_budget() -> int:
    """Return the budget for the present devices; an exported model keeps it, wherever it is served."""
    accelerated = any(device.device_type in ("GPU", "TPU") for device in tf.config.list_physical_devices())
    return ACCELERATOR_TOKEN_BUDGET if accelerated else TOKEN_BUDGET


S = TypeVar("S", bound=Servable)
K = TypeVar("K", bound=Storable)


class Predictor(tf.Module, Generic[S]):
    """The function from raw strings to decoded answers.

    Called with {field: strings [rows]}; returns the task's decoded outputs, [rows, ...] each. Rows go
    through the encoder sorted by length, in chunks of at most `token_budget()` tokens, so
    that memory does not depend on how many rows come at once.

    Args:
        task: encodes and decodes.
        model: the model that the task built for serving (`kbert.tasks.base.Built.served`).
        final: whether its weights stay unchanged, so that the encoder may store them in the form that it multiplies by.
    """

    def __init__(self, task: S, model: keras.Model, final: bool = False):
        super().__init__(name="predictor")
        self.task = task
        self.model = model
        encoder = encoder_of(model)
        fused = encoder.fuse() if final and encoder is not None else []
        self._weights = [*(weight.value for weight in model.weights), *fused]  # those read are stored by a SavedModel
        self._graph = graphs.function(
            self._predict, input_signature=[{name: tf.TensorSpec([None], tf.string) for name in task.inputs}]
        )

    def __call__(self, raw: Tensors) -> Tensors:
        whole = self._whole(raw)
        outputs: Tensors = self._graph({name: whole[name] for name in self.task.inputs})
        return outputs

    def _whole(self, raw: Tensors) -> Tensors:
        """Return the raw inputs, with empty strings for optional ones that are missing."""
        none = tf.zeros_like(next(iter(raw.values())))
        return {**{name: none for name in self.task.inputs if name not in self.task.config.fields}, **raw}

    def _predict(self, raw: Tensors) -> Tensors:
        with graphs.without_gradients():
            encoded = self.task.encode(raw)
            outputs = in_chunks(
                lambda part: self.model(part, training=False),
                self.model.output,
                encoded,
                self.task.tokenizer.pad_id,
                token_budget(),
            )
            return self.task.decode(outputs, encoded, raw)

    def save(self, path: str) -> None:
        """Write the function as a SavedModel that serves the task's signatures, each taking its fields by name."""

        def served(signature: Signature) -> Any:
            @graphs.function
            def serve(**raw: tf.Tensor) -> Tensors:
                whole = self._whole(raw if signature.raw is None else signature.raw(raw))
                # Traced already, unless the signature takes other inputs.
                outputs = (self if whole.keys() == set(self.task.inputs) else self._predict)(whole)
                return {name: outputs[name] for name in signature.outputs or outputs}

            return serve.get_concrete_function(
                **{name: tf.TensorSpec([None] * signature.dimensions, tf.string, name=name) for name in signature.fields}
            )

        signatures = self.task.signatures()
        functions = {signature: served(signature) for signature in set(signatures.values())}
        read = {id(tensor) for function in functions.values() for tensor, _ in function.graph.captures}
        module = tf.Module()
        module.weights = [weight for weight in self._weights if id(weight.handle) in read]
        tf.saved_model.save(module, path, signatures={name: functions[which] for name, which in signatures.items()})


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


def export(predictor: Predictor[Any], export_dir: str | Path, version: int | None = None) -> Path:
    """Write `export_dir/VERSION`, the next free number by default, for TensorFlow Serving.

    It is written to a sibling whose name is not a number, which a polling server ignores, then renamed.

    Raises:
        UsageError: the version exists.
        DataError: the directory cannot be written.
    """
    parent = Path(export_dir).expanduser()
    if (parent / "saved_model.pb").exists():
        raise UsageError(f"--export_dir={parent}: is itself an exported version; name the folder above it")
    try:
        parent.mkdir(parents=True, exist_ok=True)
        taken = [int(p.name) for p in parent.iterdir() if re.fullmatch(r"[0-9]+", p.name)]
        number = max(taken, default=0) + 1 if version is None else version
        if number in taken:
            raise UsageError(f"--version={number}: {parent / str(number)} exists; a served version is never overwritten")
        beside = Path(tempfile.mkdtemp(prefix=".writing-", dir=parent))
        try:
            beside.chmod(0o755)
            predictor.save(str(beside))
            extra = beside / "assets.extra"
            extra.mkdir()
            about: dict[str, Any] = to_json(predictor.task.config)
            (extra / "kbert.json").write_text(json.dumps(about, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
            os.rename(beside, parent / str(number))
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    except OSError as error:
        raise DataError(f"--export_dir={parent}: cannot be written: {error.strerror}") from None
    return parent / str(number)
