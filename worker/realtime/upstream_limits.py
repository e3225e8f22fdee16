"""Limits on requests, shared by all calls of a process with the same base URL and key. They prevent retry storms.

A request is a `response.create`, or an attempt to open a session. A first request is permitted unless the API has
asked for a pause or the circuit breaker is open. A repeated request also needs room in the retry budget. All times
are seconds of one monotonic clock.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

from common.runtime.backoff import Backoff

# The delay before a repeated request of one call: of an answer, or of a session.
RETRY_BACKOFF: Final = Backoff(0.5, 3.0)
# Only repeated requests within this time count against the budget.
WINDOW_SECONDS: Final = 10.0
# The budget of repeats is this share of the first requests, and at least the floor.
REPEAT_SHARE: Final = 0.2
REPEAT_FLOOR: Final = 5
# The last repeats of the budget are spread over the window. Otherwise the first second of an outage could use the
# whole budget. Then for ten more seconds no request would show that the API works again.
SPREAD_REPEATS: Final = 3
# Maximum number of counted requests of each kind; more than a process can send in WINDOW_SECONDS.
MAX_COUNTED: Final = 10_000
# Maximum number of pairs of base URL and key; each tenant may have its own key.
MAX_PAIRS: Final = 1000
# Number of consecutive failures, over all calls, that opens the circuit breaker.
FAILURES_TO_OPEN: Final = 5
# Time until an open breaker permits a probe. It doubles with each failed probe, up to the second value.
OPEN_FIRST_SECONDS: Final = 0.5
OPEN_MOST_SECONDS: Final = 1.5
OPEN_BACKOFF: Final = Backoff(OPEN_FIRST_SECONDS, OPEN_MOST_SECONDS)
# Time until a probe without a result is replaced by another one, because its caller may have hung up.
PROBE_SECONDS: Final = 3.0
# Maximum pause that the API can ask for.
MAX_HOLD_SECONDS: Final = 600.0
# Maximum delay of a request because of `rate_limits.updated`.
MAX_RATE_LIMIT_HOLD_SECONDS: Final = 5.0


class BreakerState(Enum):
    """The state of the circuit breaker.

    CLOSED ──failures in a row──▶ OPEN ──time──▶ PROBING ──success──▶ CLOSED
                                   ▲                │
                                   └────failure─────┘
    """

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class RetryBudget:
    """The count of first and repeated requests in the last WINDOW_SECONDS.

    A successful repeat leaves the count and permits one more repeat. So after an outage the waiting calls are
    served in waves that double. A failing API gets only a few repeats per WINDOW_SECONDS.
    """

    def __init__(self) -> None:
        self._first: deque[float] = deque(maxlen=MAX_COUNTED)
        self._repeats: deque[float] = deque(maxlen=MAX_COUNTED)
        self._earned: deque[float] = deque(maxlen=MAX_COUNTED)

    def first(self, now_seconds: float) -> None:
        """Count a first request."""
        self._forget(now_seconds)
        self._first.append(now_seconds)

    def take(self, now_seconds: float) -> bool:
        """Count a repeated request if the budget has room for it."""
        self._forget(now_seconds)
        room = max(REPEAT_FLOOR, int(REPEAT_SHARE * len(self._first)))
        earned = len(self._earned)
        if len(self._repeats) >= room + earned:
            return False
        is_spread = not earned and len(self._repeats) >= room - SPREAD_REPEATS
        if is_spread and now_seconds - self._repeats[-1] < WINDOW_SECONDS / (SPREAD_REPEATS + 1):
            return False
        self._repeats.append(now_seconds)
        return True

    def reset(self) -> None:
        """Drop the repeats that failed during an outage, because the outage has ended."""
        self._repeats.clear()

    def refund(self, now_seconds: float) -> None:
        """Count the success of a repeated request."""
        if self._repeats:
            self._repeats.popleft()
        self._earned.append(now_seconds)

    def _forget(self, now_seconds: float) -> None:
        for times in (self._first, self._repeats, self._earned):
            while times and now_seconds - times[0] >= WINDOW_SECONDS:
                times.popleft()


class UpstreamLimits:
    """The limits on requests to one base URL with one key."""

    def __init__(self, jitter: Callable[[], float] = lambda: random.uniform(1.0, 1.4)) -> None:
        """Begin without a pause and with a closed breaker.

        Args:
            jitter: returns a factor of 1 or more for each delay, so that calls do not retry at the same time.
        """
        self.jitter = jitter
        self.breaker = BreakerState.CLOSED
        self._budget = RetryBudget()
        self._not_before_seconds = float("-inf")
        self._failures = 0
        self._open_until_seconds = float("-inf")
        self._openings = 0
        self._probe_until_seconds = float("-inf")
        self._said: set[str] = set()

    @property
    def held_until_seconds(self) -> float:
        """Return the end of the pause that the API asked for; a past time: no pause."""
        return self._not_before_seconds

    def may_send(self, now_seconds: float, *, repeat: bool) -> bool:
        """Return whether a request may be sent now. Counts a permitted request as sent.

        Args:
            now_seconds: the time.
            repeat: whether the request was sent before, or was refused by this method.
        """
        if now_seconds < self._not_before_seconds:
            return False
        match self.breaker:
            case BreakerState.CLOSED:
                if repeat:
                    return self._budget.take(now_seconds)
                self._budget.first(now_seconds)
                return True
            case BreakerState.OPEN if now_seconds >= self._open_until_seconds:
                pass
            case BreakerState.PROBING if now_seconds >= self._probe_until_seconds:
                pass
            case _:
                return False
        # A probe does not need room in the budget.
        self.breaker = BreakerState.PROBING
        self._probe_until_seconds = now_seconds + PROBE_SECONDS
        return True

    def succeeded(self, now_seconds: float, *, repeat: bool) -> None:
        """Count a successful request, which opened a session or produced output of the model."""
        self._failures = 0
        if self.breaker is not BreakerState.CLOSED:
            self._budget.reset()
        self.breaker = BreakerState.CLOSED
        self._openings = 0
        if repeat:
            self._budget.refund(now_seconds)

    def failed(self, now_seconds: float, retry_after_seconds: float | None = None) -> None:
        """Count a request that failed for a temporary reason that affects other calls, too.

        Args:
            now_seconds: the time.
            retry_after_seconds: the pause that the API asked for; None if it did not.
        """
        if retry_after_seconds is not None:
            self.hold(min(retry_after_seconds, MAX_HOLD_SECONDS), now_seconds)
        self._failures += 1
        too_many = self.breaker is BreakerState.CLOSED and self._failures >= FAILURES_TO_OPEN
        if too_many or self.breaker is BreakerState.PROBING:
            self._open(now_seconds)

    def rate_limited(self, reset_seconds: float, now_seconds: float) -> None:
        """Pause requests, because `rate_limits.updated` leaves no request or token for `reset_seconds`."""
        self.hold(min(reset_seconds, MAX_RATE_LIMIT_HOLD_SECONDS), now_seconds)

    def hold(self, seconds: float, now_seconds: float) -> None:
        """Permit no request for this time."""
        self._not_before_seconds = max(self._not_before_seconds, now_seconds + seconds)

    def first_time(self, what: str) -> bool:
        """Return True once per text, so that a process logs a message about all calls only once."""
        if what in self._said:
            return False
        self._said.add(what)
        return True

    def _open(self, now_seconds: float) -> None:
        self.breaker = BreakerState.OPEN
        self._openings += 1
        self._open_until_seconds = now_seconds + OPEN_BACKOFF.delay_seconds(self._openings) * self.jitter()


class LimitsTable:
    """The limits of each pair of base URL and key in this process."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str], UpstreamLimits] = {}

    def of(self, base_url: str, api_key: str) -> UpstreamLimits:
        """Return the limits of a pair. A full table evicts the least recently used pair."""
        limits = self._limits.pop((base_url, api_key), None) or UpstreamLimits()
        self._limits[base_url, api_key] = limits
        if len(self._limits) > MAX_PAIRS:
            del self._limits[next(iter(self._limits))]
        return limits
