"""The errors that users can cause. A command reports them in one line on stderr, never with a traceback."""

import re

OUT_OF_MEMORY = (
    "out of memory: lower --batch_size or --max_length, freeze more layers with --freeze_layers, "
    "or train in --precision=bfloat16"
)


class KbertError(Exception):
    """Base class of errors whose text is meant for the user."""

    exit_code = 1


class UsageError(KbertError):
    """The command line is wrong: a flag's value, or flags that do not go together. Exit code 2."""

    exit_code = 2


class DataError(KbertError):
    """A file, a checkpoint or a model directory is missing, unreadable or wrong. Exit code 1."""


def for_user(error: Exception) -> KbertError | None:
    """Translate TensorFlow's errors caused by a user's data or machine; None for any other error."""
    if isinstance(error, KbertError):
        return error
    # TensorFlow's class, by name: it must not be imported here.
    if isinstance(error, MemoryError) or type(error).__name__ == "ResourceExhaustedError":
        return KbertError(OUT_OF_MEMORY)
    # A row that became invalid while reading, which tf.data wraps in an error of its own, or that a graph rejected.
    wrapped = re.search(r"(assertion failed: \[)?DataError: (.+)", str(error))
    if type(error).__module__.startswith("tensorflow.") and wrapped:
        return DataError(wrapped[2].removesuffix("]") if wrapped[1] else wrapped[2])
    return None
