"""Keep what a function returns for lines of a file, most of which occur often."""

from collections.abc import Callable
from typing import Any


class Memo(dict[Any, Any]):
    """A function's results by argument: those of the first different arguments, so that memory does not grow with the data."""

    KEPT = 1 << 16  # arguments

    def __init__(self, of: Callable[[Any], Any]):
        super().__init__()
        self._of = of

    def __missing__(self, line: Any) -> Any:
        found = self._of(line)
        if len(self) < self.KEPT:
            self[line] = found
        return found
