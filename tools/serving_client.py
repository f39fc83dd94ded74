"""Ask a model server, TensorFlow's or `kbert serve`, over REST or gRPC. Needs Python alone; gRPC needs grpcio and protobuf.

    python tools/serving_client.py --model=NAME [--server=http://localhost:8501] "a text" ["a second text" ...]
    python tools/serving_client.py --model=NAME --input=FILE [--output=FILE] [--batch=8] [--concurrency=4]
    python tools/serving_client.py --model=NAME --check=savedmodels/NAME/1/assets.extra/golden.jsonl

A row is a text, or the texts of `--fields` separated by tabs, or a JSON object of inputs. The answers, a line of JSON a row in
the rows' order, go to stdout or `--output`; times, in milliseconds, to stderr. `--check` sends recorded requests and compares
the answers with the recorded ones. A server that is busy or away (429, 503, 504, no connection, no answer in time) is asked
again after a pause that doubles. The exit code is 1 if a request failed or an answer differs. The file can be used alone.
"""

import argparse
import base64
import concurrent.futures
import contextlib
import functools
import http.client
import itertools
import json
import random
import struct
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, TextIO
from urllib.parse import quote, urlsplit

BUSY = {429, 503, 504}
BUSY_GRPC = {"RESOURCE_EXHAUSTED", "UNAVAILABLE", "DEADLINE_EXCEEDED"}
FIRST_PAUSE, LONGEST_PAUSE = 0.1, 5.0  # seconds
NUMBERS = {1: ("f", "float_val"), 2: ("d", "double_val"), 3: ("i", "int_val"), 9: ("q", "int64_val"), 10: ("?", "bool_val")}
STRING = 7  # of TensorFlow's DataType, as the numbers above


class Failed(Exception):
    """A request that the server refuses, or has not answered after all attempts."""


class Busy(Exception):
    """One attempt that may be repeated; `after` is the pause that the server asks for, in seconds."""

    def __init__(self, message: str, after: float = 0.0):
        super().__init__(message)
        self.after = after


