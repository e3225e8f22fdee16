"""Counts of the whole simulator, second by second: connection attempts, requested responses and tokens."""

from __future__ import annotations

import math
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

# Number of seconds remembered.
MAX_SECONDS = 3600


@dataclass(slots=True)
class Second:
    """One second of the monotonic clock, and its counts."""

    at_seconds: int
    counts: Counter[str] = field(default_factory=Counter)


class Counters:
    """Counts by name; the names are those of `GET /simulator/counters`.

    Args:
        clock: returns seconds of the monotonic clock.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self.totals: Counter[str] = Counter()
        self._clock = clock
        self._seconds: deque[Second] = deque(maxlen=MAX_SECONDS)

    def count(self, name: str, by: int = 1) -> None:
        """Add to a count in the current second."""
        now = math.floor(self._clock())
        if not self._seconds or self._seconds[-1].at_seconds != now:
            self._seconds.append(Second(now))
        self._seconds[-1].counts[name] += by
        self.totals[name] += by

    def report(self) -> dict[str, object]:
        """Return the totals, and each second that has a count, as JSON."""
        seconds = [{"at_seconds": each.at_seconds, **each.counts} for each in self._seconds]
        return {"totals": dict(self.totals), "seconds": seconds}
