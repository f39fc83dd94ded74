"""Start TensorFlow in a command's process: Keras's backend, quiet, GPU memory allocated as needed."""

import os
import sys
import tempfile

from kbert.errors import UsageError


def start() -> None:
    """Import TensorFlow and Keras; call it once the cheap checks are done.

    TensorFlow's C++ side logs to stderr before it reads any of its settings, so its output
    during the import is held back, and shown only if the import fails. In a program that has already imported TensorFlow,
    its settings are left unchanged.
    """
    if "keras" in sys.modules and (backend := sys.modules["keras"].config.backend()) != "tensorflow":
        raise UsageError(f"Keras runs on {backend}, kbert on TensorFlow; set KERAS_BACKEND=tensorflow before Keras is imported")
    os.environ["KERAS_BACKEND"] = "tensorflow"
    if "tensorflow" in sys.modules:
        import tensorflow_text

        return
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    sys.stderr.flush()
    kept = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            import tensorflow as tf
            import tensorflow_text  # noqa: F401  (its operations)

            for gpu in tf.config.list_physical_devices("GPU"):
                tf.config.experimental.set_memory_growth(gpu, True)
        except BaseException:
            held.seek(0)
            os.write(kept, held.read())
            raise
        finally:
            os.dup2(kept, 2)
            os.close(kept)
