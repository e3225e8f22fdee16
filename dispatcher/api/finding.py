"""The search in lists of calls: a text that a person typed, in the fields that a list shows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, Final

from common.plain_number import plain_number

MIN_DIGITS: Final = 3
"""Minimum number of digits for which a text is also looked for in numbers, however they are written."""


def finder(wanted: str) -> Callable[[Iterable[object]], bool]:
    """Return whether texts contain what is wanted, in upper or lower case.

    Numbers are compared by their digits, too: `5550101` finds `+39 02 555 0101`.
    """
    needle = wanted.strip().lower()
    digits = plain_number(needle) if needle and not any(map(str.isalpha, needle)) else ""

    def finds(texts: Iterable[object]) -> bool:
        for each in texts:
            text = str(each or "").lower()
            if needle in text or (len(digits) >= MIN_DIGITS and digits in plain_number(text)):
                return True
        return not needle

    return finds


def texts_of_record(record: Mapping[str, Any]) -> list[object]:
    """Return the texts of a record in which a search looks."""
    metadata = record.get("metadata") or {}
    named = [record.get(name) for name in ("uuid", "tenant", "ending", "reason", "reason_text")]
    return [*metadata.values(), *named, str(record.get("reason", "")).replace("_", " ")]
