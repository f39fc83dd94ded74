"""Dataclasses of settings: fields that are flags, and the way to JSON and back.

In: a frozen dataclass whose fields are made by `flag` or `within`. Out: plain JSON values, and checked instances of
them. `kbert.flags` makes the command line of the same fields. No TensorFlow.
"""

import dataclasses
import json
import math
import types
import typing
from collections.abc import Mapping
from dataclasses import field
from typing import Any, Literal

from kbert.errors import DataError


def flag(default: Any = dataclasses.MISSING, *, help: str, otherwise: str | None = None, **limits: Any) -> Any:
    """A dataclass field that is also a flag.

    Args:
        otherwise: what happens without it, where that is not one value.
        limits: `low` and `high`, both inclusive.
    """
    shown = {} if otherwise is None else {"default": otherwise}
    return field(default=default, metadata={"help": help, **shown, **limits})


def within(default: Any = dataclasses.MISSING, **limits: Any) -> Any:
    """A dataclass field that is no flag, with limits (`low` and `high`, both inclusive) that `from_json` holds it to."""
    return field(default=default, metadata=limits)


def to_json(value: Any) -> Any:
    """A dataclass as plain JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(value)))


def changed(value: Any, defaults: Mapping[str, Any] | None = None) -> set[str]:
    """Names of the flags of a dataclass, dotted in nested ones, whose values are not the defaults.

    Args:
        value: the dataclass.
        defaults: those of a task, which come before the fields' own; as do those of the dataclass itself.
    """
    known = {**getattr(value, "DEFAULTS", {}), **(defaults or {})}
    found: set[str] = set()
    for spec in dataclasses.fields(value):
        now = getattr(value, spec.name)
        if dataclasses.is_dataclass(now):
            found |= {f"{spec.name}.{name}" for name in changed(now, defaults)}
        elif "help" in spec.metadata and now != known.get(spec.name, spec.default):
            found.add(spec.name)
    return found


def from_json(cls: type, data: Any, where: str) -> Any:
    """The dataclass `cls` from plain JSON values.

    Raises:
        DataError: a key is unknown or missing, or a value has the wrong type or is beyond its field's limits; `where` names
            the place.
    """
    if not isinstance(data, Mapping):
        raise DataError(f"{where}: expected an object, found {type(data).__name__}")
    hints = typing.get_type_hints(cls)
    known = {f.name: f for f in dataclasses.fields(cls)}
    unknown = sorted(set(data) - set(known))
    if unknown:
        raise DataError(f"{where}: unknown key {unknown[0]!r}; this version of kbert knows {', '.join(known)}")
    values = {}
    for name, spec in known.items():
        if name in data:
            values[name] = _value(hints[name], data[name], f"{where}: {name}")
            _check_limits(values[name], spec.metadata, f"{where}: {name}")
        elif spec.default is dataclasses.MISSING and spec.default_factory is dataclasses.MISSING:
            raise DataError(f"{where}: key {name!r} is missing")
    return cls(**values)


def _value(hint: Any, value: Any, where: str) -> Any:
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if dataclasses.is_dataclass(hint):
        return from_json(typing.cast(type, hint), value, where)
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _value(args[0], value, where)
    if origin is tuple and isinstance(value, list):
        return tuple(_value(args[0], item, where) for item in value)
    if origin is dict and isinstance(value, dict):
        return {key: item if args[1] is Any else _value(args[1], item, f"{where}: {key}") for key, item in value.items()}
    if origin is Literal and value in args:
        return value
    if hint is float and isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    if isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool)):
        return value
    allowed = f"one of {', '.join(map(str, args))}" if origin is Literal else str(getattr(hint, "__name__", hint))
    raise DataError(f"{where}: expected {allowed}, found {value!r}")


def _check_limits(value: Any, limits: Mapping[str, Any], where: str) -> None:
    """Raise DataError for a number that is not finite, or not between `low` and `high`."""
    low, high = limits.get("low"), limits.get("high")
    if (
        isinstance(value, int | float)
        and limits
        and not (math.isfinite(value) and (low is None or low <= value) and (high is None or value <= high))
    ):
        expected = (
            f"from {low} to {high}"
            if None not in (low, high)
            else f"of at least {low}"
            if low is not None
            else "that is finite"
        )
        raise DataError(f"{where}: expected a number {expected}, found {value!r}")
