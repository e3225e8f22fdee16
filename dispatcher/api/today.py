"""What happened today at this service: ended calls and refused connections, from the metrics.

The counts begin at midnight (UTC), or when this process began to count, whichever is later. The answer says which.
They are about the processes that share their metrics: all of one `serve`, or one dispatcher of a cluster.
"""

from __future__ import annotations

import asyncio
import datetime
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from common.observe import metrics
from common.observe.call_outcome import CallOutcome

LOOK_SECONDS: Final = 60.0
"""Maximum time between two looks at the date."""

LATE_SECONDS: Final = 2 * LOOK_SECONDS
"""Time after midnight up to which the counts may claim to begin at midnight."""

FRESH_SECONDS: Final = 5.0
"""Time for which counts are given again without reading the metrics: many pages may ask."""

Totals = Mapping[str, float]


def read_totals() -> dict[str, float]:
    """Return the counts since the start of the service: calls by outcome, and refused connections."""
    refused = sum(metrics.totals("connections_refused", "reason").values())
    return metrics.totals("calls", "outcome") | {"connections_refused": refused}


class Today:
    """The counts of today."""

    def __init__(self, read: Callable[[], Totals] = read_totals, clock: Callable[[], float] = time.time) -> None:
        """Begin to count.

        Args:
            read: returns the counts since the start of the service; runs in a thread.
            clock: seconds since the epoch.
        """
        self._read = read
        self._clock = clock
        self._reading = asyncio.Lock()
        self._day = datetime.date.min
        self._since = 0.0
        self._before: Totals = {}
        self._now: Totals = {}
        self._read_seconds = float("-inf")

    async def run(self) -> None:
        """Look at the date for as long as the process lives."""
        while True:
            await self.look()
            midnight = _midnight(self._clock()) + 86_400
            await asyncio.sleep(min(LOOK_SECONDS, max(1.0, midnight - self._clock())))

    async def look(self) -> None:
        """Begin anew if it is another day."""
        async with self._reading:
            await self._look()

    async def as_json(self) -> dict[str, Any]:
        """Return the counts of today, and since when they count."""
        async with self._reading:
            await self._look()
            if time.monotonic() - self._read_seconds >= FRESH_SECONDS:
                self._now = await asyncio.to_thread(self._read)
                self._read_seconds = time.monotonic()
            counts = {name: round(self._now.get(name, 0) - self._before.get(name, 0)) for name in _NAMES}
        since = datetime.datetime.fromtimestamp(self._since, datetime.UTC)
        refused = counts.pop("connections_refused")
        return {
            "since": since.isoformat(timespec="seconds").replace("+00:00", "Z"),
            "calls": counts,
            "connections_refused": refused,
        }

    async def _look(self) -> None:
        now = self._clock()
        day = datetime.datetime.fromtimestamp(now, datetime.UTC).date()
        if day == self._day:
            return
        is_first, self._day = self._day == datetime.date.min, day
        self._before = self._now = await asyncio.to_thread(self._read)
        self._read_seconds = time.monotonic()
        midnight = _midnight(now)
        self._since = now if is_first or now - midnight > LATE_SECONDS else midnight


_NAMES: Final = (*(outcome.value for outcome in CallOutcome), "connections_refused")


def _midnight(epoch_seconds: float) -> float:
    """Return the midnight (UTC) before a time. A day of the epoch has 86,400 s (POSIX)."""
    return epoch_seconds - epoch_seconds % 86_400
