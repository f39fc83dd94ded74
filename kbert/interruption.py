"""Handle Ctrl-C and SIGTERM: as errors that every `finally` sees, or as notes on which a training run acts between steps.

Signals are delivered only to a process's main thread; in other threads nothing changes. Signals ignored by the user's shell, as
Ctrl-C is for background jobs, stay ignored.
"""

import contextlib
import os
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

T = TypeVar("T")
SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interrupted(KeyboardInterrupt):
    """A command was ended by a signal.

    Attributes:
        exit_code: 130 for Ctrl-C, 143 for SIGTERM, as in shells.
    """

    def __init__(self, number: int = signal.SIGINT, message: str | None = None):
        super().__init__(message or ("terminated" if number == signal.SIGTERM else "interrupted"))
        self.number = number
        self.exit_code = 128 + number


@contextlib.contextmanager
def handled(handler: Callable[[int], None], numbers: tuple[int, ...] = SIGNALS) -> Iterator[None]:
    """Handle signals in a block, in this process but not in its forks."""
    owner = os.getpid()

    def handle(number: int, _: Any) -> None:
        if os.getpid() == owner:
            handler(number)
        else:
            signal.signal(number, signal.SIG_DFL)
            os.kill(os.getpid(), number)

    former = {}
    if threading.current_thread() is threading.main_thread():
        former = {number: signal.getsignal(number) for number in numbers}
    former = {number: found for number, found in former.items() if found not in (signal.SIG_IGN, None)}
    for number in former:
        signal.signal(number, handle)
    try:
        yield
    finally:
        for number, found in former.items():
            signal.signal(number, found)


def _is_ours(handler: Any) -> bool:
    """Whether a signal's handler is one of `handled`."""
    return getattr(handler, "__module__", None) == __name__


def raised(number: int) -> None:
    """Raise Interrupted wherever the program is; a handler."""
    raise Interrupted(number)


class Notes:
    """Records the first signal in a block as a note, and raises the next one as an error.

    Attributes:
        number: the signal received; None if there was none.
    """

    def __init__(self) -> None:
        self.number: int | None = None
        self._at_once = False

    @contextlib.contextmanager
    def taken(self) -> Iterator[None]:
        """Record signals in a block: those that raise an error in this process anyway.

        A program that uses kbert and is ended by SIGTERM, or that handles Ctrl-C in a way of its own, stays so.
        """
        handlers = ((number, signal.getsignal(number)) for number in SIGNALS)
        raising = [n for n, found in handlers if found is signal.default_int_handler or _is_ours(found)]
        with handled(self._take, tuple(raising)):
            yield

    def interruptible(self, call: Callable[[], T]) -> T | None:
        """Return the result of a long computation without side effects; None, and the signal noted, if interrupted."""
        self._at_once = True
        try:
            return call() if self.number is None else None
        except Interrupted as end:
            if self.number is not None:  # the second signal
                raise
            self.number = end.number
            return None
        finally:
            self._at_once = False

    def _take(self, number: int) -> None:
        if self._at_once or self.number is not None:
            raise Interrupted(number)
        self.number = number
        # Not through Python's streams, which may be in use.
        os.write(2, b"\nwriting a checkpoint after this step; interrupt again to end at once\n")
