"""Both ends of our WebSockets as tests need them: a recording owner, and peers that speak raw bytes."""

from __future__ import annotations

import asyncio
import contextlib
import http
import os
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Self

from websockets.http11 import Request
from websockets.typing import BytesLike

from common.net.websocket import Owner, WebSocket
from common.net.websocket_limits import Limits
from common.net.websocket_server import serve
from tests.helpers import eventually

DEFAULT_LIMITS = Limits()
SHORT_ENDS = Limits(close_timeout_seconds=0.2, linger_seconds=0.1)
"""A peer that does not end a connection in order is waited for less long than by default."""

# How long a test waits before it says that something does not happen at all.
PATIENCE_SECONDS = 10.0

TEXT, BINARY, CONTINUATION, CLOSE, PING, PONG = 1, 2, 0, 8, 9, 10

HANDSHAKE = (
    b"GET /some/path?from=100 HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Recorder:
    """An owner that keeps its messages."""

    def __init__(self, violation: Callable[[Recorder, int], int] = lambda _, code: code) -> None:
        self.connection: WebSocket | None = None
        self.messages: list[tuple[bytes, bool]] = []
        self.violations: list[tuple[int, str]] = []
        self.reads = 0
        self.writable_calls = 0
        self.closings: list[tuple[int, str]] = []
        self.is_closed = asyncio.Event()
        self._violation = violation

    @property
    def ws(self) -> WebSocket:
        assert self.connection is not None
        return self.connection

    async def closed_with(self) -> tuple[int, str]:
        """Wait for the end."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            await self.is_closed.wait()
        (closing,) = self.closings
        return closing

    async def received_texts(self, count: int) -> list[str]:
        """Wait for so many messages, and return them all."""
        await eventually(lambda: len(self.messages) >= count, PATIENCE_SECONDS)
        return [data.decode() for data, _ in self.messages]

    def opened(self, connection: WebSocket) -> None:
        self.connection = connection

    def received(self, data: BytesLike, text: bool) -> None:
        self.messages.append((bytes(data), text))

    def caught_up(self) -> None:
        self.reads += 1

    def violated(self, code: int, reason: str) -> int:
        self.violations.append((code, reason))
        return self._violation(self, code)

    def writable(self) -> None:
        self.writable_calls += 1

    def closed(self, code: int, reason: str) -> None:
        self.closings.append((code, reason))
        self.is_closed.set()


class Listener:
    """Our server, and the owners of the connections that came."""

    def __init__(self, url: str, owners: list[Recorder]) -> None:
        self.url = url
        self.owners = owners

    @property
    def port(self) -> int:
        return int(self.url.rsplit(":", 1)[1].rstrip("/"))

    async def owner(self) -> Recorder:
        """Wait for the only connection."""
        await eventually(lambda: self.owners and self.owners[0].connection is not None, PATIENCE_SECONDS)
        (owner,) = self.owners
        return owner


@contextlib.asynccontextmanager
async def listening(
    make_owner: Callable[[], Recorder] = Recorder,
    *,
    limits: Limits = DEFAULT_LIMITS,
    refuse: tuple[http.HTTPStatus, str] | None = None,
) -> AsyncIterator[Listener]:
    """Our server on a free port; connections that are left at the end are aborted."""
    owners: list[Recorder] = []

    def accept(request: Request, peer: str) -> Owner | tuple[http.HTTPStatus, str]:
        if refuse is not None:
            return refuse
        owners.append(make_owner())
        return owners[-1]

    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    server = await serve(accept, sock, limits=limits)
    try:
        yield Listener(f"ws://127.0.0.1:{sock.getsockname()[1]}/", owners)
    finally:
        server.abort()
        for owner in owners:
            if owner.connection is not None:
                owner.connection.abort()
                await owner.connection.wait_closed()


def frame(opcode: int, data: bytes = b"", *, fin: bool = True, masked: bool = True) -> bytes:
    """Return one frame, masked as a client's are (with a mask of zeros)."""
    head = bytes([(0x80 if fin else 0) | opcode])
    bit = 0x80 if masked else 0
    if len(data) < 126:
        head += bytes([bit | len(data)])
    elif len(data) < 65536:
        head += bytes([bit | 126]) + struct.pack("!H", len(data))
    else:
        head += bytes([bit | 127]) + struct.pack("!Q", len(data))
    return head + (bytes(4) if masked else b"") + data


@dataclass
class RawPeer:
    """The other end of a connection, as bytes."""

    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter

    @classmethod
    async def connect(cls, port: int, *, receive_buffer_bytes: int | None = None) -> Self:
        """Return a TCP connection, and no more."""
        sock = socket.socket()
        if receive_buffer_bytes is not None:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer_bytes)
        sock.setblocking(False)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        # The limit is where the reader stops to read from the socket.
        reader, writer = await asyncio.open_connection(sock=sock, limit=4096)
        return cls(reader, writer)

    @classmethod
    async def handshaken(cls, port: int, *, receive_buffer_bytes: int | None = None) -> Self:
        """Return a client whose opening handshake is done."""
        peer = await cls.connect(port, receive_buffer_bytes=receive_buffer_bytes)
        peer.writer.write(HANDSHAKE)
        assert (await peer.read_until(b"\r\n\r\n")).startswith(b"HTTP/1.1 101 ")
        return peer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def read_until(self, separator: bytes) -> bytes:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.readuntil(separator)

    async def read_frame(self) -> tuple[int, bytes]:
        """Read one frame that is not masked; return (opcode, payload)."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            first, length = await self.reader.readexactly(2)
            if length == 126:
                (length,) = struct.unpack("!H", await self.reader.readexactly(2))
            elif length == 127:
                (length,) = struct.unpack("!Q", await self.reader.readexactly(8))
            return first & 0x0F, await self.reader.readexactly(length)

    async def read_to_end(self) -> bytes:
        """Read until the other side closes its half; return the data."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.reader.read()

    async def gone(self) -> None:
        """Wait until the other side has cut the connection off, or closed it."""
        with contextlib.suppress(ConnectionError):
            await self.read_to_end()

    async def flood(self, data: bytes) -> None:
        """Send without end, until the connection is gone."""
        with contextlib.suppress(ConnectionError):
            while not self.writer.is_closing():
                self.writer.write(data)
                await self.writer.drain()

    async def close(self) -> None:
        self.writer.close()
        with contextlib.suppress(OSError):  # TLS has errors of its own
            await self.writer.wait_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


def close_frame_code(payload: bytes) -> int:
    """Return the code of a close frame."""
    return int.from_bytes(payload[:2], "big")


def random_text(size: int) -> str:
    """Text that no compression or padding makes by accident."""
    return os.urandom(size // 2 + 1).hex()[:size]
