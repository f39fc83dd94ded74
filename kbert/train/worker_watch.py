"""End this process when another worker of its job is lost, whatever it is doing.

In: the workers' names. Out: a thread that polls each of them over the network. Otherwise the loss of a
worker would be noticed only at the next training step, and by a worker that evaluates or writes perhaps an hour later.
"""

import logging
import os
import threading
from collections.abc import Sequence

import tensorflow as tf
from tensorflow.python.eager import context

from kbert.errors import KbertError

log = logging.getLogger(__name__)

PAUSE = 3  # seconds between two polls
PATIENCE = 10  # seconds to wait for an answer
ATTEMPTS = 3  # failed polls until a worker is lost: 12 s after it was killed, 42 s after its machine was cut off


def lost(what: str) -> KbertError:
    """Create the error that ends a job of several workers, which continues when all are started again."""
    return KbertError(f"{what}; this worker ends too. Run the same command on all to continue from the last checkpoint")


class WorkerWatch:
    """Watches other workers until stopped.

    TensorFlow watches too, but only interrupts collective operations, and only after 30 seconds or more.

    Args:
        peers: TensorFlow's names of the other workers, such as `/job:worker/replica:0/task:1`.
    """

    def __init__(self, peers: Sequence[str]):
        self.peers = peers
        self._stopped = threading.Event()
        threading.Thread(target=self._watch, daemon=True).start()

    def stop(self) -> None:
        """Stop watching: the others may end now."""
        self._stopped.set()

    def _watch(self) -> None:
        while not self._stopped.wait(PAUSE):
            for peer in self.peers:
                if self._gone(peer):
                    log.error("%s", lost(f"worker {peer} is gone"))
                    os._exit(1)  # the main thread may be blocked

    def _gone(self, peer: str) -> bool:
        return all(not _answers(peer) and not self._stopped.wait(PAUSE) for _ in range(ATTEMPTS))


def _answers(peer: str) -> bool:
    """Return whether a worker's process answers and is the same as at the start of the job."""
    try:
        context.context().check_collective_ops_peer_health(peer, timeout_in_ms=1000 * PATIENCE)
        return True
    except tf.errors.OpError:
        return False
