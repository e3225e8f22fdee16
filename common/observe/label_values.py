"""The rule for values of labels that another party chooses: a model, a tool, a tenant."""

from __future__ import annotations

import re
from typing import Final

from common.observe import redaction

OTHER: Final = "other"
"""The label value for all values that have no series of their own."""

PAGE: Final = "page"
"""The value of the label `tenant` for calls from the live page, which belong to no tenant."""

_WORD: Final = re.compile(r"[A-Za-z0-9_.:/-]{1,64}")
_UUID: Final = re.compile(r"[0-9a-f]{8}-?(?:[0-9a-f]{4}-?){3}[0-9a-f]{12}", re.IGNORECASE)
_DATE: Final = re.compile(r"20\d\d-[01]\d-[0-3]\d")
_NUMBER_DIGITS: Final = 7
"""A value with this many digits may be a telephone number. The digits of a model's date do not count."""


def is_fit(value: str) -> bool:
    """Return whether a label may have this value: a word that identifies no call and holds no secret."""
    if not _WORD.fullmatch(value):
        return False
    digits = sum(character.isdigit() for character in _DATE.sub("", value))
    return digits < _NUMBER_DIGITS and _UUID.search(value) is None and not redaction.holds_known(value)
