"""Whether a process may write what it holds: not when it has just stalled, because others may hold it now."""

from __future__ import annotations

# Another dispatcher cannot take a call over sooner: its caller has to notice that the connection is dead.
STALL_SECONDS = 1.5
# Within this time a process that woke has renewed its leases, and has ended calls that others took over.
SETTLE_SECONDS = 3.0


class StallGuard:
    """Guard of a task that steps often."""

    def __init__(self) -> None:
        self._stepped_seconds: float | None = None
        self._waits_until_seconds = float("-inf")

    def step(self, now_seconds: float) -> bool:
        """Note a step; return whether the process may write."""
        last, self._stepped_seconds = self._stepped_seconds, now_seconds
        if last is not None and now_seconds - last >= STALL_SECONDS:
            self._waits_until_seconds = now_seconds + SETTLE_SECONDS
        return now_seconds >= self._waits_until_seconds
