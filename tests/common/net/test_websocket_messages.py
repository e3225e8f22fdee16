"""Messages that are read past the library, against a connection that leaves all of them to the library.

Both get the same bytes without sockets; what their owners see and what they answer must be the same, whatever the
bytes are and however they are cut. One thing differs by nature: the library reads all of a piece before its owner
hears of any of it, so for the library the pieces end where a message was read past it, as a network might have it.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from websockets.protocol import CLIENT, SERVER, Protocol
from websockets.typing import BytesLike
from websockets.uri import parse_uri

from common.net.frames import ServerFrames, read_message
from common.net.websocket import Owner, WebSocket
from common.net.websocket_client import ClientWebSocket
from common.net.websocket_limits import Limits
from common.net.websocket_server import ServerWebSocket
from tests.bench.frames import upgrade_answer
from tests.common.websocket_peers import BINARY, CLOSE, CONTINUATION, HANDSHAKE, PING, PONG, TEXT, frame

LIMITS = Limits(max_message_bytes=1000, ping_interval_seconds=None)


class Transport(asyncio.Transport):
    """Keeps written data. A write is complete at once, and never blocks."""

    def __init__(self) -> None:
        super().__init__()
        self.written = b""
        self.ends: list[str] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written += data

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        self.ends.append("eof")

    def close(self) -> None:
        self.ends.append("close")

    def abort(self) -> None:
        self.ends.append("abort")

    def is_closing(self) -> bool:
        return "close" in self.ends or "abort" in self.ends

    def get_write_buffer_size(self) -> int:
        return 0


class Talker:
    """An owner that keeps its messages, and answers some of them."""

    def __init__(self) -> None:
        self.seen: list[tuple[Any, ...]] = []
        self._connection: WebSocket | None = None

    def opened(self, connection: WebSocket) -> None:
        self._connection = connection

    def received(self, data: BytesLike, text: bool) -> None:
        assert self._connection is not None
        message = bytes(data)
        self.seen.append(("message", message, text))
        if message.startswith(b"close"):
            self._connection.close(1000, "you asked for it")
        elif message.startswith(b"abort"):
            self._connection.abort()
        elif message.startswith(b"echo"):
            self._connection.send_text(message)

    def caught_up(self) -> None:
        pass

    def violated(self, code: int, reason: str) -> int:
        self.seen.append(("violated", code, reason))
        return code

    def writable(self) -> None:
        self.seen.append(("writable",))

    def closed(self, code: int, reason: str) -> None:
        self.seen.append(("closed", code, reason))


def server(owner: Owner) -> WebSocket:
    return ServerWebSocket(lambda _request, _peer: owner, LIMITS)


def client(owner: Owner) -> WebSocket:
    return ClientWebSocket(parse_uri("ws://localhost/"), {}, owner, LIMITS)


async def outcome(
    make: Callable[[Owner], WebSocket], pieces: list[bytes], *, by_library: bool
) -> tuple[list[bytes], tuple[Any, ...]]:
    """Return the pieces as they were read, and the results: the owner's events, the answers, and the end."""
    owner, transport = Talker(), Transport()
    connection = make(owner)
    cut: list[bytes] = []
    take = connection._take_messages

    def take_messages(data: bytes) -> int:
        taken, offset = 0 if by_library else take(data), 0
        while offset < taken:
            read = read_message(data, offset, connection._peer_masks, LIMITS.max_message_bytes)
            assert read is not None
            cut[-1:] = [data[offset : read[2]], data[read[2] :]]
            offset = read[2]
        return taken

    cast("Any", connection)._take_messages = take_messages
    connection.connection_made(transport)
    is_client = isinstance(connection, ClientWebSocket)
    connection.data_received(upgrade_answer(transport.written) if is_client else HANDSHAKE)
    if is_client:
        owner.opened(connection)
    await asyncio.sleep(0)
    transport.written = b""
    for piece in pieces:
        if not transport.is_closing():
            cut.append(piece)
            connection.data_received(piece)
            await asyncio.sleep(0)
    if not transport.is_closing():
        connection.eof_received()
    connection.connection_lost(None)
    await asyncio.sleep(0)
    answered = Protocol(SERVER if is_client else CLIENT)
    answered.receive_data(transport.written)
    frames = [(each.opcode, each.fin, bytes(each.data)) for each in answered.events_received()]  # type: ignore[union-attr]  # frames alone
    return [piece for piece in cut if piece], (owner.seen, frames, transport.ends, connection._protocol.state)


