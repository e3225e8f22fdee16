"""Bad input gets an error if the protocol has one, the right close code, a count and one log line.

The process and a neighbour's call are not affected.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import socket
import time
from collections.abc import AsyncIterator

import aiohttp
import orjson
import pytest
import pytest_asyncio

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster

INIT = '{"type":"init","uuid":"%s"}'
SILENCE = base64.b64encode(bytes(320)).decode()
AUDIO = orjson.dumps({"type": "audio", "audio": SILENCE}).decode()


class Service:
    """One cluster for all tests of this file, because it must survive all of them."""

    def __init__(self, cluster: Cluster, simulator: RealtimeSimulator, url: str, admin_url: str) -> None:
        self.cluster = cluster
        self.simulator = simulator
        self.url = url
        self.admin_url = admin_url

    async def metric(self, name: str) -> float:
        """Return the value of a series."""
        async with aiohttp.ClientSession() as http, http.get(f"{self.admin_url}/metrics") as response:
            lines = (await response.text()).splitlines()
        return next((float(line.rpartition(" ")[2]) for line in lines if line.startswith(f"{name} ")), 0.0)

    async def bad_input(self, reason: str) -> float:
        """Return the count of this reason."""
        return await self.metric(f'avr_sts_bad_input_total{{reason="{reason}"}}')


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def service(module_redis_url: str) -> AsyncIterator[Service]:
    async with (
        RealtimeSimulator() as simulator,
        Cluster(module_redis_url, simulator.url, CALL_RECONNECT_SECONDS=1) as cluster,
    ):
        await cluster.start(workers=1)
        yield Service(cluster, simulator, await cluster.url(), await cluster.admin_url())


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def neighbour(service: Service) -> AsyncIterator[SimulatedCall]:
    async with await place_call(service.url, uuid="neighbour") as call:
        await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        yield call


async def _send(url: str, messages: list[str | bytes]) -> tuple[list[dict[str, str]], int | None]:
    """Open a connection, send messages, and return the answers other than audio, and the close code."""
    answers = []
    async with (
        aiohttp.ClientSession() as http,
        http.ws_connect(url, max_msg_size=0, timeout=aiohttp.ClientWSTimeout(ws_close=PATIENCE_SECONDS)) as ws,
    ):
        for message in messages:
            try:
                if isinstance(message, str):
                    await ws.send_str(message)
                else:
                    await ws.send_bytes(message)
            except ConnectionError:
                break
        async with asyncio.timeout(PATIENCE_SECONDS):
            async for received in ws:
                answer = orjson.loads(received.data)
                if answer["type"] != "audio":
                    answers.append(answer)
        return answers, ws.close_code


@pytest.mark.parametrize(
    ("reason", "messages"),
    [
        ("bad_uuid", ['{"type":"init"}']),
        ("bad_uuid", ['{"type":"init","uuid":"no spaces, please"}']),
        ("bad_uuid", ['{"type":"init","uuid":"%s"}' % ("x" * 129)]),
        ("message_too_big", [INIT, '{"type":"audio","audio":"%s"}' % ("A" * 70_000)]),
        ("message_too_big", ['{"type":"audio","audio":"%s"}' % ("A" * 10_000_000)]),
        ("flood", [INIT, *[AUDIO] * 3000]),
        ("flood", [INIT, *['{"type":"dtmf_digit","digit":"5"}'] * 5000]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
@pytest.mark.asyncio(loop_scope="module")
async def test_bad_input_ends_only_its_own_call(
    service: Service,
    neighbour: SimulatedCall,
    reason: str,
    messages: list[str | bytes],
    request: pytest.FixtureRequest,
) -> None:
    uuid = f"bad-{abs(hash(request.node.name))}"
    counted = await service.bad_input(reason)
    dispatcher = service.cluster.dispatchers[0]
    ended = len(dispatcher.events("call ended"))
    answers, close_code = await _send(service.url, [m % uuid if m is INIT else m for m in messages])
    assert [answer["type"] for answer in answers] == ["error"]
    assert close_code == 1008
    assert await service.bad_input(reason) == counted + 1
    await eventually(lambda: len(dispatcher.events("call ended")) == ended + 1)
    line = dispatcher.events("call ended")[-1]
    if messages[0] is INIT:
        assert line["uuid"] == uuid
    assert line["reason"] == answers[0]["message"]
    # The log does not repeat any part of the input.
    assert len(str(line)) < 1000

    frames = neighbour.record.frames_sent
    await neighbour.wait_for(lambda c: c.record.frames_sent > frames + 5, timeout_seconds=PATIENCE_SECONDS)
    assert not neighbour.closed.is_set()
    await eventually(lambda: len(service.simulator.sessions) == 1, PATIENCE_SECONDS)
    assert dispatcher.returncode is None
    assert not [line for line in dispatcher.lines if "exception" in line or line["event"] == "crashed"]


@pytest.mark.asyncio(loop_scope="module")
async def test_unknown_messages_are_ignored(service: Service, neighbour: SimulatedCall) -> None:
    """Send every message type in AVR's documents and connectors, and types that no document names."""
    strange: list[tuple[str, str | bytes]] = [
        ("before_init", AUDIO),
        ("before_init", '{"type":"dtmf_digit","digit":"5"}'),
        ("", INIT % "strange"),
        ("second_init", INIT % "strange"),
        ("second_init", INIT % "another"),
        *(
            ("unknown_type", f'{{"type":"{kind}"}}')
            for kind in ("transcript", "interruption", "error", "call_initiated", "event_type", "video")
        ),
        ("unknown_type", '{"type":["init"]}'),
        ("unknown_type", "{}"),
        ("not_json", "this is not JSON"),
        ("not_json", "[]"),
        ("not_json", bytes(320)),
        ("bad_audio", '{"type":"audio","audio":null}'),
        ("bad_base64", '{"type":"audio","audio":"!!!!"}'),
        ("odd_bytes", '{"type":"audio","audio":"AAAA"}'),
        ("bad_digit", '{"type":"dtmf_digit","digit":"16"}'),
        ("bad_digit", '{"type":"dtmf_digit","digit":"!"}'),
        # JSON in binary frames is accepted like text.
        ("", AUDIO.encode()),
        ("", b'{"type":"dtmf_digit","digit":"5"}'),
    ]
    reasons = {reason for reason, _ in strange if reason}
    before = {reason: await service.bad_input(reason) for reason in reasons}
    async with aiohttp.ClientSession() as http, http.ws_connect(service.url) as ws:
        for _, message in strange:
            if isinstance(message, str):
                await ws.send_str(message)
            else:
                await ws.send_bytes(message)
        # The greeting still comes.
        async with asyncio.timeout(PATIENCE_SECONDS):
            while orjson.loads((await ws.receive()).data)["type"] != "audio":
                pass
        for reason in reasons:
            count = sum(each == reason for each, _ in strange)
            assert await service.bad_input(reason) == before[reason] + count
        await ws.close()
    dispatcher = service.cluster.dispatchers[0]
    (line,) = [
        line for line in dispatcher.events("message not understood") if line.get("uuid", "strange") == "strange"
    ]
    assert line["reason"] == "before_init"
    await eventually(lambda: len(service.simulator.sessions) == 1, PATIENCE_SECONDS)
    assert not neighbour.closed.is_set()


