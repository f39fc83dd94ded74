"""What REST and gRPC share: find the model, check the inputs, wait in the queue, count.

In: a model's name and version, a signature's name, and a way to make its arrays. Out: its outputs.
"""

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np

from kbert.server.batching import Batcher
from kbert.server.metrics import Metrics
from kbert.server.saved_model import Model, Signature
from kbert.server.status import Status
from kbert.server.versions import Versions

T = TypeVar("T")


@dataclass(frozen=True)
class Limits:
    """What a server takes.

    Attributes:
        body: bytes of a request.
        waiting: bytes of all requests that are being read or answered.
        rows: of a request.
        seconds: until a request must have its answer.
    """

    body: int
    waiting: int
    rows: int
    seconds: float


@dataclass(frozen=True)
class Asked:
    """Which model a request wants."""

    name: str
    version: int | None = None
    label: str | None = None
    signature: str = ""


class Service:
    """One model, served.

    Attributes:
        large: held while a large document is parsed and its inputs are made: one of many empty lists takes 25 times its bytes.
    """

    def __init__(self, versions: Versions, batcher: Batcher, limits: Limits, metrics: Metrics):
        self.versions, self.limits, self.metrics = versions, limits, metrics
        self._batcher = batcher
        self._held = 0
        self.large = asyncio.Lock()
        metrics.version.set_function(lambda: max(versions.available(), default=0))

    @contextlib.contextmanager
    def model(self, asked: Asked) -> Iterator[Model]:
        """Give the model that is asked for; it stays loaded within the block."""
        with self.versions.use(asked.name, asked.version, asked.label) as found:
            yield found

    async def run(
        self,
        asked: Asked,
        arrays: Callable[[Signature], dict[str, np.ndarray]],
        answer: Callable[[Model, Any, int], T],
        size: int,
        made: Callable[[], Awaitable[None]] | None = None,
    ) -> T:
        """Answer a request.

        Args:
            asked: the model.
            arrays: makes the inputs; it knows the signature.
            answer: makes what is sent back of the model, the outputs and the number of rows.
            size: bytes of the request; where it or the answer is large, they are converted in a thread, beside other requests.
            made: called once the inputs are made.

        Raises:
            Status: it cannot be answered.
        """
        with self.model(asked) as model:
            signature = model.signature(asked.signature)
            inputs = await self.apart(size, lambda: arrays(signature))
            if made is not None:
                await made()
            rows = signature.check(inputs)
            if rows > self.limits.rows:
                raise Status(
                    "INVALID_ARGUMENT", f"{rows} rows in one request; this server takes at most {self.limits.rows} (--max_rows)"
                )
            future = self._batcher.submit(signature, inputs, rows, self.limits.seconds)
            try:
                outputs = await asyncio.wait_for(asyncio.wrap_future(future), self.limits.seconds)
            except TimeoutError:
                raise Status("DEADLINE_EXCEEDED", f"No answer within {self.limits.seconds:g} s (--timeout)") from None
            size = max(size, 8 * sum(value.size for value in outputs.values()))
            return await self.apart(size, lambda: answer(model, outputs, rows))

    async def apart(self, size: int, make: Callable[[], T]) -> T:
        """Call a function, in a thread where a request is large."""
        return make() if size < 50_000 else await asyncio.to_thread(make)

    @contextlib.contextmanager
    def held(self) -> Iterator[Callable[[int], None]]:
        """Count the bytes of a request while it is answered: call what is given with each further number of them.

        Raises:
            Status: by the call, if the request, or all of them, hold too many.
        """
        own = 0

        def more(size: int) -> None:
            nonlocal own
            own += size
            self._held += size
            if own > self.limits.body:
                raise Status(
                    "INVALID_ARGUMENT", f"The request is larger than {self.limits.body} bytes (--max_body_mb)", http=413
                )
            if self._held > self.limits.waiting:
                raise Status("RESOURCE_EXHAUSTED", "The requests that wait hold too many bytes; try again later")

        try:
            yield more
        finally:
            self._held -= own

    async def counted(self, api: str, answer: Awaitable[T]) -> T:
        """Wait for an answer, and record its time and outcome."""
        start, code = time.perf_counter(), "OK"
        try:
            return await answer
        except Status as error:
            code = error.code
            raise
        except BaseException:
            code = "INTERNAL"
            raise
        finally:
            self.metrics.requests.labels(api, code).inc()
            self.metrics.seconds.labels(api).observe(time.perf_counter() - start)
