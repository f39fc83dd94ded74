"""TensorFlow Serving's gRPC services: Predict, Classify, Regress, GetModelMetadata and GetModelStatus.

In: a `Service` and an address. Out: a `grpc.aio` server. Needs the package tensorflow-serving-api, which has the messages.
"""

import logging
from collections.abc import Awaitable
from typing import Any

import grpc
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from kbert.server import examples
from kbert.server.saved_model import DEFAULT, Model, Signature
from kbert.server.service import Asked, Service
from kbert.server.status import Status, invalid

REPEATED = 1 << 20  # values of a tensor of which the client sends the first only
log = logging.getLogger("kbert.server")


async def start(service: Service, address: str) -> Any:
    """Start a server; `await server.stop(grace)` ends it.

    Raises:
        RuntimeError: the address is in use.
    """
    options = [
        ("grpc.max_receive_message_length", service.limits.body),
        ("grpc.max_send_message_length", -1),
        ("grpc.so_reuseport", 0),
    ]
    server = grpc.aio.server(options=options)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(Predictions(service), server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(Models(service), server)
    server.add_insecure_port(address)
    await server.start()
    return server


async def _told(service: Service, api: str, context: Any, answer: Awaitable[Any]) -> Any:
    try:
        return await service.counted(api, answer)
    except Status as error:
        told = error
    except Exception as error:
        log.exception("%s", api)
        told = Status("INTERNAL", f"{type(error).__name__} in the server; its log has more")
    await context.abort(getattr(grpc.StatusCode, told.code), str(told))


def _asked(spec: Any) -> Asked:
    version = spec.version.value if spec.HasField("version") else None
    return Asked(spec.name, version, spec.version_label or None, spec.signature_name)


class Predictions(prediction_service_pb2_grpc.PredictionServiceServicer):
    """`tensorflow.serving.PredictionService`."""

    def __init__(self, service: Service):
        self._service = service

    async def Predict(self, request: Any, context: Any) -> Any:
        """Answer tensors with tensors."""

        def answer(model: Model, outputs: dict[str, np.ndarray], rows: int) -> Any:
            response = predict_pb2.PredictResponse()
            _fill(response.model_spec, request, model)
            for name in request.output_filter or outputs:
                response.outputs[name].CopyFrom(tf.make_tensor_proto(outputs[name]))
            return response

        def arrays(signature: Signature) -> dict[str, np.ndarray]:
            for name in request.output_filter:
                if name not in signature.outputs:
                    known = ",".join(sorted(signature.outputs))
                    raise invalid(
                        f"output tensor alias not found in signature: {name} Outputs expected to be in the set {{{known}}}."
                    )
            return {
                name: _array(name, proto, signature.inputs[name].dtype if name in signature.inputs else None)
                for name, proto in request.inputs.items()
            }

        return await _told(self._service, "grpc_predict", context, self._run(request, arrays, answer))

    async def Classify(self, request: Any, context: Any) -> Any:
        """Answer examples with labels and scores."""

        def answer(model: Model, outputs: dict[str, np.ndarray], rows: int) -> Any:
            response = classification_pb2.ClassificationResponse()
            _fill(response.model_spec, request, model)
            for row in examples.classes(outputs):
                response.result.classifications.add().classes.extend(
                    classification_pb2.Class(label=label, score=score) for label, score in row
                )
            return response

        return await _told(self._service, "grpc_classify", context, self._run(request, _examples(request, "classify"), answer))

    async def Regress(self, request: Any, context: Any) -> Any:
        """Answer examples with numbers."""

        def answer(model: Model, outputs: dict[str, np.ndarray], rows: int) -> Any:
            response = regression_pb2.RegressionResponse()
            _fill(response.model_spec, request, model)
            for value in examples.values(outputs, rows):
                response.result.regressions.add(value=value)
            return response

        return await _told(self._service, "grpc_regress", context, self._run(request, _examples(request, "regress"), answer))

    async def GetModelMetadata(self, request: Any, context: Any) -> Any:
        """Return the signatures."""

        async def answer() -> Any:
            if set(request.metadata_field) - {"signature_def"} or not request.metadata_field:
                raise invalid(f"Metadata field {','.join(request.metadata_field)} is not supported; signature_def is")
            with self._service.model(_asked(request.model_spec)) as model:
                response = get_model_metadata_pb2.GetModelMetadataResponse()
                response.model_spec.name = request.model_spec.name
                response.model_spec.version.value = model.version
                signatures = get_model_metadata_pb2.SignatureDefMap()
                for name, definition in model.definitions.items():
                    signatures.signature_def[name].CopyFrom(definition)
                response.metadata["signature_def"].Pack(signatures)
                return response

        return await _told(self._service, "grpc_metadata", context, answer())

    async def _run(self, request: Any, arrays: Any, answer: Any) -> Any:
        with self._service.held() as more:
            size = request.ByteSize()
            more(size)
            return await self._service.run(_asked(request.model_spec), arrays, answer, size)


class Models(model_service_pb2_grpc.ModelServiceServicer):
    """`tensorflow.serving.ModelService`."""

    def __init__(self, service: Service):
        self._service = service

    async def GetModelStatus(self, request: Any, context: Any) -> Any:
        """Return the state of each version."""

        async def answer() -> Any:
            asked = _asked(request.model_spec)
            response = get_model_status_pb2.GetModelStatusResponse()
            for version, state, error in self._service.versions.statuses(asked.name, asked.version, asked.label):
                status = response.model_version_status.add(version=version)
                status.state = get_model_status_pb2.ModelVersionStatus.State.Value(state)
                status.status.error_code = 2 if error else 0  # UNKNOWN or OK of error_codes.proto
                status.status.error_message = error
            return response

        return await _told(self._service, "grpc_status", context, answer())


def _fill(spec: Any, request: Any, model: Model) -> None:
    spec.name = request.model_spec.name
    spec.version.value = model.version
    spec.signature_name = request.model_spec.signature_name or DEFAULT


def _array(name: str, proto: Any, expected: Any) -> np.ndarray:
    """Return the array of a TensorProto.

    Its shape is a claim of the client: as many values must have come, or fewer than `REPEATED`, of which the last is repeated.
    """
    try:
        dtype = tf.dtypes.as_dtype(proto.dtype)
        if expected is not None and dtype != expected:
            raise invalid(f"input {name!r} is {dtype.name}, expected {expected.name}")
        shape = [dim.size for dim in proto.tensor_shape.dim]
        size = int(np.prod([int(n) for n in shape], dtype=object)) if shape else 1
        came = (
            len(proto.tensor_content) // max(1, dtype.size or 1)
            if proto.tensor_content
            else sum(len(values) for field, values in proto.ListFields() if field.name.endswith("_val"))
        )
        repeats = not proto.tensor_content and 0 < came < size <= REPEATED  # as TensorFlow writes equal values
        if proto.tensor_shape.unknown_rank or min(shape, default=0) < 0 or not (size == came or repeats):
            raise invalid(f"input {name!r} has the shape {shape} and {came} values")
        return np.asarray(tf.make_ndarray(proto))
    except (TypeError, ValueError) as error:
        raise invalid(f"input {name!r}: {error}") from None


def _examples(request: Any, method: str) -> Any:
    def arrays(signature: Signature) -> dict[str, np.ndarray]:
        examples.check(signature, method)
        kind = request.input.WhichOneof("kind")
        if kind is None:
            raise invalid("Input is empty.")
        listed = getattr(request.input, kind)
        if not listed.examples:
            raise invalid("Input is empty.")
        found = np.empty(len(listed.examples), object)
        for number, example in enumerate(listed.examples):
            whole = tf.train.Example()
            if kind == "example_list_with_context":
                whole.CopyFrom(listed.context)
            whole.MergeFrom(example)
            found[number] = whole.SerializeToString()
        return {examples.INPUTS: found}

    return arrays
