"""A receiver of the webhook: a real HTTP server on loopback, which answers as a test wants."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any, Self

import orjson
from aiohttp import web
from standardwebhooks import Webhook

SECRET = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"

Answer = Callable[[web.Request, bytes], web.Response]


def accept(_: web.Request, __: bytes) -> web.Response:
    return web.Response(status=204)


class Receiver:
    """Verifies each request by the specification's own library.

    Attributes:
        bodies: of all verified requests, in order.
        answer: decides the answer.
        secret: which the receiver knows.
    """

    def __init__(self) -> None:
        self.bodies: list[bytes] = []
        self.ids: list[str] = []
        self.answer: Answer = accept
        self.secret = SECRET
        self.hang = False
        self.most_at_once = 0
        self._at_once = 0
        self._runner: web.AppRunner | None = None
        self.port = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/records"

    @property
    def records(self) -> list[Any]:
        return [orjson.loads(body) for body in self.bodies]

    async def __aenter__(self) -> Self:
        await self.listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    async def listen(self) -> None:
        """Listen, after `close` at the same port again."""
        app = web.Application(client_max_size=1 << 22)
        app.add_routes([web.post("/records", self._post), web.post("/elsewhere", self._post)])
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        sock = socket.create_server(("127.0.0.1", self.port))
        self.port = sock.getsockname()[1]
        await web.SockSite(self._runner, sock).start()

    async def close(self) -> None:
        """Refuse connections from now on."""
        if self._runner is not None:
            await self._runner.cleanup()

    async def _post(self, request: web.Request) -> web.Response:
        self._at_once += 1
        self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            body = await request.read()
            Webhook(self.secret).verify(body, dict(request.headers))
            if self.hang:
                await asyncio.Event().wait()
            response = self.answer(request, body)
            if response.status < 300:
                self.bodies.append(body)
                self.ids.append(request.headers["webhook-id"])
            return response
        finally:
            self._at_once -= 1
