"""Find a Hugging Face directory's weights: safetensors or PyTorch's pickles, in one file or in shards.

In: a directory. Out: the file (or index) that messages name, the tensors, and the function that reads their values.
"""

from pathlib import Path

from kbert.checkpoints import foreign
from kbert.checkpoints.tensor_files import safetensors_list, safetensors_read
from kbert.checkpoints.tensor_matching import Read, Tensor
from kbert.checkpoints.torch_files import check_torch, torch_list, torch_read
from kbert.errors import DataError
from kbert.files import check_pointer, read_json

SAFETENSORS, PICKLE, INDEX = "model.safetensors", "pytorch_model.bin", ".index.json"
USUAL = (SAFETENSORS, SAFETENSORS + INDEX, PICKLE, PICKLE + INDEX)
PICKLES = (".bin", ".pt", ".pth", ".ckpt")
# Files of the same kinds that a training run writes beside the weights.
NO_WEIGHTS = ("training_args", "optimizer", "scheduler", "scaler", "rng_state", "random_states", "adapter_model")


def weights_file(path: Path) -> Path | None:
    """Return the file or index that holds a directory's weights: one of the usual names, or the only one of another name.

    Raises:
        DataError: there are several, none of a usual name.
    """
    for name in USUAL:
        if (path / name).exists():
            return path / name
    for suffixes in ((".safetensors",), PICKLES):
        found = sorted(
            file for file in path.iterdir() if file.suffix in suffixes and not file.name.startswith((*NO_WEIGHTS, "."))
        )
        if len(found) > 1:
            raise DataError(
                f"{path}: has several files of weights, {', '.join(file.name for file in found)}; rename the one to use to "
                f"{SAFETENSORS if suffixes != PICKLES else PICKLE}"
            )
        if found:
            return found[0]
    return None


def find(path: Path) -> tuple[Path, list[Tensor], Read]:
    """List a directory's tensors.

    Raises:
        DataError: there are none, only some that kbert does not read, or a file is damaged.
    """
    file = weights_file(path)
    if file is None:
        foreign.check_weights(path)
        raise DataError(f"{path / SAFETENSORS}: no such file")
    check_pointer(file)
    pickle = file.suffix in PICKLES or file.name == PICKLE + INDEX
    if pickle:
        check_torch(path, file.name, "pytorch_model*.bin" if file.name in USUAL else file.name)
    listing, read = (torch_list, torch_read) if pickle else (safetensors_list, safetensors_read)
    if not file.name.endswith(INDEX):
        return file, listing(file), read
    listed = read_json(file)
    parts = listed.get("weight_map") if isinstance(listed, dict) else None
    if not isinstance(parts, dict) or not all(isinstance(p, str) and Path(p).name == p for p in parts.values()):
        raise DataError(f"{file}: expected an object weight_map from tensors to files of this directory")
    tensors = [tensor for part in sorted(set(parts.values())) for tensor in listing(path / part)]
    held = {(t.name, t.where.name) for t in tensors}
    for name, part in parts.items():
        if (name, part) not in held:
            raise DataError(f"{path / part}: tensor {name!r} is missing, which {file.name} says is here")
    return file, tensors, read
