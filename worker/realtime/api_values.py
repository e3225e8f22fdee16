"""Checks of single values in the Realtime API's events, before they become ids, times or counts of ours."""

from __future__ import annotations

from typing import Final

MAX_ID_CHARS: Final = 128
"""Ids and names travel in records of the link, and stay in memory for the length of a call. OpenAI's have some 30
characters. With this bound a record of as many replies as a dispatcher keeps, and of all their text, fits on the
link (`dispatcher/call/memory.py`)."""


def checked_text(value: object) -> str:
    """Return the value, which must be text.

    Raises:
        TypeError: it is something else.
    """
    if not isinstance(value, str):
        raise TypeError(f"a {type(value).__name__} where there should be a text")
    return value


def checked_id(value: object) -> str:
    """Return the value, which must be an id or name that records can carry.

    Raises:
        TypeError: it is no text.
        ValueError: it is too long.
    """
    checked = checked_text(value)
    if len(checked) > MAX_ID_CHARS:
        raise ValueError(f"an id of {len(checked)} characters: {MAX_ID_CHARS} characters are allowed")
    return checked


def number_within(value: object, least: float, most: float) -> float | None:
    """Return the value as a number; None if it is no number between these two, both included."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    # Nothing is true of NaN.
    return float(value) if least <= value <= most else None
