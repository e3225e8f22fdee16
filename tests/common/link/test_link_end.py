from __future__ import annotations

import asyncio
import contextlib
import dataclasses
import socket
import time
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from pydantic import SecretStr
from structlog.testing import capture_logs
from websockets.asyncio.client import ClientConnection
from websockets.asyncio.client import connect as library_connect
from websockets.asyncio.server import serve as library_serve
from websockets.exceptions import ConnectionClosed

from common.errors import LinkProtocolError
from common.link import wire
from common.link.link_end import HELLO_SECONDS, LINK_LIMITS, LinkEnd
from common.link.wire import Hello, Kind
from common.net.tokens import Token
from common.net.websocket_client import connect
from common.net.websocket_limits import Limits
from common.net.websocket_server import serve
from common.observe.line_limit import LineLimit
from tests.common.websocket_peers import PATIENCE_SECONDS, frame
from tests.helpers import eventually

pytestmark = pytest.mark.usefixtures("loop_failures")

NEAR = Hello(wire.PROTOCOL_VERSION, "1.0.0", "dispatcher", "d-1", "d-1")
FAR = Hello(wire.PROTOCOL_VERSION, "1.0.1", "worker", "w-1", "abcd")

TOKEN = Token(SecretStr("the token of the cluster"))
OTHER = Token(SecretStr("the token of another one"))

Record = tuple[int, int, bytes]


class Recorder:
    """An owner of a link that keeps its events."""

    def __init__(
        self,
        hello: Hello,
        on_record: Callable[[Recorder, Record], None] | None = None,
        token: Token | None = None,
        hello_seconds: float = HELLO_SECONDS,
    ) -> None:
        self.end = LinkEnd(hello, self, token, hello_seconds=hello_seconds)
        self.hellos: list[Hello] = []
        self.records: list[Record] = []
        self.read_seconds: list[float] = []
        self.losses: list[str] = []
        self._on_record = on_record

    @property
    def greeted_once(self) -> bool:
        return len(self.hellos) == 1

    async def lost_because(self) -> str:
        """Wait for the loss."""
        await eventually(lambda: self.losses, PATIENCE_SECONDS)
        (reason,) = self.losses
        return reason

    def caught_up(self) -> None:
        pass

    def greeted(self, hello: Hello) -> None:
        self.hellos.append(hello)

    def record(self, kind: int, channel: int, payload: memoryview, received_seconds: float) -> None:
        record = (kind, channel, bytes(payload))
        self.records.append(record)
        self.read_seconds.append(received_seconds)
        if self._on_record is not None:
            self._on_record(self, record)

    def lost(self, reason: str) -> None:
        self.losses.append(reason)


@contextlib.asynccontextmanager
async def far_end(far: Recorder, limits: Limits = LINK_LIMITS) -> AsyncIterator[str]:
    """Yield the URL of a listener whose only link is `far`'s."""
    sock = socket.create_server(("127.0.0.1", 0))
    server = await serve(lambda *_: far.end, sock, limits=limits)
    try:
        yield f"ws://127.0.0.1:{sock.getsockname()[1]}/link"
    finally:
        server.close()
        if far.end.connection is not None:
            far.end.connection.abort()
            await far.end.connection.wait_closed()


@contextlib.asynccontextmanager
async def linked(
    far: Recorder | None = None, near: Recorder | None = None
) -> AsyncIterator[tuple[Recorder, Recorder]]:
    """Yield both ends of a link, greeted."""
    near = near or Recorder(NEAR)
    far = far or Recorder(FAR)
    async with far_end(far) as url:
        connection = await connect(url, near.end, limits=LINK_LIMITS)
        await eventually(lambda: near.greeted_once and far.greeted_once)
        yield near, far
        connection.abort()
        await connection.wait_closed()


async def greeted_client(url: str) -> ClientConnection:
    """Return the library's client, past both HELLOs."""
    client = await library_connect(url)
    await client.send(wire.encode(NEAR, 0))
    (hello,) = wire.decode(bytes_of(await client.recv()))
    assert hello[:2] == (Kind.HELLO, 0)
    return client


def bytes_of(message: str | bytes) -> bytes:
    assert isinstance(message, bytes)
    return message


async def test_both_sides_greet_and_then_exchange_records() -> None:
    async with linked() as (near, far):
        assert near.hellos == [FAR]
        assert far.hellos == [NEAR]
        assert near.end.is_open
        near.end.send(wire.encode_caller_audio(1, 0, b"abcd"))
        far.end.send(wire.encode(wire.Ready(), 1))
        await eventually(lambda: near.records and far.records)
        assert far.records == [(Kind.CALLER_AUDIO, 1, bytes(8) + b"abcd")]
        assert near.records == [(Kind.READY, 1, b'{"standby":false}')]
        assert near.losses == far.losses == []


