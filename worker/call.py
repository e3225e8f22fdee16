"""The shell around one session: its Realtime connection and its channel on a link."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any
from typing import Protocol as Interface

import structlog

from common import link
from common.errors import UpstreamError
from common.metrics import WorkerMetrics
from common.relay_timer import RelayTimer
from common.settings import Settings
from worker import session
from worker.realtime import RealtimeConnection
from worker.session import Seen, Session
from worker.session_update import session_object


class Calls(Interface):
    """The worker's table of calls."""

    def ended(self, call: Call) -> None:
        """The call is over."""


class Call:
    """One call on this worker."""

    def __init__(
        self,
        opening: link.Open,
        channel: int,
        send: Callable[[bytes], None],
        *,
        calls: Calls,
        settings: Settings,
        metrics: WorkerMetrics,
    ) -> None:
        """Take a call; `begin` sets it going.

        Args:
            opening: the dispatcher's OPEN.
            channel: on the link.
            send: sends a record on that link.
            calls: hears of the end.
            settings: of the process; the call keeps them.
            metrics: what is measured.
        """
        self._started_seconds = time.monotonic()
        self.session = Session(
            opening,
            channel,
            session_object(settings),
            settings.upstream_retry_seconds,
            self._started_seconds,
        )
        self._log = structlog.get_logger().bind(uuid=opening.uuid)
        self._send = send
        self._calls = calls
        self._settings = settings
        self._metrics = metrics
        self._realtime: RealtimeConnection | None = None
        self._connecting: asyncio.Task[None] | None = None
        self._upstream_paused = False
        self._relay_in = RelayTimer(metrics.relay_in)
        self._relay_out = RelayTimer(metrics.relay_out)

    @property
    def uuid(self) -> str:
        """The call's uuid."""
        return self.session.uuid

    @property
    def epoch(self) -> int:
        """The epoch at which this worker has the call."""
        return self.session.epoch

    def begin(self) -> None:
        """Answer OPEN, and open the session."""
        self._act()

    def tick(self, now_seconds: float) -> None:
        """Look at the clocks."""
        self.session.tick(now_seconds)
        self._act()

    def record(self, kind: int, payload: memoryview, received_seconds: float) -> None:
        """A record of the dispatcher."""
        if kind == link.Kind.CALLER_AUDIO:
            self._relay_in.frame(received_seconds)
        self.session.record(kind, payload, time.monotonic())
        self._act()

    def dispatcher_lost(self) -> None:
        """The link is gone."""
        self.session.dispatcher_lost()
        self._act()

    def stop(self, reason: str) -> None:
        """End the call from this side."""
        self.session.stopped(reason)
        self._act()

    async def settled(self) -> None:
        """Wait until nothing of an ended call is left: its connection closed, its attempt to connect given up.

        Cancelled, it cuts off a connection whose closing handshake takes too long.
        """
        if self._connecting is not None:
            await asyncio.wait([self._connecting])
        if self._realtime is not None:
            try:
                await self._realtime.wait_closed()
            except asyncio.CancelledError:
                self._realtime.abort()
                raise

    # Owner of the Realtime connection

    def event(self, event: dict[str, Any], received_seconds: float) -> None:
        """An event of the API."""
        if event["type"] == "response.output_audio.delta":
            self._relay_out.frame(received_seconds)
        try:
            self.session.event(event, time.monotonic())
        except (LookupError, TypeError, ValueError, ArithmeticError, AttributeError) as error:
            # An event of another shape than the API's: it is lost, the call goes on.
            self._metrics.upstream_errors.inc("bad_event")
            self._log.warning("upstream event not understood", type=event["type"][:64], reason=repr(error)[:200])
        self._act()

    def upstream_writable(self) -> None:
        """The API reads again."""
        self._upstream_paused = False
        self.session.upstream_writable()
        self._act()

    def connection_lost(self, reason: str) -> None:
        """The connection is gone."""
        self._realtime = None
        self.session.connection_lost(reason, time.monotonic())
        self._act()

    # Actions

    def _act(self) -> None:
        while self.session.actions:
            actions, self.session.actions = self.session.actions, []
            for action in actions:
                match action:
                    case session.ToUpstream(event):
                        if self._realtime is not None:
                            self._realtime.send(event)
                    case session.ToDispatcher(record):
                        self._send(record)
                    case session.Report(seen, value, label):
                        _REPORTS[seen](self._metrics, value, label)
                    case session.Connect(delay_seconds):
                        if self._realtime is not None:
                            # It is open, but there is no session on it.
                            self._realtime.abort()
                            self._realtime = None
                        self._connecting = asyncio.create_task(self._connect(delay_seconds))
                    case session.Used(usage):
                        tokens = self._metrics.tokens(self._settings.openai_model)
                        tokens.input_text.inc(usage.input_text)
                        tokens.input_audio.inc(usage.input_audio)
                        tokens.input_text_cached.inc(usage.cached_text)
                        tokens.input_audio_cached.inc(usage.cached_audio)
                        tokens.output_text.inc(usage.output_text)
                        tokens.output_audio.inc(usage.output_audio)
                    case session.Ended(outcome, reason):
                        self._ended(outcome, reason)
            if self._realtime is not None and self._realtime.write_paused and not self._upstream_paused:
                self._upstream_paused = True
                self.session.upstream_paused()

    async def _connect(self, delay_seconds: float) -> None:
        # Calls that were refused together do not come back together.
        await asyncio.sleep(delay_seconds * random.uniform(0.8, 1.2))
        began = time.monotonic()
        connection = RealtimeConnection(self)
        try:
            await connection.open(
                self._settings.realtime_url,
                self._settings.openai_model,
                self._settings.openai_api_key.get_secret_value(),
            )
        except UpstreamError as error:
            self.session.connect_failed(error, time.monotonic())
        except Exception:
            # Nobody waits for this task: a call that it left behind would hang for ever.
            self._log.exception("connecting failed")
            self.session.stopped("internal error")
        else:
            self._metrics.upstream_connect.observe(time.monotonic() - began)
            self._realtime = connection
            self._upstream_paused = False
            self.session.connected(time.monotonic())
        self._act()

    def _ended(self, outcome: link.Outcome, reason: str) -> None:
        if self._connecting is not None:
            self._connecting.cancel()
        if self._realtime is not None:
            self._realtime.close()
        seconds = time.monotonic() - self._started_seconds
        if outcome is link.Outcome.COMPLETED:
            self._metrics.session_completed.observe(seconds)
            self._log.info("session ended", reason=reason, seconds=round(seconds, 3))
        else:
            self._metrics.session_failed.observe(seconds)
            self._log.error("session failed", reason=reason, seconds=round(seconds, 3))
        self._calls.ended(self)


_REPORTS: dict[Seen, Callable[[WorkerMetrics, float, str], None]] = {
    Seen.TURN_LATENCY_SECONDS: lambda metrics, seconds, _: metrics.turn_latency.observe(seconds),
    Seen.UPSTREAM_ERROR: lambda metrics, _, code: metrics.upstream_errors.inc(code),
    Seen.CALLER_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_in.inc(seconds),
    Seen.REPLY_AUDIO_DROPPED_SECONDS: lambda metrics, seconds, _: metrics.audio_dropped_out.inc(seconds),
}
