"""Recovery of a call that lost its session: the reason, the beginning, and the delay of the next session."""

from __future__ import annotations

from common.link.wire import Reason
from common.runtime.backoff import Backoff

# Delay before the next session, if the last ones were short.
DROP_BACKOFF = Backoff(0.25, 5.0)


class Recovery:
    """Recovery of one call: it begins when a session is lost, and ends when the next one is up.

    Attributes:
        reason: why the session was lost, a `wire.Reason`; empty: the call is not recovering.
        since_seconds: time of the loss; of the first loss, if several sessions were lost in turn.
    """

    def __init__(self, now_seconds: float) -> None:
        self.reason = ""
        self.since_seconds = now_seconds
        self._ready_seconds = now_seconds
        self._unstable_since_seconds: float | None = None
        self._drops = 0

    @property
    def is_on(self) -> bool:
        """Whether the call has lost its session, and no other one is up yet."""
        return bool(self.reason)

    def began(self, reason: str, now_seconds: float) -> None:
        """Note that the session is lost."""
        if not self.reason:
            self.since_seconds = now_seconds
        self.reason = reason

    def restored(self, now_seconds: float) -> None:
        """Note that the call has lost its dispatcher and its worker, before this dispatcher had the call."""
        self.reason = Reason.WORKER_LOST
        self.since_seconds = now_seconds

    def ready(self, now_seconds: float) -> tuple[str, float] | None:
        """Note that a session is up; return why another one was lost, and for how many seconds there was none."""
        self._ready_seconds = now_seconds
        if not self.reason:
            return None
        reason, self.reason = self.reason, ""
        return reason, now_seconds - self.since_seconds

    def dropped(self, now_seconds: float) -> None:
        """Note that the session's connection to the Realtime API was lost."""
        if self._unstable_since_seconds is None:
            self._unstable_since_seconds = now_seconds
        else:
            self._drops += 1

    def lives(self, unstable_seconds: float, now_seconds: float) -> None:
        """Forget former drops once the present session has lasted."""
        if now_seconds - self._ready_seconds >= unstable_seconds:
            self._unstable_since_seconds, self._drops = None, 0

    def delay(self, reason: str, now_seconds: float) -> tuple[float, float]:
        """Return the delay of the next session, and for how long sessions have been short, in seconds.

        Args:
            reason: why the session is opened.
            now_seconds: the time.
        """
        if reason != Reason.DROPPED or self._unstable_since_seconds is None:
            return 0.0, 0.0
        return DROP_BACKOFF.delay_seconds(self._drops), now_seconds - self._unstable_since_seconds
