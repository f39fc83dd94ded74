"""A small model with signatures of all kinds, exported as kbert's are, and a server of it: kbert's, or TensorFlow's own.

`TENSORFLOW_MODEL_SERVER` names the program of the latter; the requests of tests/test_server.py then run against it too.
"""

import http.client
import json
import os
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import tensorflow as tf
from conftest import PATIENCE, wait_for

NAME = "small"
MODEL_SERVER = os.environ.get("TENSORFLOW_MODEL_SERVER")
STRINGS = tf.TensorSpec([None], tf.string)


def save(path: Path, version: int) -> None:
    """Write the model as a version, which answers with its number."""
    module = tf.Module()

    @tf.function(input_signature=[STRINGS])
    def text(text):
        letters = tf.strings.length(text, "UTF8_CHAR")
        return {"length": letters, "copy": text, "version": tf.fill(tf.shape(text), version)}

    @tf.function(input_signature=[STRINGS, STRINGS])
    def pair(question, context):
        return {"both": question + "|" + context}

    @tf.function(input_signature=[STRINGS])
    def words(text):
        found = tf.strings.split(text)
        longest = found.to_tensor("")
        return {"count": tf.cast(found.row_lengths(), tf.int32), "word": longest, "size": tf.strings.length(longest)}

    @tf.function(input_signature=[STRINGS])
    def entities(text):
        first = tf.strings.length(tf.strings.regex_replace(text, " .*", ""), "UTF8_CHAR")[:, None]
        kind, one = tf.fill(tf.shape(first), "word"), tf.ones_like(first[:, 0])
        return {"count": one, "start": tf.zeros_like(first), "end": first, "type": kind}

    @tf.function(input_signature=[STRINGS])
    def in_bytes(text):
        return {"copy_bytes": text, "copy": text}

    @tf.function(input_signature=[tf.TensorSpec([None, 2], tf.float32)])
    def numbers(x):
        with_odd = tf.stack([tf.math.log(x[:, 0]), x[:, 0] / x[:, 1], x[:, 1]], 1)
        return {"y": with_odd}

    @tf.function(input_signature=[tf.TensorSpec([None, None], tf.int32)])
    def ids(token_ids):
        return {"sum": tf.reduce_sum(token_ids, 1)}

    def parsed(inputs):
        return tf.io.parse_example(inputs, {"text": tf.io.FixedLenFeature([], tf.string)})["text"]

    @tf.function(input_signature=[STRINGS])
    def classify(inputs):
        length = tf.cast(tf.strings.length(parsed(inputs)), tf.float32)[:, None]
        return {"classes": tf.tile([["short", "long"]], [tf.size(inputs), 1]), "scores": tf.concat([1 / (1 + length), length], 1)}

    @tf.function(input_signature=[STRINGS])
    def regress(inputs):
        return {"outputs": tf.cast(tf.strings.length(parsed(inputs)), tf.float32)[:, None] + 0.1}

    @tf.function(input_signature=[STRINGS])
    def strict(text):
        with tf.control_dependencies([tf.debugging.Assert(tf.reduce_all(text != "no"), ["DataError: no is not allowed"])]):
            return {"copy": tf.identity(text)}

    @tf.function(input_signature=[STRINGS])
    def slow(text):  # as slow as the text says
        steps = tf.strings.to_number(text[0], tf.int32)
        _, end = tf.while_loop(lambda i, x: i < steps, lambda i, x: (i + 1, tf.tanh(x)), [0, tf.ones([1000, 1000])])
        return {"end": tf.fill(tf.shape(text), end[0, 0])}

    functions = {
        "serving_default": text, "pair": pair, "words": words, "entities": entities, "in_bytes": in_bytes, "numbers": numbers, "ids": ids,
        "classify": classify, "regress": regress, "strict": strict, "slow": slow,
    }  # fmt: skip
    tf.saved_model.save(module, str(path), {name: each.get_concrete_function() for name, each in functions.items()})
    (path / "assets.extra").mkdir()
    (path / "assets.extra" / "kbert.json").write_text('{"task": "small"}')  # an export of kbert's has one


def publish(source: Path, export_dir: Path, version: int) -> None:
    """Copy an exported version into a directory that is served, as an export does: written beside, then renamed."""
    shutil.copytree(source, export_dir / f".writing-{version}")
    os.rename(export_dir / f".writing-{version}", export_dir / str(version))


class Served:
    """A running server.

    Args:
        export_dir: what it serves.
        environment: of its process.
        flags: of kbert serve; the process prints the modules of kbert that it has at its end.
    """

    def __init__(self, export_dir: Path, environment: dict[str, str], *flags: str):
        self.grpc = free_port()
        self.name = NAME
        self.log = export_dir.parent / f"{export_dir.name}-{self.grpc}.log"
        program = (
            "import sys; from kbert import serve; code = serve.main(); "
            "print('modules:', *(m for m in sys.modules if m.startswith('kbert'))); sys.exit(code)"
        )
        flags = (f"--export_dir={export_dir}", f"--model_name={NAME}", "--port=0", f"--grpc_port={self.grpc}", *flags)
        with self.log.open("w") as log:
            self.process = subprocess.Popen([sys.executable, "-c", program, *flags], env=environment, stdout=log, stderr=log)
        wait_for(lambda: "serving" in self.log.read_text(), self)
        self.port = int(self.log.read_text().split("http://127.0.0.1:")[1].split("/")[0])

    def poll(self) -> int | None:
        return self.process.poll()

    def communicate(self) -> tuple[str]:
        return (self.log.read_text(),)

    def stop(self) -> int:
        """End it by SIGTERM; return its exit code."""
        self.process.terminate()
        return self.process.wait(PATIENCE)


class ModelServer(Served):
    """TensorFlow's own."""

    def __init__(self, export_dir: Path):
        self.grpc, self.port, self.name = free_port(), free_port(), NAME
        self.log = export_dir.parent / "model_server.log"
        flags = [f"--port={self.grpc}", f"--rest_api_port={self.port}", f"--model_name={NAME}", f"--model_base_path={export_dir}"]
        with self.log.open("w") as log:
            self.process = subprocess.Popen([str(MODEL_SERVER), *flags], stdout=log, stderr=log)
        wait_for(lambda: answers(self.port), self)


def answers(port: int) -> bool:
    try:
        return ask(port, "GET", f"/v1/models/{NAME}")[0] == 200
    except OSError:
        return False


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as one:
        return one.getsockname()[1]


def ask(port: int, method: str, path: str, body: Any = None, headers: dict[str, str] | None = None) -> tuple[int, Any]:
    """Send a request; return the HTTP code, and the JSON of the answer or its text."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE)
    try:
        data = body if isinstance(body, bytes | None) else json.dumps(body).encode()
        connection.request(method, path, data, headers or {})
        response = connection.getresponse()
        text = response.read().decode()
        kind = response.headers.get("content-type", "")
        return response.status, json.loads(text) if "json" in kind else text
    finally:
        connection.close()


def predict(port: int, body: Any, path: str = f"/v1/models/{NAME}:predict") -> tuple[int, Any]:
    return ask(port, "POST", path, body)
