"""Make a trained model a function from raw strings to answers.

`Predictor` is `decode(model(encode(raw)))` in one graph. Evaluation, prediction and the exported
model all call it, so what is served is what was measured.
"""

from typing import Any, Generic, TypeVar

import keras
import tensorflow as tf

from kbert import graphs
from kbert.model.chunks import INPUTS, in_chunks
from kbert.model.encoder import encoder_of
from kbert.model.window_bound import TRUNCATED
from kbert.serving import signatures
from kbert.tasks.base import Encoded, Servable, Tensors

# Tokens, padding included, that pass through the encoder at once. On a CPU padding costs attention only, and small chunks
# stay in the caches. 384 sentences of MiniLM's size took 1.91, 1.85 and 1.61 s of processor time in batches of 32 and 1.55,
# 1.55 and 1.65 s at once, with 1,024, 2,048 and 4,096. An accelerator needs larger ones, as each chunk costs it a launch.
TOKEN_BUDGET = 2048
ACCELERATOR_TOKEN_BUDGET = 8192


def accelerated() -> bool:
    """Return whether there is a GPU or TPU; an exported model is made for the present devices, wherever it is served."""
    return any(device.device_type in ("GPU", "TPU") for device in tf.config.list_physical_devices())


def token_budget() -> int:
    """Return the budget for the present devices."""
    return ACCELERATOR_TOKEN_BUDGET if accelerated() else TOKEN_BUDGET


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
        fused = encoder.fuse(packed=not accelerated()) if final and encoder is not None else []
        self.weights = [*(weight.value for weight in model.weights), *fused]  # those read are stored by a SavedModel
        self._graphs: dict[frozenset[str], Any] = {}  # by the inputs' names
        # One function, so that the graph of a SavedModel holds the model once, however many signatures call it.
        ids = {name: tf.TensorSpec([None, None], tf.int32) for name in signatures.IDS}
        self._model = graphs.function(lambda inputs: model(inputs, training=False), input_signature=[ids])
        self._graph_of_ids = graphs.function(self._predict_ids, input_signature=[ids])

    def __call__(self, raw: Tensors) -> Tensors:
        whole = self._whole(raw)
        return self.answer({name: whole[name] for name in self.task.inputs})

    def answer(self, raw: Tensors) -> Tensors:
        """Return the decoded answers; a signature's inputs may be others than the task's."""
        whole = self._whole(raw)
        names = frozenset(whole)
        if names not in self._graphs:
            spec = {name: tf.TensorSpec([None], tf.string) for name in whole}
            self._graphs[names] = graphs.function(self._predict, input_signature=[spec])
        outputs: Tensors = self._graphs[names](whole)
        return outputs

    def answer_ids(self, ids: Tensors) -> Tensors:
        """Return what the task answers to token ids (`Servable.decode_ids`).

        Args:
            ids: `token_ids`, `segment_ids` and `padding_mask`, int32 [inputs, tokens]; a mask of 0 may be anywhere.
        """
        outputs: Tensors = self._graph_of_ids(ids)
        return outputs

    def encode(self, raw: Tensors) -> Encoded:
        """Encode raw rows as they are answered; optional fields may be missing."""
        return self.task.encode_bounded(self._whole(raw))

    def save(self, path: str) -> None:
        """Write the function as a SavedModel that serves the task's signatures."""
        signatures.write(self, path)

    def _whole(self, raw: Tensors) -> Tensors:
        """Return the raw inputs, with empty strings for optional ones that are missing."""
        none = tf.zeros_like(next(iter(raw.values())))
        return {**{name: none for name in self.task.inputs if name not in self.task.config.fields}, **raw}

    def _predict(self, raw: Tensors) -> Tensors:
        with graphs.without_gradients():
            encoded = self.task.encode_bounded(raw)
            bound = {name: encoded[name] for name in (TRUNCATED,) if name in encoded}
            return {**self.task.decode(self._outputs(encoded), encoded, raw), **bound}

    def _predict_ids(self, ids: Tensors) -> Tensors:
        seen = tf.cast(ids["padding_mask"], tf.bool)
        checks = [
            tf.debugging.assert_equal(tf.shape(ids[name]), tf.shape(seen), f"{name} and padding_mask differ in shape")
            for name in INPUTS
        ]
        checks.append(tf.debugging.Assert(tf.reduce_all(tf.reduce_any(seen, 1)), ["a row has no token"]))
        with graphs.without_gradients(), tf.control_dependencies(checks):
            outputs = self._outputs({name: tf.ragged.boolean_mask(ids[name], seen) for name in INPUTS})
            if isinstance(outputs, tf.RaggedTensor):
                shape = tf.concat([tf.shape(seen, tf.int64), tf.shape(outputs.values, tf.int64)[1:]], 0)
                outputs = tf.scatter_nd(tf.where(seen), outputs.values, shape)
            return self.task.decode_ids(outputs)

    def _outputs(self, encoded: Encoded) -> Any:
        return in_chunks(self._model, self.model.output, encoded, self.task.tokenizer.pad_id, token_budget())
