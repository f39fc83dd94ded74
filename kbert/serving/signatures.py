"""Trace the functions that an exported model serves, and write them as a SavedModel.

In: a predictor. Out: one function a signature of its task, whose inputs are the fields by name, and two more that every model
has: `examples`, which takes the fields of `serving_default` as serialized tf.Examples, and one that takes token ids, for
clients that tokenize: `tokens`, or `token_ids` where the task itself has a signature `tokens`.
"""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import tensorflow as tf
from tensorflow.core.protobuf import saved_model_pb2

from kbert import graphs
from kbert.tasks.base import Signature, Tensors

if TYPE_CHECKING:
    from kbert.serving.predictor import Predictor

IDS = ("token_ids", "segment_ids", "padding_mask")


def signatures(task: Any) -> dict[str, Signature]:
    """Return the signatures that take raw strings, by name."""
    own: dict[str, Signature] = task.signatures()
    return {**own, "examples": own["serving_default"]._replace(serialized=True)}


def ids_signature(task: Any) -> str:
    """Return the name of the signature that takes token ids."""
    return "token_ids" if "tokens" in task.signatures() else "tokens"


def examples_input(signature: Signature) -> str:
    """Return the name of the input that takes serialized tf.Examples; TensorFlow Serving's own forms have theirs."""
    return "examples" if signature.method == "predict" else "inputs"


def functions(predictor: "Predictor[Any]") -> dict[str, Any]:
    """Return the concrete functions of all signatures, by name; equal ones are one."""
    named = signatures(predictor.task)
    traced = {signature: _of_strings(predictor, signature) for signature in set(named.values())}
    found = {name: traced[signature] for name, signature in named.items()}
    return {**found, ids_signature(predictor.task): _of_ids(predictor)}


def write(predictor: "Predictor[Any]", path: str) -> None:
    """Write a SavedModel that serves all signatures."""
    found = functions(predictor)
    read = {id(tensor) for function in found.values() for tensor, _ in function.graph.captures}
    module = tf.Module()
    module.weights = [weight for weight in predictor.weights if id(weight.handle) in read]
    tf.saved_model.save(module, path, signatures=found)
    _finish(Path(path) / "saved_model.pb", {name: s.method for name, s in predictor.task.signatures().items()})


def _finish(path: Path, methods: dict[str, str]) -> None:
    """Set what `tf.saved_model.save` has no option for: which API calls a signature, and no names that old servers refuse."""
    saved = saved_model_pb2.SavedModel.FromString(path.read_bytes())
    for meta in saved.meta_graphs:
        for name, method in methods.items():
            meta.signature_def[name].method_name = f"tensorflow/serving/{method}"
        for nodes in (meta.graph_def.node, *(function.node_def for function in meta.graph_def.library.function)):
            for node in nodes:
                if node.op == "VarHandleOp":  # servers before 2.15 know no `debug_name`
                    node.attr.pop("debug_name", None)
    path.write_bytes(saved.SerializeToString(deterministic=True))


def answer(predictor: "Predictor[Any]", signature: Signature, raw: Tensors) -> Tensors:
    """Return a signature's outputs for its fields, as strings."""
    outputs = predictor.answer(raw if signature.raw is None else signature.raw(raw))
    if signature.answer is not None:
        return signature.answer(outputs)
    return {name: outputs[name] for name in signature.outputs or outputs}


def _of_strings(predictor: "Predictor[Any]", signature: Signature) -> Any:
    if signature.serialized:
        name = examples_input(signature)
        spec = {name: tf.TensorSpec([None], tf.string, name=name)}
    else:
        spec = {name: tf.TensorSpec([None] * signature.dimensions, tf.string, name=name) for name in signature.fields}

    @graphs.function
    def serve(**raw: tf.Tensor) -> Tensors:
        raw = {field: _checked(field, values, spec[field].shape.rank) for field, values in raw.items()}
        if signature.serialized:
            features = {field: tf.io.FixedLenFeature([], tf.string) for field in signature.fields}
            raw = tf.io.parse_example(raw[name], features)
        return answer(predictor, signature, raw)

    return serve.get_concrete_function(**spec)


def _checked(name: str, values: tf.Tensor, rank: int) -> tf.Tensor:
    """Return strings, after a check of their rank as they come: TensorFlow Serving passes others than the signature's on."""
    # The default of a placeholder without a shape: a rank known from the signature would make the check a constant.
    came = tf.compat.v1.placeholder_with_default(values, None)
    message = f"input {name}: expected {'one string a row' if rank == 1 else 'a list of strings a row'}, found the shape"
    with tf.control_dependencies([tf.debugging.Assert(tf.equal(tf.rank(came), rank), [message, tf.shape(came)])]):
        return tf.identity(values)


def _of_ids(predictor: "Predictor[Any]") -> Any:
    @graphs.function
    def serve(**ids: tf.Tensor) -> Tensors:
        return predictor.answer_ids(ids)

    return serve.get_concrete_function(**{name: tf.TensorSpec([None, None], tf.int32, name=name) for name in IDS})
