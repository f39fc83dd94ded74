"""Warm a model up, so that its first request does not wait for TensorFlow's preparations.

In: a model and the file of warm-up requests that exports carry for TensorFlow Serving, a TFRecord of PredictionLog.
Its messages are those of tensorflow-serving-api; without them, or without the file, one short text a signature must do.
"""

import logging
from pathlib import Path

import numpy as np
import tensorflow as tf

from kbert.server.examples import INPUTS
from kbert.server.saved_model import Arrays, Model
from kbert.server.status import Status

WARMUP = "tf_serving_warmup_requests"
MOST = 1000  # requests, as in TensorFlow Serving
LOG = logging.getLogger("kbert.server")


def warm(model: Model, file: Path) -> None:
    """Run the requests of a warm-up file, or one short text for each signature that takes texts."""
    for name, inputs in recorded(file) or spoken(model):
        try:
            model.signature(name)(inputs)
        except Status as error:  # the signature takes something else than any text, as serialized examples
            LOG.debug("version %d: warm-up of %s: %s", model.version, name, error)


def spoken(model: Model) -> list[tuple[str, Arrays]]:
    """Return a request of a short text for each signature of texts."""
    texts = [signature for signature in model.signatures.values() if signature.merges]
    return [(each.name, {name: np.array([b"a"], object) for name in each.inputs}) for each in texts]


def recorded(file: Path) -> list[tuple[str, Arrays]]:
    """Return the requests of a warm-up file; none if it, or the package of its messages, is missing."""
    if not file.exists():
        return []
    try:
        from tensorflow_serving.apis import prediction_log_pb2
    except ImportError:
        return []
    found = []
    for record in tf.data.TFRecordDataset(str(file)).take(MOST).as_numpy_iterator():
        log = prediction_log_pb2.PredictionLog.FromString(record)
        request = log.predict_log.request
        if request.inputs:
            found.append((request.model_spec.signature_name, {n: tf.make_ndarray(p) for n, p in request.inputs.items()}))
        for request in (log.classify_log.request, log.regress_log.request):
            if examples := request.input.example_list.examples:
                texts = np.array([example.SerializeToString() for example in examples], object)
                found.append((request.model_spec.signature_name, {INPUTS: texts}))
    return found
