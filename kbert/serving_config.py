"""Write TensorFlow Serving's files for exported models: `python -m kbert.serving_config --export_dirs=savedmodels/NAME`."""

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from kbert import flags, releases
from kbert.errors import DataError, UsageError
from kbert.settings import flag

ABOUT = """
Write models.config, batching.config and monitoring.config for tensorflow_model_server, and a docker-compose.yml and a
kubernetes.yaml that use them, for one or several exported models.
"""
LABEL = re.compile(r"([A-Za-z][\w-]*):([0-9]+)")
NAME = re.compile(r"[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, kw_only=True)
class ServingConfigFlags:
    export_dirs: tuple[str, ...] = flag(help="Export directories, for example savedmodels/NAME; the names are the models'.")
    output_dir: str = flag(help="Directory for the files.")
    version_labels: tuple[str, ...] = flag(
        (), help="Labels of versions, as stable:1,canary:2; only these versions are served then, of every model."
    )
    image: str = flag("tensorflow/serving:2.19.1", help="Container image.")
    max_batch_rows: int = flag(64, help="Rows of requests that are answered together.", low=1)
    batch_delay_ms: float = flag(2.0, help="How long a request waits for others.", low=0)
    replicas: int = flag(1, help="Pods in kubernetes.yaml.", low=1)


def main(argv: Sequence[str] | None = None, program: str = "python -m kbert.serving_config") -> int:
    """Run the command line `argv` of `program`; return its exit code."""
    return flags.main(program, ABOUT, argv, lambda _: (ServingConfigFlags,), run)


def run(options: ServingConfigFlags) -> int:
    """Write the files; returns the exit code."""
    labels = _labels(options.version_labels)
    models = _models(options.export_dirs)
    for name, path in models.items():
        _check(name, path, labels, options.image)
    files = {
        "models.config": _models_config(models, labels),
        "batching.config": _batching_config(options),
        "monitoring.config": 'prometheus_config {\n  enable: true\n  path: "/monitoring/prometheus/metrics"\n}\n',
    }
    files["kubernetes.yaml"] = _kubernetes(models, files, labels, options)
    files["docker-compose.yml"] = _compose(models, labels, options)
    folder = Path(options.output_dir).expanduser()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, text in files.items():
            (folder / name).write_text(text, encoding="utf-8")
    except OSError as error:
        raise DataError(f"--output_dir={folder}: cannot be written: {error.strerror}") from None
    print(f"written: {', '.join(str(folder / name) for name in sorted(files))}")
    return 0


def _labels(given: Sequence[str]) -> dict[str, int]:
    found: dict[str, int] = {}
    for each in given:
        match = LABEL.fullmatch(each)
        if match is None or match[1] in found:
            raise UsageError(f"--version_labels={','.join(given)}: expected LABEL:VERSION, each label once; found {each!r}")
        found[match[1]] = int(match[2])
    return found


def _models(given: Sequence[str]) -> dict[str, Path]:
    found: dict[str, Path] = {}
    for each in given:
        path = Path(each).expanduser().resolve()
        if not NAME.fullmatch(path.name):
            raise UsageError(f"--export_dirs: {each}: a model's name has letters, digits, _, - and . alone")
        if path.name in found:
            raise UsageError(f"--export_dirs: two models are named {path.name}")
        if (path / "saved_model.pb").exists():
            raise UsageError(f"--export_dirs: {each} is itself an exported version; name the folder above it")
        if not _versions(path):
            raise UsageError(f"--export_dirs: {each} has no exported version; kbert export writes them")
        found[path.name] = path
    return found


def _versions(path: Path) -> list[int]:
    return sorted(int(p.parent.name) for p in path.glob("*/saved_model.pb") if re.fullmatch(r"[0-9]+", p.parent.name))


def _check(name: str, path: Path, labels: dict[str, int], image: str) -> None:
    """Raise UsageError if a labelled version is missing, or the image's release lacks operations of a version."""
    there = _versions(path)
    for label, version in labels.items():
        if version not in there:
            raise UsageError(f"--version_labels: {label}:{version}: {name} has the versions {', '.join(map(str, there))}")
    tag = re.search(r":(\d+\.\d+)(?:\.\d+)?(?:-[\w.-]+)?$", image)
    for version in set(labels.values()) or {there[-1]}:
        report = path / str(version) / "assets.extra" / "export_report.json"
        if tag is None or not report.exists():
            continue
        oldest = json.loads(report.read_text(encoding="utf-8"))["tf_serving"]["oldest"]
        if oldest in releases.RELEASES and tuple(map(int, tag[1].split("."))) < tuple(map(int, oldest.split("."))):
            raise UsageError(f"--image={image}: {name}/{version} needs TensorFlow Serving {oldest} or newer")


def _models_config(models: dict[str, Path], labels: dict[str, int]) -> str:
    versions = "".join(f"        versions: {version}\n" for version in sorted(set(labels.values())))
    policy = f"    model_version_policy {{\n      specific {{\n{versions}      }}\n    }}\n" if labels else ""
    policy += "".join(
        f'    version_labels {{\n      key: "{label}"\n      value: {version}\n    }}\n' for label, version in labels.items()
    )
    platform = '    model_platform: "tensorflow"\n'
    each = (f'  config {{\n    name: "{name}"\n    base_path: "/models/{name}"\n{platform}{policy}  }}\n' for name in models)
    return f"model_config_list {{\n{''.join(each)}}}\n"


def _batching_config(options: ServingConfigFlags) -> str:
    """Texts are strings [rows], so that batches need no padding; the graph sorts them by length, and takes any number."""
    return (
        f"max_batch_size {{ value: {options.max_batch_rows} }}\n"
        f"batch_timeout_micros {{ value: {round(1000 * options.batch_delay_ms)} }}\n"
        "max_enqueued_batches { value: 100 }\n"
    )


def _arguments(labels: dict[str, int]) -> list[str]:
    return [
        "--model_config_file=/config/models.config",
        "--monitoring_config_file=/config/monitoring.config",
        "--enable_batching=true",
        "--batching_parameters_file=/config/batching.config",
        # The server refuses labels of versions that it has not loaded yet, at its start too.
        *(["--allow_version_labels_for_unavailable_models=true"] if labels else []),
    ]


def _ready(models: dict[str, Path]) -> list[str]:
    """Return a command that fails until every model answers; the image has bash and no curl."""
    asks = " && ".join(
        f"exec 3<>/dev/tcp/127.0.0.1/8501 && printf 'GET /v1/models/{name} HTTP/1.0\\r\\n\\r\\n' >&3 && grep -q AVAILABLE <&3"
        for name in models
    )
    return ["bash", "-c", asks]


def _list(values: Sequence[str], indent: int) -> str:
    """Return a YAML list; JSON's strings are YAML's."""
    return "".join(f"{' ' * indent}- {json.dumps(value, ensure_ascii=False)}\n" for value in values)


def _compose(models: dict[str, Path], labels: dict[str, int], options: ServingConfigFlags) -> str:
    # "$" begins a variable in a compose file.
    mounts = [f"{path}:/models/{name}:ro".replace("$", "$$") for name, path in models.items()]
    return f"""services:
  serving:
    image: {json.dumps(options.image)}
    command:
{_list(_arguments(labels), 6)}    ports:
      - "8500:8500"
      - "8501:8501"
    volumes:
      - "./:/config:ro"
{_list(mounts, 6)}    healthcheck:
      test:
{_list(["CMD", *_ready(models)], 8)}      interval: 10s
      timeout: 5s
      retries: 30
    restart: unless-stopped
"""


def _kubernetes(models: dict[str, Path], files: dict[str, str], labels: dict[str, int], options: ServingConfigFlags) -> str:
    data = "".join(
        f"  {name}: |\n" + "".join(f"    {line}\n" for line in text.splitlines()) for name, text in sorted(files.items())
    )
    probe = f"exec:\n              command:\n{_list(_ready(models), 16)}"
    return f"""# The claim `models` holds the export directories: {", ".join(models)}.
apiVersion: v1
kind: ConfigMap
metadata:
  name: serving-config
data:
{data}---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: serving
spec:
  replicas: {options.replicas}
  selector:
    matchLabels:
      app: serving
  template:
    metadata:
      labels:
        app: serving
      annotations:
        prometheus.io/scrape: "true"
        prometheus.io/port: "8501"
        prometheus.io/path: /monitoring/prometheus/metrics
    spec:
      containers:
        - name: serving
          image: {json.dumps(options.image)}
          args:
{_list(_arguments(labels), 12)}          ports:
            - name: grpc
              containerPort: 8500
            - name: rest
              containerPort: 8501
          startupProbe:
            {probe}            periodSeconds: 5
            timeoutSeconds: 5
            failureThreshold: 120
          readinessProbe:
            {probe}            periodSeconds: 10
            timeoutSeconds: 5
          livenessProbe:
            tcpSocket:
              port: rest
            periodSeconds: 10
          volumeMounts:
            - name: config
              mountPath: /config
            - name: models
              mountPath: /models
              readOnly: true
      volumes:
        - name: config
          configMap:
            name: serving-config
        - name: models
          persistentVolumeClaim:
            claimName: models
            readOnly: true
---
apiVersion: v1
kind: Service
metadata:
  name: serving
spec:
  selector:
    app: serving
  ports:
    - name: grpc
      port: 8500
    - name: rest
      port: 8501
"""


if __name__ == "__main__":
    sys.exit(main())
