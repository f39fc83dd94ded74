"""Put a server together: versions, queue, limits, and the addresses that it answers at.

In: the flags of `kbert serve`, checked, and a listening socket. Out: an exit code, once a signal has ended it.
"""

import gc
import importlib.util
import logging
import socket
from pathlib import Path

from kbert.errors import DataError
from kbert.server.batching import Batcher
from kbert.server.metrics import Metrics
from kbert.server.options import ServeFlags
from kbert.server.run import run
from kbert.server.saved_model import Model
from kbert.server.service import Limits, Service
from kbert.server.versions import Versions
from kbert.server.warmup import WARMUP, warm

MB = 1 << 20
log = logging.getLogger("kbert.server")


def serve(
    options: ServeFlags, directory: Path, wanted: tuple[int, ...], labels: dict[str, int], listening: socket.socket
) -> int:
    """Load the model and serve it; return the exit code.

    Raises:
        DataError: no version can be loaded.
    """
    gc.collect()
    gc.freeze()  # what is imported is not looked through when a retired version is collected
    name = options.model_name or directory.resolve().name
    versions = Versions(directory, name, loaded, wanted, labels)
    versions.poll()
    if not versions.available():
        raise DataError(f"--export_dir={directory}: {versions.statuses(name)[0][2]}")
    metrics = Metrics()
    batcher = Batcher(options.batch_tokens, options.batch_delay_ms / 1000, options.max_queue, options.batch_threads, metrics)
    limits = Limits(options.max_body_mb * MB, options.max_waiting_mb * MB, options.max_rows, options.timeout)
    versions.watch(options.poll_seconds)
    grpc_address = ""
    if options.grpc_port and importlib.util.find_spec("tensorflow_serving") is not None:
        grpc_address = f"{f'[{options.host}]' if ':' in options.host else options.host}:{options.grpc_port}"
    host, port = listening.getsockname()[:2]

    def ready() -> None:
        grpc = f"gRPC at {grpc_address}" if grpc_address else "no gRPC (--grpc_port, tensorflow-serving-api)"
        print(f"serving {name} at http://{host}:{port}/v1/models/{name}; {grpc}; a page at http://{host}:{port}/", flush=True)

    try:
        run(Service(versions, batcher, limits, metrics), listening, grpc_address, ready)
    finally:
        versions.close()
        batcher.close()
    print("stopped", flush=True)
    return 0


def loaded(path: Path) -> Model:
    """Load a version, and warm it up before requests reach it."""
    model = Model(path)
    warm(model, path / "assets.extra" / WARMUP)
    return model
