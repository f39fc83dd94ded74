"""Lock a directory while one process writes there; the lock ends with the process, however that ends.

In: the lock file's path. Out: the lock, or who holds it. The file names its holder for messages only; what counts is the
kernel's lock on it (flock), which a killed process releases and an empty or old file does not hold.
"""

import contextlib
import fcntl
import json
import logging
import os
import socket
import time
from pathlib import Path
from typing import IO

log = logging.getLogger(__name__)


class Held(Exception):
    """Another process holds the lock; the text says which and since when."""


class Lock:
    """A lock held from construction until `release`, or the end of a `with` block.

    Args:
        path: the lock file, in an existing directory; it remains, empty when nobody holds it.

    Raises:
        Held: another process, or another lock of this one, holds it.
        OSError: the file cannot be written.
    """

    def __init__(self, path: Path):
        self._file = open(path, "a+b", buffering=0)  # noqa: SIM115  (held until `release`)
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with self._file:
                raise Held(_holder(self._file)) from None
        except OSError as error:
            log.warning("%s: cannot be locked (%s); make sure that no other process writes here", path, error.strerror)
        name = {"host": socket.gethostname(), "process": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S %z")}
        self._write(json.dumps(name).encode())

    def release(self) -> None:
        """Release the lock."""
        with self._file:
            self._write(b"")

    def _write(self, text: bytes) -> None:
        with contextlib.suppress(OSError):  # on a full disk the lock still holds, without a name
            self._file.truncate(0)
            self._file.write(text)

    def __enter__(self) -> "Lock":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()


def _holder(file: IO[bytes]) -> str:
    """Return who holds a lock, from its file, which may be about to be written."""
    file.seek(0)
    try:
        found = json.load(file)
        return f"process {found['process']} on {found['host']}, since {found['since']}"
    except (ValueError, KeyError, TypeError):
        return "another process"
