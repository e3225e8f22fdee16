"""The order in which one sink gets the records that a process holds, Sans-I/O.

A sink that fails pauses as a whole, and then tries one record. A record that fails alone waits alone, so that one
record which the receiver cannot take does not hold back the others.
"""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable, Iterable
from typing import Final

from common.runtime.backoff import Backoff

SINK_PAUSE: Final = Backoff(1.0, 60.0)
RECORD_PAUSE: Final = Backoff(2.0, 600.0)
MAX_RETRY_AFTER_SECONDS: Final = 3600.0
"""Maximum time for which a receiver may ask us to wait."""


class SinkQueue:
    """The records that wait for one sink."""

    def __init__(self, jitter: Callable[[], float] = random.random) -> None:
        self._jitter = jitter
        self._due: list[tuple[float, int, str]] = []
        self._failures_of: dict[str, int] = {}
        self._waiting: set[str] = set()
        self._failures = 0
        self._paused_until = 0.0
        self._probing = False
        self._number = 0

    def __len__(self) -> int:
        return len(self._waiting)

    def push(self, record_id: str, now: float) -> None:
        """Deliver a record as soon as possible."""
        if record_id not in self._failures_of:
            self._failures_of[record_id] = 0
            self._put(record_id, now)

    def take(self, now: float, limit: int) -> list[str]:
        """Return the records to deliver now; each has an outcome afterwards: `delivered`, `failed` or `forget`."""
        if now < self._paused_until or self._probing:
            return []
        taken: list[str] = []
        limit = 1 if self._failures else limit
        while self._due and len(taken) < limit and self._due[0][0] <= now:
            record_id = heapq.heappop(self._due)[2]
            if record_id in self._waiting:
                self._waiting.discard(record_id)
                taken.append(record_id)
        self._probing = bool(self._failures and taken)
        return taken

    def wake_at(self) -> float | None:
        """Return the time at which `take` may return a record; None: not before another event."""
        if self._probing:
            return None
        while self._due and self._due[0][2] not in self._waiting:
            heapq.heappop(self._due)
        return max(self._due[0][0], self._paused_until) if self._due else None

    def delivered(self, record_ids: Iterable[str]) -> None:
        """Note that the sink took records."""
        self._failures = 0
        self._paused_until = 0.0
        self._probing = False
        for record_id in record_ids:
            self.forget(record_id)

    def failed(self, record_ids: Iterable[str], now: float, retry_after_seconds: float | None = None) -> None:
        """Note that the sink did not take records; they are due again later."""
        self._failures += 1
        self._probing = False
        asked = min(retry_after_seconds or 0.0, MAX_RETRY_AFTER_SECONDS)
        self._paused_until = max(self._paused_until, now + max(self._delay(SINK_PAUSE, self._failures), asked))
        for record_id in record_ids:
            if record_id in self._failures_of:
                self._failures_of[record_id] += 1
                pause = self._delay(RECORD_PAUSE, self._failures_of[record_id])
                self._put(record_id, now + max(pause, asked))

    def refused(self, record_ids: Iterable[str]) -> None:
        """Note that the sink answered that it never takes these records."""
        self._probing = False
        for record_id in record_ids:
            self.forget(record_id)

    def forget(self, record_id: str) -> None:
        """Deliver a record no more."""
        self._failures_of.pop(record_id, None)
        self._waiting.discard(record_id)

    def was_tried(self, record_id: str) -> bool:
        """Return whether a record has failed at least once."""
        return self._failures_of.get(record_id, 0) > 0

    def _put(self, record_id: str, due: float) -> None:
        self._number += 1
        self._waiting.add(record_id)
        heapq.heappush(self._due, (due, self._number, record_id))

    def _delay(self, backoff: Backoff, failures: int) -> float:
        return backoff.delay_seconds(failures) * (0.5 + 0.5 * self._jitter())
