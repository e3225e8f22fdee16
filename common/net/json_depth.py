"""JSON within JSON, and how deep it may be.

orjson reads 1,024 levels and writes 254. A value that is deeper than it can be written again would fail far from
whoever sent it, so each door counts the levels of what comes in.
"""

from __future__ import annotations

import re
from typing import Any, Final

import orjson

from common.errors import ServiceError

MAX_LEVELS: Final = 90
"""Levels of JSON from outside: `init`, the calls API, an instructions service, tools and settings."""

MAX_RECORD_LEVELS: Final = 100
"""Levels of an object in a record of the link. Short names of fields and tools move into their places a few levels
deeper (`common/settings/session_fields.py`), so this is more than `MAX_LEVELS`."""


# In the words of orjson 3.13, and of releases before it.
_READERS_LIMIT: Final = re.compile("depth limit|recursion limit", re.IGNORECASE)


def is_too_deep(value: object, max_levels: int = MAX_LEVELS) -> bool:
    """Return whether lists and objects stand within each other deeper than this; a text or number has no level."""
    layer = _within([value])
    for _ in range(max_levels):
        if not layer:
            return False
        layer = _within([each for outer in layer for each in _values(outer)])
    return bool(layer)


def _within(values: list[Any]) -> list[Any]:
    return [each for each in values if isinstance(each, (dict, list))]


def _values(outer: Any) -> Any:
    return outer.values() if isinstance(outer, dict) else outer


class TooDeep(ServiceError, ValueError):
    """JSON is nested deeper than `MAX_LEVELS`."""

    def __init__(self) -> None:
        super().__init__(f"is nested deeper than {MAX_LEVELS} levels")


def read(data: bytes | str) -> Any:
    """Read JSON from outside.

    Raises:
        TooDeep: it could not be sent on.
        orjson.JSONDecodeError: it is no JSON.
    """
    try:
        value = orjson.loads(data)
    except orjson.JSONDecodeError as error:
        if _READERS_LIMIT.search(error.msg):
            raise TooDeep from None
        raise
    if is_too_deep(value):
        raise TooDeep
    return value
