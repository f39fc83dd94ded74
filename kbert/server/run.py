"""Run the servers of one model until a signal: REST under uvicorn, gRPC beside it.

In: a `Service`, sockets and addresses. Out: when both have stopped; what was asked before the signal has been answered.
"""

import asyncio
import contextlib
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import uvicorn

from kbert.errors import UsageError
from kbert.interruption import handled
from kbert.server.rest import application
from kbert.server.service import Service

GRACE = 30  # seconds for what is being answered when the server stops
KEEP_ALIVE = 75  # seconds; a connection closed just as its client asks again loses that request


class _Server(uvicorn.Server):
    """Uvicorn's server, which leaves signals to `run`: its own handling ends the process with the signal's exit code."""

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


def run(service: Service, listening: socket.socket, grpc_address: str, ready: Callable[[], None]) -> None:
    """Serve until Ctrl-C or SIGTERM; a second signal ends at once.

    Args:
        service: the model.
        listening: bound, for REST.
        grpc_address: host:port of gRPC, empty for none.
        ready: called when both answer.
    """
    config = uvicorn.Config(
        application(service),
        http="h11",  # it bounds the size of headers
        ws="none",
        lifespan="off",
        log_config=None,  # uvicorn's own closes the handlers of the program that it runs in
        log_level="warning",
        access_log=False,
        timeout_keep_alive=KEEP_ALIVE,
        timeout_graceful_shutdown=GRACE,
    )
    server = _Server(config)

    def stop(_: int) -> None:
        server.force_exit = server.should_exit
        server.should_exit = True

    with handled(stop, (signal.SIGINT, signal.SIGTERM)):
        asyncio.run(_serve(server, service, listening, grpc_address, ready))


async def _serve(
    server: _Server, service: Service, listening: socket.socket, grpc_address: str, ready: Callable[[], None]
) -> None:
    grpc: Any = None
    if grpc_address:
        from kbert.server import grpc_service

        try:
            grpc = await grpc_service.start(service, grpc_address)
        except RuntimeError as error:
            raise UsageError(f"--grpc_port: {grpc_address} cannot be listened on: {error}") from None
    serving = asyncio.create_task(server.serve(sockets=[listening]))
    while not server.started and not serving.done():
        await asyncio.sleep(0.01)
    if not serving.done():
        ready()
    try:
        await serving
    except OSError as error:
        raise UsageError(f"--port={listening.getsockname()[1]}: {error.strerror}") from None
    if grpc is not None:
        await grpc.stop(GRACE)
