"""Limits that all calls of a process share which use one base URL and key: so that an outage is no storm.

A request is a `response.create`, or an attempt to open a session. A first request is free unless the API has asked
for a pause, or has failed so often that the circuit breaker is open. A repeated request also needs room in the
retry budget. All times are seconds of one monotonic clock.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable
from enum import Enum
from typing import Final

# Repeated requests within this time count against the budget.
WINDOW_SECONDS: Final = 10.0
# Repeats may be this share of first requests, and never fewer than the floor.
REPEAT_SHARE: Final = 0.2
REPEAT_FLOOR: Final = 5
# The last repeats of the budget are spread over the window. Otherwise all of it could be spent in the first second
# of an outage, and for ten more seconds nothing would find out that the API works again.
SPREAD_REPEATS: Final = 3
# Requests that are remembered of each kind; more than a process can send in WINDOW_SECONDS.
MAX_COUNTED: Final = 10_000
# Pairs of base URL and key; each tenant may have a key.
MAX_PAIRS: Final = 1000
# Failures in a row, of any call, that open the circuit breaker.
FAILURES_TO_OPEN: Final = 5
# An open breaker lets a probe pass after this time, which doubles with each failed probe.
OPEN_FIRST_SECONDS: Final = 0.5
OPEN_MOST_SECONDS: Final = 1.5
# A probe without a result is given up, and the next one may be sent: its caller may have hung up.
PROBE_SECONDS: Final = 3.0
# The longest pause that the API can ask for.
MAX_HOLD_SECONDS: Final = 600.0
# Of `rate_limits.updated`: the longest delay of a request.
MAX_RATE_LIMIT_HOLD_SECONDS: Final = 5.0


class BreakerState(Enum):
    """Whether requests are sent.

    CLOSED ──failures in a row──▶ OPEN ──time──▶ PROBING ──success──▶ CLOSED
                                   ▲                │
                                   └────failure─────┘
    """

    CLOSED = "closed"
    OPEN = "open"
    PROBING = "probing"


class RetryBudget:
    """Counts first and repeated requests of the last WINDOW_SECONDS.

    A repeat that succeeds leaves the count and earns one more. So calls that waited for the end of an outage are
    served in waves that double, and a failing API gets a few repeats in WINDOW_SECONDS.
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
        """The outage is over: repeats that failed in it do not count any more."""
        self._repeats.clear()

    def refund(self, now_seconds: float) -> None:
        """A repeated request succeeded."""
        if self._repeats:
            self._repeats.popleft()
        self._earned.append(now_seconds)

    def _forget(self, now_seconds: float) -> None:
        for times in (self._first, self._repeats, self._earned):
            while times and now_seconds - times[0] >= WINDOW_SECONDS:
                times.popleft()


class UpstreamLimits:
    """When requests may be sent to one base URL with one key."""

    def __init__(self, jitter: Callable[[], float] = lambda: random.uniform(1.0, 1.4)) -> None:
        """Build it.

        Args:
            jitter: a factor of 1 or more for each delay: calls that failed together do not return together.
        """
        self.jitter = jitter
        self.breaker = BreakerState.CLOSED
        self._budget = RetryBudget()
        self._not_before_seconds = float("-inf")
        self._failures = 0
        self._open_until_seconds = float("-inf")
        self._open_seconds = OPEN_FIRST_SECONDS
        self._probe_until_seconds = float("-inf")
        self._said: set[str] = set()

    @property
    def held_until_seconds(self) -> float:
        """When the pause that the API has asked for ends; in the past if there is none."""
        return self._not_before_seconds

    def may_send(self, now_seconds: float, *, repeat: bool) -> bool:
        """Whether a request may be sent now; a permitted request is counted as sent.

        Args:
            now_seconds: the time.
            repeat: the request was sent before, or was refused here.
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
        # One probe is allowed whatever the budget says.
        self.breaker = BreakerState.PROBING
        self._probe_until_seconds = now_seconds + PROBE_SECONDS
        return True

    def succeeded(self, now_seconds: float, *, repeat: bool) -> None:
        """A request brought what it was for: a session, or output of the model."""
        self._failures = 0
        if self.breaker is not BreakerState.CLOSED:
            self._budget.reset()
        self.breaker = BreakerState.CLOSED
        self._open_seconds = OPEN_FIRST_SECONDS
        if repeat:
            self._budget.refund(now_seconds)

    def failed(self, now_seconds: float, retry_after_seconds: float | None = None) -> None:
        """A request failed for a reason that may pass, and that other calls would meet, too.

        Args:
            now_seconds: the time.
            retry_after_seconds: the pause that the API has asked for; None: it has not.
        """
        if retry_after_seconds is not None:
            self.hold(min(retry_after_seconds, MAX_HOLD_SECONDS), now_seconds)
        self._failures += 1
        if self.breaker is BreakerState.PROBING:
            self._open_seconds = min(2 * self._open_seconds, OPEN_MOST_SECONDS)
            self._open(now_seconds)
        elif self.breaker is BreakerState.CLOSED and self._failures >= FAILURES_TO_OPEN:
            self._open(now_seconds)

    def rate_limited(self, reset_seconds: float, now_seconds: float) -> None:
        """No request or token is left until `reset_seconds` have passed (`rate_limits.updated`)."""
        self.hold(min(reset_seconds, MAX_RATE_LIMIT_HOLD_SECONDS), now_seconds)

    def hold(self, seconds: float, now_seconds: float) -> None:
        """Send nothing for so long."""
        self._not_before_seconds = max(self._not_before_seconds, now_seconds + seconds)

    def first_time(self, what: str) -> bool:
        """Whether this is said for the first time: what concerns every call is logged once in a process."""
        if what in self._said:
            return False
        self._said.add(what)
        return True

    def _open(self, now_seconds: float) -> None:
        self.breaker = BreakerState.OPEN
        self._open_until_seconds = now_seconds + self._open_seconds * self.jitter()


class LimitsTable:
    """The limits of each pair of base URL and key that calls of this process use."""

    def __init__(self) -> None:
        self._limits: dict[tuple[str, str], UpstreamLimits] = {}

    def of(self, base_url: str, api_key: str) -> UpstreamLimits:
        """The limits of a pair; the pair that was used least recently is forgotten."""
        limits = self._limits.pop((base_url, api_key), None) or UpstreamLimits()
        self._limits[base_url, api_key] = limits
        if len(self._limits) > MAX_PAIRS:
            del self._limits[next(iter(self._limits))]
        return limits
