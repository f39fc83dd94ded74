"""The flags of `kbert serve`, and the checks that cost nothing. No TensorFlow."""

import socket
from dataclasses import dataclass
from pathlib import Path

from kbert.errors import DataError, UsageError
from kbert.server.versions import numbers
from kbert.settings import flag


@dataclass(frozen=True, kw_only=True)
class ServeFlags:
    export_dir: str = flag(help="Directory of versions that kbert export wrote, for example savedmodels/NAME.")
    model_name: str = flag("", help="Name in /v1/models/NAME.", otherwise="the directory's")
    host: str = flag("127.0.0.1", help="Address to listen on; 0.0.0.0 for all networks of the machine.")
    port: int = flag(8501, help="Port of REST and the page; 0 for any free one.", low=0, high=65535)
    grpc_port: int = flag(8500, help="Port of gRPC, if tensorflow-serving-api is installed; 0 for none.", low=0, high=65535)
    versions: tuple[str, ...] = flag((), help="Versions to serve, as 1,2.", otherwise="the newest")
    version_labels: tuple[str, ...] = flag((), help="Labels of versions, as stable:1,canary:2.")
    poll_seconds: float = flag(1.0, help="Seconds between looks for new versions.", low=0.01, high=3600)
    batch_tokens: int = flag(2048, help="Tokens, padding included, of requests that are answered together.", low=1)
    batch_delay_ms: float = flag(0.0, help="Time that a request waits for others to join it.", low=0, high=1000)
    batch_threads: int = flag(
        2, help="Batches that run at once, so that a long one does not hold up the others.", low=1, high=256
    )
    max_queue: int = flag(1000, help="Requests that may wait; more get 429 (RESOURCE_EXHAUSTED).", low=1)
    max_rows: int = flag(16384, help="Rows of a request.", low=1)
    max_body_mb: int = flag(32, help="Megabytes of a request.", low=1, high=1024)
    max_waiting_mb: int = flag(256, help="Megabytes of all requests that wait; more get 429.", low=1)
    timeout: float = flag(60.0, help="Seconds until a request must have its answer.", low=0.001)


def directory(options: ServeFlags) -> Path:
    """Return the directory of versions; raise UsageError or DataError if there is none."""
    found = Path(options.export_dir).expanduser()
    if (found / "saved_model.pb").exists():
        raise UsageError(f"--export_dir={found}: is itself an exported version; name the folder above it")
    if not found.is_dir():
        raise DataError(f"--export_dir={found}: no such directory")
    if not numbers(found):
        raise DataError(f"--export_dir={found}: has no version, a folder whose name is a number; kbert export writes one")
    name = options.model_name or found.resolve().name
    if set(name) & {"/", ":"}:
        raise UsageError(f"--model_name={name}: / and : end a name in /v1/models/NAME:predict; give another name")
    return found


def versions(options: ServeFlags) -> tuple[tuple[int, ...], dict[str, int]]:
    """Return the versions to serve, none for the newest, and the labels.

    Raises:
        UsageError: one is no version.
        DataError: the directory lacks it.
    """
    labels = {}
    for pair in options.version_labels:
        label, _, number = pair.partition(":")
        if not label or not _is_number(number):
            raise UsageError(f"--version_labels={pair}: expected LABEL:VERSION, as stable:1")
        labels[label] = int(number)
    for number in options.versions:
        if not _is_number(number):
            raise UsageError(f"--versions={number}: expected whole numbers, as 1,2")
    wanted = tuple(int(number) for number in options.versions)
    there = numbers(Path(options.export_dir).expanduser())
    for version in wanted:
        if version not in there:
            has = ", ".join(map(str, there))
            raise DataError(f"--versions={version}: --export_dir={options.export_dir} has the versions {has}")
    for label, version in labels.items():
        if version not in wanted:
            raise UsageError(f"--version_labels={label}:{version}: name the version in --versions too, or it is not loaded")
    return wanted, labels


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def listening(options: ServeFlags) -> socket.socket:
    """Return the socket of REST, bound; raise UsageError if the address cannot be had."""
    family = socket.AF_INET6 if ":" in options.host else socket.AF_INET
    # With the protocol named, asyncio sets TCP_NODELAY; without, an answer's body waits 40 ms for a delayed acknowledgement.
    found = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind((options.host, options.port))  # it listens once the model is loaded: a connection is refused until then
        return found
    except OSError as error:
        found.close()
        raise UsageError(f"--port={options.port}: cannot listen on {options.host}: {error.strerror or error}") from None
