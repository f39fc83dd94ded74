"""Functions as TensorFlow graphs, traced without AutoGraph, and what XLA is to compile of them.

AutoGraph reads the source of every function it meets for Python's `if` and `for` over tensors. kbert writes none,
and the reading took more than a third of the time that a command needs before its first step.
"""

import functools
from collections.abc import Sequence
from typing import Any

import numpy as np
import tensorflow as tf

WORTH_COMPILING = 1_000_000  # weights; compiling takes seconds, which a training step of fewer does not give back

# `tf.function` but for AutoGraph, as a decorator with or without arguments.
function = functools.partial(tf.function, autograph=False)
# Decorates a function that builds a `tf.data.Dataset`: what it gives to `map` and `flat_map` is traced as it is written.
builds_dataset = tf.autograph.experimental.do_not_convert


def worth_compiling(variables: Sequence[Any]) -> bool:
    """Whether XLA is to compile parts of a training step: for many weights, on a CPU that trains alone.

    Asked within the scope of the run's strategy.
    """
    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    on_cpu = not tf.config.list_logical_devices("GPU") and not tf.config.list_logical_devices("TPU")
    return alone and on_cpu and sum(int(np.prod(v.shape)) for v in variables) >= WORTH_COMPILING
