"""Check single values in the Realtime API's events, before the session uses them as ids, times or counts."""

from __future__ import annotations

from typing import Final

MAX_ID_CHARS: Final = 128
"""Maximum length of an id or a name. Records of the link contain ids and names, and a call keeps them in memory.
OpenAI's ids have some 30 characters. With this bound, a record of all replies that a dispatcher keeps, with their
text, fits on the link (`dispatcher/call/memory.py`)."""


def checked_text(value: object) -> str:
    """Return the value, which must be text.

    Raises:
        TypeError: the value is not text.
    """
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where there should be a text")
    return value


def checked_id(value: object) -> str:
    """Return the value, which must be an id or name that records can carry.

    Raises:
        TypeError: the value is not text.
        ValueError: the value is too long.
    """
    checked = checked_text(value)
    if len(checked) > MAX_ID_CHARS:
        raise ValueError(f"an id of {len(checked)} characters: {MAX_ID_CHARS} characters are allowed")
    return checked


def id_or_none(value: object) -> str | None:
    """Return the value if it is an id that records can carry, otherwise None."""
    try:
        return checked_id(value)
    except (TypeError, ValueError):
        return None


def number_within(value: object, least: float, most: float) -> float | None:
    """Return the value as a number; None if it is not a number from `least` to `most`."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # Each comparison with NaN is false, so NaN gives None.
    return float(value) if least <= value <= most else None
