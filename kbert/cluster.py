"""Read TF_CONFIG, the description of a job of several workers. No TensorFlow, so that errors are found fast."""

import json
import os

from kbert.config import Strategy
from kbert.errors import UsageError

FORM = '{"cluster": {"worker": ["host1:port", "host2:port"]}, "task": {"type": "worker", "index": 0}}'


def check(strategy: Strategy, batch_size: int) -> None:
    """Raise UsageError if the environment lacks what the strategy needs, or workers cannot share a batch evenly."""
    if strategy == "multi_worker":
        count = len(workers())
        if batch_size % count:
            raise UsageError(f"--batch_size={batch_size} counts the whole batch and cannot be split among {count} workers")


def workers() -> list[str]:
    """Return the workers' addresses, the chief first."""
    return _read()[0]


def is_chief(strategy: Strategy) -> bool:
    """Return whether this process is the one of its job that writes files."""
    return strategy != "multi_worker" or _read()[1]


def _read() -> tuple[list[str], bool]:
    """Return the workers' addresses, and whether this process is the chief."""
    text = os.environ.get("TF_CONFIG")
    if not text:
        raise UsageError(f"--strategy=multi_worker: the environment variable TF_CONFIG is not set; each worker needs {FORM}")
    try:
        settings = json.loads(text)
        jobs = settings["cluster"]
        addresses = [address for job in ("chief", "worker") for address in jobs.get(job, [])]
        kind, index = settings["task"]["type"], int(settings["task"]["index"])
        if kind not in ("chief", "worker") or not 0 <= index < len(jobs.get(kind, [])):
            raise UsageError(f"--strategy=multi_worker: TF_CONFIG's cluster has no {kind} {index}")
        return addresses, kind == "chief" or (index == 0 and not jobs.get("chief"))
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"--strategy=multi_worker: TF_CONFIG={text} is not of the form {FORM}") from None
