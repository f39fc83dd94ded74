"""Tell what a folder holds: a saved data set, brat's documents, or texts in a folder for each class.

In: a folder. Out: the format under which `kbert.data.documents` reads it.
"""

from pathlib import Path
from typing import Literal

from kbert.errors import DataError

FolderFormat = Literal["saved", "brat", "classes"]
STATE, SPLITS = "state.json", "dataset_dict.json"  # of a data set that Hugging Face's library saved, and of several


def kind(name: str) -> FolderFormat:
    """Return the format of a folder.

    Raises:
        DataError: it is none of those; the message says what it holds.
    """
    path = Path(name)
    if (path / STATE).is_file():
        return "saved"
    inside = sorted(each for each in path.iterdir() if not each.name.startswith("."))
    if (path / SPLITS).is_file():
        splits = [each.name for each in inside if (each / STATE).is_file()]
        raise DataError(f"{name}: a data set of several splits; give one, for example {path / (splits or ['train'])[0]}")
    if any(each.suffix == ".ann" for each in inside):
        return "brat"
    folders = [each for each in inside if each.is_dir()]
    if folders and all(any(file.suffix == ".txt" for file in folder.iterdir()) for folder in folders):
        return "classes"
    endings = sorted({each.suffix for each in inside if each.suffix}) or [".tsv"]
    raise DataError(f"{name}: is a directory; name its files, for example {name.rstrip('/')}/*{endings[0]}")
