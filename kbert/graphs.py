"""Functions as TensorFlow graphs, traced without AutoGraph, and what XLA is to compile of them.

AutoGraph reads the source of every function it meets for Python's `if` and `for` over tensors. kbert writes none,
and the reading took more than a third of the time that a command needs before its first step.
"""

import contextlib
import contextvars
import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops  # the registry of gradients has no public name
from tensorflow.python.framework.func_graph import FuncGraph  # nor has what a traced function's graph is

WORTH_COMPILING = 1_000_000  # weights; compiling takes seconds, which a training step of fewer does not give back

# `tf.function` but for AutoGraph, as a decorator with or without arguments.
function = functools.partial(tf.function, autograph=False)
# Decorates a function that builds a `tf.data.Dataset`: what it gives to `map` and `flat_map` is traced as it is written.
builds_dataset = tf.autograph.experimental.do_not_convert


_without_gradients = contextvars.ContextVar("_without_gradients", default=False)


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """Trace what follows for answers alone: functions of `custom_gradient` leave no gradient in the graph.

    A SavedModel is smaller for it, and loading one registers no gradients, which TensorFlow would keep in memory for good.
    """
    token = _without_gradients.set(True)
    try:
        yield
    finally:
        _without_gradients.reset(token)


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as `tf.custom_gradient` does, without keeping its graph in memory for good.

    TensorFlow registers such a gradient globally in each graph that is traced. The entry holds the graph, and with it the
    weights, until the process ends: every model that was loaded or trained stays in memory. Here the graph holds the
    gradient, and the entry goes when the graph goes.

    Args:
        function: takes tensors, returns one tensor and the function from its gradient to those of the arguments.
    """
    call = tf.custom_gradient(function)

    @functools.wraps(function)
    def wrapped(*arguments: Any) -> Any:
        if _without_gradients.get():
            return function(*arguments)[0]
        result = call(*arguments)
        if not tf.executing_eagerly():
            _tie_gradient_to_graph(result)
        return result

    return wrapped


def _tie_gradient_to_graph(result: tf.Tensor) -> None:
    name = result.op.get_attr("_gradient_op_type").decode()
    entries = ops.gradient_registry._registry
    graph = weakref.ref(result.graph)
    if not hasattr(result.graph, "_kbert_gradients"):
        result.graph._kbert_gradients = {}
    result.graph._kbert_gradients[name] = entries[name]["type"]
    entries[name]["type"] = lambda op, *upstream: graph()._kbert_gradients[name](op, *upstream)  # type: ignore[union-attr]
    weakref.finalize(result.graph, entries.pop, name, None)


def numpy_function(function: Callable[..., Any], arguments: Sequence[Any], types: Any) -> Any:
    """Call Python from a graph as `tf.numpy_function` does, without keeping the function in memory for good.

    TensorFlow's global graph keeps each such function, and what it refers to (a table, a task, a model), until the process
    ends. Here the graph of the `tf.data` pipeline or `tf.function` that is traced keeps it.
    """
    graph = tf.compat.v1.get_default_graph()
    if not isinstance(graph, FuncGraph):
        return tf.numpy_function(function, arguments, types)
    while isinstance(graph.outer_graph, FuncGraph):  # an inner graph is gone when the outer one has been traced
        graph = graph.outer_graph
    if not hasattr(graph, "_kbert_functions"):
        graph._kbert_functions = []
    graph._kbert_functions.append(function := functools.partial(function))  # a bound method cannot be referred to weakly
    reference = weakref.ref(function)
    return tf.numpy_function(lambda *values: reference()(*values), arguments, types)  # type: ignore[misc]


def worth_compiling(variables: Sequence[Any]) -> bool:
    """Return whether XLA is to compile parts of a training step: for many weights, on a CPU that trains alone.

    Asked within the scope of the run's strategy.
    """
    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    on_cpu = not tf.config.list_logical_devices("GPU") and not tf.config.list_logical_devices("TPU")
    return alone and on_cpu and sum(int(np.prod(v.shape)) for v in variables) >= WORTH_COMPILING
