"""Results of tool calls, as text for the model."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import orjson

from common.observe.tool_outcome import ToolOutcome

MAX_OUTPUT_BYTES: Final = 32 * 1024
"""Maximum size of a result in UTF-8, some 8,000 tokens. More would fill the context and delay the answer."""

_CUT_NOTE: Final = "\n[cut: the result is longer than 32 KiB]"


@dataclass(frozen=True, slots=True)
class ToolResult:
    """The output for the model, at most `MAX_OUTPUT_BYTES` of UTF-8, and the outcome of the call."""

    output: str
    outcome: ToolOutcome


def render(value: object) -> str:
    """Return a handler's result as bounded text: a str unchanged, any other value as JSON.

    Raises:
        TypeError: the value cannot be written as JSON.
    """
    if isinstance(value, str):
        return bounded(value)
    options = orjson.OPT_NON_STR_KEYS | orjson.OPT_SERIALIZE_NUMPY
    return bounded(orjson.dumps(value, option=options).decode())


def bounded(text: str) -> str:
    """Return `text` as valid UTF-8, truncated to `MAX_OUTPUT_BYTES` with a note if it is longer."""
    encoded = text[: MAX_OUTPUT_BYTES + 1].encode(errors="replace")
    if len(encoded) <= MAX_OUTPUT_BYTES:
        return encoded.decode()
    return encoded[: MAX_OUTPUT_BYTES - len(_CUT_NOTE)].decode(errors="ignore") + _CUT_NOTE
