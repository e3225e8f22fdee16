from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from http import HTTPStatus

import pytest

from dispatcher.avr import legacy as module
from dispatcher.avr.legacy import PATH, LegacyConnection
from tests.helpers import eventually

HEAD = f"POST {PATH}?from=100 HTTP/1.1\r\nHost: x\r\nX-UUID: call-1\r\nTransfer-Encoding: chunked\r\n\r\n".encode()
FRAME = bytes(range(160)) * 2


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%s\r\n" % (len(data), data)


class Call:
    """The call of a request."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.uuid: str | None = None
        self.pcm = b""
        self.broken = ""
        self.writable_again = 0
        self.closed_with: int | None = None
        self.connection: LegacyConnection | None = None

    def legacy_began(self, connection: LegacyConnection, uuid: str) -> None:
        self.connection = connection
        self.uuid = uuid

    def legacy_audio(self, pcm: bytes, received_seconds: float) -> None:
        self.pcm += pcm

    def legacy_broken(self, reason: str, message: str) -> None:
        self.broken = reason

    def writable(self) -> None:
        self.writable_again += 1

    def closed(self, code: int, reason: str) -> None:
        self.closed_with = code


class Port:
    """A port for the older protocol, and its calls."""

    def __init__(self, port: int) -> None:
        self.port = port
        self.calls: list[Call] = []

    async def connect(self, data: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(data)
        return reader, writer

    async def call(self, data: bytes = HEAD) -> tuple[Call, asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await self.connect(data)
        await eventually(lambda: self.calls and self.calls[-1].uuid is not None)
        return self.calls[-1], reader, writer


@pytest.fixture
async def port() -> AsyncIterator[Port]:
    opened: list[Port] = []

    def new_call(target: str, authorization: str | None, origins: Sequence[str]) -> Call | tuple[HTTPStatus, str]:
        if authorization is not None:
            return HTTPStatus.UNAUTHORIZED, f"{authorization} is not it\n"
        call = Call(target)
        opened[0].calls.append(call)
        return call

    def speaker() -> LegacyConnection:
        return LegacyConnection(new_call)

    server = await asyncio.get_running_loop().create_server(speaker, "127.0.0.1", 0)
    opened.append(Port(server.sockets[0].getsockname()[1]))
    yield opened[0]
    for call in opened[0].calls:
        if call.connection is not None:
            call.connection.abort()
    server.close()
    await server.wait_closed()


async def test_a_call_is_a_request_with_its_uuid_and_metadata(port: Port) -> None:
    call, _, writer = await port.call()
    assert (call.uuid, call.target) == ("call-1", f"{PATH}?from=100")
    for data in (b"abc", b"defgh", b"ij"):  # half a sample is buffered until the rest arrives
        writer.write(chunk(data))
    await eventually(lambda: call.pcm == b"abcdefghij")
    writer.write(chunk(b""))
    writer.close()
    await eventually(lambda: call.closed_with is not None)
    assert call.closed_with == 1000


async def test_a_head_in_single_bytes_is_understood(port: Port) -> None:
    _, writer = await port.connect(b"")
    for byte in HEAD:
        writer.write(bytes([byte]))
        await writer.drain()
    await eventually(lambda: port.calls and port.calls[0].uuid == "call-1")
    writer.close()


async def test_frames_are_the_body_of_the_response(port: Port) -> None:
    call, reader, writer = await port.call()
    assert call.connection is not None
    for _ in range(3):
        call.connection.play(FRAME)
    call.connection.send_transcript("agent", "has no place in the stream")
    head = await reader.readuntil(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    body = b""
    while body.count(FRAME) < 3:
        body += await reader.readline()
    call.connection.close(1000)
    rest = await reader.read()
    assert rest.endswith(b"0\r\n\r\n")
    writer.close()


async def test_interruption_drops_buffered_frames(port: Port) -> None:
    call, reader, writer = await port.call()
    assert call.connection is not None
    for _ in range(module.PAUSE_FRAMES + 50):
        call.connection.play(FRAME)
    paused = [call.connection.write_paused]  # more frames are buffered than PAUSE_FRAMES
    call.connection.interrupt()
    paused.append(call.connection.write_paused)
    assert paused == [True, False]
    assert call.writable_again == 1
    call.connection.close(1000)
    body = await reader.read()
    # Only the frames that were sent ahead of real time.
    assert body.count(FRAME) <= module.LEAD_SECONDS * 50 * 2 + 2
    writer.close()


@pytest.mark.parametrize(("code", "status"), [(1013, 503), (1011, 502), (1008, 400)])
async def test_closed_call_without_audio_gets_the_reason(port: Port, code: int, status: int) -> None:
    call, reader, writer = await port.call()
    assert call.connection is not None
    call.connection.close(code, "no capacity")
    answer = await reader.read()
    assert answer.startswith(f"HTTP/1.1 {status}".encode())
    assert b"no capacity" in answer
    writer.close()


async def test_broken_request_counts_as_lost(port: Port) -> None:
    call, _, writer = await port.call()
    writer.transport.abort()
    await eventually(lambda: call.closed_with is not None)
    assert call.closed_with == 1006


@pytest.mark.parametrize(
    "data",
    [
        b"POST /elsewhere HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
        b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n",
        b"POST this is not HTTP\r\n\r\n",
    ],
    ids=["another path", "a long header", "not http"],
)
async def test_request_that_is_no_call_is_refused(port: Port, data: bytes) -> None:
    reader, writer = await port.connect(data)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        answer = await reader.read()
    assert b" 200 " not in answer
    assert not port.calls
    writer.close()


async def test_body_that_violates_http_ends_its_call(port: Port) -> None:
    call, _, writer = await port.call()
    writer.write(b"zz\r\nnot a chunk\r\n")
    await eventually(lambda: call.broken)
    assert call.broken == "bad_http"
    writer.close()
    await eventually(lambda: call.closed_with is not None)


async def test_refusal_of_the_owner_is_the_response(port: Port) -> None:
    reader, writer = await port.connect(HEAD.replace(b"Host: x", b"Host: x\r\nAuthorization: Basic x"))
    answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 401")
    assert b"WWW-Authenticate: Bearer" in answer
    assert answer.endswith(b'{"message":"Basic x is not it"}')
    assert not port.calls
    writer.close()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000 + b"\r\n\r\n", b"431"),
        (b"POST " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\nX: " + b"y" * 100_000, b"431"),
        (b"POST with a token=secret\r\n\r\n", b"400"),
    ],
    ids=["long header", "long header without an end", "not http"],
)
async def test_http_error_is_answered_without_the_peers_data(port: Port, data: bytes, status: bytes) -> None:
    reader, writer = await port.connect(data)
    answer = b""
    with contextlib.suppress(ConnectionResetError):
        answer = await reader.read()
    assert answer.startswith(b"HTTP/1.1 " + status)
    assert b"secret" not in answer
    writer.close()


async def test_silent_connection_is_aborted(port: Port, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "OPEN_TIMEOUT_SECONDS", 0.05)
    reader, writer = await port.connect(b"PO")
    with contextlib.suppress(ConnectionResetError):
        assert await asyncio.wait_for(reader.read(), 5) == b""
    writer.close()
