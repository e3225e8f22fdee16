"""The opening handshake, and our connecting end, against the `websockets` library and against invalid peers."""

from __future__ import annotations

import asyncio
import contextlib
import http
import socket
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from websockets.asyncio.client import connect as library_connect
from websockets.asyncio.server import ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.http11 import Request, Response
from websockets.uri import parse_uri
from websockets.utils import accept_key

from common.errors import HandshakeRefused
from common.net import websocket_server
from common.net.websocket import WebSocket
from common.net.websocket_client import MAX_REFUSAL_BODY_BYTES, ClientWebSocket, connect
from common.net.websocket_limits import Limits
from tests.common.websocket_peers import (
    CLOSE,
    HANDSHAKE,
    PATIENCE_SECONDS,
    SHORT_ENDS,
    TEXT,
    RawPeer,
    Recorder,
    frame,
    listening,
)
from tests.helpers import eventually

pytestmark = pytest.mark.usefixtures("loop_failures")

NO_PINGS = Limits(ping_interval_seconds=None)


@contextlib.asynccontextmanager
async def library_server(handler: Callable[[ServerConnection], Any], **options: Any) -> AsyncIterator[str]:
    async with serve(handler, "127.0.0.1", 0, **options) as server:
        yield f"ws://127.0.0.1:{next(iter(server.sockets)).getsockname()[1]}/"


