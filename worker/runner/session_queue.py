"""The queue of openings: each waits until the token bucket of its API key lets it begin."""

from __future__ import annotations

import asyncio
import time
from typing import Final

from prometheus_client import Gauge

from worker.realtime.session_openings import Opening, SessionOpenings, Urgency

# Maximum number of pairs of base URL and key, as of `LimitsTable`.
MAX_PAIRS: Final = 1000
# A timer that is due within less would only be called again.
LEAST_TIMER_SECONDS: Final = 0.001


class Place:
    """The place of one opening in the queue."""

    def __init__(self, opening: Opening, begins: asyncio.Future[None]) -> None:
        """Make a place.

        Args:
            opening: of the session.
            begins: done when the opening may begin.
        """
        self.opening = opening
        self.begins = begins


class SessionQueue:
    """The queue of one pair of base URL and key.

    Attributes:
        openings: the order of the queue.
    """

    def __init__(self, per_second: float, waiting: Gauge) -> None:
        """Begin with an empty queue.

        Args:
            per_second: rate of openings.
            waiting: counts the openings that wait, of all keys.
        """
        self._waiting = waiting
        self._shown = 0
        self.openings = SessionOpenings(per_second, time.monotonic())
        self._places: dict[Opening, Place] = {}
        self._timer: asyncio.TimerHandle | None = None

    def join(self, since_seconds: float, give_up_seconds: float, urgency: Urgency) -> Place:
        """Queue an opening; see `SessionOpenings.join`."""
        opening = self.openings.join(since_seconds, give_up_seconds, urgency, time.monotonic())
        place = Place(opening, asyncio.get_running_loop().create_future())
        self._places[opening] = place
        self._begin()
        return place

    async def wait(self, place: Place) -> None:
        """Wait until the opening may begin. If that is cancelled, the next opening may."""
        try:
            await place.begins
        except asyncio.CancelledError:
            if place.opening.is_waiting:
                self.openings.leave(place.opening)
                del self._places[place.opening]
                self._show()
            else:
                self.give_back()
            raise

    def promote(self, place: Place) -> None:
        """Let a standby come before other standbys from now on, because its caller waits."""
        self.openings.promote(place.opening, time.monotonic())
        self._begin()

    def give_back(self) -> None:
        """Let the next opening begin, because one that may begin did not."""
        self.openings.give_back(time.monotonic())
        self._begin()

    def _begin(self) -> None:
        now_seconds = time.monotonic()
        for opening in self.openings.begin(now_seconds):
            place = self._places.pop(opening)
            if not place.begins.done():
                place.begins.set_result(None)
        self._show()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        next_seconds = self.openings.next_seconds(now_seconds)
        if next_seconds is not None:
            delay_seconds = max(LEAST_TIMER_SECONDS, next_seconds - now_seconds)
            self._timer = asyncio.get_running_loop().call_later(delay_seconds, self._begin)

    def _show(self) -> None:
        self._waiting.inc(self.openings.waiting - self._shown)
        self._shown = self.openings.waiting


class QueueTable:
    """The queue of each pair of base URL and key in this process."""

    def __init__(self, per_second: float, waiting: Gauge) -> None:
        """Begin with an empty table.

        Args:
            per_second: rate of openings of each pair.
            waiting: counts the openings that wait, of all pairs.
        """
        self._per_second = per_second
        self._waiting = waiting
        self._queues: dict[tuple[str, str], SessionQueue] = {}

    def of(self, base_url: str, api_key: str) -> SessionQueue:
        """Return the queue of a pair. A full table evicts the least recently used pair."""
        queue = self._queues.pop((base_url, api_key), None) or SessionQueue(self._per_second, self._waiting)
        self._queues[base_url, api_key] = queue
        if len(self._queues) > MAX_PAIRS:
            del self._queues[next(iter(self._queues))]
        return queue
