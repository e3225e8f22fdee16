"""A listening port over real sockets, plain and with TLS."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import cast

import pytest
from structlog.testing import capture_logs

from common.net.admission_control import DEFAULT_ADMISSION_LIMITS, AdmissionLimits
from common.net.listener import Arrival, Listener, listen
from common.net.tls import Tls, TlsFiles
from common.observe.refusals import Refusal
from tests.certificates import Authority
from tests.common.websocket_peers import PATIENCE_SECONDS, RawPeer
from tests.helpers import eventually

pytestmark = pytest.mark.usefixtures("loop_failures")

HEAD = b"GET /some/path HTTP/1.1\r\nHost: x\r\n\r\n"


class Speaker(asyncio.Protocol):
    """An owner that takes over after the head, and keeps the data."""

    def __init__(self, arrival: Arrival, head: bytes) -> None:
        self.arrival = arrival
        self.head = head
        self.received = b""
        self.transport: asyncio.Transport | None = None
        self.is_lost = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast("asyncio.Transport", transport)
        self.transport.write(b"hello")

    @property
    def made(self) -> asyncio.Transport:
        assert self.transport is not None
        return self.transport

    def data_received(self, data: bytes) -> None:
        self.received += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.arrival.mark_identified()
        self.is_lost = True


class Port:
    """A port, and the connections that it accepted."""

    def __init__(self, port: int, authority: Authority | None) -> None:
        self.port = port
        self.authority = authority
        self.speakers: list[Speaker] = []
        self.refusals: list[Refusal] = []
        self.listener: Listener

    @property
    def arriving(self) -> int:
        return self.listener.admission.arriving

    async def speaker(self, number: int = 0) -> Speaker:
        await eventually(lambda: len(self.speakers) > number, PATIENCE_SECONDS)
        return self.speakers[number]

    async def connect(self) -> RawPeer:
        """With TLS, if that is what the port speaks."""
        if self.authority is None:
            return await RawPeer.connect(self.port)
        trust = self.authority.trust()
        return RawPeer(*await asyncio.open_connection("127.0.0.1", self.port, ssl=trust))

    def make(self, arrival: Arrival, head: bytes) -> Speaker:
        self.speakers.append(Speaker(arrival, head))
        return self.speakers[-1]


@contextlib.asynccontextmanager
async def listening(
    limits: AdmissionLimits = DEFAULT_ADMISSION_LIMITS, authority: Authority | None = None
) -> AsyncIterator[Port]:
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    tls = Tls(authority.issue(), TlsFiles.of_port) if authority is not None else None
    port = Port(sock.getsockname()[1], authority)
    port.listener = listen(port.make, sock, name="PORT", limits=limits, tls=tls, refused=port.refusals.append)
    try:
        yield port
    finally:
        port.listener.abort()
        for speaker in port.speakers:
            speaker.made.abort()
        await eventually(lambda: not port.arriving, PATIENCE_SECONDS)


@pytest.fixture(params=["plain", "tls"])
def authority(request: pytest.FixtureRequest, tmp_path: Path) -> Authority | None:
    return Authority(tmp_path) if request.param == "tls" else None


async def test_a_request_is_handed_over_with_all_its_bytes(authority: Authority | None) -> None:
    async with listening(authority=authority) as port, await port.connect() as peer:
        peer.send(HEAD + b"and more")
        speaker = await port.speaker()
        assert speaker.head == HEAD + b"and more"
        await eventually(lambda: speaker.received == HEAD + b"and more")
        assert await peer.read_until(b"hello") == b"hello"
        peer.send(b", and still more")
        await eventually(lambda: speaker.received.endswith(b"and still more"), PATIENCE_SECONDS)
        assert speaker.arrival.address == "127.0.0.1"


async def test_a_head_in_single_bytes_is_a_head(authority: Authority | None) -> None:
    async with listening(authority=authority) as port, await port.connect() as peer:
        for byte in HEAD:
            peer.send(bytes([byte]))
            await peer.writer.drain()
        assert (await port.speaker()).head == HEAD


async def test_a_connection_counts_until_identified_or_gone(authority: Authority | None) -> None:
    async with listening(authority=authority) as port:
        first, second, third = [await port.connect() for _ in range(3)]
        await eventually(lambda: port.arriving == 3, PATIENCE_SECONDS)
        first.send(HEAD)
        (await port.speaker(0)).arrival.mark_identified()
        assert port.arriving == 2
        second.send(HEAD)
        speaker = await port.speaker(1)
        assert port.arriving == 2  # its peer has sent a request, and has not identified itself
        await second.close()
        await eventually(lambda: speaker.is_lost, PATIENCE_SECONDS)
        assert port.arriving == 1
        await third.close()  # before it asked
        await eventually(lambda: port.arriving == 0, PATIENCE_SECONDS)
        # Once is enough.
        (await port.speaker(0)).arrival.mark_identified()
        assert port.arriving == 0
        await first.close()
        assert port.refusals == []


async def test_one_address_does_not_take_up_all_room() -> None:
    async with listening(AdmissionLimits(arriving=4, arriving_of_address=2)) as port:
        peers = [await port.connect() for _ in range(2)]
        await eventually(lambda: port.arriving == 2, PATIENCE_SECONDS)
        with capture_logs() as lines:
            for _ in range(3):
                async with await port.connect() as refused:
                    answer = await refused.read_to_end()
                    assert answer.startswith(b"HTTP/1.1 429 Too Many Requests\r\n")
                    assert b"\r\nRetry-After: 1\r\n" in answer
                    assert b"your address" in answer
        assert port.refusals == [Refusal.TOO_MANY_OF_ADDRESS] * 3
        assert [(line["port"], line["reason"], line["address"]) for line in lines] == [
            ("PORT", "too_many_of_address", "127.0.0.1")
        ]
        # Another address is another matter.
        sock = socket.create_connection(("127.0.0.1", port.port), source_address=("127.0.0.2", 0))
        sock.setblocking(False)
        peers.append(RawPeer(*await asyncio.open_connection(sock=sock)))
        peers[-1].send(HEAD)
        assert (await port.speaker()).arrival.address == "127.0.0.2"
        # And a call is none of those that are counted.
        (await port.speaker()).arrival.mark_identified()
        peers[0].send(HEAD)
        (await port.speaker(1)).arrival.mark_identified()
        async with await port.connect() as again:
            again.send(HEAD)
            await port.speaker(2)
        for peer in peers:
            await peer.close()


async def test_all_together_are_bounded() -> None:
    async with listening(AdmissionLimits(arriving=2)) as port:
        peers = [await port.connect() for _ in range(2)]
        await eventually(lambda: port.arriving == 2, PATIENCE_SECONDS)
        async with await port.connect() as refused:
            refused.send(HEAD)
            assert (await refused.read_to_end()).startswith(b"HTTP/1.1 503 Service Unavailable\r\n")
        for peer in peers:
            await peer.close()


async def test_a_flood_does_not_keep_its_answers_waiting() -> None:
    async with listening(AdmissionLimits(arriving=1, lingering=2, linger_seconds=0.3)) as port:
        first = await port.connect()
        await eventually(lambda: port.arriving == 1, PATIENCE_SECONDS)
        peers = [await port.connect() for _ in range(2)]
        for peer in peers:
            assert (await peer.read_until(b"\r\n")).startswith(b"HTTP/1.1 503")
        assert port.listener.lingering == 2
        async with await port.connect() as cut_off:
            await cut_off.gone()
        for peer in (first, *peers):
            await peer.close()
        await eventually(lambda: port.listener.lingering == 0, PATIENCE_SECONDS)


async def test_a_surplus_tls_connection_gets_no_handshake(tmp_path: Path) -> None:
    async with listening(AdmissionLimits(arriving=1), Authority(tmp_path)) as port:
        first = await RawPeer.connect(port.port)
        await eventually(lambda: port.arriving == 1, PATIENCE_SECONDS)
        with pytest.raises((ssl.SSLError, OSError)):
            await port.connect()
        assert port.refusals == [Refusal.TOO_MANY]
        await first.close()


@pytest.mark.parametrize("begun", [b"", b"G", HEAD[:-1], b"GET / HTTP/1.1\r\n"])
async def test_a_peer_without_a_timely_request_is_disconnected(authority: Authority | None, begun: bytes) -> None:
    async with listening(AdmissionLimits(open_seconds=0.3), authority) as port, await port.connect() as peer:
        peer.send(begun)
        await peer.gone()
        assert port.refusals == [Refusal.TOO_SLOW]
        assert port.arriving == 0
        assert port.speakers == []


async def test_a_trickling_peer_has_one_time_limit(authority: Authority | None) -> None:
    async with listening(AdmissionLimits(open_seconds=0.3), authority) as port, await port.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\nX: ")
        trickling = asyncio.create_task(_trickle(peer))
        await peer.gone()
        await trickling
        assert port.refusals == [Refusal.TOO_SLOW]


async def _trickle(peer: RawPeer) -> None:
    with contextlib.suppress(ConnectionError):
        while not peer.writer.is_closing():
            peer.send(b"x")
            await peer.writer.drain()
            await asyncio.sleep(0.01)


@pytest.mark.parametrize(
    "begun", [b"", b"\x16\x03\x01", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100)]
)
async def test_a_stalled_tls_handshake_has_the_same_time_limit(tmp_path: Path, begun: bytes) -> None:
    async with listening(AdmissionLimits(open_seconds=0.3), Authority(tmp_path)) as port:
        async with await RawPeer.connect(port.port) as peer:
            peer.send(begun)
            await peer.gone()
        assert port.refusals == [Refusal.TOO_SLOW]
        assert port.arriving == 0


@pytest.mark.parametrize(
    "head",
    [
        b"GET / HTTP/1.1\r\nX: " + b"a" * 100_000,
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 5000,
        b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
        b"GET / HTTP/1.1\r\nX: " + b"a" * 16_384 + b"\r\n\r\n",
    ],
    ids=["a line without an end", "many lines", "a whole one", "just over"],
)
async def test_a_head_that_is_too_big_is_refused(authority: Authority | None, head: bytes) -> None:
    async with listening(AdmissionLimits(linger_seconds=0.3), authority) as port:
        async with await port.connect() as peer:
            peer.send(head)
            assert (await peer.read_until(b"\r\n")).startswith(b"HTTP/1.1 431 ")
            await peer.gone()
        assert port.refusals == [Refusal.HEAD_TOO_BIG]
        assert port.speakers == []
        await eventually(lambda: port.listener.lingering == 0, PATIENCE_SECONDS)


async def test_a_head_of_the_size_that_is_allowed_is_none(authority: Authority | None) -> None:
    filler = AdmissionLimits().max_head_bytes - len(b"GET / HTTP/1.1\r\nX: \r\n\r\n")
    async with listening(authority=authority) as port, await port.connect() as peer:
        peer.send(b"GET / HTTP/1.1\r\nX: " + b"a" * filler + b"\r\n\r\n" + b"b" * 100_000)
        await eventually(lambda: port.speakers and len(port.speakers[0].received) > 100_000, PATIENCE_SECONDS)


@pytest.mark.parametrize("begun", [b"\x16\x03\x01", b"\r\n\r\n", b"\x00", b"get / HTTP/1.1\r\n", b"\xff\xff"])
async def test_bytes_that_cannot_be_http_end_the_connection(begun: bytes) -> None:
    async with listening() as port, await port.connect() as peer:
        peer.send(begun)
        await peer.gone()
        assert port.refusals == [Refusal.NOT_HTTP]


async def test_plain_http_on_a_tls_port_is_logged_as_such(tmp_path: Path) -> None:
    async with listening(authority=Authority(tmp_path)) as port:
        with capture_logs() as lines:
            async with await RawPeer.connect(port.port) as peer:
                peer.send(HEAD)
                await peer.gone()
            await eventually(lambda: port.refusals, PATIENCE_SECONDS)
        assert port.refusals == [Refusal.TLS]
        assert lines[0]["detail"] == "HTTP_REQUEST"


async def test_a_client_that_distrusts_the_certificate_is_logged_so(tmp_path: Path) -> None:
    async with listening(authority=Authority(tmp_path)) as port:
        with capture_logs() as lines:
            trust = str(Authority(tmp_path / "other").path)
            # asyncio's own client hangs up without the alert that TLS has for this.
            with pytest.raises(ssl.SSLCertVerificationError):
                await asyncio.to_thread(ssl.get_server_certificate, ("127.0.0.1", port.port), ca_certs=trust)
            await eventually(lambda: port.refusals, PATIENCE_SECONDS)
        assert port.refusals == [Refusal.TLS]
        assert "UNKNOWN_CA" in lines[0]["detail"]


async def test_a_port_check_is_not_counted(authority: Authority | None) -> None:
    async with listening(authority=authority) as port:
        for _ in range(5):
            await (await RawPeer.connect(port.port)).close()
        async with await port.connect() as peer:
            peer.send(HEAD)
            await port.speaker()
        await eventually(lambda: port.arriving == 0, PATIENCE_SECONDS)
        assert port.refusals == []


async def test_a_closed_listener_reads_requests_an_aborted_one_not(authority: Authority | None) -> None:
    async with listening(authority=authority) as port:
        asking, late = await port.connect(), await port.connect()
        await eventually(lambda: port.arriving == 2, PATIENCE_SECONDS)
        port.listener.close()
        with pytest.raises(OSError):  # noqa: PT011 - the number differs between loops
            await asyncio.open_connection("127.0.0.1", port.port)
        asking.send(HEAD)
        await port.speaker()
        port.listener.abort()
        await late.gone()
        await asking.close()
        await late.close()


async def test_a_protocol_that_fails_costs_its_connection_alone(loop_failures: list[object]) -> None:
    async with listening() as port:
        make = port.listener.make

        def fail(arrival: Arrival, head: bytes) -> Speaker:
            raise RuntimeError("a bug")

        port.listener.make = fail
        async with await port.connect() as peer:
            peer.send(HEAD)
            await peer.gone()
        assert port.arriving == 0
        assert len(loop_failures) == 1
        loop_failures.clear()
        port.listener.make = make
        async with await port.connect() as peer:
            peer.send(HEAD)
            await port.speaker()


@contextlib.contextmanager
def no_more_files() -> Iterator[None]:
    """Let this process open no more files."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(512, soft), hard))
    taken: list[int] = []
    try:
        with contextlib.suppress(OSError):
            while True:
                taken.append(os.dup(0))
        yield
    finally:
        for descriptor in taken:
            os.close(descriptor)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def test_a_connection_without_free_descriptors_is_accepted_later() -> None:
    async with listening(AdmissionLimits(pause_seconds=0.05)) as port:
        with socket.socket() as sock:
            with no_more_files(), capture_logs() as lines:
                # It waits in the kernel, as any connection that is not accepted yet.
                sock.connect(("127.0.0.1", port.port))
                await eventually(lambda: lines, PATIENCE_SECONDS)
            assert (lines[0]["event"], lines[0]["port"]) == ("connections cannot be accepted", "PORT")
            sock.sendall(HEAD)
            assert (await port.speaker()).head == HEAD
