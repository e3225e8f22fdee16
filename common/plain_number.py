"""One form of a telephone number, however it is written."""

from __future__ import annotations

import re
from typing import Final

_BETWEEN_DIGITS: Final = re.compile(r"[\s+().\-/]")


def plain_number(number: str) -> str:
    """Return a number in one form: its digits without a leading 00; other text in lower case."""
    plain = _BETWEEN_DIGITS.sub("", number)
    return plain.removeprefix("00") if plain.isdecimal() else number.strip().lower()
