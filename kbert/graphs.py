"""Trace functions as TensorFlow graphs, without AutoGraph, and decide what XLA compiles.

AutoGraph reads the source of every function it meets for Python's `if` and `for` over tensors. kbert has none,
and this reading took more than a third of a command's time before its first step.
"""

import contextlib
import contextvars
import functools
import weakref
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops  # gradient registry; no public API
from tensorflow.python.framework.func_graph import FuncGraph  # class of a traced function's graph; no public API

WORTH_COMPILING = 1_000_000  # weights; compiling takes seconds, which smaller models do not recoup

# Decorates a function that builds a `tf.data.Dataset`: functions passed to `map` and `flat_map` are traced without AutoGraph.
builds_dataset = tf.autograph.experimental.do_not_convert


_without_gradients = contextvars.ContextVar("_without_gradients", default=False)


def function(python_function: Callable[..., Any] | None = None, **options: Any) -> Any:
    """Make a `tf.function` without AutoGraph; also a decorator, with or without options.

    TensorFlow counts how often functions are traced by their code, and warns of retracing where several models in a process
    are each traced once. A partial has no code, so that each function is counted for itself.
    """
    if python_function is None:
        return functools.partial(function, **options)
    return tf.function(functools.partial(python_function), autograph=False, **options)


@contextlib.contextmanager
def without_gradients() -> Iterator[None]:
    """Trace for inference only: functions of `custom_gradient` leave no gradient in the graph.

    A SavedModel is smaller without, and loading one registers no gradients, which TensorFlow would keep in memory forever.
    """
    token = _without_gradients.set(True)
    try:
        yield
    finally:
        _without_gradients.reset(token)


def custom_gradient(function: Callable[..., Any]) -> Callable[..., Any]:
    """Wrap a function as `tf.custom_gradient` does, without keeping its graph in memory forever.

    TensorFlow registers such a gradient globally in each traced graph. The entry holds the graph, and with it the
    weights, until the process ends: every model loaded or trained stays in memory. Here the graph holds the
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
    """Call Python from a graph as `tf.numpy_function` does, without keeping the function in memory forever.

    TensorFlow's global graph keeps each such function, and what it refers to (a table, a task, a model), until the process
    ends. Here the traced graph of the `tf.data` pipeline or `tf.function` keeps it.
    """
    graph = tf.compat.v1.get_default_graph()
    if not isinstance(graph, FuncGraph):
        return tf.numpy_function(function, arguments, types)
    while isinstance(graph.outer_graph, FuncGraph):  # inner graphs are freed once the outer one is traced
        graph = graph.outer_graph
    if not hasattr(graph, "_kbert_functions"):
        graph._kbert_functions = []
    graph._kbert_functions.append(function := functools.partial(function))  # bound methods cannot be weakly referenced
    reference = weakref.ref(function)
    return tf.numpy_function(lambda *values: reference()(*values), arguments, types)  # type: ignore[misc]


def worth_compiling(variables: Sequence[Any]) -> bool:
    """Return whether XLA should compile parts of a training step: for many weights, on a CPU that trains alone.

    Call within the scope of the run's strategy.
    """
    alone = tf.distribute.get_strategy().num_replicas_in_sync == 1
    on_cpu = not tf.config.list_logical_devices("GPU") and not tf.config.list_logical_devices("TPU")
    return alone and on_cpu and sum(int(np.prod(v.shape)) for v in variables) >= WORTH_COMPILING
