"""The order and the rate in which a process opens sessions with one API key: a token bucket with a queue.

After the death of another worker some hundred sessions are to be opened at once, and the API limits their rate.
They begin one after the other here. Callers come before standbys, which have time because another session serves
their caller. Among equals the longest waiting call comes first. No opening waits beyond its own bound: at that
time it begins in any case, and the next ones wait for longer. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import heapq
from enum import IntEnum
from typing import Final

# Tokens are saved for this time. A few calls that come together do not wait, and within a second hardly more
# sessions begin than the rate says.
SAVED_SECONDS: Final = 0.1
# Openings beyond their bound use tokens of the future, up to this time of them.
OWED_SECONDS: Final = 1.0
# Maximum number of waiting openings; more than a process has calls. Further ones begin at once.
MAX_WAITING: Final = 10_000
# Maximum wait of a caller, who may hear nothing meanwhile. At the default rate 500 callers begin in that time.
MOST_CALLER_SECONDS: Final = 10.0
# An opening may wait for this share of the time until its call is given up, so that attempts have the rest.
WAITING_SHARE: Final = 0.5


class Urgency(IntEnum):
    """Which openings come first."""

    CALLER = 0
    """A caller waits: for a new call, or because the session of the call was lost."""
    STANDBY = 1
    """Another session still serves the caller."""


class Opening:
    """An opening that waits until it may begin.

    Attributes:
        since_seconds: since when the call waits for a session.
        latest_seconds: at this time the opening begins in any case.
        urgency: see `Urgency`.
        is_waiting: whether it has neither begun nor left.
        number: in the order of arrival.
    """

    def __init__(self, since_seconds: float, latest_seconds: float, urgency: Urgency, number: int) -> None:
        self.since_seconds = since_seconds
        self.latest_seconds = latest_seconds
        self.urgency = urgency
        self.is_waiting = True
        self.number = number


class SessionOpenings:
    """The openings of sessions with one key."""

    def __init__(self, per_second: float, now_seconds: float) -> None:
        """Begin with saved tokens.

        Args:
            per_second: rate of openings.
            now_seconds: the time.
        """
        self._per_second = per_second
        self._most_tokens = max(1.0, per_second * SAVED_SECONDS)
        self._tokens = self._most_tokens
        self._filled_seconds = now_seconds
        self._joined = 0
        self._number_waiting = 0
        # Openings that have begun or left stay in these until they are first.
        self._queues: dict[Urgency, list[tuple[float, int, Opening]]] = {urgency: [] for urgency in Urgency}
        self._bounds: list[tuple[float, int, Opening]] = []

    @property
    def waiting(self) -> int:
        """The number of openings that wait."""
        return self._number_waiting

    def join(self, since_seconds: float, give_up_seconds: float, urgency: Urgency, now_seconds: float) -> Opening:
        """Queue an opening; `begin` returns it when it may begin.

        Args:
            since_seconds: since when the call waits for a session.
            give_up_seconds: when the call is given up without a session.
            urgency: see `Urgency`.
            now_seconds: the time.
        """
        wait_seconds = max(0.0, WAITING_SHARE * (give_up_seconds - now_seconds))
        if urgency is Urgency.CALLER:
            wait_seconds = min(wait_seconds, MOST_CALLER_SECONDS)
        if self._number_waiting >= MAX_WAITING:
            wait_seconds = 0.0
        self._joined += 1
        opening = Opening(since_seconds, now_seconds + wait_seconds, urgency, self._joined)
        self._number_waiting += 1
        heapq.heappush(self._bounds, (opening.latest_seconds, opening.number, opening))
        heapq.heappush(self._queues[urgency], (since_seconds, opening.number, opening))
        return opening

    def promote(self, opening: Opening, now_seconds: float) -> None:
        """Let a standby be a caller from now on: the other session of its call is gone."""
        if opening.is_waiting and opening.urgency is not Urgency.CALLER:
            opening.urgency = Urgency.CALLER
            opening.latest_seconds = min(opening.latest_seconds, now_seconds + MOST_CALLER_SECONDS)
            heapq.heappush(self._bounds, (opening.latest_seconds, opening.number, opening))
            heapq.heappush(self._queues[Urgency.CALLER], (opening.since_seconds, opening.number, opening))

    def leave(self, opening: Opening) -> None:
        """Forget an opening, because its call has ended."""
        if opening.is_waiting:
            opening.is_waiting = False
            self._number_waiting -= 1

    def begin(self, now_seconds: float) -> list[Opening]:
        """Return the openings that may begin, in their order."""
        self._fill(now_seconds)
        begun = []
        while (overdue := _first(self._bounds)) is not None and overdue.latest_seconds <= now_seconds:
            self._take(overdue)
            begun.append(overdue)
        while self._tokens >= 1.0 and (first := self._next()) is not None:
            self._take(first)
            begun.append(first)
        return begun

    def give_back(self, now_seconds: float) -> None:
        """Take a token back, because an opening that might begin did not."""
        self._fill(now_seconds)
        self._tokens = min(self._most_tokens, self._tokens + 1.0)

    def next_seconds(self, now_seconds: float) -> float | None:
        """Return when `begin` is to be called next; None: nothing waits."""
        first = _first(self._bounds)
        if first is None:
            return None
        self._fill(now_seconds)
        token_seconds = now_seconds + max(0.0, 1.0 - self._tokens) / self._per_second
        return max(now_seconds, min(first.latest_seconds, token_seconds))

    def _next(self) -> Opening | None:
        caller = _first(self._queues[Urgency.CALLER])
        return caller if caller is not None else _first(self._queues[Urgency.STANDBY])

    def _take(self, opening: Opening) -> None:
        self.leave(opening)
        self._tokens = max(-OWED_SECONDS * self._per_second, self._tokens - 1.0)

    def _fill(self, now_seconds: float) -> None:
        passed_seconds = max(0.0, now_seconds - self._filled_seconds)
        self._filled_seconds = now_seconds
        self._tokens = min(self._most_tokens, self._tokens + passed_seconds * self._per_second)


def _first(heap: list[tuple[float, int, Opening]]) -> Opening | None:
    """Return the first opening of a heap that still waits."""
    while heap and not heap[0][2].is_waiting:
        heapq.heappop(heap)
    return heap[0][2] if heap else None
