"""One connection to the Realtime simulator: socket, clock and waiting around a `RealtimeSession`."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

from aiohttp import WSMsgType, web

from simulator.realtime.conversation import Item
from simulator.realtime.response import Response
from simulator.realtime.session import RealtimeSession
from simulator.realtime.session_faults import SessionFaults
from simulator.waiting import Waiter, settle, wait_until

# Answers that a client does not read; the real service would cut it off, too.
MAX_UNREAD_EVENTS = 5000

CLOSE_TIMEOUT_SECONDS = 1.0


class SimulatedSession:
    """A live or ended session, as tests see it.

    Attributes:
        number: of the simulator's sessions, from 1.
        core: the session without its connection.
        faults: that wait for their moment.
        path: of the handshake, with its query.
        headers: of the handshake, without those that hold the key.
        key_header: which of them held it: `Authorization` or `api-key`.
        peer: the client's address and port: which process of this machine it is.
        closed: whether the connection is over.
        close_code: of whoever closed; 1006 where there was no close frame; None while it is open.
        close_reason: of the close frame that was sent or received.
    """

    def __init__(
        self,
        number: int,
        core: RealtimeSession,
        *,
        path: str,
        headers: dict[str, str],
        key_header: str,
        on_change: Callable[[], None],
        silent: bool = False,
    ) -> None:
        self.number = number
        self.core = core
        self.faults: SessionFaults = core.faults
        self.path = path
        self.headers = headers
        self.key_header = key_header
        self.peer = ""
        self.closed = False
        self.close_code: int | None = None
        self.close_reason = ""
        self._on_change = on_change
        self._silent = silent
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._wake = asyncio.Event()
        self._armed: float | None = None
        self._running = asyncio.Event()
        self._running.set()
        self._waiters: list[Waiter[SimulatedSession]] = []

    @property
    def id(self) -> str:
        """As `session.created` gave it."""
        return self.core.id

    @property
    def model(self) -> str:
        """From the URL."""
        return self.core.model

    @property
    def session(self) -> dict[str, Any]:
        """The session object as `session.updated` shows it, in the shape of the GA dialect whatever is spoken."""
        return self.core.config.session

    @property
    def instructions(self) -> str:
        """Of the session."""
        return self.core.config.instructions

    @property
    def items(self) -> Sequence[Item]:
        """What the model has in mind, in order."""
        return self.core.conversation.items

    @property
    def responses(self) -> Sequence[Response]:
        """All responses, in order."""
        return self.core.responses

    @property
    def received_audio(self) -> bytes:
        """What was appended, in the format of the session's input: the last 10 minutes of PCM16 at 24 kHz.

        Nothing where `keep_audio` is off.
        """
        return self.core.recording.data

    @property
    def appended_ms(self) -> int:
        """How much audio was appended."""
        return self.core.input.appended_ms

    @property
    def client_events(self) -> Sequence[dict[str, Any]]:
        """What the client sent, without audio appended."""
        return self.core.client_events

    @property
    def received(self) -> Counter[str]:
        """Client events by type; `(refused)` are those answered with an error."""
        return self.core.received

    @property
    def sent(self) -> Counter[str]:
        """Server events by type."""
        return self.core.sent

    async def wait_for(
        self, predicate: Callable[[SimulatedSession], Any], *, timeout_seconds: float = 10.0
    ) -> None:
        """Wait until `predicate(session)` is true: it is asked after everything that happens in the session.

        Raises:
            TimeoutError: it did not become true; the message tells what the session has been through.
        """
        try:
            await wait_until(self._waiters, predicate, self, timeout_seconds)
        except TimeoutError as error:
            raise TimeoutError(
                f"session {self.number} did not get there in {timeout_seconds} s: received {dict(self.received)}, "
                f"sent {dict(self.sent)}, closed {self.closed}"
            ) from error

    def report(self, *, brief: bool = False) -> dict[str, Any]:
        """What there is to know about it, as JSON, for people; `brief`: without what was said and sent."""
        about = {
            "number": self.number,
            "id": self.id,
            "model": self.model,
            "peer": self.peer,
            "closed": self.closed,
            "close_code": self.close_code,
            "close_reason": self.close_reason,
            "instructions": self.instructions,
            "appended_ms": self.appended_ms,
            "may_answer": not self.closed and self.core.may_answer,
            "timeline": self.core.timeline.report(),
        }
        if brief:
            return about
        return {
            **about,
            "items": [item.report() for item in self.items],
            "responses": [response.report() for response in self.responses],
            "usage": self.core.usage.wire(),
            "received": dict(self.received),
            "sent": dict(self.sent),
        }

    # Faults.

    def drop(self) -> None:
        """Cut the connection without a close frame."""
        if self._transport is not None:
            self._transport.abort()
        self._running.set()

    def stall(self) -> None:
        """Stop reading and writing."""
        self._running.clear()
        self.core.look(self._loop.time(), connected=False)

    def resume(self) -> None:
        """Go on after `stall`."""
        self._running.set()
        self.core.look(self._loop.time(), connected=not self.closed)
        self._changed()

    def expire(self) -> None:
        """Reach the session limit."""
        self.core.expire()
        self._changed()

    def start_speech(self, seconds: float | None) -> None:
        """Notice speech where there is none."""
        self.core.hearing.start_speech(self._loop.time(), seconds)
        self._changed()

    def send_text(self, text: str) -> None:
        """Send any text message."""
        self.core.send_text(text)
        self._changed()

    def send_error(self, error: dict[str, Any], *, close: tuple[int, str] | None) -> None:
        """Send an `error` event and, if asked to, close."""
        self.core.send_error(error, close=close)
        self._changed()

    # The connection.

    async def serve(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        """Carry the session until the connection is over. Cancelling it cuts the connection."""
        transport = request.transport
        assert transport is not None  # uvloop's are no asyncio.Transport
        self._transport = transport
        address = transport.get_extra_info("peername")
        self.peer = f"{address[0]}:{address[1]}" if isinstance(address, tuple) else ""
        if not self._silent:
            self.core.open(self._loop.time())
        writer = asyncio.create_task(self._write(socket))
        try:
            await self._read(socket)
            if self.core.closing is not None:
                await writer  # the close frame is on its way
        finally:
            writer.cancel()
            await asyncio.gather(writer, return_exceptions=True)
            self.closed = True
            self.core.timeline.closed(self._loop.time())
            self.close_code = self.close_code or socket.close_code or 1006
            self._notify()

    def close(self, code: int, reason: str) -> None:
        """Send a close frame; what is stalled is cut."""
        if not self._running.is_set():
            self.drop()
        self.core.closing = self.core.closing or (code, reason)
        self._wake.set()

    async def _read(self, socket: web.WebSocketResponse) -> None:
        core = self.core
        async for message in socket:
            if not self._running.is_set():
                await self._running.wait()
            if self._silent:
                continue
            if message.type is WSMsgType.TEXT or message.type is WSMsgType.BINARY:
                core.receive(message.data, self._loop.time())
            if core.has_output or core.next_due_seconds() != self._armed:
                self._wake.set()
            if core.output_count > MAX_UNREAD_EVENTS:
                self.drop()
            if self._waiters:
                self._notify()

    async def _write(self, socket: web.WebSocketResponse) -> None:
        core = self.core
        while True:
            await self._running.wait()
            self._wake.clear()
            core.advance(self._loop.time())
            try:
                for event in core.take_output():
                    await socket.send_frame(event, WSMsgType.TEXT)
                    if not self._running.is_set():
                        await self._running.wait()
            except ConnectionError:
                return  # the reader sees the end, too
            self._notify()
            if core.closing is not None:
                self.close_code, self.close_reason = core.closing
                await socket.close(code=self.close_code, message=self.close_reason.encode()[:123])
                return
            await self._sleep()

    async def _sleep(self) -> None:
        self._armed = self.core.next_due_seconds()
        if self._armed is None:
            await self._wake.wait()
            return
        alarm = self._loop.call_at(self._armed, self._wake.set)
        try:
            await self._wake.wait()
        finally:
            alarm.cancel()

    def _changed(self) -> None:
        self._wake.set()
        self._notify()

    def _notify(self) -> None:
        settle(self._waiters, self)
        self._on_change()
