"""The connection of a call from the page, over a real WebSocket with small buffers."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Callable

import orjson
from aiohttp import web
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from dispatcher.api.page_connection import PAUSE_BYTES, PageConnection
from tests.dispatcher.rig import PATIENCE_SECONDS
from tests.helpers import eventually

FRAME = bytes(range(160)) * 2
BUFFER_BYTES = 8 * 1024


class Owner:
    """A call that notes what its connection reports."""

    def __init__(self) -> None:
        self.messages: list[bytes] = []
        self.writable_again = 0
        self.violations: list[int] = []
        self.ends: list[int] = []

    def received(self, data: bytes, text: bool) -> None:
        self.messages.append(data)

    def caught_up(self) -> None:
        pass

    def violated(self, code: int, reason: str) -> int:
        self.violations.append(code)
        return code

    def writable(self) -> None:
        self.writable_again += 1

    def closed(self, code: int, reason: str) -> None:
        self.ends.append(code)


@contextlib.asynccontextmanager
async def connected() -> AsyncIterator[tuple[PageConnection, Owner, Callable[[], ClientConnection]]]:
    """Connect a page that reads only when it is asked to."""
    owner, opened = Owner(), asyncio.get_running_loop().create_future()

    async def line(request: web.Request) -> web.StreamResponse:
        response = web.WebSocketResponse(compress=False, max_msg_size=4096, decode_text=False, timeout=1.0)
        await response.prepare(request)
        assert request.transport is not None
        request.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)
        connection = PageConnection(response, request.transport)
        opened.set_result(connection)
        await connection.run(owner)
        return response

    app = web.Application()
    app.add_routes([web.get("/", line)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.1)
    await runner.setup()
    site = socket.create_server(("127.0.0.1", 0))
    await web.SockSite(runner, site).start()
    client = socket.socket()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, BUFFER_BYTES)
    client.connect(site.getsockname())
    client.setblocking(False)
    url = f"ws://127.0.0.1:{site.getsockname()[1]}/"
    page = await connect(url, sock=client, compression=None, max_queue=1, ping_interval=None, close_timeout=1)
    try:
        yield await asyncio.wait_for(opened, PATIENCE_SECONDS), owner, lambda: page
    finally:
        page.transport.abort()
        await page.wait_closed()
        await runner.cleanup()


async def read(page: ClientConnection) -> list[str]:
    """Return the types of all messages until the end of the connection."""
    types = []
    with contextlib.suppress(ConnectionClosed):
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                types.append(orjson.loads(await page.recv())["type"])
    return types


async def test_a_page_that_does_not_read_pauses_the_call() -> None:
    async with connected() as (connection, owner, page):
        frames = 0
        while not connection.write_paused:
            connection.play(FRAME * 50)
            frames += 50
            await asyncio.sleep(0)
        assert connection._waiting_bytes > PAUSE_BYTES
        assert owner.writable_again == 0
        reading = asyncio.create_task(read(page()))
        await eventually(lambda: owner.writable_again, PATIENCE_SECONDS)
        connection.close(1000, "done")
        assert await reading == ["audio"] * frames
        assert page().close_code == 1000
        await eventually(lambda: owner.ends == [1000], PATIENCE_SECONDS)


async def test_an_interruption_drops_waiting_audio_alone() -> None:
    async with connected() as (connection, _, page):
        connection.send_transcript("user", "stop")
        connection.play(FRAME * 100)
        connection.send_transcript("agent", "I was")
        connection.interrupt()
        connection.play(FRAME)
        connection.close(1000)
        assert await read(page()) == ["transcript", "transcript", "interruption", "audio"]


async def test_a_page_that_never_reads_is_aborted() -> None:
    async with connected() as (connection, owner, _):
        for _ in range(60):
            connection.play(FRAME * 500)
        await eventually(lambda: owner.ends == [1006], PATIENCE_SECONDS)
        await connection.wait_closed()


async def test_nothing_is_delivered_after_the_close() -> None:
    async with connected() as (connection, owner, page):
        await page().send("before")
        await eventually(lambda: owner.messages == [b"before"], PATIENCE_SECONDS)
        connection.close(1008, "x" * 300)
        await page().send("after")
        assert await read(page()) == []
        assert page().close_code == 1008
        assert page().close_reason == "x" * 123
        await connection.wait_closed()
        assert owner.messages == [b"before"]
        connection.play(FRAME)
        connection.close(1000)


async def test_a_too_long_message_is_a_violation() -> None:
    async with connected() as (_, owner, page):
        await page().send("x" * 5000)
        await eventually(lambda: owner.ends, PATIENCE_SECONDS)
        assert owner.violations == [1009]


async def test_the_pages_close_code_is_reported() -> None:
    async with connected() as (_, owner, page):
        await page().close(1001, "")
        await eventually(lambda: owner.ends == [1001], PATIENCE_SECONDS)


async def test_a_lost_page_is_no_clean_end() -> None:
    async with connected() as (_, owner, page):
        page().transport.abort()
        await eventually(lambda: owner.ends == [1006], PATIENCE_SECONDS)
