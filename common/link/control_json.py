"""The JSON of control records: one object, whose fields are checked by the annotations of the record's class."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable
from typing import Any, TypeVar

import orjson

from common.errors import LinkProtocolError
from common.link.figure_records import ToolFigure
from common.link.memory_records import JSON_NAME, Reply
from common.link.records import Control
from common.link.speech_records import ItemHeard
from common.net.json_depth import MAX_RECORD_LEVELS, is_too_deep

# Bound of received numbers: counters continue from them, and must fit into 64 bits again. Seconds have it, too.
MAX_NUMBER = 2**53

_C = TypeVar("_C", bound=Control)


def encode_control(record: Control) -> bytes:
    """Encode the fields of a control record.

    Raises:
        ValueError: the record is too deep to be read by the other end, or has a value that JSON does not have.
    """
    for name in _objects_of(type(record)):  # type: ignore[arg-type]  # a class can be hashed
        if is_too_deep(getattr(record, name), MAX_RECORD_LEVELS):
            raise ValueError(f"a {type(record).__name__} record is nested deeper than {MAX_RECORD_LEVELS} levels")
    try:
        if _has_json_names(type(record)):  # type: ignore[arg-type]  # a class can be hashed
            return orjson.dumps(record, _as_json, orjson.OPT_PASSTHROUGH_DATACLASS)
        return orjson.dumps(record)
    except orjson.JSONEncodeError as error:
        raise ValueError(f"a {type(record).__name__} record cannot be written as JSON: {error}") from error


def decode_control(record_type: type[_C], payload: memoryview) -> _C:
    """Decode a control record from its JSON payload; unknown fields are ignored.

    Raises:
        LinkProtocolError: the payload is not a JSON object, or a field has another type than this side expects.
            The error does not repeat the payload.
    """
    try:
        data = orjson.loads(payload)
    except orjson.JSONDecodeError as error:
        raise LinkProtocolError(f"a {record_type.__name__} record is not JSON") from error
    return _build(record_type, data)


_D = TypeVar("_D")


def _build(record_type: type[_D], data: object) -> _D:
    if not isinstance(data, dict):
        raise LinkProtocolError(f"a {record_type.__name__} record is not a JSON object")
    values = {}
    for name, key, is_right, member in _fields_of(record_type):  # type: ignore[arg-type]  # a class can be hashed
        if key not in data:
            continue
        value = data[key]
        if not is_right(value):
            raise LinkProtocolError(
                f"field {key} of a {record_type.__name__} record is a {type(value).__name__}, or out of range"
            )
        if member is not None:
            value = tuple([_build(member, each) for each in value])
        values[name] = tuple(value) if isinstance(value, list) else value
    return record_type(**values)


@functools.cache
def _fields_of(record_type: type[Any]) -> list[tuple[str, str, Callable[[Any], bool], type[Any] | None]]:
    """Return each field's name, its name in JSON, the check of its value, and the type of a tuple's members."""
    fields = [(field.name, json_name(field), str(field.type)) for field in dataclasses.fields(record_type)]
    return [(name, key, _IS[annotation], _MEMBERS.get(annotation)) for name, key, annotation in fields]


def json_name(field: dataclasses.Field[Any]) -> str:
    """Return the name that a record's field has in JSON."""
    return str(field.metadata.get(JSON_NAME, field.name))


@functools.cache
def _has_json_names(record_type: type[Any]) -> bool:
    """Return whether a field of the record, or of its members, has another name in JSON."""
    members = [_MEMBERS.get(str(field.type)) for field in dataclasses.fields(record_type)]
    types = [record_type, *(member for member in members if member is not None)]
    return any(JSON_NAME in field.metadata for each in types for field in dataclasses.fields(each))


def _as_json(record: Any) -> dict[str, Any]:
    """Return the fields of a record, or of a member of one, under their names in JSON."""
    return {json_name(field): getattr(record, field.name) for field in dataclasses.fields(record)}


@functools.cache
def _objects_of(record_type: type[Any]) -> list[str]:
    """Return the names of a record's fields that hold JSON of any shape."""
    return [field.name for field in dataclasses.fields(record_type) if str(field.type) == "dict[str, Any]"]


# By a field's annotation. Numbers are never negative; JSON's true is not 1.
_IS: dict[str, Callable[[Any], bool]] = {
    "int": lambda value: type(value) is int and 0 <= value <= MAX_NUMBER,
    "str": lambda value: isinstance(value, str),
    "float": lambda value: type(value) in (int, float) and 0 <= value <= MAX_NUMBER,
    "bool": lambda value: isinstance(value, bool),
    "dict[str, Any]": lambda value: isinstance(value, dict) and not is_too_deep(value, MAX_RECORD_LEVELS),
    "dict[str, str]": lambda value: isinstance(value, dict) and all(isinstance(v, str) for v in value.values()),
    "tuple[ItemHeard, ...]": lambda value: isinstance(value, list),
    "tuple[Reply, ...]": lambda value: isinstance(value, list),
    "tuple[ToolFigure, ...]": lambda value: isinstance(value, list),
    "tuple[int, ...]": lambda value: (
        isinstance(value, list) and all(type(each) is int and 0 <= each <= MAX_NUMBER for each in value)
    ),
    "tuple[str, ...]": lambda value: isinstance(value, list) and all(isinstance(each, str) for each in value),
}
_MEMBERS: dict[str, type[Any]] = {
    "tuple[ItemHeard, ...]": ItemHeard,
    "tuple[Reply, ...]": Reply,
    "tuple[ToolFigure, ...]": ToolFigure,
}
