"""Watch a directory of numbered versions: load what is to be served, switch, and unload what nobody uses any more.

In: `EXPORT_DIR`, with a child directory a version, as TensorFlow Serving reads it. Out: the model of a request, counted as
in use until the request is answered. A new version is loaded while the old one answers; then requests go to the new one.
"""

import contextlib
import ctypes
import gc
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from kbert.server.status import Status, invalid

log = logging.getLogger("kbert.server")


class Loaded(Protocol):
    """What a version is once loaded."""

    version: int


@dataclass(eq=False)
class _Version:
    number: int
    state: str = "LOADING"  # as in get_model_status.proto
    error: str = ""
    model: Any = None
    uses: int = 0
    read: list[tuple[str, float, int]] | None = None  # its files when loading failed


def numbers(directory: Path) -> list[int]:
    """Return the versions in a directory, ascending; empty if it cannot be read, as while it is moved."""
    try:
        return sorted(int(path.name) for path in directory.iterdir() if path.name.isascii() and path.name.isdigit())
    except OSError:
        return []


def contents(path: Path) -> list[tuple[str, float, int]]:
    """Return name, time and size of all files of a version."""
    try:
        stats = [(str(file), file.stat()) for file in sorted(path.rglob("*"))]
    except OSError:  # one has gone meanwhile
        return []
    return [(name, stat.st_mtime, stat.st_size) for name, stat in stats]


class Versions:
    """The versions of one model.

    Args:
        directory: holds the versions.
        name: of the model, in requests and messages.
        load: makes a model of a version's directory; any error of it is the version's, and the others stay.
        wanted: the versions to serve; if empty, the newest.
        labels: label -> version, as `stable`.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        load: Callable[[Path], Any],
        wanted: tuple[int, ...] = (),
        labels: Mapping[str, int] | None = None,
    ):
        self.directory, self.name = directory, name
        self._load, self._wanted, self._labels = load, wanted, dict(labels or {})
        self._known: dict[int, _Version] = {}
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._watcher: threading.Thread | None = None

    def poll(self) -> None:
        """Look at the directory once: load versions that are new, newest first, then retire those that are not wanted."""
        there = numbers(self.directory)
        wanted = [number for number in self._wanted if number in there] if self._wanted else there[-1:]
        for number in reversed(wanted):
            self._try(number)
        serving = {number for number, found in self._known.items() if found.state == "AVAILABLE"}
        # An older version answers until a newer one can; with none wanted (the directory is away) all stay.
        if serving & {*wanted}:
            for number in serving - {*wanted}:
                self._known[number].state = "UNLOADING"
                log.info("version %d: retired", number)
        with self._lock:
            unused = [found for found in self._known.values() if found.state == "UNLOADING" and not found.uses]
            for found in unused:
                found.state, found.model = "END", None
        if unused:
            gc.collect()  # a SavedModel's functions refer to one another
            if trim := getattr(ctypes.CDLL(None), "malloc_trim", None):
                trim(0)  # the C library keeps what is freed, unless told to return it

    def _try(self, number: int) -> None:
        known = self._known.get(number)
        read = contents(self.directory / str(number))
        if known is not None and (known.state in ("AVAILABLE", "UNLOADING") or known.read == read):
            if known.state == "UNLOADING":
                known.state = "AVAILABLE"  # a newer one has been removed again
            return
        found = _Version(number)
        with self._lock:
            self._known[number] = found
        try:
            found.model = self._load(self.directory / str(number))
        except Exception as error:
            found.state, found.read = "END", read  # tried again when a file has changed: it may have been incomplete
            found.error = f"{type(error).__name__}: {next(iter(str(error).splitlines()), '')}"[:500]
            log.error("version %d cannot be loaded: %s", number, found.error)
            return
        found.state = "AVAILABLE"
        log.info("version %d: loaded", number)

    def watch(self, seconds: float) -> None:
        """Poll in a thread of its own, until `close`."""

        def run() -> None:
            while not self._stop.wait(seconds):
                try:
                    self.poll()
                except Exception:
                    log.exception("watching %s", self.directory)  # a fault of one look must not end the watch

        self._watcher = threading.Thread(target=run, name="versions", daemon=True)
        self._watcher.start()

    def close(self) -> None:
        """Stop watching."""
        self._stop.set()
        if self._watcher is not None:
            self._watcher.join()

    def available(self) -> list[int]:
        """Return the versions that answer, ascending."""
        with self._lock:
            return sorted(number for number, found in self._known.items() if found.state == "AVAILABLE")

    def _asked(self, version: int | None, label: str | None) -> int | None:
        """Return the version that a request names, by number or by label; None for the newest."""
        if label is None:
            return version
        if label not in self._labels:
            raise invalid(f"Unrecognized servable version label: {label}")
        return self._labels[label]

    @contextlib.contextmanager
    def use(self, name: str, version: int | None = None, label: str | None = None) -> Iterator[Any]:
        """Give the model of a request: of a version, of a label, or the newest; it stays loaded within the block.

        Raises:
            Status: there is no such model, version or label.
        """
        version = self._asked(version, label)
        with self._lock:
            number = version
            if number is None:
                number = max((n for n, found in self._known.items() if found.state == "AVAILABLE"), default=-1)
            found = self._known.get(number)
            if name != self.name or found is None or found.state != "AVAILABLE":
                asked = f"Latest({name})" if version is None else f"Specific({name}, {version})"
                raise Status("NOT_FOUND", f"Servable not found for request: {asked}")
            found.uses += 1
            model = found.model
        try:
            yield model
        finally:
            del model
            with self._lock:
                found.uses -= 1

    def statuses(self, name: str, version: int | None = None, label: str | None = None) -> list[tuple[int, str, str]]:
        """Return (version, state, error) of all versions or of one, newest first.

        Raises:
            Status: there is no such model, version or label.
        """
        version = self._asked(version, label)
        with self._lock:
            found = sorted(self._known.values(), key=lambda each: -each.number) if name == self.name else []
            listed = [(each.number, each.state, each.error) for each in found if version in (None, each.number)]
        if not listed:
            which = "any versions" if version is None else f"version {version}"
            raise Status("NOT_FOUND", f"Could not find {which} of model {name}")
        return listed
