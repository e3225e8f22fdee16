"""Server events that a strict JSON parser refuses.

JSON allows the escape of a lone surrogate (RFC 8259, section 8.2: "unpredictable"). Python's `json` reads it, and
`orjson` refuses it. The API sends one where a delta ends within a character of two UTF-16 units.
"""

from __future__ import annotations

import enum
from typing import Any

import orjson

# Private use characters mark the surrogate until the event is JSON text, because `orjson` cannot write it.
_MARK = "\ue000"
_ESCAPED_MARK = _MARK.encode()
_SURROGATE = b"\\ud800"

# Fields with text of the model. In audio events, `delta` is base64.
_TEXTS = ("delta", "transcript", "text")


class Garbling(enum.StrEnum):
    """The damage to an event."""

    SURROGATE = "surrogate"
    """A lone surrogate at the end of each text of the model, and in the arguments of a function call."""
    NOT_JSON = "not_json"
    """The first half of the event's JSON text."""


def garbled(event: dict[str, Any], how: Garbling) -> bytes:
    """Return the JSON text of an event with the damage."""
    if how is Garbling.NOT_JSON:
        text = orjson.dumps(event)
        return text[: len(text) // 2]
    marked = _marked(event, audio=".output_audio.delta" in event["type"])
    return orjson.dumps(marked).replace(_ESCAPED_MARK, _SURROGATE)


def _marked(value: Any, *, audio: bool) -> Any:
    if isinstance(value, list):
        return [_marked(each, audio=audio) for each in value]
    if not isinstance(value, dict):
        return value
    return {name: _marked_field(name, each, audio=audio) for name, each in value.items()}


def _marked_field(name: str, value: Any, *, audio: bool) -> Any:
    if not isinstance(value, str):
        return _marked(value, audio=audio)
    if name == "arguments":
        return _marked_arguments(value)
    return value + _MARK if name in _TEXTS and not (audio and name == "delta") else value


def _marked_arguments(arguments: str) -> str:
    """Mark the end of the last string in the arguments; they stay JSON text."""
    end = arguments.rfind('"')
    if end > 0 and arguments[end - 1] not in "{,:":
        return f"{arguments[:end]}{_MARK}{arguments[end:]}"
    return f'{{"note":"{_MARK}"}}' if arguments in ("", "{}") else arguments
