"""Read Label Studio's JSON export: tasks with annotations.

    [{"data": {"text": "Ada sings"}, "annotations": [{"result": [{"from_name": "label", "type": "labels", "value": {"start": 0, "end": 3, "text": "Ada", "labels": ["PER"]}}]}]},
     {"data": {"text": "I live in Oslo"}, "annotations": [{"result": [{"from_name": "label", "type": "labels", "value": {"start": 10, "end": 14, "text": "Oslo", "labels": ["LOC"]}}]}]},
     {"data": {"text": "no one"}, "annotations": [{"result": []}]}]

In: one task. Out: its row as Label Studio's JSON-MIN has it: the task's data, and for each control (`from_name`) its regions, its
choice or its number. Offsets count UTF-16 units there; each region has its text, which is compared.
Source: https://labelstud.io/guide/export, "JSON" and "JSON_MIN".
"""  # noqa: E501

from collections.abc import Mapping
from typing import Any

ANNOTATIONS = ("annotations", "completions")  # today's key, and the one before version 1.0


def is_task(item: Mapping[str, Any]) -> bool:
    """Return whether an item of a JSON list is a task."""
    return isinstance(item.get("data"), dict) and any(isinstance(item.get(key), list) for key in ANNOTATIONS)


def row(task: Mapping[str, Any], columns: tuple[str, ...], default: str) -> dict[str, Any]:
    """Return the row of a task; without annotations it has no gold.

    Args:
        task: the task.
        columns: the columns to read.
        default: the gold column that is empty, as that of `label`, where an annotator marked nothing.

    Raises:
        ValueError: several annotations differ, or a result is no region of a text and no choice.
    """
    found = dict(task["data"])
    given = [
        each
        for key in ANNOTATIONS
        for each in task.get(key) or ()
        if isinstance(each, dict) and not each.get("was_cancelled") and isinstance(each.get("result"), list)
    ]
    read = [_controls(each["result"]) for each in given]
    if any(other != read[0] for other in read[1:]):
        raise ValueError(f"{len(read)} annotations that differ, of which one must be chosen; export the reviewed one alone")
    if read:
        found |= read[0] or {default: []}
    return found


def _controls(results: list[Any]) -> dict[str, Any]:
    """Return the regions, the choice or the number of each control."""
    found: dict[str, Any] = {}
    for result in results:
        if not isinstance(result, dict) or not isinstance(result.get("value"), dict) or "from_name" not in result:
            continue  # a relation between regions
        name, value = str(result["from_name"]), result["value"]
        if "choices" in value:
            choices = value["choices"]
            found[name] = choices[0] if isinstance(choices, list) and len(choices) == 1 else choices
        elif "labels" in value:
            if type(value.get("start")) is not int or type(value.get("end")) is not int:
                raise ValueError(f"a region of {name!r} without numbers `start` and `end`; kbert reads regions of plain text")
            found.setdefault(name, []).append(value)
        else:
            kinds = [value[key] for key in ("rating", "number", "text") if key in value]
            if kinds:
                found[name] = kinds[0]
    return found
