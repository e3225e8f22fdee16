"""A WebSocket connection on asyncio transports, around the Sans-I/O core of `websockets`.

The library's own asyncio API passes every message through a queue and a future. A voice call is a hundred small
messages a second. Here a message goes straight from the socket to its owner. All messages of one turn of the event
loop leave in one write. Messages in one frame bypass the library (`common/net/frames.py`). All other frames, the
limits and the closing handshake are left to the library.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import time
from collections.abc import Callable
from typing import ClassVar, cast
from typing import Protocol as Interface

from websockets.frames import CloseCode, Frame, Opcode
from websockets.http11 import Request, Response
from websockets.protocol import CLIENT, CONNECTING, OPEN
from websockets.typing import BytesLike

from common.net.addresses import plain
from common.net.frames import (
    BINARY,
    MASKED,
    TEXT,
    ClientFrames,
    ServerFrames,
    client_frame,
    read_message,
    server_frame,
)
from common.net.read_coalescer import READ_COALESCER
from common.net.websocket_limits import Limits

# Bound of frames that bring no message: pings, pongs, fragments, and all frames after our close frame.
MAX_IDLE_FRAMES_PER_SECOND = 2000
# One read may be 256 KiB: up to 40,000 of the smallest frames, which take a quarter of a second. Data is parsed in
# steps of this size, 15 ms each, so that a flood is noticed between two steps.
PARSE_STEP_BYTES = 16 * 1024
_PING = struct.Struct("!d")
_HEAD_END = b"\r\n\r\n"


class Owner(Interface):
    """The receiver of a connection's events.

    No method may block. An exception of a method ends the connection.
    """

    def opened(self, connection: WebSocket) -> None:
        """Begin to send: the opening handshake is done."""

    def received(self, data: BytesLike, text: bool) -> None:
        """Receive one whole message; text is not decoded yet."""

    def caught_up(self) -> None:
        """Note that all messages of one read have been delivered."""

    def violated(self, code: int, reason: str) -> int:
        """Return the close code for a client that broke the WebSocket protocol; a last message may be sent."""

    def writable(self) -> None:
        """Continue to send: the peer has read the buffered data, and `write_paused` is False."""

    def closed(self, code: int, reason: str) -> None:
        """Note that the connection has ended; 1006 means: without a close frame. Called exactly once."""


class WebSocket(asyncio.Protocol):
    """One end of a WebSocket connection, created by `connect` or `serve`.

    Attributes:
        stall_guard: of the process, if it has one: called with the time before new data is handled; returns
            whether the event loop has stalled.
        received_seconds: monotonic time of the last read.
        answered_seconds: monotonic time at which the last answered ping was sent: the peer has read all data from
            before that time.
        write_paused: the peer does not read the sent data.
    """

    stall_guard: ClassVar[Callable[[float], bool] | None] = None

    def __init__(self, protocol: ServerFrames | ClientFrames, owner: Owner | None, limits: Limits) -> None:
        self._protocol = protocol
        is_client = protocol.side is CLIENT
        self._frame = client_frame if is_client else server_frame
        self._peer_masks = 0 if is_client else MASKED
        # The peer's next byte begins a frame, so a message in one frame may bypass the library.
        self._between_messages = False
        # Bytes that the peer may still send before it identifies itself; None: it has done so.
        self._stranger_bytes_left = limits.stranger_bytes
        self._owner = owner
        self._limits = limits
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._message = bytearray()
        self._message_is_text = False
        self._discarding = False
        self._idle_frames = 0
        self._idle_frames_since = 0.0
        self._flush_scheduled = False
        # uvloop joins all writes of one turn into one system call; asyncio makes a call for each frame. With TLS a
        # server would send a record for each frame; a client sends one frame a turn.
        self._loop_joins_writes = False
        self._handshake_done = False
        self._closing = False
        self._timer: asyncio.TimerHandle | None = None
        self._unanswered_pings = 0
        self._suspended: list[bytes] | None = None
        self.received_seconds = time.monotonic()
        self.answered_seconds = self.received_seconds
        self._lost: asyncio.Future[None] = self._loop.create_future()
        self.write_paused = False

    # For owners

    @property
    def is_open(self) -> bool:
        """Whether messages can be sent."""
        return self._protocol.state is OPEN

    @property
    def peer_address(self) -> str:
        """The peer's IP address; empty where it has none."""
        peer = self._transport.get_extra_info("peername") if self._transport else None
        return plain(peer[0]) if isinstance(peer, tuple) else ""

    @property
    def write_buffer_bytes(self) -> int:
        """Bytes that wait in this process until the peer reads them."""
        return self._transport.get_write_buffer_size() if self._transport else 0

    def hand_over(self, owner: Owner | None) -> None:
        """Give the connection to another owner; None: events are reported to no owner."""
        self._owner = owner

    def send_text(self, data: bytes) -> None:
        """Send one text message (UTF-8); drop it if the connection is closing or closed."""
        if self._protocol.state is OPEN:
            self._write(self._frame(TEXT, data))

    def send_binary(self, data: bytes) -> None:
        """Send one binary message; drop it if the connection is closing or closed."""
        if self._protocol.state is OPEN:
            self._write(self._frame(BINARY, data))

    def close(self, code: int, reason: str = "") -> None:
        """Begin the closing handshake; `closed` follows, at the latest after `Limits.close_timeout_seconds`.

        Args:
            code: close code.
            reason: for people; truncated to 123 bytes, the limit of a close frame.
        """
        if self._protocol.state is OPEN:
            self._protocol.send_close(code, reason.encode()[:123].decode(errors="ignore"))
            self._discarding = True
            self._between_messages = False
            self._flush()
            self._expect_close()
        elif self._protocol.state is CONNECTING:
            self.abort()

    def abort(self) -> None:
        """Drop the connection without a closing handshake; the peer sees 1006."""
        self._discarding = True
        self._between_messages = False
        if self._transport is not None:
            self._transport.abort()

    def suspend(self) -> None:
        """Read nothing until `resume`; data that has been read already is kept."""
        if self._suspended is None:
            self._suspended = []
            if self._transport is not None and not self._transport.is_closing():
                self._transport.pause_reading()

    def resume(self) -> None:
        """Read again after `suspend`, beginning with the data that was kept."""
        kept, self._suspended = self._suspended, None
        if self._transport is not None and not self._transport.is_closing() and kept is not None:
            self._transport.resume_reading()
        for data in kept or ():
            self.data_received(data)

    def mark_identified(self) -> None:
        """Lift the bound on the bytes of a stranger: the peer has identified itself."""
        self._stranger_bytes_left = None

    async def wait_closed(self) -> None:
        """Wait until the TCP connection is gone."""
        await asyncio.shield(self._lost)

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's are not subclasses
        may_join = self._protocol.side is CLIENT or transport.get_extra_info("sslcontext") is None
        self._loop_joins_writes = may_join and type(transport).__module__.startswith("uvloop")
        sock = transport.get_extra_info("socket")
        if sock is not None and sock.family in (socket.AF_INET, socket.AF_INET6):
            # Frames are small, and the peer waits for each of them.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._start_timer(self._limits.open_timeout_seconds, self.abort)
        READ_COALESCER.read_now()

    def data_received(self, data: bytes) -> None:
        READ_COALESCER.read_bytes += len(data)
        self.received_seconds = time.monotonic()
        has_stalled = WebSocket.stall_guard is not None and WebSocket.stall_guard(self.received_seconds)
        if has_stalled and (self._transport is None or self._transport.is_closing()):
            # The guard has closed this connection because of the stall.
            return
        if self._suspended is not None:
            self._suspended.append(data)
            return
        self._unanswered_pings = 0
        taken = self._take_messages(data) if self._between_messages and self._stranger_bytes_left is None else 0
        if taken < len(data):
            self._take_rest(data[taken:] if taken else data)
        if self._owner is not None and self._handshake_done:
            self._owner.caught_up()

    def _take_rest(self, data: bytes) -> None:
        """Pass data to the library."""
        protocol = self._protocol
        protocol.drained = self._between_messages = False
        start = 0
        while start < len(data):
            if self._transport is None or self._transport.is_closing():
                return
            step_bytes = PARSE_STEP_BYTES
            if self._stranger_bytes_left is not None:
                step_bytes = self._stranger_step(data, start)
                if step_bytes == 0:
                    self._refuse_stranger()
                    break
            protocol.receive_data(data[start : start + step_bytes])
            start += step_bytes
            self._take_events()
        self._between_messages = (
            protocol.drained
            and protocol.current_size is None
            and protocol.state is OPEN
            and not self._discarding
            and self._handshake_done
        )
        # Answers of the protocol itself wait for the end of the turn, as the owner's messages do.
        if self._protocol.writes:
            self._flush_soon()
        if self._handshake_done and self._protocol.close_expected():
            self._expect_close()

    def _stranger_step(self, data: bytes, start: int) -> int:
        """Return how many bytes of a stranger are parsed next; 0: the stranger has sent too much.

        The steps are as long as the stranger's bound allows: behind them the peer may have identified itself.
        """
        assert self._stranger_bytes_left is not None
        if not self._handshake_done:
            end = data.find(_HEAD_END, start)
            return PARSE_STEP_BYTES if end < 0 else end + len(_HEAD_END) - start
        step_bytes = min(self._stranger_bytes_left, len(data) - start)
        self._stranger_bytes_left -= step_bytes
        return step_bytes

    def _refuse_stranger(self) -> None:
        self._discarding = True
        bound = self._limits.stranger_bytes
        reason = f"more than {bound} bytes came before the peer has identified itself"
        if self._protocol.state is not OPEN:
            self.abort()
        elif self._protocol.side is CLIENT:
            if self._owner is not None:
                self._owner.violated(CloseCode.POLICY_VIOLATION, reason)
            self.abort()
        else:
            self._protocol.fail(CloseCode.POLICY_VIOLATION, reason)

    def eof_received(self) -> bool:
        self._protocol.receive_eof()
        # The body of a refused handshake may end with the connection.
        self._take_events()
        self._flush()
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self._stop_timer()
        self._protocol.receive_eof()
        if not self._lost.done():
            self._lost.set_result(None)
        self.write_paused = False
        owner, self._owner = self._owner, None
        if owner is not None and self._handshake_done:
            code = self._protocol.close_code
            owner.closed(code if code is not None else 1006, self._protocol.close_reason or "")

    def pause_writing(self) -> None:
        self.write_paused = True

    def resume_writing(self) -> None:
        self.write_paused = False
        if self._owner is not None:
            self._owner.writable()

    # Reading

    def _take_messages(self, data: bytes) -> int:
        """Deliver the messages that are whole and in one frame each, up to the first other frame.

        Returns:
            the offset of the first byte that is left for the library.
        """
        offset = 0
        masks, most_bytes = self._peer_masks, self._limits.max_message_bytes
        # An owner that closes the connection gets no further message.
        while self._between_messages and (read := read_message(data, offset, masks, most_bytes)) is not None:
            message, first, offset = read
            if self._owner is not None:
                self._owner.received(message, first == TEXT)
        return offset

    def _take_events(self) -> None:
        for event in self._protocol.events_received():
            if isinstance(event, Frame):
                self._frame_received(event)
            elif isinstance(event, Request):
                self._request_received(event)
            else:
                self._response_received(event)
        if not self._handshake_done and self._protocol.handshake_exc is not None:
            self._handshake_broken(self._protocol.handshake_exc)

    def _frame_received(self, frame: Frame) -> None:
        opcode = frame.opcode
        if opcode is Opcode.TEXT or opcode is Opcode.BINARY:
            if frame.fin:
                self._deliver(frame.data, opcode is Opcode.TEXT)
                return
            self._message = bytearray(frame.data)
            self._message_is_text = opcode is Opcode.TEXT
        elif opcode is Opcode.CONT:
            # Its length is bounded: the protocol fails the connection at max_message_bytes.
            self._message += frame.data
            if frame.fin:
                message, self._message = self._message, bytearray()
                self._deliver(message, self._message_is_text)
                return
        elif opcode is Opcode.PONG and len(frame.data) == _PING.size:
            # As sent by `_ping`; a made-up payload proves only that the peer is alive.
            self.answered_seconds = min(_PING.unpack(frame.data)[0], self.received_seconds)
        self._count_idle_frame()

    def _deliver(self, data: BytesLike, text: bool) -> None:
        if self._discarding:
            self._count_idle_frame()
        elif self._owner is not None:
            self._owner.received(data, text)

    def _count_idle_frame(self) -> None:
        if self.received_seconds - self._idle_frames_since >= 1.0:
            self._idle_frames_since = self.received_seconds
            self._idle_frames = 0
        self._idle_frames += 1
        if self._idle_frames == MAX_IDLE_FRAMES_PER_SECOND + 1:
            # After our own close frame this sends nothing more; in both cases later data is not parsed.
            self._protocol.fail(CloseCode.POLICY_VIOLATION, "too many frames that bring no message")
            self._discarding = True

    def _handshake_broken(self, error: Exception) -> None:
        """React to a broken opening handshake; the protocol has queued its answer already."""

    def _request_received(self, request: Request) -> None:
        raise NotImplementedError

    def _response_received(self, response: Response) -> None:
        raise NotImplementedError

    def _opened(self) -> None:
        self._handshake_done = True
        self._stop_timer()
        if self._limits.ping_interval_seconds is not None:
            self._start_timer(self._limits.ping_interval_seconds, self._ping)

    # Writing

    def _write(self, frame: bytes) -> None:
        transport = self._transport
        if not self._loop_joins_writes or self._protocol.writes or transport is None:
            self._protocol.writes.append(frame)
            self._flush_soon()
        elif not transport.is_closing():
            transport.write(frame)
            self._check_buffer(transport)

    def _check_buffer(self, transport: asyncio.Transport) -> None:
        if transport.get_write_buffer_size() > self._limits.max_write_buffer_bytes:
            transport.abort()

    def _flush_soon(self) -> None:
        if not self._flush_scheduled:
            self._flush_scheduled = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        self._flush_scheduled = False
        transport = self._transport
        writes = self._protocol.data_to_send()
        if transport is None or transport.is_closing() or not writes:
            return
        ends = writes[-1] == b""
        if len(writes) == 1 and not ends:
            transport.write(writes[0])
        else:
            transport.write(b"".join(writes))
        if ends and self._protocol.close_rcvd is not None:
            transport.close()
        elif ends and self._handshake_done:
            # The peer broke the protocol and may still be sending. A socket that is closed with unread input is
            # reset, and the peer never reads the reason. Input is therefore discarded until the peer has closed.
            self._closing = True
            self._start_timer(self._limits.linger_seconds, self._half_close)
        elif ends:
            self._half_close()
        else:
            self._check_buffer(transport)

    # Time

    def _half_close(self) -> None:
        """Tell the peer that no more data follows; TLS cannot say so before the connection ends."""
        transport = self._transport
        if transport is not None and not transport.is_closing() and transport.can_write_eof():
            transport.write_eof()
        self._closing = True
        self._start_timer(self._limits.close_timeout_seconds, self.abort)

    def _expect_close(self) -> None:
        if not self._closing:
            self._closing = True
            self._start_timer(self._close_timeout_seconds(), self.abort)

    def _close_timeout_seconds(self) -> float:
        return self._limits.close_timeout_seconds

    def _start_timer(self, seconds: float, callback: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._loop.call_later(seconds, callback)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _ping(self) -> None:
        if self._protocol.state is not OPEN:
            return
        interval, silence = self._limits.ping_interval_seconds, self._limits.silence_timeout_seconds
        assert interval is not None
        if (
            silence is not None
            and time.monotonic() - self.received_seconds > silence
            # By the clock alone, a stall of this process with unread answers would look like a silent peer.
            and self._unanswered_pings >= silence // interval
        ):
            self.abort()
            return
        self._unanswered_pings += 1
        self._protocol.send_ping(_PING.pack(time.monotonic()))
        self._flush()
        self._start_timer(interval, self._ping)


async def close_all(connections: list[WebSocket], code: int, reason: str, timeout_seconds: float) -> None:
    """Close connections together, wait for at most `timeout_seconds`, and abort those that are left."""
    for connection in connections:
        connection.close(code, reason)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(timeout_seconds):
            for connection in connections:
                await connection.wait_closed()
    for connection in connections:
        connection.abort()
