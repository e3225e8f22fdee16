"""A tool's arguments in one line, for people."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

MAX_ARGUMENTS: Final = 20


def signature(definition: Mapping[str, Any]) -> str:
    """Return a tool with its arguments, such as `opening_hours(day: string, [week: integer])`.

    Optional arguments are in brackets.

    Args:
        definition: an entry of the session's `tools`.
    """
    parameters = definition["parameters"]
    required = parameters.get("required")
    named = required if isinstance(required, list) else []
    properties = parameters.get("properties")
    arguments = [
        written if name in named else f"[{written}]"
        for name, schema in (properties.items() if isinstance(properties, dict) else ())
        for written in [f"{name}{_type(schema)}"]
    ]
    if len(arguments) > MAX_ARGUMENTS:
        arguments[MAX_ARGUMENTS:] = ["..."]
    return f"{definition['name']}({', '.join(arguments)})"


def _type(schema: object) -> str:
    found = schema.get("type") if isinstance(schema, dict) else None
    if isinstance(found, list):
        return f": {'|'.join(map(str, found))}"
    return f": {found}" if isinstance(found, str) else ""
