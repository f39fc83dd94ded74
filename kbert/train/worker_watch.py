"""Ends this process when another worker of its job is gone, whatever it is doing then.

In: the workers' names. Out: a thread that asks each of them, by the network, whether it is there. A worker that was killed
would else be missed only at the next training step, and by a worker that measures or writes perhaps an hour later.
"""

import logging
import os
import threading
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.python.eager import context

from kbert.errors import KbertError

log = logging.getLogger(__name__)

PAUSE = 3  # seconds between two questions
PATIENCE = 10  # seconds that an answer may take
ATTEMPTS = 3  # questions without an answer, and a worker is gone: 12 s after it was killed, 42 after its machine was cut off


def lost(what: str) -> KbertError:
    """Return the error that ends a job of several workers, which continues when all are started again."""
    return KbertError(f"{what}; this one ends too. Run the same command on all to continue from the last checkpoint")


class WorkerWatch:
    """Watches until it is stopped.

    TensorFlow watches too, but only interrupts what workers compute together, and only after 30 seconds or more.

    Args:
        peers: TensorFlow's names of the other workers, such as `/job:worker/replica:0/task:1`.
    """

    def __init__(self, peers: Sequence[str]):
        self.peers = peers
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Stop watching: the others may go now."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(PAUSE):
            for peer in self.peers:
                if self._gone(peer):
                    log.error("%s", lost(f"worker {peer} is gone"))
                    os._exit(1)  # the main thread may be in the middle of anything

    def _gone(self, peer: str) -> bool:
        return all(not _answers(peer) and not self._stopped.wait(PAUSE) for _ in range(ATTEMPTS))


def _answers(peer: str) -> bool:
    """Return whether a worker's process is there, the same as when the job began."""
    try:
        context.context().check_collective_ops_peer_health(peer, timeout_in_ms=1000 * PATIENCE)
        return True
    except tf.errors.OpError:
        return False
