"""kbert serve: TensorFlow Serving's API over HTTP and gRPC, limits, new versions, hostile input."""

import base64
import concurrent.futures
import gzip
import http.server
import json
import math
import re
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote

import grpc
import numpy as np
import pytest
import served
import tensorflow as tf
from conftest import tool, wait_for
from served import NAME, ask, predict

from kbert import serve
from kbert.server import options as checks

client = tool("serving_client")
MODEL = f"/v1/models/{NAME}"


@pytest.fixture(scope="module")
def versions(tmp_path_factory) -> Path:
    """Two versions, 1 and 2, to copy from."""
    folder = tmp_path_factory.mktemp("versions")
    for version in (1, 2):
        served.save(folder / str(version), version)
    return folder


@pytest.fixture(scope="module")
def ours(versions, environment, tmp_path_factory):
    export_dir = tmp_path_factory.mktemp("served") / "small"
    export_dir.mkdir()
    served.publish(versions / "1", export_dir, 1)
    limits = ("--poll_seconds=0.05", "--max_body_mb=24", "--max_waiting_mb=30", "--max_rows=12000", "--timeout=120")
    server = served.Served(export_dir, environment, *limits)
    server.export_dir = export_dir
    yield server
    server.process.kill()


@pytest.fixture(scope="module", params=["kbert serve", "tensorflow_model_server"])
def port(request, ours, versions, tmp_path_factory):
    """Of each server that the requests of the contract go to."""
    if request.param == "kbert serve":
        yield ours.port
        return
    if not served.MODEL_SERVER:
        pytest.skip("TENSORFLOW_MODEL_SERVER names no program")
    export_dir = tmp_path_factory.mktemp("served") / "theirs"
    export_dir.mkdir()
    served.publish(versions / "1", export_dir, 1)
    server = served.ModelServer(export_dir)
    yield server.port
    server.process.kill()


def b64(value: bytes) -> dict[str, str]:
    return {"b64": base64.b64encode(value).decode()}


