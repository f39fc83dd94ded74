"""Show progress: a bar on a terminal; in a file or pipe, a line every half minute."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from tqdm.auto import tqdm  # a widget in a notebook

T = TypeVar("T")
EVERY = 30.0  # seconds between two lines
COUNTED = "{desc}: {unit} {n_fmt} of {total_fmt} ({percentage:.0f} %){postfix}, {rate_fmt}, {remaining} left"
SCALED = "{desc}: {n_fmt}{unit} of {total_fmt}{unit} ({percentage:.0f} %){postfix}, {rate_fmt}, {remaining} left"
OPEN = "{desc}: {n_fmt} {unit}{postfix}, {rate_fmt}, {elapsed} so far"


class Progress:
    """A bar or lines on stderr, from construction to the end of a `with` block.

    Args:
        total: total units; None if not known.
        desc: the activity, such as "reading x.tsv".
        unit: the counted unit, in the singular.
        initial: units done before.
        unit_scale: whether large numbers are shown as 1.2k, 3.4M.
        leave: whether the bar remains at the end.
        delay: seconds until the bar is shown, so that short activities show none.
        quiet: show nothing.
        figures: returns more values to show on a line; called when one is due.
        clock: returns seconds, for tests.

    Attributes:
        done: units so far.
    """

    def __init__(
        self,
        total: int | None = None,
        *,
        desc: str,
        unit: str,
        initial: int = 0,
        unit_scale: bool = False,
        leave: bool = True,
        delay: float = 1.0,
        quiet: bool = False,
        figures: Callable[[], dict[str, float]] | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        settings: dict[str, Any] = {"total": total, "unit": unit, "unit_scale": unit_scale, "initial": initial}
        self._bar = tqdm(desc=desc, leave=leave, delay=delay, disable=quiet or None, **settings)
        self._settings, self._quiet = {**settings, "prefix": desc}, quiet
        self.done, self._figures, self._clock = initial, figures, clock
        self._began = self._said = clock()

    def __enter__(self) -> "Progress":
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.close()

    def update(self, units: int = 1) -> None:
        """Count units as done."""
        self.done += units
        self._bar.update(units)
        if self._bar.disable and not self._quiet and self._clock() >= self._said + EVERY:
            self._said = self._clock()
            print(self._line(self._said - self._began), file=sys.stderr, flush=True)

    def show(self, figures: dict[str, float]) -> None:
        """Show figures beside a bar; lines get theirs from `figures`."""
        if not self._bar.disable:
            self._bar.set_postfix(figures, refresh=False)

    def _line(self, elapsed: float) -> str:
        figures = {} if self._figures is None else self._figures()
        form = (SCALED if self._settings["unit_scale"] else COUNTED) if self._settings["total"] else OPEN
        postfix = ", ".join(f"{name} {value:.4f}" for name, value in figures.items()) or None
        line = tqdm.format_meter(self.done, elapsed=elapsed, bar_format=form, postfix=postfix, **self._settings)
        return " ".join(str(line).split())


def over(values: Iterable[T], *, desc: str, unit: str, total: int | None = None, leave: bool = True) -> Iterator[T]:
    """Iterate over values, counting them."""
    with Progress(total, desc=desc, unit=unit, leave=leave) as progress:
        for value in values:
            yield value
            progress.update()


def write(text: str) -> None:
    """Print a line on stdout immediately, beside a bar."""
    tqdm.write(text)
    sys.stdout.flush()
