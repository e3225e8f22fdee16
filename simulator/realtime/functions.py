"""Checks of a function tool for which OpenAI's APIs refuse a whole request.

The texts are the platform's: see `flanksource/mission-control` pull request 2634 (arrays without items) and
`sigoden/aichat` pull request 1049. The top level's are those of the function calling guide.
"""

from __future__ import annotations

from typing import Any

from simulator.realtime.errors import RequestError

_TOP_LEVEL = ("oneOf", "anyOf", "allOf", "enum", "not")
_LISTS_OF_SCHEMAS = ("anyOf", "oneOf", "allOf")
_MAPS_OF_SCHEMAS = ("properties", "$defs", "definitions")


def check_parameters(name: str, schema: dict[str, Any], path: str) -> None:
    """Check the JSON Schema of a function's parameters.

    Args:
        name: name of the function.
        schema: schema of the parameters.
        path: place of the schema in the event.

    Raises:
        RequestError: the API does not accept the schema.
    """
    if any(keyword in schema for keyword in _TOP_LEVEL):
        listed = "/".join(f"'{keyword}'" for keyword in _TOP_LEVEL)
        what = f"schema must have type 'object' and not have {listed} at the top level."
        raise _refused(name, what, path)
    _check(name, schema, (), path)


def _check(name: str, schema: Any, context: tuple[str, ...], path: str) -> None:
    if not isinstance(schema, dict):
        return
    kind = schema.get("type")
    if (kind == "array" or (isinstance(kind, list) and "array" in kind)) and "items" not in schema:
        raise _refused(name, f"In context={context!r}, array schema missing items.", path)
    for keyword in _MAPS_OF_SCHEMAS:
        inner = schema.get(keyword)
        for field, each in inner.items() if isinstance(inner, dict) else ():
            _check(name, each, (*context, keyword, field), path)
    for keyword in _LISTS_OF_SCHEMAS:
        inner = schema.get(keyword)
        for index, each in enumerate(inner if isinstance(inner, list) else ()):
            _check(name, each, (*context, keyword, str(index)), path)
    _check(name, schema.get("items"), (*context, "items"), path)


def _refused(name: str, what: str, path: str) -> RequestError:
    return RequestError(
        f"Invalid schema for function '{name}': {what}", code="invalid_function_parameters", param=path
    )
