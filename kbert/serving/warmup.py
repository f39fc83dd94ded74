"""Write the requests that TensorFlow Serving runs before a version answers: `assets.extra/tf_serving_warmup_requests`.

The first requests to a loaded graph plan it, allocate its buffers and let oneDNN prepare products for each length. The
server does that with these requests, while the version before still answers.
"""

from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import prediction_log_pb2

from kbert.serving.golden import Request
from kbert.tasks.base import Servable

NAME = "tf_serving_warmup_requests"
BATCHES = (1, 2, 4, 8, 16, 32)
# Words of texts asked alone, each number once: oneDNN prepares a product for each length that it meets. It keeps 1,024 of
# them; and at greater lengths the preparation takes a small part of a request's time.
WORDS = 64


def batches(fields: dict[str, np.ndarray]) -> list[Request]:
    """Return requests to `serving_default`: each of the rows alone, so that every length occurs, and batches of them."""
    rows = len(next(iter(fields.values())))
    chosen = [np.array([row]) for row in range(rows)] + [np.arange(size) % rows for size in BATCHES[1:]]
    return [Request("serving_default", {name: values[some] for name, values in fields.items()}) for some in chosen]


def lengths(task: Servable) -> list[Request]:
    """Return requests of one short text each, of every number of words, to `serving_default`."""
    signature = task.signatures()["serving_default"]
    fixed = {field: texts[0].encode() for field, texts in signature.trials}
    varied = [field for field in signature.fields if field not in fixed][-1]
    others = {field: fixed.get(field, b"good") for field in signature.fields}
    words = range(1, min(WORDS, task.config.max_length) + 1)
    rows = ({**others, varied: b"good " * count} for count in words)
    return [Request("serving_default", {field: np.array([text], object) for field, text in row.items()}) for row in rows]


def write(folder: Path, requests: list[Request], methods: dict[str, str]) -> None:
    """Write the file into `assets.extra`.

    Args:
        requests: those without rows are left out.
        methods: the API that calls a signature, by its name, unless it is `predict`.
    """
    with tf.io.TFRecordWriter(str(folder / NAME)) as writer:
        for name, inputs, _ in requests:
            if all(len(values) for values in inputs.values()):
                writer.write(_log(name, inputs, methods.get(name, "predict")).SerializeToString())


def _log(name: str, inputs: dict[str, np.ndarray], method: str) -> Any:
    log = prediction_log_pb2.PredictionLog()
    request = getattr(log, f"{method}_log").request
    request.model_spec.signature_name = name
    if method == "predict":
        for field, values in inputs.items():
            request.inputs[field].CopyFrom(tf.make_tensor_proto(values))
    else:
        for example in inputs["inputs"]:
            request.input.example_list.examples.add().ParseFromString(example)
    return log
