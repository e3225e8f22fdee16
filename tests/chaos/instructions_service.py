"""The web service of OPENAI_URL_INSTRUCTIONS: callers get instructions, and hostile calls a wrong answer."""

from __future__ import annotations

from typing import Final, Self

import orjson
from aiohttp import web

from tests.chaos import script

HOSTILE: Final = "hostile-instructions-"
"""Prefix of the uuids that get a wrong answer."""

WRONG_ANSWER_BYTES: Final = 240_000


class InstructionsService:
    """A small web server.

    Attributes:
        url: address for OPENAI_URL_INSTRUCTIONS.
    """

    async def __aenter__(self) -> Self:
        application = web.Application()
        application.router.add_get("/", _answer)
        self._runner = web.AppRunner(application, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", 0)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()


def wrong_answer() -> bytes:
    """Return an answer of `WRONG_ANSWER_BYTES` in which each field is wrong."""
    wrong = {"system": "You are rehearsed.", "tools": [0] * (WRONG_ANSWER_BYTES // 2 - 50)}
    return orjson.dumps(wrong)


async def _answer(request: web.Request) -> web.Response:
    if request.headers.get("X-AVR-UUID", "").startswith(HOSTILE):
        body = wrong_answer()
    else:
        body = orjson.dumps({"system": script.instructions()})
    return web.Response(body=body, content_type="application/json")
