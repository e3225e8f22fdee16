"""A call's search for a worker, and the bounds of the search."""

from __future__ import annotations

from common.link.wire import Refusal
from dispatcher.call.limits import CallLimits
from dispatcher.call.sessions.recovery import Recovery


class Placing:
    """Attempts of one call to find a worker.

    Attributes:
        init_seconds: time at which the search for the first worker began.
        excluded: workers that are not asked again for now.
        refusals: consecutive refusals, except those of full or draining workers.
        refused_for_capacity: the last worker that refused the call was full or draining.
        again_seconds: time of the next search; None: a search is under way, or no worker is needed.
    """

    def __init__(self, limits: CallLimits, recovery: Recovery, now_seconds: float) -> None:
        self.init_seconds = now_seconds
        self.excluded: set[str] = set()
        self.refusals = 0
        self.refused_for_capacity = False
        self.again_seconds: float | None = None
        self._limits = limits
        self._recovery = recovery

    def refused(self, worker_id: str, reason: str) -> bool:
        """Note that a worker refused the call; return whether the call must give up its search."""
        if reason != Refusal.STALE_EPOCH:
            self.excluded.add(worker_id)
        self.refused_for_capacity = reason in (Refusal.FULL, Refusal.DRAINING)
        # Refusals of full workers do not count, because another worker may have room. Time limits the search.
        self.refusals += not self.refused_for_capacity
        return self.refusals >= self._limits.placing_attempts and not self._recovery.is_on

    def try_again(self, code: int, now_seconds: float, *, is_known: bool) -> bool:
        """Note that no worker was found; return whether to search again.

        Args:
            code: 1013 if no worker can take the call, 1011 if none could be asked.
            now_seconds: the time.
            is_known: False if Redis is unavailable and no worker is known.
        """
        limits = self._limits
        since, seconds = self.init_seconds, limits.placing_seconds if code == 1011 else 0.0
        if not is_known:
            seconds = min(seconds, limits.unknown_seconds)
        if self._recovery.is_on:
            since, seconds = self._recovery.since_seconds, limits.recovery_seconds
        if now_seconds - since >= seconds:
            return False
        # Excluded workers are asked again, because they may have room or be reachable by then.
        self.excluded.clear()
        self.again_seconds = now_seconds + limits.place_again_seconds
        return True

    def late_after(self, now_seconds: float) -> float | None:
        """Return the time limit, in seconds, that the search has exceeded; None: no limit was exceeded."""
        since, seconds = self.init_seconds, self._limits.placing_seconds
        if self._recovery.is_on:
            since, seconds = self._recovery.since_seconds, self._limits.recovery_seconds
        return seconds if now_seconds - since >= seconds else None

    def is_due(self, now_seconds: float) -> bool:
        """Return, once, whether the next search is due."""
        if self.again_seconds is None or now_seconds < self.again_seconds:
            return False
        self.again_seconds = None
        return True

    def ready(self) -> None:
        """Forget former refusals, because a session is up."""
        self.excluded.clear()
        self.refusals = 0
