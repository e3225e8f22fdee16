"""The opening of a session: attempts to connect to the Realtime API, until a session is set up."""

from __future__ import annotations

from common.errors import UpstreamError
from common.link import wire
from common.link.wire import EndReason, Outcome
from worker.realtime.upstream_limits import RETRY_BACKOFF
from worker.session.actions import Connect, Metric
from worker.session.lifecycle import Lifecycle
from worker.session.parts import SessionParts
from worker.session.session_updates import UPDATE_SECONDS
from worker.session.states import SessionEvent, State

# Maximum time by which an attempt that began in time may exceed UPSTREAM_RETRY_SECONDS.
LAST_ATTEMPT_SECONDS = 4.0
# Code of an attempt that the limits of the process did not permit (`worker/runner/connecting.py`).
HELD_BACK = "held_back"


class SessionOpening:
    """Attempts to open one session.

    Attributes:
        started_seconds: time since which the call waits for a session.
        opened_seconds: time at which the connection was opened. The API counts the session's age from there.
    """

    def __init__(self, parts: SessionParts, life: Lifecycle, opening: wire.Open, now_seconds: float) -> None:
        self.started_seconds = now_seconds - opening.waited_seconds
        self.opened_seconds = now_seconds
        self._parts = parts
        self._life = life
        self._attempts = 0
        self._is_repeat = False
        self._last_error = ""

    def begin(self, delay_seconds: float, now_seconds: float) -> None:
        """Open the first connection, unless the call has waited for too long."""
        retry_seconds = self._parts.config.retry_seconds
        if now_seconds - self.started_seconds > retry_seconds:
            self._life.end(
                Outcome.FAILED, f"no Realtime session lasted, for {retry_seconds:g} s", EndReason.UPSTREAM
            )
        else:
            self._parts.out.actions.append(Connect(delay_seconds))

    def connected(self, now_seconds: float, *, repeat: bool, muted: bool) -> None:
        """Request the session on an open connection."""
        self._life.advance(SessionEvent.CONNECTED)
        self._is_repeat = repeat
        self.opened_seconds = now_seconds
        self._parts.updates.open(now_seconds, muted=muted)

    def succeeded(self, now_seconds: float) -> None:
        """Count a session that was opened."""
        self._parts.limits.succeeded(now_seconds, repeat=self._is_repeat)

    def failed(self, error: UpstreamError, now_seconds: float) -> None:
        """Try again after a delay, or end the call, because the connection could not be opened."""
        if self._life.ignores_peers():
            return
        self._life.advance(SessionEvent.CONNECT_FAILED)
        parts = self._parts
        parts.out.report(Metric.UPSTREAM_ERROR, label=error.code)
        parts.updates.lost()
        self._last_error = str(error)
        self._attempts += 1
        delay = max(RETRY_BACKOFF.delay_seconds(self._attempts), error.retry_after_seconds or 0.0)
        if error.retryable and error.code != HELD_BACK:
            parts.limits.failed(now_seconds, error.retry_after_seconds)
        retry_seconds = parts.config.retry_seconds
        if not error.retryable:
            self._life.end(Outcome.FAILED, str(error), EndReason.UPSTREAM)
        elif now_seconds + delay - self.started_seconds > retry_seconds:
            waited = f"after {self._attempts} attempts in {retry_seconds:g} s"
            self._life.end(Outcome.FAILED, f"no Realtime session {waited}: {error}", EndReason.UPSTREAM)
        else:
            parts.log.warning("upstream refused", reason=str(error), code=error.code, retry_in_seconds=delay)
            parts.out.actions.append(Connect(delay))

    def lost(self, reason: str, now_seconds: float) -> None:
        """Try again, because the connection was lost before the session was set up."""
        message = f"the connection to the Realtime API was lost before there was a session: {reason}"
        self._session_failed(UpstreamError(message, code="connection_lost", retryable=True), now_seconds)

    def tick(self, now_seconds: float) -> None:
        """Try again if the API does not set up the session in time."""
        if self._life.state is State.CONFIGURING and now_seconds - self.opened_seconds >= UPDATE_SECONDS:
            message = f"the Realtime API did not set up the session within {UPDATE_SECONDS:g} s"
            self._session_failed(UpstreamError(message, code="no_session", retryable=True), now_seconds)

    def give_up_late(self, now_seconds: float) -> None:
        """End a call that has waited too long for a session, even during an attempt."""
        if self._life.state not in (State.CONNECTING, State.CONFIGURING):
            return
        allowed_seconds = self._parts.config.retry_seconds + LAST_ATTEMPT_SECONDS
        if now_seconds - self.started_seconds >= allowed_seconds:
            cause = f": {self._last_error}" if self._last_error else ""
            self._life.end(
                Outcome.FAILED, f"no Realtime session within {allowed_seconds:g} s{cause}", EndReason.UPSTREAM
            )

    def _session_failed(self, error: UpstreamError, now_seconds: float) -> None:
        self._life.advance(SessionEvent.SESSION_FAILED)
        self.failed(error, now_seconds)
