"""The tasks, by name; a task's module is imported only when it is asked for."""

import importlib

from kbert.errors import UsageError
from kbert.tasks.base import Kept, Task

MODULES = {name: f"kbert.tasks.{name}" for name in ("classify", "tag", "answer", "match", "aspect", "pretrain")}


def task_class(name: str) -> type[Kept]:
    """The class of a task named in `MODULES`."""
    found: type[Kept] = importlib.import_module(MODULES[name]).TASK
    return found


def fine_tuned(name: str) -> type[Task]:
    """The class of a task that learns from tables and is measured on them.

    Raises:
        UsageError: it is `pretrain`.
    """
    if name == "pretrain":
        raise UsageError("a pre-trained model is measured on text that was held out: see its metrics.json (kbert.pretrain)")
    found: type[Task] = importlib.import_module(MODULES[name]).TASK
    return found
