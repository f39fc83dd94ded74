"""Functions as TensorFlow graphs, traced without AutoGraph.

AutoGraph reads the source of every function it meets for Python's `if` and `for` over tensors. kbert writes none,
and the reading took more than a third of the time that a command needs before its first step.
"""

import functools

import tensorflow as tf

# `tf.function` but for AutoGraph, as a decorator with or without arguments.
function = functools.partial(tf.function, autograph=False)
# Decorates a function that builds a `tf.data.Dataset`: what it gives to `map` and `flat_map` is traced as it is written.
builds_dataset = tf.autograph.experimental.do_not_convert
