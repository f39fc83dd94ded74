"""Open the model directory that a command is given, and say of any other what it is.

In: a path. Out: a `ModelDir` that holds a trained model, of which every file is there; or the error that `kbert.inspect` gives.
"""

import os

from kbert.errors import DataError, KbertError
from kbert.model_dir import ModelDir, directory_of


def model_directory(path: str | os.PathLike[str]) -> ModelDir:
    """Open the directory of a trained model, before any work.

    Raises:
        DataError: it holds no kbert model, and the message says what it is; it has no checkpoint yet; or a file is missing or
            damaged.
    """
    directory = ModelDir(os.fspath(path))
    if directory.path.is_file():
        raise DataError(f"--model_dir={path}: is a file; name the directory of a model")
    try:
        directory.read_config()
    except DataError as error:
        if not directory.path.is_dir() or directory.exists():
            raise
        raise DataError(f"{error}; {_found(directory)}") from None
    directory.check_whole()
    return directory


def _found(directory: ModelDir) -> str:
    """Say what a directory is that holds no kbert model."""
    if (parent := directory_of(directory.path)) is not None and ModelDir(parent).exists():
        return f"it is a checkpoint of the model in {parent}; give --model_dir={parent}"
    from kbert import checkpoints

    try:
        checkpoint = checkpoints.open_checkpoint(str(directory.path))
    except KbertError as error:
        return str(error).removeprefix(f"--init={directory.path}: ")
    return (
        f"it is a checkpoint, {checkpoints.describe(checkpoint)}; kbert finetune --init={directory.path} trains a model from it"
    )
