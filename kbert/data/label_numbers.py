"""Read the names of numbered labels, which `--label_names=FILE` gives.

    1	World
    2	Sports
    3	Business

In: lines of a number and a name, or JSON: an object (`{"1": "World"}`, `id2label` of a Hugging Face config.json too) or a list,
whose first name is number 0. Out: the names by number. Lines of names alone are an error, as they may count from 0 or from 1,
except for tags whose first is O: in these, 0 is O.
"""

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from kbert.errors import DataError

LINE = re.compile(r"\s*(-?\d+)\s*[\s,:=]\s*(\S.*?)\s*")
OUTSIDE = "O"
UNKNOWN = ("?", "null")  # cells of several labels without gold
NUMBER = re.compile(r"(-?\d+)(\.0+)?")


class LabelNumbers:
    """Names of numbers.

    Args:
        path: the file; None: labels are taken as they are.
        separator: of labels, where a cell may have several, or none; None where it is one label.

    Raises:
        DataError: it is not readable, or a line is malformed.
    """

    def __init__(self, path: str | None, separator: str | None = None):
        self.path, self.separator = path, separator
        self.names: Mapping[int, str] = {} if path is None else _read(path)
        self._known = set(self.names.values())
        self.tags = self.names.get(0) == OUTSIDE  # so that 0 occurs in any file of tags

    def __call__(self, label: str) -> str:
        """Return the name of a label; a name stays as it is. Of several labels, return a JSON list of names.

        Raises:
            ValueError: it is a number without a name, or another name.
        """
        if self.path is None:
            return label
        number = NUMBER.fullmatch(label.strip())
        if number and int(number[1]) in self.names:
            return self.names[int(number[1])]
        if label in self._known:
            return label
        several = _list(label)
        if several is None and self.separator is not None:
            if label.strip() in ("", *UNKNOWN):
                return label
            if self.separator in label:
                several = [part.strip() for part in label.split(self.separator)]
        if isinstance(several, list):
            return json.dumps([self(str(each)) for each in several], ensure_ascii=False)
        shown = ", ".join(f"{number} {name}" for number, name in list(self.names.items())[:20])
        raise ValueError(f"label {label!r} is not in --label_names={self.path}, which has {shown}")


def _list(label: str) -> Any:
    try:
        return json.loads(label) if label.startswith("[") else None
    except ValueError:
        return None


def _read(path: str) -> dict[int, str]:
    where = f"--label_names={path}"
    try:
        text = Path(path).expanduser().read_text(encoding="utf-8-sig")
        return _of_json(json.loads(text), where) if text.lstrip()[:1] in ("{", "[") else _of_lines(text.split("\n"), where)
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DataError(f"{where}: not readable: {error}") from None


def _of_json(document: Any, where: str) -> dict[int, str]:
    if isinstance(document, dict):
        document = document.get("id2label", document)
    pairs = list(enumerate(document) if isinstance(document, list) else document.items())
    if not pairs or not all(NUMBER.fullmatch(str(number)) and isinstance(name, str) and name for number, name in pairs):
        raise DataError(f'{where}: expected {{"1": "World", ...}} or ["World", ...], found {json.dumps(document)[:60]}')
    return {int(number): name for number, name in pairs}


def _of_lines(lines: list[str], where: str) -> dict[int, str]:
    found: dict[int, str] = {}
    names = [line.strip() for line in lines if line.strip()]
    if names[:1] == [OUTSIDE] and not any(map(LINE.fullmatch, names)):
        return dict(enumerate(names))
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        match = LINE.fullmatch(line)
        if match is None:
            raise DataError(
                f"{where}:{number}: expected a number and its name, as in `1 World`, found {line.strip()[:60]!r}; names alone "
                "leave open whether the first is 0 or 1"
            )
        if int(match[1]) in found:
            raise DataError(f"{where}:{number}: number {match[1]} occurs twice")
        found[int(match[1])] = match[2]
    if not found:
        raise DataError(f"{where}: no names")
    return found
