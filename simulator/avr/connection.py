"""One WebSocket from AVR Core to the service; a call that reconnects uses several."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import quote

import aiohttp
import yarl

from simulator.avr.connect_errors import explain, without_secrets

ABNORMAL_CLOSURE = 1006

# Time for the service to answer a close frame; afterwards the connection is dropped.
CLOSE_TIMEOUT_SECONDS = 5.0

# A message to AVR Core is a frame of 450 bytes or a transcript.
_MAX_MESSAGE_BYTES = 64 * 1024

# Maximum unread data here; more waits in TCP. It is aiohttp's default of 2 x 64 KiB.
_READ_BUFFER_BYTES = 64 * 1024


class CallError(Exception):
    """A call that cannot be placed, or that ended too early. The message is one line, without secrets."""


@dataclass(frozen=True, slots=True)
class Closed:
    """The end of a connection.

    Attributes:
        code: code of the service's close frame; 1005 if the frame had no code, 1006 without a frame.
        reason: reason of the close frame, or the cause of the break.
        by_service: whether the service sent a close frame.
    """

    code: int
    reason: str
    by_service: bool


class AvrConnection:
    """An open connection, made by `open`.

    Attributes:
        url: address of the service.
    """

    def __init__(
        self,
        url: str,
        session: aiohttp.ClientSession,
        websocket: aiohttp.ClientWebSocketResponse,
        sockets: list[socket.socket],
    ) -> None:
        self.url = url
        self._session = session
        self._websocket = websocket
        self._sockets = sockets

    @classmethod
    async def open(
        cls,
        url: str,
        init: str,
        *,
        metadata: Mapping[str, str] | None,
        headers: Mapping[str, str] | None,
        tls: ssl.SSLContext | None,
        timeout_seconds: float,
    ) -> Self:
        """Connect and send `init`.

        Raises:
            CallError: the service is unreachable or refuses the connection.
        """
        sockets: list[socket.socket] = []
        connector = aiohttp.TCPConnector(socket_factory=_socket_factory(sockets), ssl=True if tls is None else tls)
        session = aiohttp.ClientSession(connector=connector, read_bufsize=_READ_BUFFER_BYTES)
        try:
            async with asyncio.timeout(timeout_seconds):
                websocket = await session.ws_connect(
                    _with_metadata(url, metadata), headers=headers, max_msg_size=_MAX_MESSAGE_BYTES
                )
                await websocket.send_str(init)
        except (aiohttp.ClientError, OSError) as error:
            await session.close()
            why = await explain(error, url, timeout_seconds)
            raise CallError(f"cannot connect to {without_secrets(url)}: {why}") from None
        except BaseException:
            await session.close()
            raise
        return cls(url, session, websocket, sockets)

    @property
    def close_code(self) -> int:
        """Return the code of the closing handshake; 1006 without one."""
        return self._websocket.close_code or ABNORMAL_CLOSURE

    async def send(self, message: str | bytes) -> None:
        """Send a text or binary message.

        Raises:
            ConnectionError: the connection is closing or closed.
        """
        if isinstance(message, str):
            await self._websocket.send_str(message)
        else:
            await self._websocket.send_bytes(message)

    async def receive(self) -> str | bytes | Closed:
        """Return the next message, or the end of the connection."""
        message = await self._websocket.receive()
        if message.type is aiohttp.WSMsgType.TEXT or message.type is aiohttp.WSMsgType.BINARY:
            data: str | bytes = message.data
            return data
        if message.type is aiohttp.WSMsgType.CLOSE:
            return Closed(message.data or 1005, message.extra or "", by_service=True)
        if message.type is aiohttp.WSMsgType.ERROR:
            return Closed(self.close_code, str(message.data), by_service=False)
        return Closed(ABNORMAL_CLOSURE, "", by_service=False)

    async def close(self) -> None:
        """Close with code 1000 and wait for the answer."""
        await self._websocket.close(code=1000)

    async def dispose(self) -> None:
        """Free the resources of the connection, in any state."""
        await self._session.close()

    async def abandon(self) -> None:
        """Close without waiting for the answer, because the event loop ends."""
        with suppress(TimeoutError):
            async with asyncio.timeout(0):
                await self._websocket.close(code=1001)
        await self.dispose()

    def reset(self) -> None:
        """Let the socket's close send a TCP reset and drop unsent data (SO_LINGER 0, socket(7))."""
        for connection in self._sockets:
            if connection.fileno() >= 0:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _socket_factory(sockets: list[socket.socket]) -> Callable[[Any], socket.socket]:
    """Return a factory that keeps its sockets: the only public way to reset an aiohttp connection."""

    def make(address: tuple[int, int, int, str, Any]) -> socket.socket:
        family, kind, protocol, _, _ = address
        connection = socket.socket(family, kind, protocol)
        connection.setblocking(False)
        sockets.append(connection)
        return connection

    return make


def _with_metadata(url: str, metadata: Mapping[str, str] | None) -> str | yarl.URL:
    """Return the URL with metadata. A space is `%20` and a plus `%2B`, which all services read alike."""
    try:
        target = str(yarl.URL(url))
    except ValueError:
        return url  # aiohttp names the error
    for name, value in (metadata or {}).items():
        separator = "&" if "?" in target else "?"
        target += f"{separator}{quote(name, safe='')}={quote(value, safe='')}"
    return yarl.URL(target, encoded=True)
