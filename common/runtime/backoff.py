"""Delays between attempts that fail: each is twice the one before, up to a bound."""

from __future__ import annotations

from dataclasses import dataclass

# The bound is reached long before; a power of 2 beyond this has no float.
_MAX_DOUBLINGS = 1000


@dataclass(frozen=True, slots=True)
class Backoff:
    """Delays between attempts of one kind. The owner counts failures, and adds jitter where many wait together.

    Attributes:
        first_seconds: the delay after the first failure.
        most_seconds: the longest delay.
    """

    first_seconds: float
    most_seconds: float

    def delay_seconds(self, failures: int) -> float:
        """Return the delay before the next attempt.

        Args:
            failures: attempts that failed in a row; without any there is no delay.
        """
        if failures <= 0:
            return 0.0
        doublings = min(failures - 1, _MAX_DOUBLINGS)
        return min(self.first_seconds * 2.0**doublings, self.most_seconds)
