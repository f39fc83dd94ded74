"""Convert between JSON and tensors, as TensorFlow Serving's REST API does.

In: a request's body and a signature's specs. Out: arrays, strings as bytes; and back to JSON text. Row format is
`instances` and `predictions`, column format `inputs` and `outputs`.
Source: tensorflow_serving/g3doc/api_rest.md and util/json_tensor.cc.
"""

import base64
import binascii
import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from kbert.server.status import Status, invalid, shown

Arrays = Mapping[str, np.ndarray]
MAX_RANK = 8  # of an input; deeper lists are no tensor that a model takes
BYTES_SUFFIX = "_bytes"  # outputs of such names are base64


def parsed(body: bytes) -> dict[str, Any]:
    """Return the object of a request's body. Bytes that are no UTF-8 stay in its strings, as surrogates, for `encoded`.

    Raises:
        Status: it is no JSON, too deep, or no object.
    """
    if not body:
        raise invalid("JSON Parse error: The document is empty")
    try:
        found = json.loads(body.decode("utf-8", "surrogateescape").removeprefix("\ufeff"))
    except RecursionError:
        raise invalid("JSON Parse error: lists or objects are nested too deep") from None
    except json.JSONDecodeError as error:
        raise invalid(f"JSON Parse error: {error.msg} at offset: {error.pos}") from None
    except ValueError as error:  # a whole number of thousands of digits
        raise invalid(f"JSON Parse error: {error}") from None
    if not isinstance(found, dict):
        raise invalid(f"JSON Value: {shown(found)} Is not object")
    return found


def encoded(text: str) -> bytes:
    """Return a string of JSON as UTF-8, bytes that were none in the body as they were.

    Raises:
        Status: it has half of a surrogate pair, which is no character.
    """
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:
        raise invalid("JSON Parse error: The surrogate pair in string is invalid.") from None


def signature_name(document: Mapping[str, Any]) -> str:
    """Return the name of the signature that a request asks for, empty for the default one."""
    name = document.get("signature_name", "")
    if not isinstance(name, str):
        raise invalid(f"JSON Value: {shown(name)} not formatted correctly. 'signature_name' key must be a string value.")
    return name


def inputs_of(document: Mapping[str, Any], specs: Mapping[str, Any], max_rows: int) -> tuple[dict[str, np.ndarray], bool]:
    """Return the arrays of a predict request, and whether it is in row format.

    Args:
        document: the request.
        specs: name -> `tf.TensorSpec`.
        max_rows: more rows, or values of one row, are an error.

    Raises:
        Status: a field is missing, left over or of a wrong type.
    """
    if "instances" in document and "inputs" in document:
        raise invalid("Not formatted correctly expecting only one of 'inputs' or 'instances' keys to exist")
    if "instances" in document:
        return _rows(document["instances"], specs, max_rows), True
    if "inputs" in document:
        return _columns(document["inputs"], specs, max_rows), False
    raise invalid("Missing 'inputs' or 'instances' key")


def _rows(instances: Any, specs: Mapping[str, Any], max_rows: int) -> dict[str, np.ndarray]:
    if not isinstance(instances, list):
        raise invalid(f"JSON Value: {shown(instances)} Excepting 'instances' to be an list/array")
    if not instances:
        raise invalid("No values in 'instances' array")
    _check_rows(len(instances), max_rows)
    named = isinstance(instances[0], dict) and not _is_base64(instances[0])
    if not named and len(specs) > 1:
        raise invalid("instances is a plain list, but expecting list of objects as multiple input tensors required")
    columns: dict[str, list[Any]] = {name: [] for name in specs}
    for number, row in enumerate(instances):
        if named != (isinstance(row, dict) and not _is_base64(row)):
            found = "list" if named else "object"
            raise invalid(f"Expecting {'object' if named else 'value/list'} but got {found} at item {number} of input list")
        if not named:
            columns[next(iter(specs))].append(row)
            continue
        if row.keys() != specs.keys():
            wrong = (
                f"does not have named input: {shown(next(iter(row.keys() - specs.keys()), ''))}. "
                if row.keys() - specs.keys()
                else ""
            )
            raise invalid(
                f"Failed to process element: {number} of 'instances' list. JSON object: {wrong}"
                f"keys must be equal to: {','.join(sorted(specs))}"
            )
        for name, value in row.items():
            columns[name].append(value)
    return {name: _array(values, specs[name], name, max_rows) for name, values in columns.items()}


def _columns(inputs: Any, specs: Mapping[str, Any], max_rows: int) -> dict[str, np.ndarray]:
    if not isinstance(inputs, dict) or _is_base64(inputs):
        if len(specs) > 1:
            raise invalid("inputs is a plain value/list, but expecting an object as multiple input tensors required")
        inputs = {next(iter(specs)): inputs}
    for name in specs:
        if name not in inputs:
            raise invalid(f"Missing named input: {name} in 'inputs' object.")
    for name in inputs:
        if name not in specs:
            raise invalid(f"Named input {shown(name)} is not in the signature, which takes {', '.join(sorted(specs))}")
    return {name: _array(inputs[name], specs[name], name, max_rows) for name in specs}


def _check_rows(rows: int, max_rows: int) -> None:
    if rows > max_rows:
        raise invalid(f"{rows} rows in one request; this server takes at most {max_rows} (--max_rows)")


def _is_base64(value: Any) -> bool:
    return isinstance(value, dict) and len(value) == 1 and isinstance(value.get("b64"), str)