@pytest.mark.parametrize(
    "raw",
    [
        b"GET / HTTP/1.1\r\nHost: x\r\n\r\n",
        b"POST /anything HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(100),
        b"GET / HTTP/1.1\r\n" + b"X-Filler: " + b"a" * 100_000 + b"\r\n\r\n",
        b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 1000 + b"\r\n",
        b"\n" * 1000,
    ],
    ids=["plain http", "post", "tls", "long header", "many headers", "newlines"],
)
@pytest.mark.asyncio(loop_scope="module")
async def test_request_other_than_a_websocket_is_refused(
    service: Service, neighbour: SimulatedCall, raw: bytes
) -> None:
    host, port = service.url.removeprefix("ws://").rstrip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    writer.write(raw)
    async with asyncio.timeout(PATIENCE_SECONDS):
        answer = b""
        with contextlib.suppress(ConnectionResetError):
            answer = await reader.read()
    assert b" 101 " not in answer
    writer.close()
    assert not neighbour.closed.is_set()


HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


async def _trickle(service: Service, data: bytes, until: int, interval_seconds: float) -> tuple[float, bytes]:
    """Send bytes one by one, then the rest; return the time until the end of the connection, and the answer."""
    host, port = service.url.removeprefix("ws://").rstrip("/").split(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    began = time.monotonic()

    async def send() -> None:
        for byte in data[:until]:
            writer.write(bytes([byte]))
            await asyncio.sleep(interval_seconds)
        writer.write(data[until:])

    sending = asyncio.create_task(send())
    answer = b""
    async with asyncio.timeout(PATIENCE_SECONDS):
        with contextlib.suppress(ConnectionResetError):
            answer = await reader.read()
    seconds = time.monotonic() - began
    sending.cancel()
    writer.close()
    return seconds, answer


@pytest.mark.asyncio(loop_scope="module")
async def test_slow_connection_without_init_ends_after_10_s(service: Service, neighbour: SimulatedCall) -> None:
    (answers, close_code), *slow = await asyncio.gather(
        _send(service.url, []),
        _trickle(service, b"", 0, 0),
        # Endless single bytes, including the first bytes of either protocol.
        _trickle(service, HANDSHAKE, len(HANDSHAKE) - 1, 0.4),
        _trickle(service, b"POST", 4, 3.0),
        # A handshake of 6 s leaves 4 s for `init`, and one byte is not an `init`.
        _trickle(service, HANDSHAKE + b"\x81", 60, 0.1),
    )
    assert "init" in answers[0]["message"]
    assert close_code == 1008
    for seconds, _ in slow:
        # The limit of 10 s, a second to read the reason, and the delays of a busy machine.
        assert 9 < seconds < 14
    handshaken = [answer for _, answer in slow if answer]
    assert [answer[:13] for answer in handshaken] == [b"HTTP/1.1 101 "]
    assert b"no init within 10 s" in handshaken[0]
    assert await service.metric('avr_sts_connections_refused_total{reason="too_slow"}') == 3
    assert not neighbour.closed.is_set()


@pytest.mark.asyncio(loop_scope="module")
async def test_reset_by_the_core_ends_its_call(service: Service, neighbour: SimulatedCall) -> None:
    call = await place_call(service.url, uuid="dropped")
    await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
    await call.drop()
    await eventually(lambda: len(service.simulator.sessions) == 1, PATIENCE_SECONDS)
    line = next(
        line for line in service.cluster.dispatchers[0].events("call ended") if line.get("uuid") == "dropped"
    )
    assert line["ending"] == "failed"
    assert "1006" in line["reason"]


@pytest.mark.asyncio(loop_scope="module")
async def test_stalled_core_costs_bounded_memory_and_only_its_call(
    service: Service, neighbour: SimulatedCall
) -> None:
    host, port = service.url.removeprefix("ws://").rstrip("/").split(":")
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    sock.setblocking(False)
    loop = asyncio.get_running_loop()
    await loop.sock_connect(sock, (host, int(port)))
    handshake = (
        "GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    )
    await loop.sock_sendall(sock, handshake.encode())
    text = (INIT % "deaf").encode()
    # A masked text frame, with a mask of zeros.
    await loop.sock_sendall(sock, bytes([0x81, 0x80 | len(text), 0, 0, 0, 0]) + text)
    await eventually(lambda: len(service.simulator.sessions) == 2, PATIENCE_SECONDS)
    session = service.simulator.sessions[-1]
    await session.wait_for(lambda s: s.responses and s.responses[0].status == "completed", timeout_seconds=20)
    frames = neighbour.record.frames_sent
    await neighbour.wait_for(lambda c: c.record.frames_sent > frames + 20, timeout_seconds=PATIENCE_SECONDS)
    sock.close()
    await eventually(lambda: len(service.simulator.sessions) == 1, PATIENCE_SECONDS)
