"""A small service that speaks the AVR protocol over a real WebSocket, as a test commands it."""

from __future__ import annotations

import asyncio
import base64
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, TypeAlias

import aiohttp
import orjson
from aiohttp import web

FRAME_BYTES = 320


@dataclass
class Connection:
    """One call, seen from the service."""

    websocket: web.WebSocketResponse
    query: Mapping[str, str]
    headers: Mapping[str, str]
    inits: list[dict[str, Any]] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    frame_times_seconds: list[float] = field(default_factory=list)
    digits: list[tuple[int, str]] = field(default_factory=list)  # with the number of earlier frames
    others: list[str | bytes] = field(default_factory=list)
    over: asyncio.Event = field(default_factory=asyncio.Event)

    async def send(self, kind: str, **fields: str) -> None:
        await self.websocket.send_str(orjson.dumps({"type": kind, **fields}).decode())

    async def send_audio(self, pcm: bytes, *, message_bytes: int = FRAME_BYTES) -> None:
        """Send audio. A busy machine delays messages: between short ones, the caller may hear a gap."""
        for start in range(0, len(pcm), message_bytes):
            await self.send("audio", audio=base64.b64encode(pcm[start : start + message_bytes]).decode())

    async def lose(self) -> None:
        """Break the connection without a close frame."""
        transport = self.websocket.get_extra_info("socket")
        assert transport is not None
        transport.shutdown(2)

    async def receive(self) -> str | None:
        """Take one message and return its kind, or None when the call has ended."""
        message = await self.websocket.receive()
        if message.type not in {aiohttp.WSMsgType.TEXT, aiohttp.WSMsgType.BINARY}:
            return None
        try:
            content = orjson.loads(message.data)
            kind = str(content["type"])
        except (orjson.JSONDecodeError, KeyError, TypeError):
            kind = "other"
        match kind:
            case "init":
                self.inits.append(content)
            case "audio":
                self.frames.append(base64.b64decode(content["audio"], validate=True))
                self.frame_times_seconds.append(time.monotonic())
            case "dtmf_digit":
                self.digits.append((len(self.frames), content["digit"]))
            case _:
                self.others.append(message.data)
        return kind

    async def listen(self, frames: int | None = None) -> None:
        """Take messages until `frames` more frames have arrived, or the call has ended."""
        until = None if frames is None else len(self.frames) + frames
        while await self.receive() is not None:
            if until is not None and len(self.frames) >= until:
                return


Behaviour: TypeAlias = Callable[[Connection], Awaitable[None]]


async def echo(connection: Connection) -> None:
    """Send each frame back."""
    while kind := await connection.receive():
        if kind == "audio":
            await connection.send_audio(connection.frames[-1])


@dataclass
class AvrService:
    """A running service; `connections` holds its calls in order of arrival."""

    url: str = ""
    connections: list[Connection] = field(default_factory=list)


@asynccontextmanager
async def avr_service(behaviour: Behaviour = echo, *, http_status: int | None = None) -> AsyncIterator[AvrService]:
    """Serve on a free port of 127.0.0.1; with `http_status`, refuse all connections with it."""
    service = AvrService()

    async def handle(request: web.Request) -> web.StreamResponse:
        if http_status is not None:
            return web.Response(status=http_status)
        websocket = web.WebSocketResponse()
        try:
            await websocket.prepare(request)
        except ConnectionError:
            return web.Response()  # to a client that has disconnected
        connection = Connection(websocket, dict(request.query), dict(request.headers))
        service.connections.append(connection)
        try:
            await behaviour(connection)
        except ConnectionError:
            pass  # the caller disconnected during a send
        finally:
            connection.over.set()
        return websocket

    application = web.Application()
    application.router.add_get("/{path:.*}", handle)
    runner = web.AppRunner(application, access_log=None, shutdown_timeout=1)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    service.url = f"ws://127.0.0.1:{runner.addresses[0][1]}"
    try:
        yield service
    finally:
        await runner.cleanup()
