"""The admin port of any process, to peers that do not speak HTTP well."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import socket
from collections.abc import AsyncIterator

import pytest
from aiohttp import web
from structlog.testing import capture_logs

from common.observe import admin
from tests.helpers import eventually

PATIENCE_SECONDS = 10.0
WORD = "s3cret-text-of-a-stranger"
HEAD = f"POST /body HTTP/1.1\r\nHost: x\r\nX-Word: {WORD}\r\n"
BAD = {
    "no HTTP": f"{WORD}\r\n\r\n",
    "TLS": "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "a bad header": f"GET /livez HTTP/1.1\r\nHost: x\r\n{WORD}\r\n\r\n",
    "a header of a name that is none": f"GET /livez HTTP/1.1\r\nHost: x\r\n{WORD} : a\x00b\r\n\r\n",
    "an endless line": f"GET /{WORD}{'x' * 20_000} HTTP/1.1\r\n\r\n",
    "endless headers": "GET / HTTP/1.1\r\n" + f"X-A: {WORD}\r\n" * 2000 + "\r\n",
    "a version that is none": f"GET /{WORD} HTTP/9.{WORD}\r\n\r\n",
    "two lengths": HEAD + f"Content-Length: 5\r\nContent-Length: 6\r\n\r\n{WORD}",
    "a length that is none": HEAD + f"Content-Length: {WORD}\r\n\r\n",
    "a chunk that is none": HEAD + f"Transfer-Encoding: chunked\r\n\r\n{WORD}\r\n",
    "a later chunk that is none": HEAD + f"Transfer-Encoding: chunked\r\n\r\n1\r\na\r\n{WORD}\r\n",
    "gzip that is none": HEAD + f"Content-Encoding: gzip\r\nContent-Length: {len(WORD)}\r\n\r\n{WORD}",
    "an encoding that is none": HEAD + f"Content-Encoding: {WORD}\r\nContent-Length: 1\r\n\r\na",
    "an upgrade": f"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: {WORD}\r\n\r\n{WORD}",
    "a path that is none": f"GET http://[{WORD} HTTP/1.1\r\nHost: x\r\n\r\n",
    "a host that is none": f"GET /host HTTP/1.1\r\nHost: [{WORD}\r\n\r\n",
    "an odd escape": f"GET /%ff%00{WORD}?a=%zz HTTP/1.1\r\nHost: x\r\n\r\n",
    "a body that ends early": HEAD + "Content-Length: 100\r\n\r\nabc",
}


@contextlib.asynccontextmanager
async def port(calls_port: int | None = None) -> AsyncIterator[int]:
    """Yield an admin port with requests that look at a body and a host, and one that fails."""

    async def body(request: web.Request) -> web.Response:
        return web.Response(body=await request.read())

    async def host(request: web.Request) -> web.Response:
        return web.Response(text=request.url.host or "")

    async def fault(request: web.Request) -> web.Response:
        raise RuntimeError("a fault of ours")

    app = admin.application(lambda: True, "not ready", calls_port=calls_port)
    app.add_routes([web.post("/body", body), web.get("/host", host), web.get("/fault", fault)])
    sock = socket.create_server(("127.0.0.1", 0))
    runner = await admin.serve(app, sock)
    try:
        yield sock.getsockname()[1]
    finally:
        await runner.cleanup()


async def ask(number: int, sent: bytes) -> bytes:
    """Return the beginning of the answer to these bytes; nothing, where a peer hangs up within its body."""
    reader, writer = await asyncio.open_connection("127.0.0.1", number)
    writer.write(sent)
    await writer.drain()
    answer = b""
    if not sent.endswith(b"\r\n\r\nabc"):
        with contextlib.suppress(ConnectionError):
            answer = await asyncio.wait_for(reader.read(1000), PATIENCE_SECONDS)
    writer.close()
    return answer


@pytest.mark.parametrize("sent", BAD.values(), ids=BAD)
async def test_a_bad_request_is_at_most_one_short_line(sent: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with capture_logs() as lines:
        async with port() as number:
            for _ in range(5):
                await ask(number, sent.encode("latin-1"))
            assert (await ask(number, b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 200")
    libraries = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert libraries == []
    assert len(lines) <= 1
    for line in lines:
        assert (line["event"], line["address"], line["times"]) == ("bad request", "127.0.0.1", 1)
        assert len(str(line)) < 200
    assert "s3cret" not in str(lines) + caplog.text
    assert "Traceback" not in str(lines) + caplog.text


async def test_our_own_fault_is_logged_with_its_place() -> None:
    with capture_logs() as lines:
        async with port() as number:
            for _ in range(3):
                assert (await ask(number, b"GET /fault HTTP/1.1\r\nHost: x\r\n\r\n")).startswith(b"HTTP/1.1 500")
            await eventually(lambda: lines)
    (line,) = lines
    assert (line["event"], line["log_level"], line["times"]) == ("request failed", "error", 1)
    assert isinstance(line["exc_info"], RuntimeError)


LOST_CALLER = b"GET %s HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"


@pytest.mark.parametrize("path", [b"/", b"/sts?token=a-secret", b"/body"])
@pytest.mark.parametrize(("calls_port", "told"), [(6030, b"6030"), (None, b"none")])
async def test_caller_at_the_wrong_port_is_told_the_right_one(
    path: bytes, calls_port: int | None, told: bytes
) -> None:
    async with port(calls_port) as number:
        answer = await ask(number, LOST_CALLER % path)
    assert answer.startswith(b"HTTP/1.1 421 Misdirected Request\r\n")
    assert b"\r\nAVR-STS-Calls-Port: " + told + b"\r\n" in answer
    assert b"a-secret" not in answer


async def test_upgrade_on_a_path_with_a_route_is_left_alone() -> None:
    async with port(6030) as number:
        assert (await ask(number, LOST_CALLER % b"/host")).startswith(b"HTTP/1.1 200 OK\r\n")
