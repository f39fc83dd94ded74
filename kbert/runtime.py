"""TensorFlow's start in a command's process: Keras's backend, quiet, GPU memory taken as needed."""

import os
import sys
import tempfile


def start() -> None:
    """Import TensorFlow and Keras; call it once the cheap checks are done.

    TensorFlow's C++ side greets on stderr before any of its switches is read, so that what it writes
    there during the import is held back, and shown only when the import fails.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ["KERAS_BACKEND"] = "tensorflow"
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
