"""Replay an export's golden requests as a server would: with TensorFlow and its text operations alone.

    python replay.py [--seconds=S] EXPORT_DIR/VERSION ...      (or the paths on stdin, a line each)

For each version it prints a line of JSON: what differs from `assets.extra/golden.jsonl`, and how fast the model answers here.
This file imports nothing of kbert and runs with every TensorFlow from 2.12 on.
"""

import base64
import json
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

if __name__ == "__main__":  # kbert imports this file too, and has settings of its own
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("TF_FORCE_GPU_ALLOW_GROWTH", "true")  # the process that exports uses the GPU too
import numpy as np
import tensorflow as tf
import tensorflow_text  # registers the operations that the model holds

TOLERANCE = 1e-5  # of floats, relative to those beyond 1
SHOWN = 5  # differences


def replay(path: Path, seconds: float) -> dict[str, Any]:
    """Return what differs, the largest difference of floats, and times in milliseconds."""
    golden = [json.loads(line) for line in (path / "assets.extra" / "golden.jsonl").read_text(encoding="utf-8").splitlines()]
    differences: list[str] = []
    largest, rows = 0.0, 0
    model = Model(path)
    for number, request in enumerate(golden, 1):
        name = request["signature_name"]
        found = {output: plain(value) for output, value in model.run(*model.prepared(name, request["inputs"])).items()}
        rows += len(next(iter(request["inputs"].values())))
        for output in sorted(found.keys() ^ request["outputs"].keys()):
            differences.append(f"request {number} ({name}): output {output} is missing on one side")
        for output in sorted(found.keys() & request["outputs"].keys()):
            far = distance(request["outputs"][output], found[output])
            if far > TOLERANCE:
                wanted, other = (json.dumps(v, ensure_ascii=False)[:80] for v in (request["outputs"][output], found[output]))
                differences.append(f"request {number} ({name}): {output}: wanted {wanted}, found {other}")
            else:
                largest = max(largest, far)
    return {
        "tensorflow": tf.__version__,
        "tensorflow_text": tensorflow_text.__version__,
        "requests": len(golden),
        "rows": rows,
        "differences": len(differences),
        "shown": differences[:SHOWN],
        "largest": largest,
        **(speed(model, golden, seconds) if seconds else {}),
    }


class Model:
    """A SavedModel in a session, as TensorFlow Serving loads it: all of its graph, called by its signatures' tensors."""

    def __init__(self, path: Path):
        self._session = tf.compat.v1.Session(graph=tf.Graph())
        meta = tf.compat.v1.saved_model.load(self._session, [tf.saved_model.SERVING], str(path))
        self._signatures = meta.signature_def

    def prepared(self, signature: str, inputs: dict[str, Any]) -> tuple[dict[str, str], dict[str, Any]]:
        """Return what to fetch and to feed for JSON values."""
        about = self._signatures[signature]
        feeds = {}
        for name, values in inputs.items():
            spec = about.inputs[name]
            kind = object if spec.dtype == tf.string.as_datatype_enum else tf.dtypes.as_dtype(spec.dtype).as_numpy_dtype
            array = np.array(raw(values), kind)
            feeds[spec.name] = array if values else array.reshape([0] * len(spec.tensor_shape.dim))
        return {name: spec.name for name, spec in about.outputs.items()}, feeds

    def run(self, fetches: dict[str, str], feeds: dict[str, Any]) -> dict[str, Any]:
        """Return the outputs as Python values by name."""
        return {name: value.tolist() for name, value in self._session.run(fetches, feeds).items()}


def raw(value: Any) -> Any:
    """Convert a JSON value as TensorFlow Serving's REST API does: {"b64": ...} holds bytes."""
    if isinstance(value, list):
        return [raw(each) for each in value]
    return base64.b64decode(value["b64"]) if isinstance(value, dict) else value


def plain(value: Any) -> Any:
    """Convert a value to JSON; bytes that are not UTF-8 as {"b64": ...}."""
    if isinstance(value, list):
        return [plain(each) for each in value]
    if not isinstance(value, bytes):
        return value
    try:
        return value.decode()
    except UnicodeDecodeError:
        return {"b64": base64.b64encode(value).decode()}


def distance(wanted: Any, found: Any) -> float:
    """Return the largest difference of floats, relative to those beyond 1; infinity where anything else differs."""
    if isinstance(wanted, list) and isinstance(found, list) and len(wanted) == len(found):
        return max((distance(a, b) for a, b in zip(wanted, found)), default=0.0)  # noqa: B905 (lengths are equal)
    if isinstance(wanted, float) and isinstance(found, float):
        # NaN differs from everything.
        return abs(wanted - found) / max(1.0, abs(wanted)) if abs(wanted - found) < float("inf") else float("inf")
    return 0.0 if type(wanted) is type(found) and wanted == found else float("inf")


def speed(model: Model, golden: list[dict[str, Any]], seconds: float) -> dict[str, float]:
    """Time one row alone, and the golden rows as a batch, each for a number of seconds at most."""
    batches = [r["inputs"] for r in golden if r["signature_name"] == "serving_default"]
    one, many = batches[1], batches[-1]
    alone, together = (_times(model, *model.prepared("serving_default", inputs), seconds) for inputs in (one, many))
    return {
        "first_ms": 1e3 * alone[0],
        "p50_ms": 1e3 * statistics.median(alone),
        "p99_ms": 1e3 * float(np.quantile(alone, 0.99)),
        "rows_per_second": len(next(iter(many.values()))) / statistics.median(together),
    }


def _times(model: Model, fetches: dict[str, str], feeds: dict[str, Any], seconds: float) -> list[float]:
    times: list[float] = []
    while len(times) < 3 or (sum(times) < seconds and len(times) < 200):
        start = time.perf_counter()
        model.run(fetches, feeds)
        times.append(time.perf_counter() - start)
    return times


def main() -> None:
    """Replay the versions named by the command line or on stdin."""
    tf.get_logger().setLevel("ERROR")
    given = sys.argv[1:]
    seconds = float(given.pop(0).split("=")[1]) if given[:1] and given[0].startswith("--seconds=") else 1.0
    for line in given or sys.stdin:
        try:
            found = replay(Path(line.rstrip("\n")), seconds)
        except Exception as error:  # whatever a server would fail with
            found = {"error": f"{type(error).__name__}: {str(error).strip()[:2000]}"}
        assert not any(name.split(".")[0] == "kbert" for name in sys.modules)
        print(json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
