"""Reuse the head of the checkpoint that a run starts from, and log the outcome in one line.

In: a task with its built model, whose encoder has the checkpoint's weights; the checkpoint. Out: weights of the model's head.
"""

import logging
from typing import Any

import keras

from kbert.checkpoints import Checkpoint
from kbert.checkpoints.head import Head, Unfit
from kbert.model.encoder import Encoder
from kbert.tasks.base import Task

log = logging.getLogger(__name__)


def start(task: Task, model: keras.Model, encoder: Encoder, checkpoint: Checkpoint, init: str, *, new: bool) -> None:
    """Load the checkpoint's head if it fits, and log the outcome.

    Args:
        init: the checkpoint as given by the user, for messages.
        new: whether to start with a random head in any case.
    """
    if checkpoint.ignored:
        log.warning("--init=%s: %s belongs to a head that kbert does not have; it is set aside", init, checkpoint.ignored[0])
    head = checkpoint.head
    if head is None:
        return
    inside = {id(weight) for weight in encoder.weights}
    own = {weight.path: weight for weight in model.weights if id(weight) not in inside}
    random = "; the new head starts at random values" if own else ""
    if new:
        log.info("--new_head: the %s of --init=%s is set aside%s", head, init, random)
        return
    try:
        if not checkpoint.has_pooler and head.options.get("pooling") == "pooler":
            raise Unfit("the checkpoint has no pooler, which it reads")
        taken = task.take_head(head, checkpoint.heads())
        for path, array in taken.items():
            if array.shape != tuple(own[path].shape):
                raise Unfit(f"{path} has shape {array.shape}, and this run's {tuple(own[path].shape)}")
    except Unfit as reason:
        if head.size or head.task == task.config.task:
            log.warning("--init=%s: its %s is set aside: %s%s", init, head, reason, random)
        return
    for path, array in taken.items():
        own[path].assign(array)
    left = dict.fromkeys(path.split("/")[0] for path in own if path not in taken)
    beside = f", but for {', '.join(left)}" if left else ""
    other = _other(head, task)
    trained = f"; it was trained with {other}" if other else ""
    log.info("--init=%s: its %s is kept%s%s", init, head, beside, trained)


def _other(head: Head, task: Task) -> str:
    """List the flags of the head's original model that differ from this run's."""
    if head.task != task.config.task:
        return ""
    was: dict[str, Any] = {"max_length": head.max_length, **head.options}
    now = {"max_length": task.config.max_length, **task.config.options}
    differ = [name for name, value in now.items() if was.get(name, value) != value and not isinstance(value, list)]
    shown = [f"--{name}={was[name]} (now {now[name]})" for name in differ]
    return ", ".join(shown)
