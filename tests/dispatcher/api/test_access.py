"""The access rules of the calls API and the page, over real HTTP."""

from __future__ import annotations

import socket
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import aiohttp
import pytest
from aiohttp import web
from pydantic import SecretStr

from common.net.tokens import Token
from common.observe import admin
from dispatcher.api.access import Access

TOKEN = Token(SecretStr("a-token-for-the-admin"))


@asynccontextmanager
async def asking(token: Token | None) -> AsyncIterator[tuple[aiohttp.ClientSession, str]]:
    """Open a port that answers with the status of `Access`'s refusal, or with 200."""
    access = Access(token)

    async def page(request: web.Request) -> web.Response:
        refusal = access.to_page(request)
        return web.Response(status=200 if refusal is None else refusal.status)

    async def calls(request: web.Request) -> web.Response:
        refusal = access.to_calls(request)
        return web.Response(status=200 if refusal is None else refusal.status)

    app = web.Application()
    app.add_routes([web.get("/", page), web.route("*", "/calls", calls)])
    sock = socket.create_server(("127.0.0.1", 0))
    runner = await admin.serve(app, sock)
    try:
        async with aiohttp.ClientSession(f"http://127.0.0.1:{sock.getsockname()[1]}") as http:
            yield http, f"127.0.0.1:{sock.getsockname()[1]}"
    finally:
        await runner.cleanup()


class TestWithoutToken:
    @pytest.mark.parametrize("path", ["/", "/calls"])
    @pytest.mark.parametrize(
        "host",
        ["localhost:9090", "LOCALHOST", "calls.localhost", "127.0.0.1:1", "[::1]:9090", socket.gethostname()],
    )
    async def test_names_and_addresses_of_this_host_are_accepted(self, path: str, host: str) -> None:
        async with asking(None) as (http, _), http.get(path, headers={"Host": host}) as response:
            assert response.status == 200

    @pytest.mark.parametrize("path", ["/", "/calls"])
    @pytest.mark.parametrize(
        "host", ["rebound.example", "localhost.rebound.example:9090", "127.0.0.1.example", "[::1", ""]
    )
    async def test_foreign_name_that_resolves_here_is_refused(self, path: str, host: str) -> None:
        async with asking(None) as (http, _), http.get(path, headers={"Host": host}) as response:
            assert response.status == 403

    async def test_request_of_the_page_is_answered(self) -> None:
        async with (
            asking(None) as (http, host),
            http.post("/calls", headers={"Origin": f"http://{host}"}) as response,
        ):
            assert response.status == 200

    @pytest.mark.parametrize("origin", ["https://elsewhere.example", "null", "http://127.0.0.1:1", "http://[", ""])
    async def test_request_of_another_origin_is_refused(self, origin: str) -> None:
        async with asking(None) as (http, _), http.post("/calls", headers={"Origin": origin}) as response:
            assert response.status == 403


class TestWithToken:
    async def test_page_is_public_and_calls_need_the_token(self) -> None:
        async with asking(TOKEN) as (http, _):
            async with http.get("/") as response:
                assert response.status == 200
            async with http.get("/calls") as response:
                assert response.status == 401

    async def test_names_and_origins_do_not_matter_with_a_token(self) -> None:
        headers = {
            "Authorization": f"Bearer {TOKEN.value.get_secret_value()}",
            "Host": "calls.example",
            "Origin": "https://proxy.example",
        }
        async with asking(TOKEN) as (http, _), http.post("/calls", headers=headers) as response:
            assert response.status == 200
