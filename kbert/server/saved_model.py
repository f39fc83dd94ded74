"""Load one version of a SavedModel, and call its signatures with arrays.

In: the version's directory. Out: `Model`, whose signatures take and return numpy arrays, strings as bytes.
"""

import json
import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
import tensorflow_text  # noqa: F401  (the models hold its operations)
from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

from kbert.server.status import Status, invalid

Arrays = dict[str, np.ndarray]
DEFAULT = "serving_default"
TAG = "serve"
# TensorFlow's errors have the codes of gRPC; these are the ones that a request can cause.
CODES = {
    tf.errors.InvalidArgumentError: "INVALID_ARGUMENT",
    tf.errors.ResourceExhaustedError: "RESOURCE_EXHAUSTED",
    tf.errors.UnimplementedError: "UNIMPLEMENTED",
}
log = logging.getLogger("kbert.server")


class Signature:
    """A function of a SavedModel.

    Attributes:
        inputs, outputs: name -> `tf.TensorSpec`.
        merges: whether the rows of several requests may be answered at once. They may where every input is [rows] of strings
            and a row's outputs do not depend on the other rows: their sizes are fixed, or are [rows, n] beside an integer
            `count` [rows] in an export of kbert's, which says how many of n are the row's own.
        counted: the outputs [rows, n].
    """

    def __init__(self, name: str, function: Any, ours: bool):
        self.name = name
        self._function = function
        self.inputs: dict[str, tf.TensorSpec] = dict(function.structured_input_signature[1])
        self.outputs: dict[str, tf.TensorSpec] = dict(function.structured_outputs)
        count = self.outputs.get("count")
        counted = ours and count is not None and count.dtype.is_integer and count.shape.rank == 1
        self.merges = bool(self.inputs) and all(
            spec.dtype == tf.string and spec.shape.as_list() == [None] for spec in self.inputs.values()
        )
        self.merges &= all(
            spec.shape.rank
            and spec.shape[0] is None
            and (spec.shape[1:].is_fully_defined() or (counted and spec.shape.rank == 2))
            for spec in self.outputs.values()
        )
        self.counted = {name for name, spec in self.outputs.items() if spec.shape.rank == 2 and spec.shape[1] is None}

    def check(self, inputs: Mapping[str, np.ndarray]) -> int:
        """Return the number of rows of a request's inputs.

        Raises:
            Status: an input is missing, left over, or of another shape than the signature's.
        """
        extra, missing = sorted({*inputs} - {*self.inputs}), sorted({*self.inputs} - {*inputs})
        if extra or missing:
            raise invalid(
                f"input size does not match signature: {len(inputs)}!={len(self.inputs)}. "
                f"Sent extra: {{{','.join(extra)}}}. Missing but required: {{{','.join(missing)}}}."
            )
        for name, spec in self.inputs.items():
            if not spec.shape.is_compatible_with(inputs[name].shape):
                expected = ", ".join("n" if size is None else str(size) for size in spec.shape)
                found = ", ".join(map(str, inputs[name].shape))
                each = "; each row is one string, not a list" if expected == "n" and inputs[name].ndim > 1 else ""
                raise invalid(f"input {name!r} has the shape [{found}], expected [{expected}]{each}")
        sizes = {name: value.shape[0] for name, value in inputs.items() if value.ndim}
        if self.merges and len({*sizes.values()}) > 1:
            raise invalid(f"inputs have different numbers of rows: {', '.join(f'{n} {size}' for n, size in sizes.items())}")
        return max(sizes.values(), default=1)

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> Arrays:
        """Return the outputs, by name.

        Raises:
            Status: the graph rejects the inputs. The message is the line that says why.
        """
        try:
            tensors = {name: tf.constant(value, self.inputs[name].dtype) for name, value in inputs.items()}
            return {name: tensor.numpy() for name, tensor in self._function(**tensors).items()}
        except tf.errors.OpError as error:
            log.debug("%s: %s", self.name, error)
            code = next((code for kind, code in CODES.items() if isinstance(error, kind)), "INTERNAL")
            raise Status(code, message_of(error.message)) from None


class Model:
    """One version: its signatures, and what they are called in `saved_model.pb`.

    Args:
        path: the directory of the version.

    Attributes:
        version: the directory's number.
        signatures: name -> `Signature`.
        definitions: name -> `SignatureDef`.
        about: `assets.extra/kbert.json`, empty for models that are not kbert's.
    """

    def __init__(self, path: Path):
        self.version = int(path.name)
        self.definitions = _definitions(path)
        self._loaded = tf.saved_model.load(str(path), tags=[TAG])
        about = path / "assets.extra" / "kbert.json"
        self.about: dict[str, Any] = json.loads(about.read_text(encoding="utf-8")) if about.exists() else {}
        self.signatures = {
            name: Signature(name, function, bool(self.about)) for name, function in self._loaded.signatures.items()
        }

    def signature(self, name: str) -> Signature:
        """Return a signature by name, the default one if it is empty.

        Raises:
            Status: there is none of that name.
        """
        found = self.signatures.get(name or DEFAULT)
        if found is None:
            raise invalid(f'Serving signature name: "{name or DEFAULT}" not found in signature def')
        return found


def message_of(text: str) -> str:
    """Return the line of TensorFlow's error that says what is wrong: the last one before the node's name."""
    before = [line.strip() for line in text.partition("[[{{node")[0].splitlines() if line.strip()]
    told = before[-1] if before else "unknown error"
    asserted = re.fullmatch(r"assertion failed: \[(.*)\]", told)
    return (asserted[1] if asserted else told).removeprefix("DataError: ")


def _definitions(path: Path) -> dict[str, meta_graph_pb2.SignatureDef]:
    whole = saved_model_pb2.SavedModel.FromString((path / "saved_model.pb").read_bytes())
    graph = next((graph for graph in whole.meta_graphs if TAG in graph.meta_info_def.tags), None)
    if graph is None:
        raise ValueError(f"no graph of the SavedModel has the tag {TAG!r}")
    found = {name: meta_graph_pb2.SignatureDef() for name in graph.signature_def if not name.startswith("__")}
    for name, definition in found.items():
        definition.CopyFrom(graph.signature_def[name])  # a copy, so that the graph can be freed
    return found
