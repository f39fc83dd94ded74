"""The tasks, by name; a task's module is imported only when it is asked for."""

import importlib

from kbert.tasks.base import Task

MODULES = {name: f"kbert.tasks.{name}" for name in ("classify", "tag", "answer", "match", "aspect", "pretrain")}


def task_class(name: str) -> type[Task]:
    """The class of a task named in `MODULES`."""
    module = importlib.import_module(MODULES[name])
    found: type[Task] = module.TASK
    return found
