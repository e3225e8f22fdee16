"""Checks of a client event's shape, with the errors of OpenAI's APIs.

A check takes a value and its path (`session.audio.input`) and raises RequestError. Objects are closed: an
unknown field is an error, as it is in the Realtime API.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from simulator.realtime.errors import RequestError

Check = Callable[[Any, str], None]

_TYPE_NAMES = {
    bool: "a boolean",
    int: "an integer",
    float: "a decimal",
    str: "a string",
    list: "an array",
    dict: "an object",
    type(None): "null",
}


def anything(_value: Any, _path: str) -> None:
    """Accept any value: for fields that the simulator stores and does not use."""


def string(max_length: int | None = None) -> Check:
    """Return a check for a string of at most `max_length` characters."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, str):
            raise _wrong_type(path, "a string", value)
        if max_length is not None and len(value) > max_length:
            raise RequestError(
                f"Invalid '{path}': string too long. Expected a string with maximum length {max_length}, "
                f"but got a string with length {len(value)} instead.",
                code="string_above_max_length",
                param=path,
            )

    return check


def boolean(value: Any, path: str) -> None:
    """Check for true or false."""
    if not isinstance(value, bool):
        raise _wrong_type(path, "a boolean", value)


def number(low: float, high: float, *, integer: bool = False) -> Check:
    """Return a check for a number from `low` to `high`, both included."""
    kind = "integer" if integer else "decimal"
    types = (int,) if integer else (int, float)

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or not isinstance(value, types):
            raise _wrong_type(path, "an integer" if integer else "a decimal", value)
        if value < low:
            raise RequestError(
                f"Invalid '{path}': {kind} below minimum value. "
                f"Expected a value >= {low}, but got {value} instead.",
                code=f"{kind}_below_min_value",
                param=path,
            )
        if value > high:
            raise RequestError(
                f"Invalid '{path}': {kind} above maximum value. "
                f"Expected a value <= {high}, but got {value} instead.",
                code=f"{kind}_above_max_value",
                param=path,
            )

    return check


def one_of(*allowed: str | int) -> Check:
    """Return a check for one of these values."""

    def check(value: Any, path: str) -> None:
        if isinstance(value, bool) or value not in allowed:
            raise invalid_value(path, value, allowed)

    return check


def nullable(inner: Check) -> Check:
    """Return a check for null, or for a value that `inner` accepts."""

    def check(value: Any, path: str) -> None:
        if value is not None:
            inner(value, path)

    return check


def either(*by_type: tuple[type, Check], expected: str) -> Check:
    """Return the check for the value's JSON type; the error names `expected`."""

    def check(value: Any, path: str) -> None:
        for json_type, inner in by_type:
            if isinstance(value, json_type) and not (json_type is int and isinstance(value, bool)):
                inner(value, path)
                return
        raise _wrong_type(path, expected, value)

    return check


def array(inner: Check, *, max_length: int) -> Check:
    """Return a check for a list of at most `max_length` elements, each of which `inner` accepts."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, list):
            raise _wrong_type(path, "an array", value)
        if len(value) > max_length:
            raise RequestError(
                f"Invalid '{path}': array too long. Expected an array with maximum length {max_length}, "
                f"but got an array with length {len(value)} instead.",
                code="array_above_max_length",
                param=path,
            )
        for index, element in enumerate(value):
            inner(element, f"{path}[{index}]")

    return check


def mapping(inner: Check) -> Check:
    """Return a check for an object with any keys, whose values `inner` accepts."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type(path, "an object", value)
        for key, element in value.items():
            inner(element, f"{path}.{key}")

    return check


def closed(fields: Mapping[str, Check], *, required: Collection[str] = ()) -> Check:
    """Return a check for an object with these fields and no others."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type(path, "an object", value)
        for name, element in value.items():
            inner = fields.get(name)
            if inner is None:
                raise unknown_parameter(_join(path, name))
            inner(element, _join(path, name))
        for name in required:
            if name not in value:
                raise missing_parameter(_join(path, name))

    return check


def tagged(shapes: Mapping[str, Check], *, tag: str = "type") -> Check:
    """Return a check for an object whose field `tag` names its shape in `shapes`."""

    def check(value: Any, path: str) -> None:
        if not isinstance(value, dict):
            raise _wrong_type(path, "an object", value)
        if tag not in value:
            raise missing_parameter(_join(path, tag))
        shape = shapes.get(value[tag]) if isinstance(value[tag], str) else None
        if shape is None:
            raise invalid_value(_join(path, tag), value[tag], tuple(shapes))
        shape(value, path)

    return check


def unknown_parameter(path: str) -> RequestError:
    """Refuse a field that does not exist."""
    return RequestError(f"Unknown parameter: '{path}'.", code="unknown_parameter", param=path)


def missing_parameter(path: str) -> RequestError:
    """Refuse an object without a required field."""
    return RequestError(f"Missing required parameter: '{path}'.", code="missing_required_parameter", param=path)


def invalid_value(path: str, value: object, allowed: Collection[str | int]) -> RequestError:
    """Refuse a value that is not allowed."""
    names = [f"'{each}'" for each in allowed]
    listed = names[0] if len(names) == 1 else f"{', '.join(names[:-1])}, and {names[-1]}"
    shown = f"'{value}'" if isinstance(value, str) else _TYPE_NAMES.get(type(value), "a value")
    return RequestError(
        f"Invalid value: {shown}. Supported values are: {listed}.", code="invalid_value", param=path
    )


def _wrong_type(path: str, expected: str, value: object) -> RequestError:
    got = _TYPE_NAMES.get(type(value), "something else")
    return RequestError(
        f"Invalid type for '{path}': expected {expected}, but got {got} instead.",
        code="invalid_type",
        param=path,
    )


def _join(path: str, name: str) -> str:
    return f"{path}.{name}" if path else name
