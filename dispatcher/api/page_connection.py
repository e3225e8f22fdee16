"""The connection of a call from the live page: AVR Core's messages, on a WebSocket of the admin port."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Final
from typing import Protocol as Interface

from aiohttp import WebSocketError, WSMsgType, web

from dispatcher.avr import protocol
from dispatcher.avr.caller_connection import ConnectionOwner

PAUSE_BYTES: Final = 64 * 1024
"""Bytes for the page that may wait here before the call holds further audio: 3 s of it."""

RESUME_BYTES: Final = 16 * 1024
"""Bytes that wait at most when the call continues to send."""

MAX_WAITING_BYTES: Final = 8 * 1024 * 1024
"""Bytes for the page above which the connection is aborted; a safety net, as the call stops at `PAUSE_BYTES`."""

CLOSE_SECONDS: Final = 5.0
"""Maximum time for the last messages and the closing handshake."""


class PageOwner(Interface):
    """The receiver of the page's messages: the shell of a call."""

    def received(self, data: bytes, text: bool) -> None:
        """Receive one whole message."""

    def caught_up(self) -> None:
        """Note that all messages that came together were delivered."""

    def violated(self, code: int, reason: str) -> int:
        """Note that the page broke the WebSocket protocol."""

    def writable(self) -> None:
        """Continue to send, because `write_paused` has become false."""

    def closed(self, code: int, reason: str) -> None:
        """Note the end of the connection; 1006 means: without a close frame. Called exactly once."""


class PageConnection:
    """The connection of one call. It is the `CallerConnection` of the call.

    Attributes:
        received_seconds: monotonic time of the last message.
        write_paused: the page does not read what was sent.
    """

    def __init__(self, socket: web.WebSocketResponse, transport: asyncio.Transport | None) -> None:
        """Take a WebSocket that is open.

        Args:
            socket: the WebSocket.
            transport: of the WebSocket's connection; None: the connection is lost already.
        """
        self.received_seconds = time.monotonic()
        self.write_paused = False
        self._socket = socket
        self._transport = transport
        self._loop = asyncio.get_running_loop()
        self._owner: PageOwner | None = None
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._wake = asyncio.Event()
        self._closing: tuple[int, str] | None = None
        self._lost: asyncio.Future[None] = self._loop.create_future()

    async def run(self, owner: PageOwner) -> None:
        """Deliver the page's messages to `owner` until the connection ends."""
        self._owner = owner
        writing = asyncio.create_task(self._write(), name="messages to the page")
        code = 1006
        try:
            code = await self._read()
            if self._closing is not None:
                # The closing handshake is under way, and has a bound.
                code = self._closing[0]
                await writing
        finally:
            writing.cancel()
            await asyncio.gather(writing, return_exceptions=True)
            self._lost.set_result(None)
            self.write_paused = False
            last, self._owner = self._owner, None
            if last is not None:
                last.closed(code, "")

    # CallerConnection

    @property
    def may_return(self) -> bool:
        """Always False, because the page does not reconnect: a lost connection ends its call."""
        return False

    def hand_over(self, owner: ConnectionOwner | None) -> None:
        """See `CallerConnection`."""
        self._owner = owner

    def mark_identified(self) -> None:
        """Do nothing, because the ticket has identified the page."""

    def play(self, pcm: bytes) -> None:
        """See `CallerConnection`."""
        for frame in protocol.frames(pcm):
            self._send(protocol.audio(frame))

    def interrupt(self) -> None:
        """Drop the audio that waits here, and have the page drop what it has not played."""
        self._waiting = deque(each for each in self._waiting if not each.startswith(protocol.AUDIO_HEAD))
        self._waiting_bytes = sum(map(len, self._waiting))
        self._send(protocol.INTERRUPTION)

    def send_transcript(self, role: str, text: str) -> None:
        """See `CallerConnection`."""
        self._send(protocol.transcript(role, text))

    def send_error(self, message: str) -> None:
        """See `CallerConnection`."""
        self._send(protocol.error(message))

    def close(self, code: int, reason: str = "") -> None:
        """Send the messages that wait, and begin the closing handshake; within `CLOSE_SECONDS` the end follows."""
        if self._closing is None:
            self._closing = code, reason
            self._wake.set()
            self._loop.call_later(CLOSE_SECONDS, self._abort_if_open)

    def abort(self) -> None:
        """See `CallerConnection`."""
        if self._transport is not None:
            self._transport.abort()

    async def wait_closed(self) -> None:
        """See `CallerConnection`."""
        await asyncio.shield(self._lost)

    def _abort_if_open(self) -> None:
        if not self._lost.done():
            self.abort()

    # Messages of the page

    async def _read(self) -> int:
        """Deliver messages until the connection ends, and return its close code."""
        while True:
            message = await self._socket.receive()
            self.received_seconds = time.monotonic()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                self._deliver(message.data, message.type is WSMsgType.TEXT)
            elif message.type is WSMsgType.CLOSE:
                return int(message.data or 1005)
            elif message.type is WSMsgType.ERROR and isinstance(message.data, WebSocketError):
                if self._owner is not None:
                    self._owner.violated(int(message.data.code), "")
                return 1006
            else:
                return 1006

    def _deliver(self, data: bytes, text: bool) -> None:
        # The call may have handed this connection over, or have closed it.
        if self._owner is not None and self._closing is None:
            self._owner.received(data, text)
        if self._owner is not None and self._closing is None:
            self._owner.caught_up()

    # Messages to the page

    def _send(self, message: bytes) -> None:
        if self._closing is not None or self._lost.done():
            return
        self._waiting.append(message)
        self._waiting_bytes += len(message)
        self._wake.set()
        if self._waiting_bytes > MAX_WAITING_BYTES:
            self.abort()
        elif self._waiting_bytes > PAUSE_BYTES:
            self.write_paused = True

    async def _write(self) -> None:
        """Send what waits, until the connection ends or `close` was called."""
        try:
            while True:
                await self._wake.wait()
                self._wake.clear()
                while self._waiting:
                    message = self._waiting.popleft()
                    self._waiting_bytes -= len(message)
                    await self._socket.send_frame(message, WSMsgType.TEXT)
                    self._look_for_room()
                if self._closing is not None:
                    code, reason = self._closing
                    await self._socket.close(code=code, message=_short(reason))
                    return
        except ConnectionError:
            # The reader notices the end of the connection, and reports it.
            return

    def _look_for_room(self) -> None:
        if self.write_paused and self._waiting_bytes <= RESUME_BYTES:
            self.write_paused = False
            if self._owner is not None:
                self._owner.writable()


def _short(reason: str) -> bytes:
    """Return a reason of at most 123 bytes, the limit of a close frame (RFC 6455, section 5.5)."""
    return reason.encode()[:123].decode(errors="ignore").encode()
