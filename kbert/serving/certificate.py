"""Certify an exported version before it is published: what it needs of a server, and that a fresh process answers the same.

In: a SavedModel on disk, and the predictor that it was written of. Out: `assets.extra/golden.jsonl`, requests of all kinds
with their answers, and `assets.extra/export_report.json`. A process with TensorFlow and its text operations alone loads the
SavedModel and replays the requests.
"""

import importlib.metadata
import json
import os
import platform
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import tensorflow as tf
from tensorflow.core.framework import types_pb2
from tensorflow.core.protobuf import saved_model_pb2

from kbert import __version__, releases
from kbert.errors import DataError
from kbert.serving import golden, replay
from kbert.serving.golden import Request
from kbert.serving.predictor import Predictor
from kbert.settings import to_json

REPORT, GOLDEN = "export_report.json", "golden.jsonl"
PACKAGES = ("tensorflow", "tensorflow-text", "keras", "keras-nlp")


def certify(version: Path, predictor: Predictor[Any], requests: list[Request], target: str | None = None) -> None:
    """Check a SavedModel, and write its report and golden requests into its `assets.extra`.

    Args:
        target: the oldest release of TensorFlow Serving that has to serve it.

    Raises:
        DataError: no release of TensorFlow Serving, or not the target, has its operations; it needs XLA; or the fresh
            process fails or answers differently.
    """
    nodes = list(_nodes(version))
    _check_xla(nodes)
    used = set(_used(nodes))
    oldest = _check_release(used, target)
    lines = golden.record(predictor, requests)
    extra = version / "assets.extra"
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (extra / GOLDEN).write_text(text, encoding="utf-8")
    found = replay_fresh(version)
    if "error" in found:
        raise DataError(f"certificate: a fresh process cannot answer the golden requests: {found['error']}")
    if found["differences"]:
        raise DataError(
            f"certificate: {found['differences']} golden answers differ in a fresh process: " + "; ".join(found["shown"])
        )
    report = {
        "model": to_json(predictor.task.config),
        "versions": {"kbert": __version__, "python": platform.python_version(), **_installed()},
        "signatures": _signatures(version),
        "tf_serving": {"oldest": oldest, "newer_than_2.12": releases.newer(used)},
        "golden": {name: found[name] for name in ("requests", "rows", "largest")},
        "speed": {
            "machine": f"{platform.machine()}, {os.cpu_count()} cores",
            **{k: round(found[k], 2) for k in SPEED if k in found},
        },
        "operations": dict(sorted(Counter(node.op for node in nodes).items())),
    }
    (extra / REPORT).write_text(json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


SPEED = ("first_ms", "p50_ms", "p99_ms", "rows_per_second")


def table(version: Path) -> str:
    """Return an exported version's report as a table; "" if it has none."""
    path = version / "assets.extra" / REPORT
    if not path.exists():
        return ""
    report = json.loads(path.read_text(encoding="utf-8"))
    rows = [("signature", "inputs", "outputs")]
    for name, signature in sorted(report["signatures"].items()):
        shown = (
            ", ".join(f"{tensor} {spec['dtype']}{spec['shape']}" for tensor, spec in signature[side].items())
            for side in ("inputs", "outputs")
        )
        rows.append((name, *shown))
    widths = [max(len(row[column]) for row in rows) for column in range(2)]
    oldest = report["tf_serving"]["oldest"]
    checked, speed = report["golden"], report["speed"]
    return "\n".join(
        [
            *(f"{a:<{widths[0]}}  {b:<{widths[1]}}  {c}" for a, b, c in rows),
            "",
            f"operations   {len(report['operations'])} kinds, which TensorFlow Serving has from {oldest} on",
            f"golden rows  {checked['rows']} in {checked['requests']} requests: a fresh process answers the same",
            *(
                [
                    f"speed        one row {speed['p50_ms']:.1f} ms (p99 {speed['p99_ms']:.1f}, first after warm-up "
                    f"{speed['first_ms']:.1f}); {speed['rows_per_second']:.0f} golden rows a second; {speed['machine']}"
                ]
                if "p50_ms" in speed
                else []
            ),
        ]
    )


def in_new_process(version: Path) -> dict[str, Any]:
    """Replay the golden requests in a process of TensorFlow and its text operations alone."""
    # -P: the program's own folder, with modules of kbert, is no place to import from.
    command = [sys.executable, "-P", str(Path(replay.__file__)), str(version.resolve())]
    done = subprocess.run(command, capture_output=True, text=True)
    try:
        found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (IndexError, ValueError):
        return {"error": f"it ended with exit code {done.returncode}: {done.stderr.strip()[-2000:]}"}
    return found


replay_fresh: Callable[[Path], dict[str, Any]] = in_new_process


def _nodes(version: Path) -> Iterator[Any]:
    """Yield all nodes of the graph and its functions, calls of functions by name left out."""
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    for graph in saved.meta_graphs:
        functions = graph.graph_def.library.function
        names = {function.signature.name for function in functions}
        for nodes in (graph.graph_def.node, *(function.node_def for function in functions)):
            yield from (node for node in nodes if node.op not in names)


def _used(nodes: list[Any]) -> Iterator[str]:
    """Yield operations, attributes and types as `kbert.releases` names them."""
    for node in nodes:
        yield node.op
        for name, value in node.attr.items():
            yield f"{node.op}.{name}"
            for number in (value.type, *value.list.type):
                if number:
                    yield f"{node.op}.{name}={types_pb2.DataType.Name(number)}"


def _check_xla(nodes: list[Any]) -> None:
    for node in nodes:
        if node.attr["_XlaMustCompile"].b or node.op.startswith("Xla"):
            raise DataError(f"certificate: {node.name} is compiled by XLA, which a stock TensorFlow Serving refuses")


def _check_release(used: set[str], target: str | None) -> str:
    oldest, needed = releases.oldest(used), releases.newer(used)
    if oldest is None:
        raise DataError(f"certificate: no release of TensorFlow Serving has {', '.join(needed[releases.NONE])}")
    wanted = releases.RELEASES.index(target) if target in releases.RELEASES else None
    if wanted is not None and releases.RELEASES.index(oldest) > wanted:
        lacking = [what for release in releases.RELEASES[wanted + 1 :] for what in needed.get(release, [])]
        raise DataError(f"--target_serving={target}: it has no {', '.join(lacking)}; the model needs {oldest} or newer")
    return oldest


def _signatures(version: Path) -> dict[str, Any]:
    saved = saved_model_pb2.SavedModel.FromString((version / "saved_model.pb").read_bytes())
    return {
        name: {
            "method": signature.method_name,
            **{
                side: {tensor: _spec(info) for tensor, info in sorted(getattr(signature, side).items())}
                for side in ("inputs", "outputs")
            },
        }
        for name, signature in sorted(saved.meta_graphs[0].signature_def.items())
        if not name.startswith("__")
    }


def _spec(info: Any) -> dict[str, Any]:
    return {"dtype": tf.dtypes.as_dtype(info.dtype).name, "shape": [dim.size for dim in info.tensor_shape.dim]}


def _installed() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in PACKAGES}
