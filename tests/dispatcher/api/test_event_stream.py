"""Event streams over real HTTP, to watchers that read and to watchers that stall."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator

import aiohttp
import pytest
from aiohttp import web

from common.link import wire
from common.observe import admin
from dispatcher.api import event_stream
from dispatcher.api.admin import application
from dispatcher.api.commands import MAX_WAITING_EVENTS, Commands
from dispatcher.records.record_taker import NO_RECORDS
from tests.helpers import eventually

PATIENCE_SECONDS = 20.0
# More than the kernel's buffers of both sides hold.
BIG = "x" * 64 * 1024


class Dispatcher:
    """A dispatcher whose only worker has the call."""

    is_ready = True
    record_taker = NO_RECORDS
    recordings = None

    def __init__(self) -> None:
        self.asked: list[wire.Command] = []
        self.commands = Commands(self._send)

    @property
    def registry(self) -> None:
        raise NotImplementedError

    async def holder(self, uuid: str) -> Commands:
        return self.commands

    @property
    def watches(self) -> int:
        """Number of watches at the worker."""
        return sum({"watch": 1, "unwatch": -1}[each.action] for each in self.asked)

    def happened(self, **body: object) -> None:
        """Send an event to all watchers."""
        for command in self.asked:
            if command.action == "watch":
                self._answer(wire.Event(command.number, body))

    def _send(self, record: bytes) -> None:
        ((_, _, payload),) = wire.decode(record)
        command = wire.decode_control(wire.Command, payload)
        self.asked.append(command)
        if command.action == "watch":
            asyncio.get_running_loop().call_soon(self._answer, wire.Result(command.number, 200))

    def _answer(self, record: wire.Result | wire.Event) -> None:
        ((kind, _, payload),) = wire.decode(wire.encode(record, 0))
        self.commands.record(kind, payload)


@contextlib.asynccontextmanager
async def watched() -> AsyncIterator[tuple[Dispatcher, int]]:
    """Run a dispatcher and its admin port."""
    dispatcher = Dispatcher()
    sock = socket.create_server(("127.0.0.1", 0))
    app: web.Application = application(dispatcher)  # type: ignore[arg-type]  # without a registry
    runner = await admin.serve(app, sock)
    try:
        yield dispatcher, sock.getsockname()[1]
    finally:
        await runner.cleanup()


async def watch(port: int) -> socket.socket:
    """Return a watcher that reads nothing beyond the buffers of the system."""
    loop = asyncio.get_running_loop()
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    await loop.sock_connect(sock, ("127.0.0.1", port))
    await loop.sock_sendall(sock, b"GET /calls/call/events HTTP/1.1\r\nHost: localhost\r\n\r\n")
    return sock


async def test_reading_watcher_gets_all_events() -> None:
    async with watched() as (dispatcher, port), aiohttp.ClientSession() as http:
        async with http.get(f"http://127.0.0.1:{port}/calls/call/events") as response:
            for number in range(50):
                dispatcher.happened(type="transcript", n=number, text=BIG)
            dispatcher.happened()
            body = await asyncio.wait_for(response.text(), PATIENCE_SECONDS)
        assert body.count("event: transcript\n") == 50
        assert '"n":49' in body


@pytest.mark.parametrize("count", [1, 10, MAX_WAITING_EVENTS - 1])
async def test_stalled_watcher_is_unwatched(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "STALLED_SECONDS", 0.3)
    async with watched() as (dispatcher, port):
        sock = await watch(port)
        await eventually(lambda: dispatcher.watches == 1, PATIENCE_SECONDS)
        for _ in range(count):
            dispatcher.happened(type="transcript", text=BIG)
        await eventually(lambda: dispatcher.watches == 0, PATIENCE_SECONDS)
        sock.close()


async def test_disconnected_watcher_is_unwatched(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_stream, "IDLE_SECONDS", 0.0)
    monkeypatch.setattr(event_stream, "STALLED_SECONDS", 0.3)
    async with watched() as (dispatcher, port):
        sock = await watch(port)
        await eventually(lambda: dispatcher.watches == 1, PATIENCE_SECONDS)
        sock.close()
        await eventually(lambda: dispatcher.watches == 0, PATIENCE_SECONDS)
