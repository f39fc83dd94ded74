"""Stop training when the loss diverges.

In: the loss of each step, as a tensor that may still be computing. Out: an error, one step later, so that
no step waits for the device.
"""

import math
from typing import Any

import numpy as np

from kbert.errors import KbertError

SPAN = 100  # window of the running level in steps; the level is not used before


class LossWatch:
    """Detects losses that are not numbers, or far above their running level.

    The level is the exponentially weighted mean, with weight 1 / `SPAN`, of the losses so far.

    Args:
        limit: stop at a loss above this many times the level; 0 for never.
    """

    def __init__(self, limit: float = 0.0):
        self.limit = limit
        self._level, self._seen = 0.0, 0
        self._pending: tuple[int, Any] | None = None

    def add(self, step: int, loss: Any) -> None:
        """Record this step's loss, and check the previous one.

        Raises:
            LossDiverged: the previous step's loss has diverged.
        """
        self.check()
        self._pending = (step, loss)

    def check(self) -> None:
        """Check the recorded loss; call this before anything is written.

        Raises:
            LossDiverged: the loss has diverged.
        """
        if self._pending is None:
            return
        (step, tensor), self._pending = self._pending, None
        loss = float(tensor)
        if not math.isfinite(loss):
            raise LossDiverged(
                step,
                step - 2,
                f"the loss is not a number at step {step}: lower --learning_rate, or train in another --precision",
            )
        if self.limit and self._seen >= SPAN and loss > self.limit * self._level:
            raise LossDiverged(
                step,
                step - 2,
                f"the loss is {loss:.4g} at step {step}, above --loss_limit={self.limit:g} times its level of "
                f"{self._level:.4g}: lower --learning_rate, or raise the limit",
            )
        self._seen += 1
        self._level += (loss - self._level) / min(self._seen, SPAN)

    def state(self) -> np.ndarray:
        """Return the state to store in a checkpoint, [2]."""
        return np.array([self._level, self._seen], np.float64)

    def restore(self, state: np.ndarray) -> None:
        self._level, self._seen = float(state[0]), int(state[1])


class LossDiverged(KbertError):
    """The loss of a run has diverged.

    Attributes:
        step: the step at which it did.
        sound: the last step whose weights are known to be good, by a later loss.
    """

    def __init__(self, step: int, sound: int, message: str):
        super().__init__(message)
        self.step, self.sound = step, sound
