"""One session's connection to the Realtime API: opened when the limits of the process allow it, and closed."""

from __future__ import annotations

import asyncio
import random
import time
from typing import Any

import structlog

from common.errors import UpstreamError
from common.observe.metrics import WorkerMetrics
from common.observe.redaction import redact
from worker.config.profile import CallProfile
from worker.realtime import client_events
from worker.realtime.bad_input import BadInput
from worker.realtime.connection import RealtimeConnection, RealtimeOwner
from worker.realtime.dialect import GA, Dialect
from worker.realtime.session_openings import Urgency
from worker.realtime.upstream_limits import UpstreamLimits
from worker.runner.own_key import SessionKey
from worker.runner.preparation import Preparation
from worker.runner.resources import Resources
from worker.runner.session_queue import Place, SessionQueue
from worker.session.opening import HELD_BACK

# The limits of the process are asked again after this time.
PERMISSION_SECONDS = 0.1


class Upstream:
    """The connection of one session, or none.

    Attributes:
        limits: of the Realtime API, which the process shares.
    """

    def __init__(
        self,
        uuid: str,
        owner: RealtimeOwner,
        resources: Resources,
        preparation: Preparation,
        key: SessionKey,
        *,
        waited_seconds: float = 0.0,
    ) -> None:
        """Build it.

        Args:
            uuid: of the call.
            owner: takes the API's events.
            resources: of the worker.
            preparation: of the call: it knows the service and the account.
            key: of the session.
            waited_seconds: how long the call has waited for a session already.
        """
        self.limits = UpstreamLimits()
        self._uuid = uuid
        self._owner = owner
        self._resources = resources
        self._preparation = preparation
        self._key = key
        self._dialect: Dialect = GA
        self._metrics: WorkerMetrics = resources.metrics
        self._log = structlog.get_logger().bind(uuid=uuid)
        self._profile: CallProfile | None = None
        self._connection: RealtimeConnection | None = None
        self._is_paused = False
        self._since_seconds = time.monotonic() - waited_seconds
        self._urgency = Urgency.CALLER
        self._queue: SessionQueue | None = None
        self._place: Place | None = None

    def prepare(self, profile: CallProfile) -> None:
        """Take the service and the account of the call."""
        key = profile.api_key.get_secret_value()
        self.limits = self._resources.limits.of(profile.base_url, key)
        self._queue = self._resources.queues.of(profile.base_url, key)
        self._dialect = profile.dialect

    def stand_by(self) -> None:
        """Let callers' sessions be opened before this one, because another session serves its caller."""
        self._urgency = Urgency.STANDBY

    def take_call(self) -> None:
        """Open the session as soon as those of other callers, because its caller waits from now on."""
        self._urgency = Urgency.CALLER
        if self._place is not None and self._queue is not None:
            self._queue.promote(self._place)

    async def open(self, delay_seconds: float) -> bool:
        """Open a connection after a delay, jittered: calls that were refused together do not come back together.

        Returns:
            whether it counts as a repeated request.

        Raises:
            UpstreamError: it did not work, or the limits of the process did not allow it in time.
        """
        await asyncio.sleep(delay_seconds * random.uniform(0.8, 1.2))
        settings, profile = self._resources.settings, self._preparation.profile
        assert profile is not None
        chosen = profile.with_key_of(settings)
        connection = RealtimeConnection(self._owner)
        repeat = await self._permission(repeat=delay_seconds > 0)
        began = time.monotonic()
        key = chosen.api_key.get_secret_value()
        await connection.open(chosen.url, chosen.headers, key, proxies=settings.proxies)
        self._metrics.upstream_connect.observe(time.monotonic() - began)
        self._connection = connection
        self._is_paused = False
        return repeat

    async def _permission(self, *, repeat: bool) -> bool:
        """Wait until the limits of the process allow another session, and it is first in the queue.

        Returns:
            whether it counts as a repeated request: it was one, or had to wait.

        Raises:
            UpstreamError: they do not within UPSTREAM_RETRY_SECONDS.
        """
        until_seconds = time.monotonic() + self._resources.settings.upstream_retry_seconds
        while True:
            await self._wait_in_queue()
            if self.limits.may_send(time.monotonic(), repeat=repeat):
                return repeat
            assert self._queue is not None
            self._queue.give_back()
            # A pause that lasts longer than the call may wait is not waited for.
            if max(time.monotonic(), self.limits.held_until_seconds) >= until_seconds:
                message = "the Realtime API fails for other calls, too, and may not be asked again yet"
                raise UpstreamError(message, code=HELD_BACK, retryable=True)
            repeat = True
            await asyncio.sleep(PERMISSION_SECONDS * random.uniform(0.8, 1.2))

    async def _wait_in_queue(self) -> None:
        """Wait behind other sessions of the process with this key: SESSIONS_PER_SECOND."""
        assert self._queue is not None
        give_up_seconds = self._since_seconds + self._resources.settings.upstream_retry_seconds
        self._place = self._queue.join(self._since_seconds, give_up_seconds, self._urgency)
        try:
            await self._queue.wait(self._place)
        finally:
            self._place = None

    # Events for the API

    def send(self, event: dict[str, Any]) -> None:
        """Send an event of the GA dialect; count and drop an event that cannot be encoded."""
        if self._connection is None:
            return
        try:
            encoded = client_events.encode(event, self._dialect)
        except (LookupError, TypeError, ValueError, AttributeError, RecursionError) as error:
            # A value of the API's that is no JSON, as a number above 64 bits.
            self._key.error(BadInput.EVENT)
            self._log.warning("event not encoded", reason=redact(repr(error), self._uuid)[:200])
            return
        self._connection.send(encoded)

    def append(self, audio: bytes) -> None:
        """Append audio of the caller's, in base64."""
        if self._connection is not None:
            self._connection.send(client_events.encode_append(audio))

    def has_paused(self) -> bool:
        """Whether the API has stopped reading since this was last asked."""
        if self._connection is None or self._is_paused or not self._connection.write_paused:
            return False
        self._is_paused = True
        return True

    def writable(self) -> None:
        """Take note that the API reads again."""
        self._is_paused = False

    def read_seconds(self, now_seconds: float) -> float:
        """Return the time before which everything that was sent has been read by the API."""
        return now_seconds if self._connection is None else self._connection.answered_seconds

    # The connection

    def received_seconds(self, now_seconds: float) -> float:
        """Return when the API's socket was read last; without a connection, `now_seconds`."""
        return now_seconds if self._connection is None else self._connection.received_seconds

    def lost(self) -> None:
        """Forget a connection that is gone."""
        self._connection = None

    def discard(self) -> None:
        """Abort a connection that has no session."""
        if self._connection is not None:
            self._connection.abort()
            self._connection = None

    def suspend(self) -> None:
        """Read nothing until `resume`."""
        if self._connection is not None:
            self._connection.suspend()

    def resume(self) -> None:
        """Read again."""
        if self._connection is not None:
            self._connection.resume()

    def close(self, *, at_once: bool) -> None:
        """Close the connection.

        Args:
            at_once: without a closing handshake.
        """
        if self._connection is None:
            return
        if at_once:
            self._connection.abort()
        else:
            self._connection.close()

    async def wait_closed(self) -> None:
        """Wait until the connection is closed. Cancelled, it cuts off a closing handshake that takes too long."""
        if self._connection is None:
            return
        try:
            await self._connection.wait_closed()
        except asyncio.CancelledError:
            self._connection.abort()
            raise
