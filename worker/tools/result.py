"""What the model is told of a tool that it called."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from common.observe.tool_outcome import ToolOutcome

MAX_OUTPUT_BYTES: Final = 32 * 1024
"""Of UTF-8. Some 8,000 tokens: more would fill the model's context, and take long to read."""

_CUT_NOTE: Final = "\n[cut: the result is longer than 32 KiB]"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The output for the model, at most `MAX_OUTPUT_BYTES` of UTF-8, and how the call ended."""

    output: str
    outcome: ToolOutcome


def render(value: object) -> str:
    """What a handler returned, as text within the bound: a str as it is, anything else as JSON.

    Raises:
        TypeError: it cannot be written as JSON.
    """
    if isinstance(value, str):
        return bounded(value)
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return bounded(orjson.dumps(value, option=options).decode())


def bounded(text: str) -> str:
    """Returns `text` as UTF-8 can carry it, cut to `MAX_OUTPUT_BYTES` with a note where it is longer."""
    encoded = text[: MAX_OUTPUT_BYTES + 1].encode(errors="replace")
    if len(encoded) <= MAX_OUTPUT_BYTES:
        return encoded.decode()
    return encoded[: MAX_OUTPUT_BYTES - len(_CUT_NOTE)].decode(errors="ignore") + _CUT_NOTE
