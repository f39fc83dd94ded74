"""Read texts in a folder for each class.

    reviews/neg/1.txt    Dull from the first scene on.
    reviews/pos/2.txt    A fine film.
    reviews/pos/3.txt    Good!

In: a folder of folders. Out: a row for each `.txt` file of these: its text, and its folder's name as the label. The folder
`unsup` of aclImdb has no class: it is left out where labels are read.
Source: the Large Movie Review Dataset (aclImdb), scikit-learn's `load_files`, Keras's `text_dataset_from_directory`.
"""

import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from kbert.source import SourceConfig

log = logging.getLogger(__name__)

UNLABELLED = "unsup"  # "unlabeled documents for unsupervised learning", as the README of aclImdb says


def rows(name: str, stream: Any, encoding: str, config: SourceConfig, columns: Sequence[str]) -> Iterator[Any]:
    """Yield a row for each file as (place, row), or (place, reason) if it cannot be read."""
    beside = []
    for folder in sorted(Path(name).iterdir()):
        if folder.name.startswith("."):
            continue
        if not folder.is_dir():
            beside.append(folder.name)
            continue
        if folder.name == UNLABELLED and config.label_column in columns:
            log.warning("%s: the texts of %s have no label, and are left out", name, UNLABELLED)
            continue
        for path in sorted(folder.glob("*.txt")):
            place = f"{folder.name}/{path.name}"
            try:
                text = path.read_bytes().decode(encoding).removeprefix("\ufeff").replace("\r\n", "\n").rstrip("\n")
            except UnicodeDecodeError:
                yield place, f"not {encoding}; name the files' encoding with --encoding="
            except OSError as error:
                yield place, f"not readable: {error.strerror}"
            else:
                yield place, {config.text_columns[0]: text, config.label_column: folder.name, "file": place}
    if beside:
        log.warning("%s: files beside the folders of classes are not read: %s", name, ", ".join(beside[:5]))
