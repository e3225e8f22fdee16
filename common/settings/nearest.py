"""The right value that is nearest to a wrong one, for settings that are replaced with a warning."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable

MIN_PREFIX_CHARACTERS = 3
"""Minimum length of a prefix: shorter ones fit too many words."""

MAX_CHARACTERS = 64
"""Maximum length: a longer value is not a misspelt word, and takes long to compare."""


def nearest_word(value: object, choices: Iterable[str]) -> str | None:
    """Return the choice that begins with `value`, or is spelt most like it; None: no choice is near."""
    written = str(value).strip().lower()
    allowed = tuple(choices)
    if len(written) > MAX_CHARACTERS:
        return None
    if len(written) >= MIN_PREFIX_CHARACTERS:
        begun = [each for each in allowed if each.startswith(written)]
        if len(begun) == 1:
            return begun[0]
    found = difflib.get_close_matches(written, allowed, n=1)
    return found[0] if found else None


def nearest_number(value: object, low: float, high: float) -> float | None:
    """Return the nearest number from `low` to `high`; None: `value` is not a number.

    A decimal comma is read as a point.
    """
    if isinstance(value, bool) or not isinstance(value, (int, float, str)):
        return None
    try:
        number = float(value.replace(",", ".") if isinstance(value, str) else value)
    except (ValueError, OverflowError):
        return None
    return None if math.isnan(number) else min(max(number, low), high)
