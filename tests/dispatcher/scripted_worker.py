"""A worker's end of the links, that does what a test says: real sockets, no Realtime API."""

from __future__ import annotations

import contextlib
import http
import socket
from collections.abc import AsyncIterator, Callable
from typing import get_args

from websockets.http11 import Request
from websockets.typing import BytesLike

from common.link import wire
from common.link.link_end import LINK_LIMITS, LinkEnd
from common.link.wire import Control, Hello, Kind
from common.net.tls import Tls
from common.net.tokens import Token
from common.net.websocket import Owner, WebSocket
from common.net.websocket_server import serve
from tests.helpers import eventually

CONTROLS: dict[int, type[Control]] = {record_type.kind: record_type for record_type in get_args(Control)}

Answer = Callable[["DispatcherEnd", int, wire.Open], None]


def take(end: DispatcherEnd, channel: int, opening: wire.Open) -> None:
    """Take every call, and have a session at once."""
    end.send(wire.Opened(wire.CALLER_CREDIT_BYTES), channel)
    end.send(wire.Ready(), channel)


def attach_or_take(end: DispatcherEnd, channel: int, opening: wire.Open) -> None:
    """Have the session of a call that comes back: a second of audio has come to it."""
    if not opening.attach:
        take(end, channel, opening)
        return
    end.send(wire.Opened(wire.CALLER_CREDIT_BYTES, attached=True, position_samples=8000), channel)
    end.send(wire.Ready(), channel)


def refuse(reason: str, epoch: int = 0) -> Answer:
    """Take no call, for this reason."""
    return lambda end, channel, _: end.send(wire.Refused(reason, epoch), channel)


def say_nothing(end: DispatcherEnd, channel: int, opening: wire.Open) -> None:
    """Leave OPEN unanswered."""


class DispatcherEnd:
    """The link of one dispatcher, as its worker has it."""

    def __init__(self, worker: ScriptedWorker) -> None:
        self.end = LinkEnd(worker.hello, self, worker.token)
        self.hello: Hello | None = None
        self.records: list[tuple[int, int, bytes]] = []
        self.lost_because: str | None = None
        self._worker = worker

    def send(self, record: Control, channel: int) -> None:
        self.end.send(wire.encode(record, channel))

    def controls(self, record_type: type[Control]) -> list[tuple[int, Control]]:
        """Return the records of this type so far, with their channels."""
        return [
            (channel, wire.decode_control(record_type, memoryview(payload)))
            for kind, channel, payload in self.records
            if kind == record_type.kind
        ]

    def caught_up(self) -> None:
        pass

    def greeted(self, hello: Hello) -> None:
        self.hello = hello

    def record(self, kind: int, channel: int, payload: memoryview, received_seconds: float) -> None:
        self.records.append((kind, channel, bytes(payload)))
        if kind not in wire.UNCOUNTED:
            self._worker.received[channel] = self._worker.received.get(channel, 0) + 1
        if kind == Kind.OPEN:
            self._worker.answer(self, channel, wire.decode_control(wire.Open, payload))
        elif kind == Kind.COMMAND:
            self._command(wire.decode_control(wire.Command, payload))
        elif kind == Kind.ATTACH:
            self.send(wire.Attached(self._worker.received.get(channel, 0)), channel)

    def lost(self, reason: str) -> None:
        self.lost_because = reason

    def _command(self, command: wire.Command) -> None:
        if command.action == "holds":
            epoch = self._worker.holds.get(command.uuid)
            status, body = (404, {}) if epoch is None else (200, {"epoch": epoch})
            self.send(wire.Result(command.number, status, body), 0)
        elif command.action == "load":
            self.send(wire.Result(command.number, 200, {"calls": self._worker.load()}), 0)


class Mute:
    """An end that sends no greeting, as if its records were lost."""

    def opened(self, connection: WebSocket) -> None:
        pass

    def received(self, data: BytesLike, text: bool) -> None:
        pass

    def caught_up(self) -> None:
        pass

    def violated(self, code: int, reason: str) -> int:
        return code

    def writable(self) -> None:
        pass

    def closed(self, code: int, reason: str) -> None:
        pass


class ScriptedWorker:
    """One worker. `answer` says what becomes of an OPEN."""

    def __init__(self, worker_id: str, answer: Answer = take) -> None:
        self.id = worker_id
        self.hello = Hello(wire.PROTOCOL_VERSION, "1.0.0", "worker", worker_id, "boot_id")
        self.answer = answer
        self.address = ""
        self.links: list[DispatcherEnd] = []
        # The epochs of the calls that it says it has.
        self.holds: dict[str, int] = {}
        # How many calls it says it has; None: those that were opened and not closed.
        self.calls: int | None = None
        # Records of each channel that had come, on whatever link.
        self.received: dict[int, int] = {}
        self.token: Token | None = None
        self.refusal: tuple[http.HTTPStatus, str] | None = None
        # So many of the next links never say a word.
        self.mute_links = 0
        self.on_request: Callable[[], None] = lambda: None

    async def only_link(self) -> DispatcherEnd:
        """Wait for the only link, greeted."""
        await eventually(lambda: self.links and self.links[0].hello is not None)
        (only,) = self.links
        return only

    def opens(self) -> list[tuple[int, wire.Open]]:
        """Every OPEN that came, on whatever link, with its channel."""
        return [
            (channel, record)
            for each in self.links
            for channel, record in each.controls(wire.Open)
            if isinstance(record, wire.Open)
        ]

    def load(self) -> int:
        """Return the number of calls that the worker reports."""
        closed = sum(len(each.controls(wire.Close)) for each in self.links)
        return len(self.opens()) - closed if self.calls is None else self.calls

    def cut(self) -> None:
        """Cut the newest link off."""
        connection = self.links[-1].end.connection
        assert connection is not None
        connection.abort()

    def vanish(self) -> None:
        """Abort the newest link, and accept no other one."""
        self.refusal = (http.HTTPStatus.SERVICE_UNAVAILABLE, "gone\n")
        self.cut()

    def accept(self, request: Request, _: str) -> Owner | tuple[http.HTTPStatus, str]:
        self.on_request()
        if self.refusal is not None:
            return self.refusal
        assert request.path == "/link"
        if self.mute_links:
            self.mute_links -= 1
            return Mute()
        self.links.append(DispatcherEnd(self))
        return self.links[-1].end


@contextlib.asynccontextmanager
async def running(worker: ScriptedWorker, *, tls: Tls | None = None) -> AsyncIterator[ScriptedWorker]:
    """Let the worker listen at `worker.address`; abort its links at the end."""
    sock = socket.create_server(("127.0.0.1", 0))
    worker.address = f"127.0.0.1:{sock.getsockname()[1]}"
    server = await serve(worker.accept, sock, limits=LINK_LIMITS, tls=tls)
    try:
        yield worker
    finally:
        server.close()
        for each in worker.links:
            if each.end.connection is not None:
                each.end.connection.abort()
                await each.end.connection.wait_closed()
