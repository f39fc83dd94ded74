"""Answer requests in batches: what waits while a batch runs is answered together, short with short, within a token budget.

In: a model's signature and a request's arrays. Out: a future with its outputs. The queue is bounded; a full one refuses.
The number of tokens of a text is estimated from its bytes (a token is about 4 bytes of ASCII, 3 of other text, which is one
Chinese character), since the tokenizer is in the graph: the estimate decides what runs together, never an answer.
"""

import logging
import threading
import time
from collections.abc import Collection, Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from kbert.server.metrics import Metrics
from kbert.server.status import Status

SPECIAL = 2  # [CLS] and [SEP]
log = logging.getLogger("kbert.server")


class Function(Protocol):
    """What runs: `kbert.server.saved_model.Signature`."""

    merges: bool

    @property
    def counted(self) -> Collection[str]:
        """The outputs that are as wide as `count` says."""

    def __call__(self, inputs: Mapping[str, np.ndarray], /) -> dict[str, np.ndarray]:
        """Return the outputs."""


@dataclass(eq=False)
class _Job:
    function: Function
    inputs: Mapping[str, np.ndarray]
    rows: int
    longest: int  # tokens of its longest row
    deadline: float
    arrived: float = field(default_factory=time.monotonic)
    future: "Future[dict[str, np.ndarray]]" = field(default_factory=Future)

    def tokens(self) -> int:
        return self.rows * self.longest


def tokens_of(text: bytes) -> int:
    """Estimate the tokens of a text."""
    return SPECIAL + len(text) // (4 if text.isascii() else 3)


def longest_row(inputs: Mapping[str, np.ndarray]) -> int:
    """Estimate the tokens of the longest row of a request."""
    total = 0
    for value in inputs.values():
        if value.dtype == object and value.ndim == 1:
            total += max(map(tokens_of, value.tolist()), default=SPECIAL)
        else:
            total += value.size // max(1, len(value) if value.ndim else 1)
    return max(1, total)


class Batcher:
    """Threads that run signatures on the requests that wait.

    Args:
        token_budget: of a batch, padding included: its rows times its longest row. A single request may exceed it; the
            model itself goes through a large batch in chunks.
        delay: seconds to wait for more requests before a batch that is not full runs.
        max_waiting: requests; one more is refused.
        threads: batches that run at once.
    """

    def __init__(self, token_budget: int, delay: float, max_waiting: int, threads: int, metrics: Metrics):
        self._budget, self._delay, self._max_waiting = token_budget, delay, max_waiting
        self._metrics = metrics
        self._waiting: list[_Job] = []  # oldest first
        self._changed = threading.Condition()
        self._closed = False
        metrics.waiting.set_function(lambda: len(self._waiting))
        self._threads = [threading.Thread(target=self._run, name=f"batch-{i}", daemon=True) for i in range(threads)]
        for thread in self._threads:
            thread.start()

    def submit(
        self, function: Function, inputs: Mapping[str, np.ndarray], rows: int, seconds: float
    ) -> "Future[dict[str, np.ndarray]]":
        """Put a request into the queue; it fails with DEADLINE_EXCEEDED if it has not begun within `seconds`.

        Raises:
            Status: the queue is full, or closed.
        """
        job = _Job(function, inputs, rows, longest_row(inputs), time.monotonic() + seconds)
        with self._changed:
            if self._closed:
                raise Status("UNAVAILABLE", "The server is stopping")
            if len(self._waiting) >= self._max_waiting:
                raise Status("RESOURCE_EXHAUSTED", f"The queue is full: {self._max_waiting} requests wait; try again later")
            self._waiting.append(job)
            self._changed.notify()
        return job.future

    def close(self) -> None:
        """Answer what waits, then end the threads."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        while jobs := self._next():
            try:
                self._answer(jobs)
            except BaseException as error:  # this thread serves all later requests
                log.exception("batch")
                for job in jobs:
                    if not job.future.done():
                        job.future.set_exception(Status("INTERNAL", f"{type(error).__name__} in the server; its log has more"))
            del jobs  # or the last batch's arrays and model live until the next

    def _next(self) -> list[_Job]:
        """Wait for a batch; empty at the end."""
        with self._changed:
            while True:
                while not self._waiting:
                    if self._closed:
                        return []
                    self._changed.wait()
                batch = self._fill()
                left = batch[0].arrived + self._delay - time.monotonic()
                full = sum(job.tokens() for job in batch) * 2 > self._budget or not batch[0].function.merges
                if left <= 0 or full or self._closed:
                    break
                self._changed.wait(left)
            taken = {id(job) for job in batch}
            self._waiting = [job for job in self._waiting if id(job) not in taken]
            return batch

    def _fill(self) -> list[_Job]:
        """Return the oldest request and those nearest to it in length, of the same function, that fit the budget."""
        first, *others = self._waiting
        if not first.function.merges or first.tokens() >= self._budget:
            return [first]
        batch, rows, longest = [first], first.rows, first.longest
        for job in sorted(
            (job for job in others if job.function is first.function), key=lambda j: abs(j.longest - first.longest)
        ):
            if (rows + job.rows) * max(longest, job.longest) <= self._budget:
                batch.append(job)
                rows, longest = rows + job.rows, max(longest, job.longest)
        return batch

    def _answer(self, jobs: list[_Job]) -> None:
        now = time.monotonic()
        live = [job for job in jobs if job.future.set_running_or_notify_cancel()]
        for job in [job for job in live if job.deadline < now]:
            job.future.set_exception(Status("DEADLINE_EXCEEDED", f"Not begun after {now - job.arrived:.1f} s in the queue"))
        live = [job for job in live if job.deadline >= now]
        if not live:
            return
        for job in live:
            self._metrics.queued.observe(now - job.arrived)
        self._metrics.batch_rows.observe(sum(job.rows for job in live))
        self._metrics.batch_requests.observe(len(live))
        try:
            outputs = live[0].function(_joined([job.inputs for job in live]))
        except Status as error:
            if len(live) == 1:
                live[0].future.set_exception(error)
                return
            # One request's fault is not the others': each alone.
            for job in live:
                try:
                    job.future.set_result(dict(job.function(job.inputs)))
                except Status as own:
                    job.future.set_exception(own)
            return
        if len(live) == 1:
            live[0].future.set_result(outputs)
            return
        at = 0
        for job in live:
            job.future.set_result(_own(outputs, job.function.counted, at, at + job.rows))
            at += job.rows


def _joined(inputs: list[Mapping[str, np.ndarray]]) -> Mapping[str, np.ndarray]:
    if len(inputs) == 1:
        return inputs[0]
    return {name: np.concatenate([each[name] for each in inputs]) for name in inputs[0]}


def _own(outputs: Mapping[str, np.ndarray], counted: Collection[str], start: int, stop: int) -> dict[str, Any]:
    """Return a request's rows of a batch's outputs, [rows, n] only as wide as the request alone would have them."""
    rows = {name: value[start:stop] for name, value in outputs.items()}
    width = int(rows["count"].max(initial=0)) if counted else 0
    return {name: value[:, :width] if name in counted else value for name, value in rows.items()}