ROW = {"copy": "a", "length": 1, "version": 1}
ANSWERED = {
    "rows": ({"instances": [{"text": "a"}, {"text": "中文"}]}, {"predictions": [ROW, {"copy": "中文", "length": 2, "version": 1}]}),
    "rows of one input": ({"instances": ["a"]}, {"predictions": [ROW]}),
    "columns": ({"inputs": {"text": ["a"]}}, {"outputs": {"copy": ["a"], "length": [1], "version": [1]}}),
    "columns of one input": ({"inputs": ["a"]}, {"outputs": {"copy": ["a"], "length": [1], "version": [1]}}),
    "no rows": ({"inputs": []}, {"outputs": {"copy": [], "length": [], "version": []}}),
    "base64": ({"instances": [b64(b"a")]}, {"predictions": [ROW]}),
    "base64 by name": ({"instances": [{"text": b64(b"a")}]}, {"predictions": [ROW]}),
    "the default by name": ({"signature_name": "serving_default", "instances": ["a"]}, {"predictions": [ROW]}),
    "several inputs": (
        {"signature_name": "pair", "instances": [{"context": "c", "question": "q"}]}, {"predictions": ["q|c"]},
    ),
    "one output": ({"signature_name": "ids", "inputs": [[1, 2], [3, 4]]}, {"outputs": [3, 7]}),
    "rank 2 by row": ({"signature_name": "ids", "instances": [{"token_ids": [1, 2]}]}, {"predictions": [3]}),
    "bytes": (
        {"signature_name": "in_bytes", "inputs": {"text": ["é"]}},
        {"outputs": {"copy_bytes": [b64("é".encode())], "copy": ["é"]}},
    ),
    "ragged words": (
        {"signature_name": "words", "instances": ["a bc", ""]},
        {"predictions": [
            {"count": 2, "word": ["a", "bc"], "size": [1, 2]}, {"count": 0, "word": ["", ""], "size": [0, 0]},
        ]},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", ANSWERED)
def test_predict(port, name):
    body, expected = ANSWERED[name]
    assert predict(port, body) == (200, expected)


def test_numbers_are_the_same_floats(port):
    values = [[0.1, 3.0], [1e-30, 1e30], [-1.0, 0.0], [0.0, 1.0], [16777217 / 3, 2.5]]
    code, found = predict(port, {"signature_name": "numbers", "inputs": values})
    with np.errstate(all="ignore"):
        x = np.array(values, np.float32)
        expected = np.stack([np.log(x[:, 0]), x[:, 0] / x[:, 1], x[:, 1]], 1)
    assert code == 200 and np.allclose(np.float32(found["outputs"]), expected, rtol=1e-6, equal_nan=True)
    assert math.isnan(found["outputs"][2][0]) and found["outputs"][2][1] == -math.inf and found["outputs"][3][0] == -math.inf


def test_classify_and_regress(port):
    examples = {"examples": [{"text": "abc"}, {"text": [b64(b"a")]}]}
    found = ask(port, "POST", f"{MODEL}:classify", {"signature_name": "classify", **examples})
    assert found == (200, {"results": [[["short", 0.25], ["long", 3.0]], [["short", 0.5], ["long", 1.0]]]})
    found = ask(port, "POST", f"{MODEL}:regress", {"signature_name": "regress", **examples})
    assert found == (200, {"results": [3.1, 1.1]})
    shared = {"signature_name": "regress", "context": {"text": "four"}, "examples": [{"n": 1, "f": 0.5}, {"n": [True, 2]}]}
    assert ask(port, "POST", f"{MODEL}:regress", shared) == (200, {"results": [4.1, 4.1]})


def test_status_and_metadata(port):
    status = {"version": "1", "state": "AVAILABLE", "status": {"error_code": "OK", "error_message": ""}}
    for path in (MODEL, f"{MODEL}/versions/1"):
        assert ask(port, "GET", path) == (200, {"model_version_status": [status]})
    code, found = ask(port, "GET", f"{MODEL}/metadata")
    assert code == 200 and found["model_spec"] == {"name": NAME, "signature_name": "", "version": "1"}
    pair = found["metadata"]["signature_def"]["signature_def"]["pair"]
    assert pair["method_name"] == "tensorflow/serving/predict" and sorted(pair["inputs"]) == ["context", "question"]
    text = pair["inputs"]["context"]
    assert (text["dtype"], text["tensor_shape"]["dim"][0]["size"]) == ("DT_STRING", "-1")
    assert predict(port, {"instances": ["a"]}, f"{MODEL}/versions/1:predict") == (200, {"predictions": [ROW]})


REFUSED = {
    "no body": (b"", 400, "JSON"),
    "no JSON": (b"text", 400, "JSON Parse error"),
    "no object": (b"[1]", 400, "object"),
    "no key": ({}, 400, "Missing 'inputs' or 'instances' key"),
    "both keys": ({"inputs": ["a"], "instances": ["a"]}, 400, "only one of"),
    "no list": ({"instances": "a"}, 400, "list/array"),
    "no instances": ({"instances": []}, 400, "No values in 'instances'"),
    "wrong name": ({"instances": [{"txt": "a"}]}, 400, "txt|text"),
    "a name too many": ({"instances": [{"text": "a", "more": "b"}]}, 400, "more|text"),
    "a name is missing": ({"signature_name": "pair", "instances": [{"context": "c"}]}, 400, "question"),
    "a column is missing": ({"signature_name": "pair", "inputs": {"context": ["c"]}}, 400, "Missing named input: question"),
    "a list for several": ({"signature_name": "pair", "instances": ["c"]}, 400, "multiple input tensors"),
    "mixed rows": ({"instances": [{"text": "a"}, "b"]}, 400, "at item 1"),
    "a number for a text": ({"instances": [{"text": 3}]}, 400, "not of expected type: string"),
    "a text for a number": ({"signature_name": "ids", "inputs": [["a"]]}, 400, "not of expected type: int32"),
    "a fraction for an integer": ({"signature_name": "ids", "inputs": [[1.5]]}, 400, "not of expected type: int32"),
    "too large an integer": ({"signature_name": "ids", "inputs": [[2**40]]}, 400, "int32"),
    "uneven lists": ({"signature_name": "ids", "inputs": [[1], [1, 2]]}, 400, "size"),
    "no base64": ({"instances": [{"b64": "???"}]}, 400, "base64"),
    "null": ({"instances": [{"text": None}]}, 400, "Null"),
    "an unknown signature": ({"signature_name": "no", "instances": ["a"]}, 400, 'signature name: "no" not found'),
    "a signature that is no text": ({"signature_name": 1, "instances": ["a"]}, 400, "signature_name"),
    "rank 2": ({"instances": [["a"], ["b"]]}, 400, "shape"),
    "rank 2 by name": ({"instances": [{"text": ["a"]}]}, 400, "shape"),
    "rank 0": ({"inputs": {"text": "a"}}, 400, "shape"),
    "an assertion": ({"signature_name": "strict", "instances": ["no"]}, 400, "no is not allowed"),
    "half a pair of surrogates": (rb'{"instances": ["\ud800"]}', 400, "surrogate"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(port, name):
    body, code, message = REFUSED[name]
    found = predict(port, body)
    assert found[0] == code and found[1].keys() == {"error"} and re.search(message, found[1]["error"]), found


@pytest.mark.parametrize(
    ("method", "path", "code", "message"),
    [
        ("POST", "/v1/models/other:predict", 404, r"Servable not found for request: Latest\(other\)"),
        ("POST", f"{MODEL}/versions/7:predict", 404, rf"Servable not found for request: Specific\({NAME}, 7\)"),
        ("GET", "/v1/models/other", 404, "Could not find any versions of model other"),
        ("GET", f"{MODEL}/versions/7", 404, f"Could not find version 7 of model {NAME}"),
        ("GET", f"{MODEL}/versions/99999999999999999999", 400, "to numeric"),
        ("POST", f"{MODEL}/labels/stable:predict", 400, "Unrecognized servable version label: stable"),
        ("GET", f"{MODEL}:predict", 400, "Malformed request: GET"),
        ("POST", MODEL, 400, "Malformed request: POST"),
        ("POST", f"{MODEL}:juggle", 400, "Malformed request"),
        ("GET", "/v1/models", 400, "Missing model name"),
    ],
)
def test_wrong_paths(port, method, path, code, message):
    found = ask(port, method, path, {"instances": ["a"]} if method == "POST" else None)
    assert found[0] == code and re.search(message, found[1]["error"]), found


def test_a_packed_body(port):
    headers = {"Content-Encoding": "gzip"}
    packed = gzip.compress(b'{"instances": ["a"]}')
    assert ask(port, "POST", f"{MODEL}:predict", packed, headers) == (200, {"predictions": [ROW]})
    assert ask(port, "POST", f"{MODEL}:predict", b"no gzip", headers)[0] == 400


def test_a_packed_body_is_bounded(ours):
    bomb, half = gzip.compress(b"[" * (200 << 20)), gzip.compress(b'{"instances": ["a"]}')[:-9]
    for body, code in ((bomb, 413), (half, 400)):
        assert ask(ours.port, "POST", f"{MODEL}:predict", body, {"Content-Encoding": "gzip"})[0] == code


def test_the_wrong_method_of_a_signature(ours):
    for method in ("classify", "regress"):
        code, found = ask(ours.port, "POST", f"{MODEL}:{method}", {"examples": [{"text": "a"}]})
        assert code == 400 and "'serving_default' takes text and gives copy, length, version" in found["error"]
    for body, message in (({}, "'examples' is expected"), ({"examples": []}, "empty array"), ({"examples": [3]}, "JSON object"),
                          ({"examples": [{"text": [1, "a"]}]}, "bytes and int64"), ({"examples": [{"text": [[1]]}]}, "unexpected"),
                          ({"examples": [{"text": 2**70}]}, "beyond"), ({"examples": [{}]}, "text")):  # fmt: skip
        code, found = ask(ours.port, "POST", f"{MODEL}:classify", {"signature_name": "classify", **body})
        assert code == 400 and message in found["error"], found


def memory(process: subprocess.Popen, what: str = "VmRSS") -> int:
    """Megabytes that a process holds, or has held at most (VmHWM)."""
    return int(re.search(rf"{what}:\s+(\d+)", Path(f"/proc/{process.pid}/status").read_text())[1]) >> 10


HOSTILE = {
    "empty": ("", 200),
    "blank": (" \t\n\r", 200),
    "NUL": ("\0a\0", 200),
    "bytes that are no UTF-8": (b'{"instances": ["\xff\xfe a \xed\xa0\x80"]}', 200),
    "the same as base64": (b64(b"\xff\xfe\x80"), 200),
    "10 MB in one string": ("a " * 5_000_000, 200),
    "10,000 strings": (["good film"] * 10_000, 200),
    "12,001 strings": (["good film"] * 12_001, 400),
    "combining marks": ("e" + "\u0301" * 100_000, 200),
    "right-to-left marks": ("\u202e\u200f" * 100_000, 200),
    "surrogates": (b'{"instances": ["\\udc80\\ud83d"]}', 400),
    "a whole pair": (b'{"instances": ["\\ud83d\\ude00"]}', 200),
    "wrong types": ([True, 1.5, None], 400),
    "wrong names": ([{"__proto__": "a"}], 400),
    "rank 2": ([["a"]] * 1000, 400),
    "deep lists": (b'{"instances": ' + b"[" * 5_000_000, 400),
    "deep, closed lists": (b'{"instances": ' + b"[" * 900 + b"]" * 900 + b"}", 400),
    "deep objects": (b'{"a":' * 100_000 + b"1" + b"}" * 100_000, 400),
    "uneven lists": ([["a"] * 1000] * 100 + [["a"]], 400),
    "a number of a million digits": (b'{"instances": [' + b"9" * 1_000_000 + b"]}", 400),
    "a body that is too large": (b"x" * (25 << 20), 413),
    "UTF-16": ('{"instances": ["a"]}'.encode("utf-16"), 400),
    "a byte order mark": ('\ufeff{"instances": ["a"]}'.encode(), 200),
    "a long name": ([{"n" * 100_000: "a"}], 400),
}


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_hostile_input_is_answered_in_bounded_memory(ours):
    before = memory(ours.process)
    for name, (sent, code) in HOSTILE.items():
        body = sent if isinstance(sent, bytes) else {"instances": sent if isinstance(sent, list) else [sent]}
        found = predict(ours.port, body)
        assert found[0] == code, (name, str(found)[:300])
        if code == 200:
            assert len(found[1]["predictions"]) == len(body["instances"]) if isinstance(body, dict) else found[1]["predictions"]
        else:
            assert found[1].keys() == {"error"} and len(found[1]["error"]) < 1100, name
        assert predict(ours.port, {"instances": ["a"]}) == (200, {"predictions": [ROW]}), name
        assert memory(ours.process) < before + 700, name


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from /proc")
def test_large_documents_are_parsed_one_at_a_time(ours):
    before = memory(ours.process, "VmHWM")
    body = b'{"instances": [' + b"{}," * (7 << 20 >> 2) + b"{}]}"  # which takes 130 MB
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        found = [*pool.map(lambda _: predict(ours.port, body)[0], range(4))]
    assert found == [400] * 4 and memory(ours.process, "VmHWM") < before + 330
    assert predict(ours.port, {"instances": ["a"]})[0] == 200


def test_requests_that_are_no_http(ours):
    for raw in (b"\0\xff\n\n", b"GET " + b"/" * 200_000, b"POST /v1/models/small:predict HTTP/1.1\r\nContent-Length: -5\r\n\r\n",
                b"POST /v1/models/small:predict HTTP/1.1\r\nHost: a\r\nContent-Length: 500\r\n\r\n{"):  # fmt: skip
        with socket.create_connection(("127.0.0.1", ours.port)) as client:
            client.sendall(raw)
    assert predict(ours.port, {"instances": ["a"]}) == (200, {"predictions": [ROW]})


def test_requests_that_together_hold_too_many_bytes(ours):
    body = json.dumps({"instances": ["a " * 10_000_000]}).encode()
    head = f"POST {MODEL}:predict HTTP/1.1\r\nHost: a\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode()
    with socket.create_connection(("127.0.0.1", ours.port)) as slow:
        slow.sendall(head + body[:-1])
        wait_for(lambda: predict(ours.port, b"x" * (12 << 20))[0] == 429, ours)  # 400 until the other has been read
        assert predict(ours.port, {"instances": ["a"]})[0] == 200  # a small one finds room
        slow.sendall(body[-1:])
        assert slow.makefile("rb").readline().startswith(b"HTTP/1.1 200")
    assert predict(ours.port, b"x" * (12 << 20))[0] == 400


@pytest.fixture(scope="module")
def channel(ours):
    with grpc.insecure_channel(f"127.0.0.1:{ours.grpc}") as channel:
        yield channel


def asked(text, signature: str = "", name: str = NAME):
    from tensorflow_serving.apis import predict_pb2

    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.signature_name = name, signature
    request.inputs["text"].CopyFrom(tf.make_tensor_proto(text) if isinstance(text, list) else text)
    return request


def test_grpc_answers_as_rest_does(channel):
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        model_service_pb2_grpc,
        prediction_service_pb2_grpc,
        regression_pb2,
    )

    prediction, models = (
        prediction_service_pb2_grpc.PredictionServiceStub(channel), model_service_pb2_grpc.ModelServiceStub(channel),
    )  # fmt: skip
    answer = prediction.Predict(asked(["a", "中文"]))
    found = {name: tf.make_ndarray(tensor).tolist() for name, tensor in answer.outputs.items()}
    assert found == {"copy": [b"a", "中文".encode()], "length": [1, 2], "version": [1, 1]}
    assert (answer.model_spec.version.value, answer.model_spec.signature_name) == (1, "serving_default")
    filtered = asked(["a"])
    filtered.output_filter.append("length")
    assert list(prediction.Predict(filtered).outputs) == ["length"]

    repeated = tf.make_tensor_proto(["a"])
    repeated.tensor_shape.dim[0].size = 3  # equal values may be sent once
    assert tf.make_ndarray(prediction.Predict(asked(repeated)).outputs["copy"]).tolist() == [b"a"] * 3

    example = tf.train.Example()
    example.features.feature["text"].bytes_list.value.append(b"abc")
    for kind, method in ((classification_pb2.ClassificationRequest, "classify"), (regression_pb2.RegressionRequest, "regress")):
        request = kind()
        request.model_spec.name, request.model_spec.signature_name = NAME, method
        request.input.example_list_with_context.context.CopyFrom(example)
        request.input.example_list_with_context.examples.add()
        if method == "classify":
            (row,) = prediction.Classify(request).result.classifications
            assert [(each.label, each.score) for each in row.classes] == [("short", 0.25), ("long", 3.0)]
        else:
            assert prediction.Regress(request).result.regressions[0].value == pytest.approx(3.1)

    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = NAME
    (status,) = models.GetModelStatus(request).model_version_status
    assert (status.version, status.state, status.status.error_code) == (1, 30, 0)
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = NAME
    signatures = get_model_metadata_pb2.SignatureDefMap()
    prediction.GetModelMetadata(request).metadata["signature_def"].Unpack(signatures)
    assert signatures.signature_def["words"].inputs["text"].dtype == tf.string.as_datatype_enum

    bomb = tf.make_tensor_proto(["a"])
    bomb.tensor_shape.dim[0].size = 1 << 50
    uneven = tf.make_tensor_proto(["a"])
    uneven.tensor_shape.dim[0].size = -1
    for wrong, code, message in (
        (asked(["a"], name="other"), grpc.StatusCode.NOT_FOUND, r"Latest\(other\)"),
        (asked(["a"], "no"), grpc.StatusCode.INVALID_ARGUMENT, "not found"),
        (asked(["a"], "pair"), grpc.StatusCode.INVALID_ARGUMENT, "Missing but required: {context,question}"),
        (asked(tf.make_tensor_proto([1])), grpc.StatusCode.INVALID_ARGUMENT, "is int32, expected string"),
        (asked(tf.make_tensor_proto([["a"]])), grpc.StatusCode.INVALID_ARGUMENT, "each row is one string"),
        (asked(bomb), grpc.StatusCode.INVALID_ARGUMENT, "1 values"),
        (asked(uneven), grpc.StatusCode.INVALID_ARGUMENT, "1 values"),
        (asked(["no"], "strict"), grpc.StatusCode.INVALID_ARGUMENT, "no is not allowed"),
        (asked(["a"] * 12_001), grpc.StatusCode.INVALID_ARGUMENT, "--max_rows"),
    ):
        with pytest.raises(grpc.RpcError, match=message) as error:
            prediction.Predict(wrong)
        assert error.value.code() == code, message


def test_only_kberts_count_says_how_wide_a_row_is(versions, tmp_path):
    from kbert.server.saved_model import Model

    shutil.copytree(versions / "1", tmp_path / "1")
    assert Model(tmp_path / "1").signatures["words"].merges
    shutil.rmtree(tmp_path / "1" / "assets.extra")
    signatures = Model(tmp_path / "1").signatures
    assert not signatures["words"].merges and signatures["serving_default"].merges


def test_requests_at_once_get_their_own_answers(ours):
    def one(number: int) -> bool:
        text = " ".join(["w"] * (number % 7)) + f" x{number}"
        body = {"signature_name": "words", "inputs": [text, "a"][: 1 + number % 2]}
        words = text.split()
        code, found = predict(ours.port, body)
        row = found["outputs"]["word"][0]
        return code == 200 and row == words and found["outputs"]["count"][0] == len(words)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(one, range(200)))
    page = ask(ours.port, "GET", "/metrics")[1]
    requests, batches = (float(re.search(rf"^{name} (\S+)", page, re.M)[1]) for name in
                         ("kbert_batch_requests_sum", "kbert_batch_requests_count"))  # fmt: skip
    assert requests > batches > 0
    assert re.search(r'^kbert_requests_total\{api="predict",code="OK"\} \d', page, re.M) and "kbert_model_version 1.0" in page
    assert ask(ours.port, "GET", "/monitoring/prometheus/metrics")[0] == 200


def test_the_page(ours):
    code, page = ask(ours.port, "GET", "/")
    assert code == 200 and '"small"' in page and "textarea" in page and "http://" not in page


@pytest.mark.skipif(not (shutil.which("chromium") or shutil.which("chromium-browser")), reason="no chromium")
def test_the_page_marks_spans_in_a_browser(ours):
    browser = shutil.which("chromium") or shutil.which("chromium-browser")
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=10000", "--dump-dom"]
    url = f"http://127.0.0.1:{ours.port}/?signature=entities&text={quote('🎉中文 <b>good</b>')}"
    done = subprocess.run([browser, *flags, url], capture_output=True, text=True, timeout=120)
    assert "<mark>🎉中文<small>word</small></mark> &lt;b&gt;good&lt;/b&gt;</p>" in done.stdout, done.stdout
    assert '"count": 1' in done.stdout and "small, version 1" in done.stdout


def run_client(capsys, *flags: str) -> tuple[int, list, str]:
    """The exit code, the answers and what was said of them."""
    code = client.main([f"--model={NAME}", *map(str, flags)])
    out, err = capsys.readouterr()
    return code, [json.loads(line) if line.startswith("{") else line for line in out.splitlines()], err


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_the_client(ours, scheme, tmp_path, capsys):
    at = f"--server={scheme}://127.0.0.1:{ours.port if scheme == 'http' else ours.grpc}"
    code, answers, said = run_client(capsys, at, "a", "中文", '{"text": "as an object"}')
    assert (code, [row["length"] for row in answers]) == (0, [1, 2, 12]) and answers[0] == ROW
    assert re.search(r"^3 answers, 3 rows in \S+ s \(\d+ rows/s\); ms p50 \S+, p90 \S+, p99 \S+, max \S+; 0 retries$", said, re.M)

    (tmp_path / "rows.tsv").write_text("".join(f"q{i}\tc{i}\n" for i in range(50)))
    flags = [at, "--signature=pair", "--fields=question,context", f"--input={tmp_path / 'rows.tsv'}"]
    code, answers, _ = run_client(capsys, *flags, "--batch=4", "--concurrency=3", f"--output={tmp_path / 'out.jsonl'}")
    assert code == 0 and not answers
    lines = (tmp_path / "out.jsonl").read_text().splitlines()
    assert lines == [json.dumps({"both": f"q{i}|c{i}"} if scheme == "grpc" else f"q{i}|c{i}") for i in range(50)]

    golden = [
        {"signature_name": "serving_default", "inputs": {"text": ["a", b64("é".encode())]},
         "outputs": {"copy": ["a", "é"], "length": [1, 1], "version": [1, 1]}},
        {"signature_name": "numbers", "inputs": {"x": [[1.0, 4.0]]}, "outputs": {"y": [[0.0, 0.250001, 4.0]]}},
        {"signature_name": "ids", "inputs": {"token_ids": [[1, 2]]}, "outputs": {"sum": [3]}},
        {"signature_name": "ids", "inputs": {"token_ids": []}, "outputs": {"sum": []}},
        {"signature_name": "words", "inputs": {"text": ["a bc"]},
         "outputs": {"count": [2], "word": [["a", "bc"]], "size": [[1, 2]]}},
    ]  # fmt: skip
    (tmp_path / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in golden))
    code, answers, said = run_client(capsys, at, f"--check={tmp_path / 'golden.jsonl'}")
    assert (code, answers, said) == (0, ["5 recorded requests: none differ"], "")
    golden[1]["outputs"]["y"][0][1] = 0.2501
    golden[4]["outputs"]["other"] = [1]
    (tmp_path / "golden.jsonl").write_text("".join(json.dumps(line) + "\n" for line in golden))
    code, answers, said = run_client(capsys, at, f"--check={tmp_path / 'golden.jsonl'}", "--concurrency=2")
    assert (code, answers) == (1, ["5 recorded requests: 2 differ"])
    assert "request 2: numbers: y: recorded [[0.0, 0.2501, 4.0]], found [[0.0, 0.25, 4.0]]" in said
    assert "request 5: words: output other is missing on one side" in said

    assert run_client(capsys, at, "--signature=no", "a")[0] == 1
    code, _, said = run_client(capsys, at, "--signature=ids", '{"token_ids": ["a"]}')
    assert code == 1 and re.search("not of (expected type: int32|the input's type)", said)
    assert run_client(capsys, at, "--fields=question,context", "one text")[2].endswith(
        "row 1: has 1 texts, --fields has 2 (question,context)\n"
    )


def test_the_client_asks_a_busy_server_again(tmp_path, capsys, monkeypatch):
    """Refused, then 503, then an answer that does not come in time, then one that does."""
    monkeypatch.setattr(client, "FIRST_PAUSE", 0.001)
    seen = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self):
            self.rfile.read(int(self.headers["Content-Length"]))
            seen.append(self.path)
            if len(seen) == 3:
                return  # the connection ends without an answer
            code = (429, 503, 0, 200)[len(seen) - 1] if len(seen) <= 4 else 429
            body = b'{"outputs": ["late"]}' if code == 200 else b'{"error": "busy"}'
            self.send_response(code)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        at = f"--server=http://127.0.0.1:{server.server_port}"
        code, answers, said = run_client(capsys, at, "a")
        assert (code, answers) == (0, ['"late"']) and "3 retries" in said and seen[0] == "/v1/models/small:predict"
        assert run_client(capsys, at, "a", "--retries=1")[2].endswith("429: busy (after 2 attempts)\n") and len(seen) == 6
        server.shutdown()
    assert "after 1 attempts" in run_client(capsys, at, "a", "--retries=0")[2]
    grpc_at = at.replace("http", "grpc")
    assert "UNAVAILABLE" in run_client(capsys, grpc_at, "a", "--retries=0", "--timeout=5")[2]


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (["a", "--batch=0"], 2, "argument --batch: expected a whole number of 1 or more, found '0'"),
        (["a", "--concurrency=0"], 2, "argument --concurrency: expected a whole number of 1"),
        (["a", "--retries=-1"], 2, "argument --retries: expected a whole number of 0"),
        (["a", "--timeout=0"], 2, "--timeout=0: expected more than 0 seconds"),
        (["a", "--server=http://localhost:port"], 2, "--server=http://localhost:port: expected http://HOST:PORT"),
        (["a", "--server=http://"], 2, "expected http://HOST:PORT"),
        (["--input=latin1"], 1, "latin1: is not UTF-8"),
        (["--check=latin1"], 1, "latin1: is not UTF-8"),
        (["--check=empty"], 1, "empty: has no recorded request"),
        (["--check=odd"], 1, "request 1: not a recorded request"),
    ],
)
def test_mistakes_with_the_client(flags, code, message, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "latin1").write_bytes("é".encode("latin-1"))
    (tmp_path / "empty").touch()
    (tmp_path / "odd").write_text('{"text": "a"}\n')
    try:
        assert client.main([f"--model={NAME}", *flags]) == code
    except SystemExit as error:  # argparse
        assert error.code == code
    assert message in capsys.readouterr().err


