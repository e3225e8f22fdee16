"""The header `Retry-After`: seconds, or an HTTP date (RFC 9110, section 10.2.3)."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Final

MAX_RETRY_AFTER_SECONDS: Final = 3600.0
"""Maximum wait that a server may ask for."""


def seconds_of(header: str | None) -> float | None:
    """Return the wait that a header asks for, at most `MAX_RETRY_AFTER_SECONDS`; None if it makes no sense."""
    if header is None:
        return None
    try:
        seconds = float(header)
    except ValueError:
        return _seconds_until(header)
    return min(seconds, MAX_RETRY_AFTER_SECONDS) if 0 <= seconds < math.inf else None


def _seconds_until(date: str) -> float | None:
    try:
        then = parsedate_to_datetime(date)
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # HTTP dates are in GMT; a missing zone means the same.
    then = then.replace(tzinfo=UTC) if then.tzinfo is None else then
    # Only the wall clock can be compared with a date.
    seconds = (then - datetime.now(UTC)).total_seconds()
    return min(max(seconds, 0.0), MAX_RETRY_AFTER_SECONDS)