@contextlib.asynccontextmanager
async def raw_server(answer: bytes | None, *, then_close: bool = False) -> AsyncIterator[str]:
    """Yield a server that answers any request with these bytes; None: with nothing."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            await reader.readuntil(b"\r\n\r\n")
            if answer is not None:
                writer.write(answer)
            if then_close:
                writer.close()
            else:
                await reader.read()

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


@contextlib.asynccontextmanager
async def scripted_server(status_line: Callable[[str], bytes], *, then: bytes = b"") -> AsyncIterator[str]:
    """Yield a server that accepts, sends these bytes, and then neither reads nor answers."""
    writers: list[asyncio.StreamWriter] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        request = (await reader.readuntil(b"\r\n\r\n")).decode()
        key = request.split("Sec-WebSocket-Key: ")[1].split("\r\n")[0]
        writer.write(
            status_line(key)
            + b"Upgrade: websocket\r\nConnection: Upgrade\r\n"
            + f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n".encode()
            + then
        )

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"
    finally:
        server.close()
        for writer in writers:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()


async def idle(connection: ServerConnection) -> None:
    await connection.wait_closed()


class TestHandshake:
    async def test_the_accepter_sees_the_request_and_the_peer(self) -> None:
        requests: list[tuple[str, str, str]] = []

        def accept(request: Request, peer: str) -> Recorder:
            requests.append((request.path, request.headers["X-Name"], peer))
            return Recorder()

        sock = socket.create_server(("127.0.0.1", 0))
        server = await websocket_server.serve(accept, sock)
        url = f"ws://127.0.0.1:{sock.getsockname()[1]}/a/b?c=d%20e"
        async with library_connect(url, additional_headers={"X-Name": "value"}):
            pass
        server.close()
        assert requests == [("/a/b?c=d%20e", "value", "127.0.0.1")]

    async def test_the_accepter_refuses(self) -> None:
        refuse = (http.HTTPStatus.SERVICE_UNAVAILABLE, "draining\n")
        async with listening(refuse=refuse) as ours:
            with pytest.raises(InvalidStatus) as refused:
                await library_connect(ours.url)
            assert refused.value.response.status_code == 503
            assert refused.value.response.body == b"draining\n"

    @pytest.mark.parametrize(
        ("raw", "status"),
        [
            (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", b"426"),
            (HANDSHAKE.replace(b"GET", b"POST"), b"405"),
            (HANDSHAKE.replace(b"HTTP/1.1", b"HTTP/1.0", 1), b"505"),
            (HANDSHAKE.replace(b"AAAA", b"", 1), b"400"),
            (HANDSHAKE.replace(b": 13", b": 8"), b"400"),
            (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\n\r\n", b"414"),
            (b"GET / HTTP/1.1\r\nX: " + b"a" * 9000 + b"\r\n\r\n", b"431"),
            (b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 200 + b"\r\n", b"431"),
        ],
        ids=["no upgrade", "POST", "HTTP/1.0", "bad key", "old version", "long path", "long header", "headers"],
    )
    async def test_a_request_that_is_no_handshake_gets_an_answer(self, raw: bytes, status: bytes) -> None:
        async with listening() as ours:
            async with await RawPeer.connect(ours.port) as peer:
                peer.send(raw)
                assert (await peer.read_to_end()).startswith(b"HTTP/1.1 " + status + b" ")
            assert ours.owners == []

    @pytest.mark.parametrize(
        "raw",
        [
            b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
            b"\n" * 100,
            b"GET /\xff HTTP/1.1\r\n\r\n",
            b"\r\n\r\n",
            b"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
            HANDSHAKE.replace(b": 13", b": 8") + frame(CLOSE),
            HANDSHAKE + frame(TEXT, b"not masked", masked=False),
            HANDSHAKE + frame(CLOSE, b"\x03\xe8"),
        ],
        ids=[
            "TLS",
            "newlines",
            "not ASCII",
            "empty",
            "two requests",
            "refused, and a close frame",
            "broken frame at once",
            "close frame at once",
        ],
    )
    async def test_an_invalid_request_is_disconnected(self, raw: bytes) -> None:
        # Some of these are not even a line: the time-out ends them.
        limits = Limits(open_timeout_seconds=0.2)
        async with listening(limits=limits) as ours, await RawPeer.connect(ours.port) as peer:
            peer.send(raw)
            await peer.gone()
            for owner in ours.owners:
                await owner.closed_with()

    async def test_a_peer_that_hangs_up_during_the_handshake_has_no_owner(self) -> None:
        async with listening() as ours:
            for raw in (b"", HANDSHAKE[:20], HANDSHAKE[:-2]):
                peer = await RawPeer.connect(ours.port)
                peer.send(raw)
                await peer.close()
            # The listener is as it was.
            async with library_connect(ours.url):
                await ours.owner()


class TestConnecting:
    async def test_query_and_headers_arrive_and_messages_go_both_ways(self) -> None:
        async def echo(connection: ServerConnection) -> None:
            assert connection.request is not None
            await connection.send(f"{connection.request.path} {connection.request.headers['Authorization']}")
            async for message in connection:
                await connection.send(message)

        async with library_server(echo) as url:
            owner = Recorder()
            connection = await connect(
                url + "path?model=m", owner, headers={"Authorization": "Bearer t"}, limits=NO_PINGS
            )
            assert owner.connection is connection
            connection.send_text("è".encode())
            connection.send_binary(b"\xff" * 100_000)
            await eventually(lambda: len(owner.messages) == 3, PATIENCE_SECONDS)
            assert owner.messages == [
                (b"/path?model=m Bearer t", True),
                ("è".encode(), True),
                (b"\xff" * 100_000, False),
            ]
            connection.close(1000)
            assert await owner.closed_with() == (1000, "")
            await connection.wait_closed()

    async def test_the_server_closes(self) -> None:
        async def close(connection: ServerConnection) -> None:
            await connection.send("last words")
            await connection.close(1013, "try later")

        async with library_server(close) as url:
            owner = Recorder()
            await connect(url, owner)
            assert await owner.closed_with() == (1013, "try later")
            assert owner.messages == [(b"last words", True)]

    async def test_the_server_is_lost(self) -> None:
        async def die(connection: ServerConnection) -> None:
            connection.transport.abort()

        async with library_server(die) as url:
            owner = Recorder()
            await connect(url, owner)
            assert await owner.closed_with() == (1006, "")

    async def test_a_server_that_stops_is_lost_after_the_silence(self) -> None:
        accepted = b"HTTP/1.1 101 Switching Protocols\r\n"
        async with scripted_server(lambda _: accepted) as url:
            owner = Recorder()
            limits = Limits(ping_interval_seconds=0.02, silence_timeout_seconds=0.1)
            await connect(url, owner, limits=limits)
            assert await owner.closed_with() == (1006, "")

    async def test_a_server_that_breaks_the_protocol_is_left(self) -> None:
        accepted = b"HTTP/1.1 101 Switching Protocols\r\n"
        good, masked = frame(TEXT, b"good", masked=False), frame(TEXT, b"masked")
        async with scripted_server(lambda _: accepted, then=good + masked) as url:
            owner = Recorder()
            await connect(url, owner, limits=SHORT_ENDS)
            assert (await owner.closed_with())[0] == 1006
            assert owner.messages == [(b"good", True)]

    async def test_an_oversize_message_ends_the_connection(self) -> None:
        async def send(connection: ServerConnection) -> None:
            await connection.send("x" * 1001)
            with contextlib.suppress(ConnectionClosed):
                await connection.recv()
            codes.append(connection.close_code)

        codes: list[int | None] = []
        async with library_server(send) as url:
            owner = Recorder()
            await connect(url, owner, limits=Limits(max_message_bytes=1000))
            await owner.closed_with()
            assert owner.messages == []
            await eventually(lambda: codes)
            assert codes == [1009]

    @pytest.mark.parametrize("status", [401, 404, 429, 503])
    async def test_a_refusal_brings_status_body_and_retry_after(self, status: int) -> None:
        body = b'{"error": {"message": "no"}}'

        def refuse(connection: ServerConnection, request: Request) -> Response:
            return Response(status, "No", Headers({"Retry-After": "7", "Content-Length": str(len(body))}), body)

        async with library_server(idle, process_request=refuse) as url:
            with pytest.raises(HandshakeRefused) as refused:
                await connect(url, owner := Recorder())
            assert (refused.value.status, refused.value.body, refused.value.retry_after) == (status, body, "7")
            assert owner.closings == []

    async def test_a_refusal_may_end_its_body_with_the_connection(self) -> None:
        async with raw_server(b"HTTP/1.1 502 Bad Gateway\r\n\r\nno upstream", then_close=True) as url:
            with pytest.raises(HandshakeRefused) as refused:
                await connect(url, Recorder())
            assert (refused.value.status, refused.value.body) == (502, b"no upstream")
            assert refused.value.retry_after is None

    async def test_a_long_body_of_a_refusal_is_cut(self) -> None:
        answer = b"HTTP/1.1 500 No\r\nContent-Length: 100000\r\n\r\n" + b"x" * 100_000
        async with raw_server(answer) as url:
            with pytest.raises(HandshakeRefused) as refused:
                await connect(url, Recorder())
            assert refused.value.body == b"x" * MAX_REFUSAL_BODY_BYTES

    @pytest.mark.parametrize(
        "answer",
        [
            b"SSH-2.0-OpenSSH_9.6\r\n",
            b"220 mail.example ESMTP\r\n",
            b"\x00" * 10_000,
            b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\nSec-WebSocket-Accept: x\r\nUpgrade: websocket\r\n"
            b"Connection: Upgrade\r\n\r\n",
            b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        ],
        ids=["SSH", "SMTP", "zeros", "no key", "wrong key", "no upgrade"],
    )
    async def test_another_kind_of_server_is_known_at_once(self, answer: bytes) -> None:
        async with raw_server(answer) as url:
            with pytest.raises(ConnectionError, match="not a WebSocket server"):
                await connect(url, owner := Recorder(), limits=Limits(open_timeout_seconds=600))
            assert owner.closings == []

    async def test_a_server_that_hangs_up_within_the_handshake(self) -> None:
        async with raw_server(b"HTTP/1.1 101 Swi", then_close=True) as url:
            with pytest.raises(ConnectionError):
                await connect(url, Recorder())

    async def test_a_server_that_does_not_answer_is_a_timeout(self) -> None:
        async with raw_server(None) as url:
            with pytest.raises(TimeoutError):
                await connect(url, owner := Recorder(), limits=Limits(open_timeout_seconds=0.1))
            assert owner.connection is None

    async def test_answer_that_comes_as_connect_gives_up_is_dropped(self) -> None:
        async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = (await reader.readuntil(b"\r\n\r\n")).decode()
            key = request.partition("Sec-WebSocket-Key: ")[2].partition("\r\n")[0]
            head = (
                "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                f"Sec-WebSocket-Accept: {accept_key(key)}\r\n\r\n"
            )
            client.handshake.cancel()
            # The answer and the first message, in one piece.
            writer.write(head.encode() + frame(TEXT, b"hello", masked=False))
            await reader.read()
            writer.close()
            hung_up.set()

        hung_up = asyncio.Event()
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        owner = Recorder()
        client = ClientWebSocket(parse_uri(f"ws://127.0.0.1:{port}/"), {}, owner, Limits())
        async with server:
            await asyncio.get_running_loop().create_connection(lambda: client, "127.0.0.1", port)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await hung_up.wait()
        assert owner.connection is None
        assert owner.messages == []

    async def test_a_port_without_listener_is_a_connection_error(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as taken:
            port = taken.getsockname()[1]
        with pytest.raises(OSError):  # noqa: PT011 - the number differs between loops
            await connect(f"ws://127.0.0.1:{port}/", Recorder())

    @pytest.mark.parametrize("url", ["", "127.0.0.1:80", "http://127.0.0.1/", "ws://", "ws://h:port/", "ws://[/"])
    async def test_an_invalid_url_is_a_value_error(self, url: str) -> None:
        with pytest.raises(ValueError, match="URL"):
            await connect(url, Recorder())

    @pytest.mark.interpreted
    async def test_a_cancelled_connect_leaves_nothing_behind(self) -> None:
        async with raw_server(None) as url:
            connecting = asyncio.create_task(connect(url, owner := Recorder()))
            await eventually(lambda: _has_transport(connecting))
            connecting.cancel()
            with pytest.raises(asyncio.CancelledError):
                await connecting
            assert owner.connection is None


def _has_transport(task: asyncio.Task[WebSocket]) -> bool:
    """Whether `connect` has got as far as the handshake."""
    coroutine: Any = task.get_coro()
    return coroutine.cr_frame is not None and coroutine.cr_frame.f_locals.get("connection") is not None