def _array(value: Any, spec: Any, name: str, max_rows: int) -> np.ndarray:
    """Return nested lists as an array, level by level: a deep list needs no recursion."""
    dtype = spec.dtype
    shape: list[int] = []
    flat = [value]
    while flat and isinstance(flat[0], list):
        size = len(flat[0])
        if not shape:
            _check_rows(size, max_rows)
        if len(shape) == MAX_RANK:
            raise invalid(f"input {name!r}: lists are nested more than {MAX_RANK} deep")
        for each in flat:
            if not isinstance(each, list) or len(each) != size:
                found = f"a list of {len(each)}" if isinstance(each, list) else shown(each)
                raise invalid(f"input {name!r}: expecting lists of the same size, {size}, found {found}")
        flat = [item for each in flat for item in each]
        shape.append(size)
    if shape and not flat and spec.shape.rank is not None:
        shape += [size or 0 for size in spec.shape[len(shape) :]]  # [] is no rows of whatever the signature takes
    if dtype.name == "string":
        array = np.empty(len(flat), object)
        array[:] = [_bytes(item, name) for item in flat]
    else:
        array = _numbers(flat, dtype, name)
    return array.reshape(shape)


def _bytes(value: Any, name: str) -> bytes:
    if isinstance(value, str):
        return encoded(value)
    if _is_base64(value):
        return from_base64(value["b64"])
    raise _type_error(value, "string", name)


def from_base64(text: str) -> bytes:
    """Return the bytes of `{"b64": text}`.

    Raises:
        Status: it is no base64.
    """
    try:
        return base64.b64decode(encoded(text) + b"=" * (-len(text) % 4), validate=True)
    except (binascii.Error, ValueError):
        raise invalid("Unable to base64 decode") from None


def _type_error(value: Any, expected: str, name: str) -> Status:
    kind = {dict: "Object", list: "Array", str: "String", bool: str(value), type(None): "Null"}.get(type(value), "Number")
    return invalid(f"input {name!r}: JSON Value: {shown(value)} Type: {kind} is not of expected type: {expected}")


def _numbers(flat: list[Any], dtype: Any, name: str) -> np.ndarray:
    allowed: tuple[type, ...] = (bool,) if dtype.is_bool else (int,) if dtype.is_integer else (int, float)
    for item in flat:
        if not isinstance(item, allowed) or isinstance(item, bool) != dtype.is_bool:
            raise _type_error(item, dtype.name, name)
    kind = dtype.as_numpy_dtype
    try:
        array = np.array(flat, np.bool_ if dtype.is_bool else np.int64 if dtype.is_integer else np.float64)
    except OverflowError:
        raise invalid(f"input {name!r}: a number is beyond {dtype.name}") from None
    with np.errstate(over="ignore"):
        narrow = array.astype(kind)
    lost = (
        (narrow.astype(array.dtype) != array) if dtype.is_integer else np.isinf(narrow.astype(np.float64)) & np.isfinite(array)
    )
    if lost.any():
        raise invalid(f"input {name!r}: Cannot convert JSON value: {array[lost][0]} to {dtype.name} without loss of precision.")
    return narrow


def predictions(outputs: Arrays, by_row: bool) -> str:
    """Return the body of an answer: `predictions` by row, or `outputs` by column; one output alone without its name.

    Raises:
        Status: by row, an output has no rows, or another number of them.
    """
    plain = {name: plain_values(value, name) for name, value in sorted(outputs.items())}
    if not by_row:
        return dumped({"outputs": plain if len(plain) > 1 else next(iter(plain.values()))})
    sizes = {name: len(value) if value.ndim else None for name, value in outputs.items()}
    if None in sizes.values() or len({*sizes.values()}) != 1:
        shapes = ", ".join(f"{name} {list(outputs[name].shape)}" for name in sorted(outputs))
        raise invalid(f"outputs have inconsistent batch sizes, which row format cannot show (use 'inputs'): {shapes}")
    if len(plain) == 1:
        return dumped({"predictions": next(iter(plain.values()))})
    return dumped({"predictions": [dict(zip(plain, row, strict=True)) for row in zip(*plain.values(), strict=True)]})


def dumped(value: Any) -> str:
    """Return JSON text, with `NaN`, `Infinity` and `-Infinity` as they are in TensorFlow Serving's."""
    return json.dumps(value, ensure_ascii=False)


def plain_values(array: np.ndarray, name: str = "") -> Any:
    """Return an array as nested lists of JSON values."""
    if array.dtype == object:
        as_base64 = name.endswith(BYTES_SUFFIX)
        flat: list[Any] = [_text(item, as_base64) for item in array.ravel().tolist()]
    elif array.dtype == np.float64 or array.dtype.kind in "biu":
        return array.tolist()
    else:
        flat = [_shortest(item) for item in array.astype(np.float32).ravel().tolist()]
    values = np.empty(len(flat), object)
    values[:] = flat
    return values.reshape(array.shape).tolist()


def _text(value: bytes, as_base64: bool) -> Any:
    return {"b64": base64.b64encode(value).decode()} if as_base64 else value.decode("utf-8", "replace")


def _shortest(value: float) -> float:
    """Return the number that has the fewest digits and is the same float32: of 6 digits, or of 9."""
    if not math.isfinite(value):
        return value
    short = float(f"{value:.6g}")
    return short if float(np.float32(short)) == value else float(f"{value:.9g}")
