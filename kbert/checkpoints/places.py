"""Find the directory of a checkpoint in what `--init` names.

In: a directory as downloaded, also a hub's cache folder (`models--...` with `snapshots/`) or a folder of
sentence-transformers whose weights are in another inside; or the name of a TensorFlow checkpoint, as Google's
`--init_checkpoint`. Out: the directory that holds the configuration, and the checkpoint's name in it.
"""

import logging
from pathlib import Path

from kbert.errors import DataError
from kbert.files import read_json

log = logging.getLogger(__name__)
SHOWN = 5  # maximum folders listed in a message


def find(init: str) -> tuple[Path, str | None] | None:
    """Return the checkpoint's directory, and the name of a TensorFlow checkpoint where one is given; None without a directory.

    Raises:
        DataError: a cache folder holds no snapshot, or several, none of which is the current one.
    """
    given = Path(init).expanduser()
    if not given.is_dir():
        prefix = given.with_name(given.name.removesuffix(".index"))
        exists = prefix.with_name(prefix.name + ".index").exists()
        return (prefix.parent, prefix.name) if exists else None
    path = downloaded(given)
    if path != given:
        log.info("--init=%s: reads the snapshot %s", init, path.name)
    if not (path / "config.json").exists() and (inner := _first_module(path)) is not None:
        path = inner
    return path, None


def downloaded(path: Path) -> Path:
    """Return a directory as downloaded; of a hub's cache folder the snapshot that its branch `main` is at, else the only one.

    Raises:
        DataError: see `find`.
    """
    if not (path / "snapshots").is_dir() or (path / "config.json").exists():
        return path
    found = sorted(folder for folder in (path / "snapshots").iterdir() if folder.is_dir())
    main = path / "refs" / "main"
    current = main.read_text(encoding="utf-8").strip() if main.is_file() else None
    chosen = [folder for folder in found if folder.name == current] or found
    if len(chosen) != 1:
        listed = f", {', '.join(folder.name for folder in chosen)}; give one of these folders" if chosen else ""
        raise DataError(f"{path / 'snapshots'}: expected one folder, or one that refs/main names, found {len(chosen)}{listed}")
    return chosen[0]


def _first_module(path: Path) -> Path | None:
    """Return the folder with the transformer of a sentence-transformers directory, where that is not the directory itself."""
    modules = read_json(path / "modules.json") if (path / "modules.json").exists() else None
    name = modules[0].get("path") if isinstance(modules, list) and modules and isinstance(modules[0], dict) else None
    if not isinstance(name, str) or not name or Path(name).name != name:
        return None
    return path / name if (path / name / "config.json").exists() else None


def within(path: Path) -> str:
    """Return a hint for messages that names the folders of a directory that look like checkpoints; empty if there are none."""
    marks = ("config.json", "bert_config.json", "snapshots")
    found = sorted(folder.name for folder in path.iterdir() if any((folder / mark).exists() for mark in marks))
    if not found:
        return ""
    more = ", …" if len(found) > SHOWN else ""
    return f"; its folder{'s' if len(found) > 1 else ''} {', '.join(found[:SHOWN])}{more} may be: give the folder's own path"
