"""The `classify` and `regress` APIs: JSON examples into serialized tf.Example, classes and values back.

In: a request's document. Out: the array of a signature's `inputs`; and JSON text of `classes` and `scores`, or `outputs`.
Source: tensorflow_serving/util/json_tensor.cc, servables/tensorflow/classifier.cc and regressor.cc.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import tensorflow as tf

from kbert.server.json_tensors import dumped, encoded, from_base64, plain_values
from kbert.server.saved_model import Signature
from kbert.server.status import Status, invalid, shown

INPUTS = "inputs"


def serialized(document: Mapping[str, Any], method: str, max_rows: int) -> np.ndarray:
    """Return the `examples` of a request, each with the features of its `context`, as serialized tf.Example [rows].

    Raises:
        Status: they are missing, too many, or of a type that an example cannot have.
    """
    if "examples" not in document:
        raise invalid(f"When method is {method}, key 'examples' is expected and was not found")
    examples = document["examples"]
    if not isinstance(examples, list):
        raise invalid(f"JSON Value: {shown(examples)} Expecting 'examples' value to be an list/array")
    if not examples:
        raise invalid("'examples' value is an empty array")
    if len(examples) > max_rows:
        raise invalid(f"{len(examples)} rows in one request; this server takes at most {max_rows} (--max_rows)")
    context = _features(document["context"]) if "context" in document else {}
    found = np.empty(len(examples), object)
    for number, example in enumerate(examples):
        features = tf.train.Features(feature={**context, **_features(example)})
        found[number] = tf.train.Example(features=features).SerializeToString()
    return found


def _features(example: Any) -> dict[str, tf.train.Feature]:
    if not isinstance(example, dict):
        raise invalid(f"Example must be JSON object but got JSON {shown(example)}")
    return {encoded(name).decode(errors="replace"): _feature(name, value) for name, value in example.items()}


def _feature(name: str, value: Any) -> tf.train.Feature:
    values = value if isinstance(value, list) else [value]
    kinds = {_kind(name, item) for item in values}
    if len(kinds) > 1:
        raise invalid(f"Unexpected element type in feature: {shown(name)} has {' and '.join(sorted(kinds))}")
    try:
        if kinds == {"bytes"}:
            texts = [encoded(item) if isinstance(item, str) else from_base64(item["b64"]) for item in values]
            return tf.train.Feature(bytes_list=tf.train.BytesList(value=texts))
        if kinds == {"float"}:
            return tf.train.Feature(float_list=tf.train.FloatList(value=values))
        return tf.train.Feature(int64_list=tf.train.Int64List(value=[int(item) for item in values]) if values else None)
    except (ValueError, OverflowError):
        raise invalid(f"Feature: {shown(name)} has a number beyond its type") from None


def _kind(name: str, item: Any) -> str:
    if isinstance(item, str) or (isinstance(item, dict) and len(item) == 1 and isinstance(item.get("b64"), str)):
        return "bytes"
    if isinstance(item, int | float):
        return "float" if isinstance(item, float) else "int64"
    raise invalid(f"Feature: {shown(name)} has element with unexpected JSON type: {shown(item)}")


def check(signature: Signature, method: str) -> None:
    """Raise Status unless a signature is of the form that `classify` or `regress` needs."""
    outputs = {"classes", "scores"} if method == "classify" else {"outputs"}
    if signature.inputs.keys() != {INPUTS} or not signature.outputs or not signature.outputs.keys() <= outputs:
        takes = f"takes {', '.join(sorted(signature.inputs))} and gives {', '.join(sorted(signature.outputs))}"
        raise invalid(f"Expected a {method} signature (inputs -> {', '.join(sorted(outputs))}); {signature.name!r} {takes}")


def classes(outputs: Mapping[str, np.ndarray]) -> list[list[tuple[str, float]]]:
    """Return (label, score) of each class of each row, "" and 0 where the model gives no labels or scores."""
    for name, value in outputs.items():
        if value.ndim != 2:
            raise invalid(f"Expected {name} of the shape [batch_size num_classes] but got {list(value.shape)}")
    like = next(iter(outputs.values()))
    labels: Any = plain_values(outputs["classes"]) if "classes" in outputs else np.full(like.shape, "").tolist()
    scores: Any = plain_values(outputs["scores"]) if "scores" in outputs else np.zeros(like.shape).tolist()
    return [list(zip(*row, strict=True)) for row in zip(labels, scores, strict=True)]


def values(outputs: Mapping[str, np.ndarray], rows: int) -> list[float]:
    """Return the value of each row."""
    found = outputs["outputs"]
    if found.shape not in ((rows,), (rows, 1)):
        raise Status(
            "INVALID_ARGUMENT",
            f"Expected output Tensor shape to be either [batch_size] or [batch_size, 1] but got {list(found.shape)}",
        )
    return list(plain_values(found.reshape(-1)))


def results(method: str, outputs: Mapping[str, np.ndarray], rows: int) -> str:
    """Return the body of an answer."""
    return dumped({"results": classes(outputs) if method == "classify" else values(outputs, rows)})
