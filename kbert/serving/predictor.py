"""Make a trained model a function from raw strings to answers.

`Predictor` is `decode(model(encode(raw)))` in one graph. Evaluation, prediction and the exported
model all call it, so what is served is what was measured.
"""

from typing import Any, Generic, TypeVar

import keras
import tensorflow as tf

from kbert import graphs
from kbert.model.chunks import in_chunks
from kbert.model.encoder import encoder_of
from kbert.tasks.base import Servable, Signature, Tensors

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
