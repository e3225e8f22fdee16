"""The WebSocket layer at both ends: arbitrary bytes in arbitrary pieces, against the library's own protocol."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st
from websockets.client import ClientProtocol
from websockets.frames import Frame, Opcode
from websockets.protocol import CLIENT, OPEN, SERVER, Protocol
from websockets.server import ServerProtocol
from websockets.typing import BytesLike
from websockets.uri import parse_uri

from common.net.websocket import Owner, WebSocket
from common.net.websocket_client import ClientWebSocket
from common.net.websocket_limits import Limits
from common.net.websocket_server import ServerWebSocket
from tests.bench.frames import upgrade_answer
from tests.common.net.test_websocket_messages import LIMITS, Transport, streams
from tests.common.websocket_peers import HANDSHAKE
from tests.fuzz.budget import TALLY, examples

TARGET = "WebSocket"
URI = parse_uri("ws://localhost/")
PINGING = Limits(max_message_bytes=LIMITS.max_message_bytes)


class Listener:
    """An owner that says nothing, and keeps what it was told."""

    def __init__(self) -> None:
        self.messages: list[tuple[bytes, bool]] = []
        self.violations: list[int] = []
        self.closed_with: list[int] = []

    def opened(self, connection: WebSocket) -> None: ...

    def received(self, data: BytesLike, text: bool) -> None:
        assert not self.closed_with
        self.messages.append((bytes(data), text))

    def caught_up(self) -> None:
        pass

    def violated(self, code: int, reason: str) -> int:
        self.violations.append(code)
        return code

    def writable(self) -> None: ...

    def closed(self, code: int, reason: str) -> None:
        self.closed_with.append(code)


def timers(connection: WebSocket) -> list[asyncio.TimerHandle]:
    """What it has to do later, and has not given up."""
    timer = connection._timer
    return [timer] if timer is not None and not timer.cancelled() else []


def server(owner: Owner) -> WebSocket:
    return ServerWebSocket(lambda _request, _peer: owner, PINGING)


def client(owner: Owner) -> WebSocket:
    return ClientWebSocket(URI, {}, owner, PINGING)


async def ours(make: Callable[[Owner], WebSocket], pieces: list[bytes]) -> tuple[list[Any], list[int], list[int]]:
    """Messages, the close codes that were answered, and how it ended for the owner."""
    owner, transport = Listener(), Transport()
    connection = make(owner)
    connection.connection_made(transport)
    is_client = isinstance(connection, ClientWebSocket)
    connection.data_received(upgrade_answer(transport.written) if is_client else HANDSHAKE)
    await asyncio.sleep(0)
    transport.written = b""
    for piece in pieces:
        if transport.is_closing():
            break
        connection.data_received(piece)
        assert len(connection._message) <= LIMITS.max_message_bytes
    await asyncio.sleep(0)
    if not transport.is_closing():
        connection.eof_received()
    connection.connection_lost(None)
    await asyncio.sleep(0)
    # Nothing of it is left.
    assert not timers(connection)
    assert connection._owner is None
    await asyncio.wait_for(connection.wait_closed(), 1)
    assert len(owner.closed_with) == 1
    assert asyncio.all_tasks() == {asyncio.current_task()}
    answered = Protocol(SERVER if is_client else CLIENT)
    answered.receive_data(transport.written)
    return owner.messages, close_codes(answered), owner.closed_with


def close_codes(protocol: Protocol) -> list[int]:
    frames = [each for each in protocol.events_received() if isinstance(each, Frame)]
    return [int.from_bytes(each.data[:2]) for each in frames if each.opcode is Opcode.CLOSE]


def theirs(is_client: bool, pieces: list[bytes]) -> tuple[list[Any], list[int], list[int]]:
    """The same, as the library alone has it."""
    size = LIMITS.max_message_bytes
    protocol = (
        ClientProtocol(URI, max_size=size, state=OPEN) if is_client else ServerProtocol(max_size=size, state=OPEN)
    )
    messages: list[tuple[bytes, bool]] = []
    whole, is_text = b"", False
    for piece in pieces:
        protocol.receive_data(piece)
        for event in protocol.events_received():
            if not isinstance(event, Frame) or event.opcode not in (Opcode.TEXT, Opcode.BINARY, Opcode.CONT):
                continue
            if event.opcode is not Opcode.CONT:
                whole, is_text = b"", event.opcode is Opcode.TEXT
            whole += event.data
            if event.fin:
                messages.append((whole, is_text))
                whole = b""
    written = b"".join(protocol.data_to_send())
    protocol.receive_eof()
    answered = Protocol(SERVER if is_client else CLIENT)
    answered.receive_data(written)
    code = protocol.close_code
    return messages, close_codes(answered), [1006 if code is None else code]


def garbage() -> st.SearchStrategy[list[bytes]]:
    return st.lists(st.binary(max_size=40), max_size=6)


@examples(9_000)
@given(streams(masked=True) | garbage())
def test_a_server_reads_and_ends_as_the_library_does(pieces: list[bytes]) -> None:
    TALLY.took(TARGET, len(pieces))
    assert asyncio.run(ours(server, pieces)) == theirs(False, pieces)


@examples(9_000)
@given(streams(masked=False) | garbage())
def test_a_client_reads_and_ends_as_the_library_does(pieces: list[bytes]) -> None:
    TALLY.took(TARGET, len(pieces))
    assert asyncio.run(ours(client, pieces)) == theirs(True, pieces)


heads = st.one_of(
    st.binary(max_size=60),
    st.builds(
        lambda head, cut, tail: head[:cut] + tail, st.just(HANDSHAKE), st.integers(0, 400), st.binary(max_size=9)
    ),
    st.builds(lambda lines: b"GET / HTTP/1.1\r\n" + lines + b"\r\n\r\n", st.binary(max_size=60)),
)


@examples(6_000)
@given(st.lists(heads, min_size=1, max_size=3), st.booleans())
def test_invalid_handshake_is_never_accepted(pieces: list[bytes], is_client: bool) -> None:
    TALLY.took(TARGET, len(pieces))

    async def shake() -> None:
        owner, transport = Listener(), Transport()
        connection = client(owner) if is_client else server(owner)
        connection.connection_made(transport)
        for piece in pieces:
            if not transport.is_closing():
                connection.data_received(piece)
        if not transport.is_closing():
            connection.eof_received()
        connection.connection_lost(None)
        await asyncio.sleep(0)
        assert not timers(connection)
        assert not connection.is_open
        if isinstance(connection, ClientWebSocket):
            assert isinstance(connection.handshake.exception(), Exception)
            assert not owner.messages

    asyncio.run(shake())