def test_a_new_version_replaces_the_old_one_without_a_failure(ours, versions):
    seen, failed, stop = [], [], threading.Event()

    def client() -> None:
        while not stop.is_set():
            code, found = predict(ours.port, {"instances": ["a"]})
            (seen if code == 200 else failed).append(found["predictions"][0]["version"] if code == 200 else found)

    threads = [threading.Thread(target=client) for _ in range(4)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(seen) > 20, ours)
    served.publish(versions / "2", ours.export_dir, 2)
    wait_for(lambda: seen[-4:] == [2] * 4, ours)
    status = lambda: {s["version"]: s for s in ask(ours.port, "GET", MODEL)[1]["model_version_status"]}  # noqa: E731
    wait_for(lambda: status()["1"]["state"] == "END", ours)
    # One that cannot be loaded is reported, and the old one stays.
    (ours.export_dir / "3").mkdir()
    (ours.export_dir / "3" / "saved_model.pb").write_bytes(b"broken")
    wait_for(lambda: "3" in status() and status()["3"]["state"] == "END", ours)
    assert status()["3"]["status"]["error_code"] == "UNKNOWN" and status()["3"]["status"]["error_message"]
    assert status()["2"]["state"] == "AVAILABLE" and ask(ours.port, "GET", "/healthz") == (200, "version 2\n")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failed and sorted(set(seen)) == [1, 2] and seen.index(2) > 20
    assert predict(ours.port, {"instances": ["a"]}, f"{MODEL}/versions/1:predict")[0] == 404


