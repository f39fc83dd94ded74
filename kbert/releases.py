"""Know which releases of TensorFlow Serving have the operations, attributes and types that a graph uses.

In: what a graph uses, as `Op`, `Op.attribute` or `Op.attribute=DT_TYPE`. Out: the oldest release that has it all.
`releases.json` lists what came after 2.12, by release; a TensorFlow that makes exports knows everything older.
`tools/old_servers.py` writes it from the registries of the installed packages. A release of TensorFlow Serving links the
TensorFlow of its own number, and of TensorFlow Text 2.12.1 up to release 2.19.1, then 2.20.0 (`workspace.bzl` of its tags).
No TensorFlow.
"""

import functools
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

Release = Literal["2.12", "2.13", "2.14", "2.15", "2.16", "2.17", "2.18", "2.19", "2.20"]
RELEASES: tuple[Release, ...] = get_args(Release)
NONE = "none"  # what TensorFlow has and no release of TensorFlow Serving yet


@functools.cache
def since() -> dict[str, str]:
    """Return what came after the oldest release, with the first release that has it."""
    table = json.loads((Path(__file__).parent / "releases.json").read_text(encoding="utf-8"))
    return {what: release for release, added in table["since"].items() for what in added}


def made_with() -> str:
    """Return the version of TensorFlow whose operations the table knows."""
    table = json.loads((Path(__file__).parent / "releases.json").read_text(encoding="utf-8"))
    return str(table["tensorflow"])


def newer(used: Iterable[str]) -> dict[str, list[str]]:
    """Return what of these the oldest release lacks, by the first release that has it, or `NONE`."""
    found: dict[str, list[str]] = {}
    for what in sorted(set(used)):
        if what in since():
            found.setdefault(since()[what], []).append(what)
    return found


def oldest(used: Iterable[str]) -> Release | None:
    """Return the oldest release that has all of these; None if none has."""
    needed = newer(used)
    return None if NONE in needed else max((*(r for r in RELEASES if r in needed), RELEASES[0]), key=RELEASES.index)