class Rest:
    """TensorFlow Serving's REST API; each thread keeps a connection open."""

    def __init__(self, server: str, model: str, timeout: float):
        self._address = urlsplit(server)
        self._path = f"/v1/models/{quote(model, safe='')}:predict"
        self._timeout, self._own = timeout, threading.local()

    def predict(self, signature: str, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs by name; one output alone has the name ""."""
        body = json.dumps({"signature_name": signature, "inputs": columns}).encode()
        try:
            if getattr(self._own, "connection", None) is None:
                kind = http.client.HTTPSConnection if self._address.scheme == "https" else http.client.HTTPConnection
                self._own.connection = kind(self._address.hostname or "", self._address.port, timeout=self._timeout)
            self._own.connection.request("POST", self._path, body, {"Content-Type": "application/json"})
            response = self._own.connection.getresponse()
            text = response.read()
        except (OSError, http.client.HTTPException) as error:
            if getattr(self._own, "connection", None) is not None:
                self._own.connection.close()
            self._own.connection = None
            raise Busy(f"{type(error).__name__}: {error}") from None
        if response.status in BUSY:
            after = response.headers.get("Retry-After", "")
            raise Busy(f"{response.status}: {_error(text)}", float(after) if after.isdigit() else 0.0)
        if response.status != 200:
            raise Failed(f"{response.status}: {_error(text)}")
        try:
            outputs = json.loads(text)["outputs"]
        except (ValueError, KeyError, TypeError):
            raise Failed(f"the answer is not a model server's: {text[:200].decode('utf-8', 'replace')}") from None
        return outputs if isinstance(outputs, dict) else {"": outputs}


class Grpc:
    """TensorFlow Serving's gRPC API. Its messages are made here, of the fields needed: the official ones need TensorFlow."""

    def __init__(self, server: str, model: str, timeout: float):
        try:
            import grpc

            self._message = _messages()
        except ImportError as error:
            raise Failed(f"grpc:// needs the packages grpcio and protobuf: {error}") from None
        self._grpc, self._model, self._timeout = grpc, model, timeout
        self._channel = grpc.insecure_channel(urlsplit(server).netloc, [("grpc.max_receive_message_length", -1)])
        self._known: dict[str, dict[str, tuple[int, int]]] | None = None

    def _ask(self, method: str, request: Any) -> Any:
        call = self._channel.unary_unary(
            f"/tensorflow.serving.PredictionService/{method}",
            request_serializer=self._message(f"{method}Request").SerializeToString,
            response_deserializer=self._message(f"{method}Response").FromString,
        )
        try:
            return call(request, timeout=self._timeout)
        except self._grpc.RpcError as error:
            code = error.code().name
            raise (Busy if code in BUSY_GRPC else Failed)(f"{code}: {error.details()}") from None

    def _inputs(self, signature: str) -> dict[str, tuple[int, int]]:
        """Return type and rank of a signature's inputs, which an empty list does not show."""
        if self._known is None:
            request = self._message("GetModelMetadataRequest")(metadata_field=["signature_def"])
            request.model_spec.name = self._model
            (held,) = self._ask("GetModelMetadata", request).metadata
            signatures = self._message("SignatureDefMap").FromString(held.value.value).signature_def
            self._known = {
                each.key: {entry.key: (entry.value.dtype, len(entry.value.shape.dim)) for entry in each.value.inputs}
                for each in signatures
            }
        return self._known.get(signature, {})

    def predict(self, signature: str, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs by name."""
        types = self._inputs(signature)
        request = self._message("PredictRequest")()
        request.model_spec.name, request.model_spec.signature_name = self._model, signature
        for name, values in columns.items():
            _fill(request.inputs.add(key=name).value, values, *types.get(name, (STRING, 1)))
        return {entry.key: _values(entry.value) for entry in self._ask("Predict", request).outputs}


def _error(text: bytes) -> str:
    try:
        return str(json.loads(text)["error"])
    except (ValueError, KeyError, TypeError):
        return text[:200].decode("utf-8", "replace")


def _messages() -> Callable[[str], Any]:
    """Return a function from a message's name to its class. A map is sent as repeated entries of key and value."""
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = {"double": 1, "float": 2, "int64": 3, "int32": 5, "bool": 8, "string": 9, "bytes": 12}
    of = {
        "Dim": "int64 size 1",
        "Shape": "*Dim dim 2",
        "Tensor": "int32 dtype 1, Shape tensor_shape 2, bytes tensor_content 4, *float float_val 5, *double double_val 6, "
        "*int32 int_val 7, *bytes string_val 8, *int64 int64_val 10, *bool bool_val 11",
        "Version": "int64 value 1",
        "Spec": "string name 1, Version version 2, string signature_name 3",
        "Entry": "string key 1, Tensor value 2",
        "PredictRequest": "Spec model_spec 1, *Entry inputs 2",
        "PredictResponse": "*Entry outputs 1, Spec model_spec 2",
        "Any": "string type_url 1, bytes value 2",
        "Held": "string key 1, Any value 2",
        "GetModelMetadataRequest": "Spec model_spec 1, *string metadata_field 2",
        "GetModelMetadataResponse": "Spec model_spec 1, *Held metadata 2",
        "Info": "string name 1, int32 dtype 2, Shape shape 3",
        "Input": "string key 1, Info value 2",
        "Signature": "*Input inputs 1",
        "Named": "string key 1, Signature value 2",
        "SignatureDefMap": "*Named signature_def 1",
    }
    file = descriptor_pb2.FileDescriptorProto(name="predict.proto", package="client", syntax="proto3")
    for message, fields in of.items():
        described = file.message_type.add(name=message)
        for kind, name, number in (field.split() for field in fields.split(", ")):
            field = described.field.add(name=name, number=int(number), label=3 if kind.startswith("*") else 1)
            if (plain := kind.strip("*")) in kinds:
                field.type = kinds[plain]
            else:
                field.type, field.type_name = 11, f".client.{plain}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return lambda name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"client.{name}"))


def _fill(tensor: Any, values: Any, dtype: int, rank: int) -> None:
    flat = [values]
    while flat and isinstance(flat[0], list):
        tensor.tensor_shape.dim.add(size=len(flat[0]))
        flat = list(itertools.chain.from_iterable(flat))
    while not flat and len(tensor.tensor_shape.dim) < rank:
        tensor.tensor_shape.dim.add(size=0)
    tensor.dtype = dtype
    try:
        if dtype == STRING:
            tensor.string_val.extend(base64.b64decode(v["b64"]) if isinstance(v, dict) else v.encode() for v in flat)
        else:
            getattr(tensor, NUMBERS[dtype][1]).extend(flat)
    except (TypeError, ValueError, KeyError, AttributeError) as error:
        raise Failed(f"the values are not of the input's type ({dtype} of TensorFlow's): {error}") from None


def _values(tensor: Any) -> Any:
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.dtype == STRING:
        flat: list[Any] = [value.decode("utf-8", "replace") for value in tensor.string_val]
    elif tensor.dtype in NUMBERS:
        letter, field = NUMBERS[tensor.dtype]
        whole = tensor.tensor_content
        flat = [v for (v,) in struct.iter_unpack(f"<{letter}", whole)] if whole else list(getattr(tensor, field))
    else:
        raise Failed(f"an output has TensorFlow's type {tensor.dtype}, which this client does not read")
    for size in reversed(shape[1:]):
        flat = [flat[i : i + size] for i in range(0, len(flat), size)] if size else [[] for _ in range(shape[0])]
    return flat if shape else flat[0]


class Client:
    """Asks again where the server is busy, and keeps the times of answers."""

    def __init__(self, api: Rest | Grpc, retries: int):
        self._api, self._retries = api, retries
        self.seconds: list[float] = []
        self.retried = 0

    def predict(self, signature: str, columns: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs by name.

        Raises:
            Failed: the request is refused, or every attempt has failed.
        """
        for attempt in itertools.count():
            start = time.perf_counter()
            try:
                outputs = self._api.predict(signature, columns)
            except Busy as error:
                if attempt == self._retries:
                    raise Failed(f"{error} (after {attempt + 1} attempts)") from None
                self.retried += 1
                pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt) * random.uniform(0.5, 1)  # clients must not return at once
                time.sleep(max(pause, error.after))
                continue
            self.seconds.append(time.perf_counter() - start)
            return outputs
        raise AssertionError

    def report(self, elapsed: float, rows: int) -> str:
        """Return the figures of all answers."""
        if not self.seconds:
            return "no answers"
        times = sorted(self.seconds)
        p50, p90, p99 = (1000 * times[min(len(times) - 1, int(len(times) * part))] for part in (0.5, 0.9, 0.99))
        return (
            f"{len(times)} answers, {rows} rows in {elapsed:.1f} s ({rows / elapsed:.0f} rows/s); "
            f"ms p50 {p50:.1f}, p90 {p90:.1f}, p99 {p99:.1f}, max {1000 * times[-1]:.1f}; {self.retried} retries"
        )


def rows_of(lines: Iterable[str], fields: list[str]) -> Iterator[dict[str, Any]]:
    """Yield the inputs of each row by name."""
    for number, line in enumerate(lines, 1):
        text = line.rstrip("\r\n")
        if text.startswith("{"):
            try:
                yield json.loads(text)
                continue
            except ValueError:
                pass  # a text that begins with a brace
        parts = text.split("\t") if len(fields) > 1 else [text]
        if len(parts) != len(fields):
            raise Failed(f"row {number}: has {len(parts)} texts, --fields has {len(fields)} ({','.join(fields)})")
        yield dict(zip(fields, parts, strict=True))


def batches(rows: Iterable[dict[str, Any]], size: int) -> Iterator[dict[str, list[Any]]]:
    """Yield columns of so many rows, all with the same inputs."""
    names: tuple[str, ...]
    for names, group in itertools.groupby(rows, key=tuple):
        while some := list(itertools.islice(group, size)):
            yield {name: [row[name] for row in some] for name in names}


def in_order(function: Any, items: Iterable[Any], threads: int) -> Iterator[Any]:
    """Yield the results of a function in the items' order; only so many wait that memory does not grow with the file."""
    with concurrent.futures.ThreadPoolExecutor(threads) as pool:
        waiting: list[concurrent.futures.Future[Any]] = []
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) >= 4 * threads:
                yield waiting.pop(0).result()
        for future in waiting:
            yield future.result()


def same(wanted: Any, found: Any, tolerance: float) -> bool:
    """Whether two JSON values are equal, floats within a tolerance that is relative beyond 1."""
    if isinstance(wanted, dict) and wanted.keys() == {"b64"} and isinstance(found, str):
        wanted = base64.b64decode(wanted["b64"]).decode("utf-8", "replace")
    if isinstance(wanted, dict) and isinstance(found, dict):
        return wanted.keys() == found.keys() and all(same(wanted[name], found[name], tolerance) for name in wanted)
    if isinstance(wanted, list) and isinstance(found, list):
        return len(wanted) == len(found) and all(same(w, f, tolerance) for w, f in zip(wanted, found, strict=True))
    if isinstance(wanted, float) and isinstance(found, int | float):
        return abs(wanted - found) <= tolerance * max(1.0, abs(wanted)) or (wanted != wanted and found != found)
    return bool(wanted == found)


def check(client: Client, line: str, tolerance: float) -> str | None:
    """Send a recorded request; return what differs, None if nothing does."""
    try:
        recorded = json.loads(line)
        inputs, wanted, name = dict(recorded["inputs"]), dict(recorded["outputs"]), recorded.get("signature_name", "")
    except (ValueError, KeyError, TypeError):
        return "not a recorded request, a JSON object with signature_name, inputs and outputs"
    try:
        found = client.predict(name, inputs)
    except Failed as error:
        return f"{name}: {error}"
    if found.keys() == {""} and len(wanted) == 1:
        found = {next(iter(wanted)): found[""]}
    for output in sorted(wanted.keys() | found.keys()):
        if output not in wanted or output not in found:
            return f"{name}: output {output} is missing on one side"
        if not same(wanted[output], found[output], tolerance):
            shown = (json.dumps(value, ensure_ascii=False)[:200] for value in (wanted[output], found[output]))
            return "{}: {}: recorded {}, found {}".format(name, output, *shown)
    return None


def checked(client: Client, options: argparse.Namespace) -> int:
    """Compare with recorded answers; return the number of requests that differ."""
    differ = number = 0
    with Path(options.check).open(encoding="utf-8") as lines:
        compare = functools.partial(check, client, tolerance=options.tolerance)
        for number, found in enumerate(in_order(compare, lines, options.concurrency), 1):
            if found is not None:
                differ += 1
                print(f"request {number}: {found}", file=sys.stderr)
    if not number:
        raise Failed(f"{options.check}: has no recorded request")
    print(f"{number} recorded requests: {differ or 'none'} differ")
    return differ


def written(client: Client, lines: Iterable[str], options: argparse.Namespace, output: TextIO) -> int:
    """Ask the rows and write the answers; return the number of rows."""
    rows = 0
    ask = functools.partial(client.predict, options.signature)
    for outputs in in_order(ask, batches(rows_of(lines, options.fields.split(",")), options.batch), options.concurrency):
        for values in zip(*outputs.values(), strict=True):
            answer = dict(zip(outputs, values, strict=True))
            print(json.dumps(answer.get("", answer), ensure_ascii=False), file=output)
            rows += 1
    return rows


def whole(low: int) -> Callable[[str], int]:
    """Return a reader of whole numbers from a lowest one on, for argparse."""

    def read(text: str) -> int:
        if not text.isdecimal() or int(text) < low:
            raise argparse.ArgumentTypeError(f"expected a whole number of {low} or more, found {text!r}")
        return int(text)

    return read


def main(argv: list[str] | None = None) -> int:
    """Run the command line; return the exit code."""
    about = (__doc__ or "").partition("\n")
    parser = argparse.ArgumentParser(
        description=about[0], epilog=about[2], formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("texts", nargs="*", help="rows to ask")
    parser.add_argument("--server", default="http://localhost:8501", help="http://HOST:PORT, https://..., or grpc://HOST:PORT")
    parser.add_argument("--model", required=True, help="its name on the server")
    parser.add_argument("--signature", default="serving_default", help="the model's function")
    parser.add_argument("--fields", default="text", help="names of the inputs, as question,context")
    parser.add_argument("--input", help="file of rows, a line each; - for stdin")
    parser.add_argument("--output", help="file of answers")
    parser.add_argument("--check", help="file of recorded requests and answers")
    parser.add_argument("--tolerance", type=float, default=1e-5, help="of floats in --check")
    parser.add_argument("--batch", type=whole(1), default=1, help="rows of a request")
    parser.add_argument("--concurrency", type=whole(1), default=1, help="requests at once")
    parser.add_argument("--timeout", type=float, default=30, help="seconds of an attempt")
    parser.add_argument("--retries", type=whole(0), default=5, help="further attempts where the server is busy")
    options = parser.parse_args(argv)
    if (options.check is not None) + (options.input is not None) + bool(options.texts) != 1:
        parser.error("give texts, or --input, or --check")
    try:
        address = urlsplit(options.server)
        known = address.scheme in ("http", "https", "grpc") and address.hostname and address.port != 0
    except ValueError:  # of the port
        known = False
    if not known:
        parser.error(f"--server={options.server}: expected http://HOST:PORT, https://HOST:PORT or grpc://HOST:PORT")
    if not options.timeout > 0:
        parser.error(f"--timeout={options.timeout:g}: expected more than 0 seconds")
    start = time.perf_counter()
    try:
        api = (Grpc if address.scheme == "grpc" else Rest)(options.server, options.model, options.timeout)
        client = Client(api, options.retries)
        if options.check is not None:
            return int(checked(client, options) > 0)
        with contextlib.ExitStack() as stack:
            lines: Iterable[str] = options.texts
            if options.input is not None:
                lines = sys.stdin if options.input == "-" else stack.enter_context(open(options.input, encoding="utf-8"))
            output = stack.enter_context(open(options.output, "w", encoding="utf-8")) if options.output else sys.stdout
            rows = written(client, lines, options, output)
        print(client.report(time.perf_counter() - start, rows), file=sys.stderr)
        return 0
    except Failed as error:
        print(f"{Path(sys.argv[0]).name}: {error}", file=sys.stderr)
    except UnicodeDecodeError as error:
        print(f"{Path(sys.argv[0]).name}: {options.check or options.input}: is not UTF-8: {error.reason}", file=sys.stderr)
    except OSError as error:
        print(f"{Path(sys.argv[0]).name}: {error.filename}: {error.strerror}", file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())
