"""The tasks by name: their options, how they read rows, and their classes, which load TensorFlow; imported when asked for.

A task's options are a frozen dataclass, `kbert.tasks.NAME.options`: what the task adds to the flags that all tasks share.
They are part of the model (changing one after training would change predictions) and are stored in its `config.json`.
What all of them have is `kbert.tasks.options.TaskOptions`.
"""

import importlib
from typing import TYPE_CHECKING

from kbert.config import ModelConfig
from kbert.errors import UsageError
from kbert.settings import from_json
from kbert.tasks.answer.options import AnswerOptions
from kbert.tasks.aspect.options import AspectOptions
from kbert.tasks.classify.options import ClassifyOptions
from kbert.tasks.match.options import MatchOptions
from kbert.tasks.options import TaskOptions
from kbert.tasks.pretrain.options import PretrainOptions
from kbert.tasks.tag.options import TagOptions

if TYPE_CHECKING:
    from kbert.tasks.adoption import Adopt
    from kbert.tasks.base import Storable, Task
    from kbert.tasks.rows import TaskRows

# Fine-tuned on tables; the order is that of the flags' help.
OPTIONS: dict[str, type[TaskOptions]] = {
    "classify": ClassifyOptions,
    "tag": TagOptions,
    "answer": AnswerOptions,
    "match": MatchOptions,
    "aspect": AspectOptions,
}

# Of all models that a directory can hold.
RECORDED: dict[str, type[TaskOptions]] = {**OPTIONS, "pretrain": PretrainOptions}
DEFAULT = next(iter(OPTIONS))  # of --task
# Tasks with heads that other toolkits have too, of which models can be made without training.
ADOPTING = ("classify", "tag", "answer", "match", "pretrain")


def named(name: str) -> str:
    """Return the name of a task that learns from tables, checked.

    Raises:
        UsageError: there is no such task; the message names the one meant, where other toolkits have that name.
    """
    if name in OPTIONS:
        return name
    meant = next((own for own, kind in RECORDED.items() if name.lower() in (own, *kind.ALSO)), None)
    hint = "" if meant is None else f"; here it is --task={meant}" if meant in OPTIONS else f"; that is kbert {meant}"
    raise UsageError(f"--task={name}: no such task{hint}. The tasks are:\n{about_tasks()}")


def about_tasks() -> str:
    """Return what each task does, a line each."""
    width = max(map(len, OPTIONS))
    return "\n".join(f"  {name:<{width}}  {kind.ABOUT}" for name, kind in OPTIONS.items())


def task_of(options: TaskOptions) -> str:
    """Return the name of the task that options are of."""
    return next(name for name, kind in RECORDED.items() if isinstance(options, kind))


def options_of(model: ModelConfig) -> TaskOptions:
    """Return the options of a model."""
    options: TaskOptions = from_json(RECORDED[model.task], model.options, "options")
    return options


def task_class(name: str) -> "type[Storable]":
    """Import the class of a task named in `RECORDED`."""
    found: type[Storable] = importlib.import_module(f"kbert.tasks.{name}.task").TASK
    return found


def fine_tuned(name: str) -> "type[Task]":
    """Import the class of a task that learns from tables and is measured on them.

    Raises:
        UsageError: it is `pretrain`.
    """
    _check_rows(name)
    found: type[Task] = importlib.import_module(f"kbert.tasks.{name}.task").TASK
    return found


def rows_of(name: str) -> "type[TaskRows]":
    """Import the class that reads a task's rows, without TensorFlow.

    Raises:
        UsageError: it is `pretrain`.
    """
    _check_rows(name)
    found: type[TaskRows] = importlib.import_module(f"kbert.tasks.{name}.rows").ROWS
    return found


def adopter(name: str) -> "Adopt":
    """Import the function that says how a task in `ADOPTING` serves another toolkit's checkpoint, without TensorFlow."""
    found: Adopt = importlib.import_module(f"kbert.tasks.{name}.adopted").adopt
    return found


def _check_rows(name: str) -> None:
    if name not in OPTIONS:
        raise UsageError("a pre-trained model is measured on text that was held out: see its metrics.json (kbert.pretrain)")
