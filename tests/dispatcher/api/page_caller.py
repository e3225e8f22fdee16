"""A page that calls, as the route of calls from the page sees it: HTTP, a ticket, a WebSocket."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import aiohttp
import orjson

from common.net.tokens import Token
from common.observe import admin
from dispatcher.api.admin import application
from dispatcher.api.page_calls import PageCallLimits
from tests.dispatcher.rig import PATIENCE_SECONDS, Rig


class Line:
    """The page's end of the WebSocket of one call."""

    def __init__(self, connection: aiohttp.ClientWebSocketResponse) -> None:
        self.connection = connection

    async def say(self, **message: object) -> None:
        await self.connection.send_str(orjson.dumps(message).decode())

    async def audio(self, pcm: bytes) -> None:
        await self.say(type="audio", audio=base64.b64encode(pcm).decode())

    async def hear(self) -> dict[str, Any]:
        """Return the next message."""
        message: dict[str, Any] = orjson.loads(await self.connection.receive_str(timeout=PATIENCE_SECONDS))
        return message

    async def end(self) -> tuple[int | None, str]:
        """Wait for the end; return the close code and the words of the close frame."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                message = await self.connection.receive()
                if message.type is aiohttp.WSMsgType.CLOSE:
                    return message.data, message.extra or ""
                if message.type in (aiohttp.WSMsgType.CLOSED, aiohttp.WSMsgType.ERROR):
                    return self.connection.close_code, ""


@dataclass
class PageClient:
    """A browser with the live page of a dispatcher."""

    http: aiohttp.ClientSession
    url: str

    async def ticket(self, **headers: str) -> tuple[int, dict[str, Any]]:
        """Ask for a ticket; return status and answer."""
        async with self.http.post(f"{self.url}/page-call", headers={"Origin": self.url, **headers}) as response:
            return response.status, await response.json()

    async def state(self) -> dict[str, Any]:
        async with self.http.get(f"{self.url}/page-call") as response:
            assert response.status == 200
            state: dict[str, Any] = await response.json()
            return state

    @contextlib.asynccontextmanager
    async def line(self, ticket: object, origin: str = "") -> AsyncIterator[Line]:
        """Open the WebSocket, and send a ticket."""
        async with self.http.ws_connect(
            f"{self.url}/page-call/line", headers={"Origin": origin or self.url}, autoclose=False
        ) as connection:
            await connection.send_str(orjson.dumps({"type": "ticket", "ticket": ticket}).decode())
            yield Line(connection)

    @contextlib.asynccontextmanager
    async def call(self) -> AsyncIterator[tuple[Line, str]]:
        """Place a call; yield it with its uuid."""
        status, answer = await self.ticket()
        assert status == 200, answer
        async with self.line(answer["ticket"]) as line:
            began = await line.hear()
            assert began["type"] == "began"
            yield line, began["uuid"]


@contextlib.asynccontextmanager
async def page_of(
    rig: Rig, *, is_on: bool = True, token: Token | None = None, limits: PageCallLimits | None = None
) -> AsyncIterator[PageClient]:
    """Serve the admin port of a dispatcher; yield a browser with its page."""
    sock = socket.create_server(("127.0.0.1", 0))
    app = application(rig.dispatcher, token, has_page_calls=is_on, page_call_limits=limits)
    runner = await admin.serve(app, sock)
    try:
        async with aiohttp.ClientSession() as http:
            yield PageClient(http, f"http://127.0.0.1:{sock.getsockname()[1]}")
    finally:
        await runner.cleanup()
