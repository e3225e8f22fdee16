"""Stream server-sent events to one watcher. A watcher that does not read is disconnected."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import orjson
from aiohttp import web

from common.observe.redaction import NO_CALL, without_known

IDLE_SECONDS: Final = 15.0
"""Idle time after which a comment is sent, so that a proxy does not close the stream."""

STALLED_SECONDS = 30.0
"""Maximum time that bytes for a watcher may wait in this process before the watcher is disconnected."""

CHECKS: Final = 6
"""Number of checks for waiting bytes within `STALLED_SECONDS`."""

SEND_BUFFER_BYTES: Final = 16 * 1024
"""Size of the kernel's send buffer for a watcher; Linux doubles the value (socket(7)). The default is megabytes,
and a watcher that does not read would be detected late, or never."""

_HEADERS: Final = {"Content-Type": "text/event-stream", "Cache-Control": "no-cache"}


async def send_events(
    request: web.Request, events: AsyncIterator[dict[str, Any]], uuid: str = NO_CALL
) -> web.StreamResponse:
    """Answer a request with events, until the events end, the watcher disconnects, or the watcher stalls.

    Args:
        request: the watcher's request.
        events: the events of a call.
        uuid: the call's uuid; the call's secrets are removed from the events.
    """
    response = web.StreamResponse(headers=_HEADERS)
    await response.prepare(request)
    stream = _Stream(request, response, uuid)
    reading = aiter(events)
    following = asyncio.ensure_future(anext(reading, None))
    try:
        while True:
            done, _ = await asyncio.wait({following}, timeout=STALLED_SECONDS / CHECKS)
            stream.check()
            if not done:
                await stream.keep_alive()
                continue
            event = following.result()
            if event is None:
                return response
            await stream.send(event)
            following = asyncio.ensure_future(anext(reading, None))
    except ConnectionError:
        return response
    finally:
        following.cancel()


class _Stream:
    """One watcher's connection. Methods raise ConnectionError if the watcher is disconnected."""

    def __init__(self, request: web.Request, response: web.StreamResponse, uuid: str) -> None:
        self._uuid = uuid
        self._transport = request.transport
        self._response = response
        self._sent_seconds = self._taken_seconds = time.monotonic()
        sock = self._transport.get_extra_info("socket") if self._transport is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
                if hasattr(socket, "TCP_USER_TIMEOUT"):  # on Linux
                    # The kernel disconnects a watcher that acknowledges nothing for this time (tcp(7)).
                    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(STALLED_SECONDS * 1000))

    async def send(self, event: dict[str, Any]) -> None:
        """Send an event."""
        name = str(event.get("type", "event"))
        data = without_known(orjson.dumps(event).decode(), self._uuid)
        await self._write(f"event: {name}\ndata: {data}\n\n".encode())

    async def keep_alive(self) -> None:
        """Send a comment if nothing was sent for a while."""
        if time.monotonic() - self._sent_seconds >= IDLE_SECONDS:
            await self._write(b": idle\n\n")

    def check(self) -> None:
        """Disconnect the watcher if it does not read."""
        if self._transport is None or self._transport.get_write_buffer_size() == 0:
            self._taken_seconds = time.monotonic()
        elif time.monotonic() - self._taken_seconds >= STALLED_SECONDS:
            self._disconnect()

    async def _write(self, data: bytes) -> None:
        try:
            async with asyncio.timeout(STALLED_SECONDS):
                await self._response.write(data)
        except TimeoutError:
            self._disconnect()
        self._sent_seconds = time.monotonic()

    def _disconnect(self) -> None:
        if self._transport is not None:
            self._transport.abort()
        raise ConnectionAbortedError("the watcher does not read")