@st.composite
def frames(draw: st.DrawFn, *, masked: bool) -> bytes:
    """Return one frame: a good one, a hostile one, or none at all."""
    kind = draw(
        st.sampled_from(["message"] * 6 + ["control"] * 2 + ["fragment"] * 2 + ["close", "broken", "garbage"])
    )
    size = draw(st.sampled_from([0, 1, 124, 125, 126, 127, 128, 999, 1000, 1001]) | st.integers(0, 1100))
    words = draw(st.sampled_from([b"", b"", b"", b"echo", b"close", b"abort"]))
    data = (words + bytes(draw(st.binary(min_size=8, max_size=8))) * (size // 8 + 1))[:size]
    match kind:
        case "message":
            return frame(draw(st.sampled_from([TEXT, BINARY])), data, masked=masked)
        case "control":
            return frame(draw(st.sampled_from([PING, PONG])), data[:125], masked=masked)
        case "fragment":
            opcode = draw(st.sampled_from([TEXT, BINARY, CONTINUATION, CONTINUATION]))
            return frame(opcode, data, fin=draw(st.booleans()), masked=masked)
        case "close":
            return frame(
                CLOSE,
                draw(st.sampled_from([b"", b"\x03\xe8", b"\x03\xe8bye", b"\x00\x01", b"\x03"])),
                masked=masked,
            )
        case "broken":
            whole = frame(draw(st.integers(0, 15)), data, fin=draw(st.booleans()), masked=draw(st.booleans()))
            return bytes([whole[0] | draw(st.sampled_from([0, 0, 0x40, 0x10]))]) + whole[1:]
        case _:
            return draw(st.binary(max_size=20))


@st.composite
def streams(draw: st.DrawFn, *, masked: bool) -> list[bytes]:
    """Return a few frames, cut into pieces as a network cuts them."""
    data = b"".join(draw(st.lists(frames(masked=masked), max_size=12)))
    cuts = draw(st.lists(st.integers(0, len(data)), max_size=6))
    edges = sorted({0, len(data), *cuts})
    return [data[start:end] for start, end in itertools.pairwise(edges)]


def assert_the_same(make: Callable[[Owner], WebSocket], pieces: list[bytes]) -> tuple[Any, ...]:
    async def both() -> tuple[Any, ...]:
        cut, past_it = await outcome(make, pieces, by_library=False)
        _, by_library = await outcome(make, cut, by_library=True)
        assert past_it == by_library
        return past_it

    return asyncio.run(both())


@given(pieces=streams(masked=True))
@settings(max_examples=250)
def test_a_server_behaves_as_the_librarys_server(pieces: list[bytes]) -> None:
    assert_the_same(server, pieces)


@given(pieces=streams(masked=False))
@settings(max_examples=250)
def test_a_client_behaves_as_the_librarys_client(pieces: list[bytes]) -> None:
    assert_the_same(client, pieces)


PLAIN = frame(TEXT, b"plain")


@pytest.mark.parametrize(
    ("between", "messages"),
    [
        (b"", [b"plain"] * 4),
        (frame(PING, b"x") + frame(PONG), [b"plain"] * 4),
        (
            frame(TEXT, b"a", fin=False) + frame(PING) + frame(CONTINUATION, b"b"),
            [b"plain", b"plain", b"ab"] + [b"plain"] * 2,
        ),
        (frame(TEXT, b"a", fin=False) + PLAIN, [b"plain"] * 2),
        (frame(TEXT, bytes(1001)), [b"plain"] * 2),
        (frame(TEXT, b"close"), [b"plain", b"plain", b"close"]),
        (frame(TEXT, b"abort"), [b"plain", b"plain", b"abort"]),
        (frame(CLOSE, b"\x03\xe8"), [b"plain"] * 2),
        (frame(TEXT, b"x", masked=False), [b"plain"] * 2),
        (b"\xc1\x80\0\0\0\0", [b"plain"] * 2),
    ],
    ids=[
        "nothing",
        "control",
        "fragments",
        "message in a message",
        "too long",
        "we close",
        "we abort",
        "close",
        "no mask",
        "RSV1",
    ],
)
@pytest.mark.parametrize("step", [1, 5, 10_000])
def test_between_plain_messages(between: bytes, messages: list[bytes], step: int) -> None:
    data = PLAIN * 2 + between + PLAIN * 2
    pieces = [data[start : start + step] for start in range(0, len(data), step)]
    seen, *_ = assert_the_same(server, pieces)
    assert [each[1] for each in seen if each[0] == "message"] == messages


def test_plain_messages_are_read_past_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    # Else everything here would compare the library with itself.
    fed: list[bytes] = []
    original = ServerFrames.receive_data

    def receive_data(protocol: ServerFrames, data: bytes) -> None:
        fed.append(data)
        original(protocol, data)

    monkeypatch.setattr(ServerFrames, "receive_data", receive_data)
    ping = frame(PING)
    pieces = [PLAIN, PLAIN, PLAIN * 2 + ping, PLAIN, PLAIN[:4], PLAIN[4:], PLAIN]
    asyncio.run(outcome(server, pieces, by_library=False))
    # The first message tells that the library waits for no more; one that is cut is the library's too.
    assert fed == [HANDSHAKE, PLAIN, ping, PLAIN[:4], PLAIN[4:]]