def test_sigterm_lets_requests_end(ours):
    """The last test of this server: what is being answered is answered, and no code of kbert's training has been imported."""
    with ThreadPoolExecutor(2) as pool:
        slow = pool.submit(predict, ours.port, {"signature_name": "slow", "instances": ["300"]})
        wait_for(lambda: re.search(r"^kbert_batch_rows_sum (\S+)", ask(ours.port, "GET", "/metrics")[1], re.M), ours)
        wait_for(lambda: "kbert_queue_requests 0.0" in ask(ours.port, "GET", "/metrics")[1], ours)
        assert ours.stop() == 0
        assert slow.result()[0] == 200
    said = ours.log.read_text()
    assert "stopped" in said and "Traceback" not in said, said
    modules = re.search(r"^modules: (.*)$", said, re.M)[1].split()
    assert "kbert.server.grpc_service" in modules
    rooms = {module.split(".")[1] for module in modules if "." in module}
    assert not rooms & {"model", "tasks", "train", "data", "checkpoints", "serving", "pretraining", "vectors"}, rooms


def test_a_warm_up_file_is_run_and_without_one_a_text(versions, tmp_path):
    from tensorflow_serving.apis import prediction_log_pb2

    from kbert.server.saved_model import Model
    from kbert.server.warmup import recorded, warm

    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(asked(["a", "b"], "words"))
    with tf.io.TFRecordWriter(str(tmp_path / "warm")) as writer:
        writer.write(log.SerializeToString())
        writer.write(prediction_log_pb2.PredictionLog().SerializeToString())  # of another kind
        log = prediction_log_pb2.PredictionLog()
        log.classify_log.request.model_spec.signature_name = "classify"
        example = log.classify_log.request.input.example_list.examples.add()
        example.features.feature["text"].bytes_list.value.append(b"a")
        writer.write(log.SerializeToString())
    (name, inputs), (second, examples) = recorded(tmp_path / "warm")
    assert name == "words" and inputs["text"].tolist() == [b"a", b"b"] and recorded(tmp_path / "none") == []
    assert second == "classify" and examples["inputs"].tolist() == [example.SerializeToString()]

    model, seen = Model(versions / "1"), []
    for signature in model.signatures.values():
        run = signature._function
        signature._function = lambda name=signature.name, run=run, **given: (seen.append(name), run(**given))[1]
    warm(model, tmp_path / "warm")
    assert seen == ["words", "classify"]
    warm(model, tmp_path / "none")
    assert {"serving_default", "pair", "classify"} <= {*seen[2:]} and "ids" not in seen


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        ("--export_dir={tmp}/none", 1, "no such directory"),
        ("--export_dir={tmp}", 1, "has no version"),
        ("--export_dir={one}", 2, "is itself an exported version; name the folder above it"),
        ("--export_dir={all} --versions=one", 2, "--versions=one: expected whole numbers"),
        ("--export_dir={all} --versions=²", 2, "--versions=²: expected whole numbers"),
        ("--export_dir={all} --versions=1,99", 1, "--versions=99: --export_dir={all} has the versions 1"),
        ("--export_dir={all} --model_name=a:b", 2, "--model_name=a:b: / and : end a name"),
        ("--export_dir={all} --version_labels=stable", 2, "expected LABEL:VERSION"),
        ("--export_dir={all} --version_labels=stable:1", 2, "name the version in --versions too"),
        ("--export_dir={all} --port={busy}", 2, "cannot listen on 127.0.0.1"),
    ],
)
def test_mistakes_are_told_before_anything_is_loaded(flags, code, message, versions, tmp_path, capsys):
    with checks.listening(checks.ServeFlags(export_dir="", port=0)) as busy:
        assert busy.proto == socket.IPPROTO_TCP  # without it asyncio leaves TCP_NODELAY off, and answers take 40 ms more
        busy.listen()
        given = flags.format(tmp=tmp_path, one=versions / "1", all=versions, busy=busy.getsockname()[1]).split()
        assert serve.main(given) == code
    assert message.format(all=versions) in capsys.readouterr().err


def test_a_port_of_grpc_that_is_in_use(versions, capsys):
    with socket.create_server(("127.0.0.1", 0)) as busy:
        port = busy.getsockname()[1]
        assert serve.main([f"--export_dir={versions}", "--port=0", f"--grpc_port={port}"]) == 2
    assert f"--grpc_port: 127.0.0.1:{port} cannot be listened on" in capsys.readouterr().err


def test_what_the_extra_brings_is_named_when_it_is_missing(versions, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "uvicorn", None)
    monkeypatch.setattr(serve.importlib.util, "find_spec", lambda name: None if name == "uvicorn" else name)
    assert serve.main([f"--export_dir={versions}"]) == 2
    assert "kbert serve needs uvicorn: pip install 'kbert-keras[serve]'" in capsys.readouterr().err


def test_no_version_that_loads_is_an_error(tmp_path, capsys):
    (tmp_path / "1").mkdir()
    (tmp_path / "1" / "saved_model.pb").write_bytes(json.dumps({}).encode())
    assert serve.main([f"--export_dir={tmp_path}", "--port=0", "--grpc_port=0"]) == 1
    assert f"--export_dir={tmp_path}: " in capsys.readouterr().err
