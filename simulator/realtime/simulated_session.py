"""One connection to the Realtime simulator: socket and clock around a `RealtimeSession`."""

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

# Unread events at which the client is disconnected, as by the real service.
MAX_UNREAD_EVENTS = 5000

CLOSE_TIMEOUT_SECONDS = 1.0


class SimulatedSession:
    """A live or ended session, as tests see it.

    Attributes:
        number: position among the simulator's sessions, from 1.
        core: the session without its connection.
        faults: faults that wait for this session.
        path: path of the handshake, with its query.
        headers: headers of the handshake, without those that hold the key.
        key_header: header that held the key: `Authorization` or `api-key`.
        peer: the client's address and port, which identify its process on this machine.
        closed: whether the connection is over.
        close_code: code of the side that closed; 1006 without a close frame; None while the connection is open.
        close_reason: reason in the close frame that was sent or received.
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
        """Return the id that `session.created` gave."""
        return self.core.id

    @property
    def model(self) -> str:
        """Return the model that the URL names."""
        return self.core.model

    @property
    def session(self) -> dict[str, Any]:
        """Return the session object as `session.updated` shows it, in GA's shape for every dialect."""
        return self.core.config.session

    @property
    def instructions(self) -> str:
        """Return the instructions of the session."""
        return self.core.config.instructions

    @property
    def items(self) -> Sequence[Item]:
        """Return the items that the model knows, in order."""
        return self.core.conversation.items

    @property
    def responses(self) -> Sequence[Response]:
        """Return the last 1,000 responses, in order."""
        return self.core.responses

    @property
    def received_audio(self) -> bytes:
        """Return appended audio in the format of the session's input.

        The last 10 minutes of PCM16 at 24 kHz are kept, and nothing if `keep_audio` is off.
        """
        return self.core.recording.data

    @property
    def appended_ms(self) -> int:
        """Return the length of the appended audio."""
        return self.core.input.appended_ms

    @property
    def client_events(self) -> Sequence[dict[str, Any]]:
        """Return the last client events, without appended audio."""
        return self.core.client_events

    @property
    def received(self) -> Counter[str]:
        """Return counts of client events by type; `(refused)` counts those answered with an error."""
        return self.core.received

    @property
    def sent(self) -> Counter[str]:
        """Return counts of server events by type."""
        return self.core.sent

    async def wait_for(
        self, predicate: Callable[[SimulatedSession], Any], *, timeout_seconds: float = 10.0
    ) -> None:
        """Wait until `predicate(session)` is true; the predicate is called after each event of the session.

        Raises:
            TimeoutError: the predicate stayed false; the message describes the session.
        """
        try:
            await wait_until(self._waiters, predicate, self, timeout_seconds)
        except TimeoutError as error:
            raise TimeoutError(
                f"session {self.number} did not meet the condition within {timeout_seconds} s: "
                f"received {dict(self.received)}, sent {dict(self.sent)}, closed {self.closed}"
            ) from error

    def report(self, *, brief: bool = False) -> dict[str, Any]:
        """Return all that is known about the session as JSON; `brief` leaves out texts and events."""
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
        self.core.note_readiness(self._loop.time(), connected=False)

    def resume(self) -> None:
        """End a `stall`."""
        self._running.set()
        self.core.note_readiness(self._loop.time(), connected=not self.closed)
        self._changed()

    def expire(self) -> None:
        """End the session as its time limit does."""
        self.core.expire()
        self._changed()

    def start_speech(self, seconds: float | None) -> None:
        """Report a start of speech although the caller is silent."""
        self.core.hearing.start_speech(self._loop.time(), seconds)
        self._changed()

    def send_text(self, text: str) -> None:
        """Send any text message."""
        self.core.send_text(text)
        self._changed()

    def send_error(self, error: dict[str, Any], *, close: tuple[int, str] | None) -> None:
        """Send an `error` event, and close the session if `close` is given."""
        self.core.send_error(error, close=close)
        self._changed()

    # The connection.

    async def serve(self, request: web.Request, socket: web.WebSocketResponse) -> None:
        """Carry the session until the connection ends. A cancelled `serve` drops the connection."""
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
        """Send a close frame; drop a stalled connection."""
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
