"""A web service that answers about calls, as OPENAI_URL_INSTRUCTIONS names one."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field

from aiohttp import web

Answer = Callable[[web.Request], Awaitable[web.StreamResponse]]


@dataclass
class WebService:
    """A web service that keeps its requests, and gives `answers` in turn; it repeats the last one."""

    url: str
    answers: list[Answer]
    requests: list[web.Request] = field(default_factory=list)

    async def handle(self, request: web.Request) -> web.StreamResponse:
        self.requests.append(request)
        answer = self.answers[0] if len(self.answers) == 1 else self.answers.pop(0)
        return await answer(request)


def json(answer: object) -> Answer:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.json_response(answer)

    return handle


def text(body: str, status: int = 200) -> Answer:
    async def handle(_: web.Request) -> web.StreamResponse:
        return web.Response(text=body, status=status)

    return handle


@contextlib.asynccontextmanager
async def web_service(*answers: Answer) -> AsyncIterator[WebService]:
    """Run the service on a free port."""
    service = WebService("", list(answers))
    app = web.Application()
    app.router.add_get("/{path:.*}", service.handle)
    runner = web.AppRunner(app, shutdown_timeout=0)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    try:
        service.url = f"http://127.0.0.1:{runner.addresses[0][1]}"
        yield service
    finally:
        await runner.cleanup()