async def test_records_of_one_turn_travel_in_one_message() -> None:
    far = Recorder(FAR)
    async with far_end(far) as url, await greeted_client(url) as client:
        sent = [wire.encode_reply_audio(channel, 1, bytes(320)) for channel in range(1, 50)]
        for record in sent:
            far.end.send(record)
        assert await client.recv() == b"".join(sent)
        far.end.send(sent[0])
        assert await client.recv() == sent[0]


async def test_records_too_long_for_one_message_go_in_several_in_order() -> None:
    far = Recorder(FAR)
    async with far_end(far) as url, await greeted_client(url) as client:
        # A quarter of a message and a bit each, so three of them fit.
        sent = [wire.encode_reply_audio(channel, 1, bytes(270_000)) for channel in range(1, 11)]
        for record in sent:
            far.end.send(record)
        messages: list[bytes] = []
        while len(b"".join(messages)) < len(b"".join(sent)):
            messages.append(bytes_of(await client.recv()))
        assert b"".join(messages) == b"".join(sent)
        assert [len(message) // 270_000 for message in messages] == [3, 3, 3, 1]
        assert max(len(message) for message in messages) <= wire.MAX_MESSAGE_BYTES


async def test_a_record_as_long_as_a_message_passes() -> None:
    async with linked() as (near, far):
        longest = wire.MAX_MESSAGE_BYTES - len(wire.encode(wire.Close(""), 1))
        near.end.send(wire.encode(wire.Close("x" * longest), 1))
        near.end.send(wire.encode(wire.Ready(), 1))
        await eventually(lambda: len(far.records) == 2, PATIENCE_SECONDS)
        assert far.records[1] == (Kind.READY, 1, b'{"standby":false}')
        assert far.losses == []


async def test_records_carry_the_time_of_their_read() -> None:
    async with linked() as (near, far):
        near.end.send(wire.encode(wire.Ready(), 1))
        await eventually(lambda: far.records)
        assert far.end.connection is not None
        assert far.read_seconds == [far.end.connection.received_seconds]


async def test_records_sent_before_the_link_is_open_are_dropped() -> None:
    near = Recorder(NEAR)
    near.end.send(wire.encode(wire.Ready(), 1))
    near.end.close("nothing to close")
    assert not near.end.is_open
    async with linked(near=near) as (_, far):
        near.end.send(wire.encode(wire.Flush(1), 1))
        await eventually(lambda: far.records)
        # HELLO came first, and nothing of before it.
        assert far.hellos == [NEAR]
        assert [kind for kind, _, _ in far.records] == [Kind.FLUSH]


async def test_records_sent_after_the_end_are_dropped() -> None:
    async with linked() as (near, far):
        near.end.close("the dispatcher ends")
        near.end.send(wire.encode(wire.Ready(), 1))
        assert not near.end.is_open
        await near.lost_because()
        near.end.send(wire.encode(wire.Ready(), 1))
        await far.lost_because()
        assert far.records == []


async def test_records_in_front_of_a_close_arrive_and_the_reason_too() -> None:
    async with linked() as (near, far):
        for channel in range(1, 100):
            far.end.send(wire.encode(wire.Ended("failed", "stopping"), channel))
        far.end.close("the worker is stopping")
        assert await near.lost_because() == "the worker is stopping"
        assert [(kind, channel) for kind, channel, _ in near.records] == [(Kind.ENDED, n) for n in range(1, 100)]
        assert await far.lost_because() == "the worker is stopping"


async def test_a_link_that_breaks_off_is_lost_on_both_sides_once() -> None:
    async with linked() as (near, far):
        assert near.end.connection is not None
        near.end.connection.abort()
        assert await near.lost_because() == "closed with code 1006"
        assert await far.lost_because() == "closed with code 1006"


@pytest.mark.parametrize(
    ("message", "reason"),
    [
        ("text", "text message"),
        (b"\x05", "record head"),
        (wire.encode(wire.Flush(1), 1)[:-1], "truncated"),
        (wire.encode(wire.Ready(), 1) + b"\x01\x02", "record head"),
    ],
    ids=["text", "half a head", "half a record", "a record and a bit"],
)
async def test_an_invalid_record_ends_the_link(message: str | bytes, reason: str) -> None:
    far = Recorder(FAR)
    async with far_end(far) as url, await greeted_client(url) as client:
        await client.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            await client.recv()
        assert closed.value.rcvd is not None
        assert closed.value.rcvd.code == 1002
        assert reason in closed.value.rcvd.reason
        assert reason in await far.lost_because()


@pytest.mark.parametrize(
    ("first", "reason"),
    [
        (wire.encode(wire.Ready(), 0), "record 5 before HELLO"),
        (b"\x01\x00\x00\x00\x00\x00\x00\x00\x04text", "Hello"),
        (
            wire.encode(Hello(1, "0.1.0", "dispatcher", "d-old", ""), 0),
            "release 0.1.0 has link protocol 1, older than 2: drain it, then switch (docs/releases.md)",
        ),
    ],
    ids=["another record", "no JSON", "a protocol that is too old"],
)
async def test_a_peer_with_an_invalid_hello_is_disconnected(first: bytes, reason: str) -> None:
    far = Recorder(FAR)
    async with far_end(far) as url, library_connect(url) as client:
        await client.send(first)
        await client.wait_closed()
        assert client.close_code == 1002
        assert reason in (client.close_reason or "")
        assert reason in await far.lost_because()
    assert far.hellos == []
    assert far.records == []


async def test_a_newer_protocol_is_welcome() -> None:
    near = Recorder(Hello(wire.PROTOCOL_VERSION + 1, "9.0.0", "dispatcher", "d-new", ""))
    async with linked(near=near) as (_, far):
        assert far.hellos[0].protocol == wire.PROTOCOL_VERSION + 1


async def test_a_peer_without_hello_is_disconnected() -> None:
    far = Recorder(FAR, hello_seconds=0.05)
    async with far_end(far) as url, library_connect(url) as client:
        await client.wait_closed()
        assert client.close_code == 1002
        assert "no HELLO" in await far.lost_because()


async def test_a_peer_may_be_silent_after_hello() -> None:
    async with linked(Recorder(FAR, hello_seconds=0.05), Recorder(NEAR, hello_seconds=0.05)) as (near, far):
        # Past the time, by a timer that is due after it.
        late: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(0.1, late.set_result, None)
        await late
        assert near.end.is_open
        assert near.losses == far.losses == []


async def test_a_failed_link_is_reported_before_its_peer_answers() -> None:
    def refuse(_: Recorder, __: object) -> None:
        raise LinkProtocolError("not on my link")

    far = Recorder(FAR, refuse)
    async with far_end(far) as url:
        client = await greeted_client(url)
        # It reads no more, so it does not answer the close frame.
        client.transport.pause_reading()
        await client.send(wire.encode(wire.Ready(), 1) + wire.encode(wire.Ready(), 2))
        await eventually(lambda: far.losses, LINK_LIMITS.close_timeout_seconds / 2)
        assert far.losses == ["not on my link"]
        # The second record of the message was not looked at.
        assert len(far.records) == 1
        client.transport.abort()
        await client.wait_closed()
        assert far.end.connection is not None
        await far.end.connection.wait_closed()
        assert far.losses == ["not on my link"]


async def test_an_oversize_message_ends_the_link_at_once() -> None:
    far = Recorder(FAR)
    async with far_end(far) as url, await greeted_client(url) as client:
        await client.send(bytes(wire.MAX_MESSAGE_BYTES + 1))
        await client.wait_closed()
        assert client.close_code == 1009
        assert "exceeds" in await far.lost_because()


async def test_a_peer_that_falls_silent_is_lost() -> None:
    far = Recorder(FAR)
    async with far_end(far, Limits(ping_interval_seconds=0.02, silence_timeout_seconds=0.1)) as url:
        client = await greeted_client(url)
        # It reads no more, so it answers no ping.
        client.transport.pause_reading()
        assert await far.lost_because() == "closed with code 1006"
        client.transport.abort()
        await client.wait_closed()


async def test_a_peer_that_proves_the_token_is_accepted() -> None:
    near, far = Recorder(NEAR, token=TOKEN), Recorder(FAR, token=TOKEN)
    async with linked(far, near):
        assert (near.hellos[0].id, far.hellos[0].id) == ("w-1", "d-1")
        near.end.send(wire.encode(wire.Flush(1), 1))
        far.end.send(wire.encode(wire.Ready(), 1))
        await eventually(lambda: near.records and far.records)
        assert near.losses == far.losses == []


@pytest.mark.parametrize(
    ("near_token", "far_token", "reason"),
    [
        (OTHER, TOKEN, "CLUSTER_TOKEN of the dispatcher is not that of the worker: set the same on both"),
        (None, TOKEN, "CLUSTER_TOKEN is set on the worker and not on the dispatcher: set the same on both"),
        (TOKEN, None, "CLUSTER_TOKEN is set on the dispatcher and not on the worker: set the same on both"),
    ],
)
async def test_a_peer_without_the_token_is_refused_with_advice(
    near_token: Token | None, far_token: Token | None, reason: str
) -> None:
    near, far = Recorder(NEAR, token=near_token), Recorder(FAR, token=far_token)
    with capture_logs() as lines:
        async with far_end(far) as url:
            connection = await connect(url, near.end, limits=LINK_LIMITS)
            # Whoever has not found it out reads it in the close frame.
            assert await near.lost_because() == reason
            assert await far.lost_because() == reason
            await connection.wait_closed()
    assert near.hellos == far.hellos == []
    refused = [line for line in lines if line["event"] == "link refused"]
    assert {line["reason"] for line in refused} == {reason}
    assert {line["address"] for line in refused} == {"127.0.0.1"}
    assert {line["peer"] for line in refused} <= {"dispatcher d-1", "worker w-1"}
    assert "token of" not in str(refused)


async def test_nothing_of_a_stranger_gets_through(monkeypatch: pytest.MonkeyPatch) -> None:
    far = Recorder(FAR, token=TOKEN)
    challenging = Hello(wire.PROTOCOL_VERSION, "1.0.0", "dispatcher", "d-1", "", "00" * 32)
    async with far_end(far) as url, library_connect(url) as client:
        await client.send(wire.encode(challenging, 0) + wire.encode(wire.Command(1, "uuid", "hang_up"), 0))
        await client.wait_closed()
        assert client.close_code == 1002
    assert far.hellos == []
    assert far.records == []


async def test_a_silent_stranger_is_disconnected() -> None:
    far = Recorder(FAR, token=TOKEN, hello_seconds=0.05)
    challenging = Hello(wire.PROTOCOL_VERSION, "1.0.0", "dispatcher", "d-1", "", "00" * 32)
    async with far_end(far) as url, library_connect(url) as client:
        await client.send(wire.encode(challenging, 0))
        await client.wait_closed()
        assert "no HELLO" in await far.lost_because()
    assert far.hellos == []


@pytest.mark.parametrize("token", [None, TOKEN], ids=["without a token", "with a token"])
async def test_a_link_counts_as_arriving_until_it_is_up(token: Token | None) -> None:
    far = Recorder(FAR, token=token)
    sock = socket.create_server(("127.0.0.1", 0))
    server = await serve(lambda *_: far.end, sock, limits=LINK_LIMITS)
    url = f"ws://127.0.0.1:{sock.getsockname()[1]}/link"
    async with library_connect(url) as stranger:
        await eventually(lambda: server.admission.arriving == 1)
        await stranger.close()
    await eventually(lambda: server.admission.arriving == 0)
    far.end = LinkEnd(FAR, far, token)
    near = Recorder(NEAR, token=token)
    connection = await connect(url, near.end, limits=LINK_LIMITS)
    await eventually(lambda: near.greeted_once and far.greeted_once)
    assert server.admission.arriving == 0
    server.close()
    connection.abort()
    await connection.wait_closed()
    assert far.end.connection is not None
    await far.end.connection.wait_closed()


# A peer that has not identified itself

MOST_BYTES = LINK_LIMITS.stranger_bytes or 0
BEFORE = f"more than {MOST_BYTES} bytes came before the peer has identified itself"


async def raw_link(url: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Open a link whose bytes the test writes, after the opening handshake."""
    port = int(url.rpartition(":")[2].partition("/")[0])
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(UPGRADE)
    await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), PATIENCE_SECONDS)
    return reader, writer


UPGRADE = (
    b"GET /link HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# Each is too much, and no message of it is ever whole and of use.
TOO_MUCH = {
    "one message": frame(2, bytes(wire.MAX_MESSAGE_BYTES))[: MOST_BYTES + 1],
    "fragments": frame(2, b"", fin=False) + frame(0, bytes(100), fin=False) * (MOST_BYTES // 100),
    "pings": frame(9, bytes(100)) * (MOST_BYTES // 100),
    "a megabyte": frame(2, bytes(wire.MAX_MESSAGE_BYTES)),
}


@pytest.mark.parametrize("token", [None, TOKEN], ids=["without a token", "with a token"])
@pytest.mark.parametrize("sent", TOO_MUCH.values(), ids=TOO_MUCH)
@pytest.mark.parametrize("at_once", [True, False])
async def test_a_stranger_that_sends_too_much_is_disconnected(
    token: Token | None, sent: bytes, at_once: bool
) -> None:
    far = Recorder(FAR, token=token, hello_seconds=PATIENCE_SECONDS)
    async with far_end(far) as url:
        if at_once:
            _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))
            writer.write(UPGRADE + sent)
        else:
            _, writer = await raw_link(url)
            writer.write(sent[:-1000])
            await writer.drain()
            writer.write(sent[-1000:])
        assert await far.lost_because() == BEFORE
        assert far.end.connection is not None
        held = far.end.connection._protocol.reader.buffer
        assert len(held) <= MOST_BYTES
        writer.close()
    assert far.hellos == []


async def test_the_bound_leaves_room_for_hello_and_proof() -> None:
    far = Recorder(FAR, hello_seconds=PATIENCE_SECONDS)
    hello = frame(2, wire.encode(NEAR, 0))
    async with far_end(far) as url:
        _, writer = await raw_link(url)
        writer.write(frame(9, bytes(100)) * ((MOST_BYTES - len(hello)) // 106))
        for byte in hello:
            writer.write(bytes([byte]))
        await eventually(lambda: far.greeted_once, PATIENCE_SECONDS)
        # The bound is gone with that.
        writer.write(frame(2, wire.encode_caller_audio(1, 0, bytes(900_000))))
        await eventually(lambda: far.records, PATIENCE_SECONDS)
        assert far.losses == []
        writer.close()


async def test_records_right_behind_a_hello_are_no_strangers() -> None:
    far = Recorder(FAR)
    async with far_end(far) as url:
        _, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2].partition("/")[0]))
        records = frame(2, wire.encode_caller_audio(1, 0, bytes(900_000))) + frame(
            2, wire.encode(wire.Flush(1), 1)
        )
        writer.write(UPGRADE + frame(2, wire.encode(NEAR, 0)) + records)
        await eventually(lambda: len(far.records) == 2, PATIENCE_SECONDS)
        assert [len(payload) for _, _, payload in far.records] == [900_008, 12]
        writer.close()


async def test_a_dispatcher_takes_no_more_of_a_stranger_either() -> None:
    near = Recorder(NEAR, token=TOKEN)
    async with library_serve(lambda client: client.send(bytes(100_000)), "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        connection = await connect(f"ws://127.0.0.1:{port}/link", near.end, limits=LINK_LIMITS)
        assert await near.lost_because() == BEFORE
        await asyncio.wait_for(connection.wait_closed(), PATIENCE_SECONDS)
    assert near.hellos == []


async def test_the_first_message_of_a_link_is_the_hello_alone() -> None:
    """Records of many calls in the same turn would make the message too long for a stranger."""

    class Hurried(Recorder):
        def greeted(self, hello: Hello) -> None:
            super().greeted(hello)
            for channel in range(1, 500):
                self.end.send(wire.encode(wire.Attach("a" * 36, 1, 0), channel))

    near, far = Hurried(NEAR), Recorder(FAR)
    async with linked(far, near):
        await eventually(lambda: len(far.records) == 499, PATIENCE_SECONDS)
        assert far.losses == near.losses == []


@pytest.mark.parametrize("name", ["release", "role", "id", "boot_id", "challenge"])
async def test_a_hello_with_an_endless_field_is_refused(name: str) -> None:
    far = Recorder(FAR)
    fields: dict[str, Any] = {name: "x" * 300}
    hello = dataclasses.replace(NEAR, **fields)
    async with far_end(far) as url, library_connect(url) as client:
        await client.send(wire.encode(hello, 0))
        await client.wait_closed()
    assert f"the {name} of a HELLO has 300 characters" in await far.lost_because()
    assert far.hellos == []


@pytest.mark.parametrize(
    "first",
    [
        wire.encode(Hello(0, "r" * 250, "role" * 60, "id\n\x1b[31m" + "i" * 240, ""), 0),
        wire.encode(Hello(wire.PROTOCOL_VERSION, "r" * 250, "dispatcher", "i" * 250, "", "no challenge"), 0),
        wire.encode(wire.Ready(), 0),
    ],
)
async def test_a_flood_of_strangers_is_one_short_line(first: bytes) -> None:
    lines = LineLimit()
    with capture_logs() as logs:
        for _ in range(5):
            far = Recorder(FAR)
            far.end = LinkEnd(FAR, far, None, lines)
            async with far_end(far) as url, library_connect(url) as client:
                await client.send(first)
                await client.wait_closed()
    (line,) = [line for line in logs if line["event"] == "link refused"]
    assert line["times"] == 1
    assert all(len(str(value)) <= 300 for value in line.values())
    assert str(line).isprintable()
    assert lines.take("protocol" if b"no challenge" not in first else "token", time.monotonic() + 60) == 5
