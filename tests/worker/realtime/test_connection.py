"""The connection to the Realtime API: opening, refusal, loss, and events in both directions."""

from __future__ import annotations

import asyncio
import dataclasses
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest

from common.errors import UpstreamError
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from worker.realtime import connection
from worker.realtime.connection import RealtimeConnection

KEY = "sk-test-0123456789abcdefghij"
MODEL = "gpt-realtime-2"
# Time until a test gives up waiting for an event.
PATIENCE_SECONDS = 10.0


async def opening(connection: RealtimeConnection, url: str, key: str) -> None:
    """Open a connection as a call does."""
    await connection.open(f"{url}?model={MODEL}", {"Authorization": f"Bearer {key}"}, key)


class Owner:
    """An owner that records the reports of its connection."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
        self.lost: asyncio.Queue[str] = asyncio.Queue()
        self.writable = asyncio.Event()
        self.unreadable_events = 0

    def event(self, event: dict[str, Any], received_seconds: float) -> None:
        assert received_seconds > 0
        self.events.put_nowait(event)

    def unreadable(self) -> None:
        self.unreadable_events += 1

    def upstream_writable(self) -> None:
        self.writable.set()

    def connection_lost(self, reason: str) -> None:
        self.lost.put_nowait(reason)

    async def next_event(self, kind: str) -> dict[str, Any]:
        """Return the next event of this type."""
        async with asyncio.timeout(PATIENCE_SECONDS):
            while True:
                event = await self.events.get()
                if event["type"] == kind:
                    return event

    async def loss(self) -> str:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await self.lost.get()


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    async with RealtimeSimulator() as simulator:
        yield simulator


@asynccontextmanager
async def opened(url: str, key: str = KEY) -> AsyncIterator[tuple[RealtimeConnection, Owner]]:
    """Open a connection, and close it at the end."""
    owner = Owner()
    connection = RealtimeConnection(owner)
    await opening(connection, url, key)
    try:
        yield connection, owner
    finally:
        connection.close()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await connection.wait_closed()


async def refusal(url: str, key: str = KEY) -> UpstreamError:
    """Return the error of a connection that cannot be opened, and expect no other report."""
    owner = Owner()
    connection = RealtimeConnection(owner)
    with pytest.raises(UpstreamError) as caught:
        await opening(connection, url, key)
    assert owner.events.empty()
    assert owner.lost.empty()
    assert KEY not in str(caught.value)
    return caught.value


Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


@asynccontextmanager
async def plain_server(handle: Handler, tls: ssl.SSLContext | None = None) -> AsyncIterator[str]:
    """Run a TCP server that closes each connection after `handle`."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await handle(reader, writer)
        except ConnectionError:
            pass  # the client has gone
        finally:
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0, ssl=tls)
    scheme = "ws" if tls is None else "wss"
    try:
        yield f"{scheme}://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1/realtime"
    finally:
        server.close()
        await server.wait_closed()


def answering(response: bytes) -> Handler:
    """Return a handler that reads a request and answers it."""

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(response)
        await writer.drain()

    return handle


# Opening


async def test_handshake_has_the_key_and_the_model() -> None:
    requests: list[bytes] = []

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        requests.append(await reader.readuntil(b"\r\n\r\n"))

    async with plain_server(handle) as url:
        await refusal(url)
    lines = requests[0].decode().split("\r\n")
    assert lines[0] == f"GET /v1/realtime?model={MODEL} HTTP/1.1"
    assert f"Authorization: Bearer {KEY}" in lines
    assert not [line for line in lines if line.lower().startswith("openai-beta")]


async def test_events_go_both_ways(simulator: RealtimeSimulator) -> None:
    async with opened(simulator.url) as (connection, owner):
        created = await owner.next_event("session.created")
        session = await simulator.wait_for_session()
        assert created["session"]["id"] == session.id
        assert session.model == MODEL
        connection.send(orjson.dumps({"type": "session.update", "session": {"type": "realtime"}}))
        await owner.next_event("session.updated")
        assert session.received["session.update"] == 1


@pytest.mark.parametrize(
    ("status", "retryable", "code", "names"),
    [
        (401, False, "invalid_api_key", "OPENAI_API_KEY"),
        (403, False, "unsupported_country_region_territory", "Country not supported"),
        (404, False, "server_error", "HTTP 404"),
        (429, True, "rate_limit_exceeded", "Rate limit reached"),
        (500, True, "server_error", "HTTP 500"),
        (503, True, "server_is_overloaded", "overloaded"),
    ],
)
async def test_refusal_names_the_cause_and_whether_to_retry(
    simulator: RealtimeSimulator, status: int, retryable: bool, code: str, names: str
) -> None:
    simulator.faults.refuse(status)
    error = await refusal(simulator.url)
    assert (error.retryable, error.code) == (retryable, code)
    assert names in str(error)
    assert f"HTTP {status}" in str(error)
    async with opened(simulator.url) as (_, owner):
        await owner.next_event("session.created")


async def test_exhausted_quota_is_not_retried(simulator: RealtimeSimulator) -> None:
    simulator.faults.refuse(429, code="insufficient_quota", message="You exceeded your current quota.")
    error = await refusal(simulator.url)
    assert (error.retryable, error.code) == (False, "insufficient_quota")


async def test_refused_key_is_not_shown() -> None:
    async with RealtimeSimulator(SimulatorSettings(api_key="sk-another")) as simulator:
        error = await refusal(simulator.url)
    assert not error.retryable
    assert "OPENAI_API_KEY" in str(error)


@pytest.mark.parametrize("key", [KEY, "a-key-of-another-shape", "0123456789"])
async def test_a_key_that_the_server_quotes_is_not_shown(simulator: RealtimeSimulator, key: str) -> None:
    simulator.faults.refuse(403, code="odd", message=f"No access with {key}, says the server.")
    error = await refusal(simulator.url, key)
    assert key not in str(error)
    assert "says the server" in str(error)


async def test_a_refusal_in_chunks_is_read_too() -> None:
    body = b'{"error":{"code":"invalid_api_key","message":"Incorrect API key provided: sk-abc***xyz."}}'
    head = b"HTTP/1.1 401 Unauthorized\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\n"
    chunks = b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    async with plain_server(answering(head + chunks)) as url:
        error = await refusal(url)
    assert (error.retryable, error.code) == (False, "invalid_api_key")


async def test_error_after_the_handshake_is_an_event_then_a_loss(simulator: RealtimeSimulator) -> None:
    simulator.faults.refuse(None, code="model_not_found", message="No such model.", close_code=4004)
    async with opened(simulator.url) as (_, owner):
        event = await owner.next_event("error")
        assert event["error"]["code"] == "model_not_found"
        assert await owner.loss() == "closed with code 4004: server_error.model_not_found"


# Servers other than the Realtime API


async def test_silent_server_times_out(monkeypatch: pytest.MonkeyPatch) -> None:
    limits = dataclasses.replace(connection.REALTIME_LIMITS, open_timeout_seconds=0.2)
    monkeypatch.setattr(connection, "REALTIME_LIMITS", limits)
    gone = asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        await reader.read()
        gone.set()

    async with plain_server(handle) as url, asyncio.timeout(PATIENCE_SECONDS):
        error = await refusal(url)
        await gone.wait()
    assert (error.retryable, error.code) == (True, "timeout")
    assert "did not answer within 0.2 s" in str(error)


async def test_refused_tcp_connection_is_retryable() -> None:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        error = await refusal(f"ws://127.0.0.1:{unused.getsockname()[1]}/v1/realtime")
    assert (error.retryable, error.code) == (True, "connect")
    assert "cannot be reached" in str(error)


async def test_server_that_closes_at_once_is_retryable() -> None:
    async with plain_server(answering(b"")) as url:
        error = await refusal(url)
    assert (error.retryable, error.code) == (True, "connect")


async def test_server_of_another_protocol_is_an_error() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"SSH-2.0-OpenSSH_9.2\r\n")
        await reader.read()

    async with plain_server(handle) as url:
        error = await refusal(url)
    assert error.code == "connect"


@pytest.mark.parametrize(
    ("response", "message"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", "HTTP 200"),
        (b"HTTP/1.1 301 Moved\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "HTTP 301"),
        (b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: h2c\r\nConnection: Upgrade\r\n\r\n", "not a WebSocket"),
    ],
)
async def test_web_server_without_websocket_is_an_error(response: bytes, message: str) -> None:
    async with plain_server(answering(response)) as url:
        error = await refusal(url)
    assert message in str(error)
    assert "OPENAI_BASE_URL" in str(error)


async def test_a_refusals_retry_after_is_kept(simulator: RealtimeSimulator) -> None:
    simulator.faults.refuse(429, message="Please try again in 1.2s.", retry_after_seconds=17)
    assert (await refusal(simulator.url)).retry_after_seconds == 17
    simulator.faults.refuse(429, message="Please try again in 1.2s.")
    assert (await refusal(simulator.url)).retry_after_seconds == pytest.approx(1.2)
    simulator.faults.refuse(503)
    assert (await refusal(simulator.url)).retry_after_seconds is None


async def test_tls_to_a_plain_server_is_an_error() -> None:
    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(1)
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await writer.drain()

    async with plain_server(handle) as url:
        error = await refusal(url.replace("ws:", "wss:"))
    assert (error.retryable, error.code) == (True, "connect")


async def test_self_signed_certificate_is_refused() -> None:
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(Path(__file__).with_name("self_signed.pem"))
    async with plain_server(answering(b""), tls) as url:
        error = await refusal(url)
    assert (error.retryable, error.code) == (False, "tls")
    assert "certificate" in str(error)


def test_the_systems_certificates_are_read_once() -> None:
    assert connection._tls() is connection._tls()


async def test_unknown_host_names_the_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_such_host(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    # A resolver of the test, because some networks answer for every name.
    monkeypatch.setattr(socket, "getaddrinfo", no_such_host)
    error = await refusal("ws://realtime.invalid/v1/realtime")
    assert (error.retryable, error.code) == (True, "dns")
    assert "OPENAI_BASE_URL" in str(error)


async def test_cancelled_attempt_leaves_no_connection() -> None:
    asked, gone = asyncio.Event(), asyncio.Event()

    async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        asked.set()
        await reader.read()
        gone.set()

    async with plain_server(handle) as url, asyncio.timeout(PATIENCE_SECONDS):
        attempt = asyncio.create_task(opening(RealtimeConnection(Owner()), url, KEY))
        await asked.wait()
        attempt.cancel()
        with pytest.raises(asyncio.CancelledError):
            await attempt
        await gone.wait()


# An open connection


async def test_a_connection_that_breaks_is_reported_once(simulator: RealtimeSimulator) -> None:
    async with opened(simulator.url) as (connection, owner):
        session = await simulator.wait_for_session()
        session.drop()
        assert await owner.loss() == "it broke off"
        await connection.wait_closed()
        connection.send(b"{}")
        assert owner.lost.empty()


async def test_close_by_the_api_is_reported_with_code_and_reason(simulator: RealtimeSimulator) -> None:
    async with opened(simulator.url) as (_, owner):
        session = await simulator.wait_for_session()
        session.close(1011, "internal error, key sk-abcdefgh1234")
        assert await owner.loss() == "closed with code 1011: internal error, key ***"


async def test_local_close_is_not_reported(simulator: RealtimeSimulator) -> None:
    async with opened(simulator.url) as (connection, owner):
        session = await simulator.wait_for_session()
        connection.close()
        await session.wait_for(lambda s: s.closed)
        assert session.close_code == 1000
        await connection.wait_closed()
        assert owner.lost.empty()


async def test_local_abort_is_immediate_and_not_reported(simulator: RealtimeSimulator) -> None:
    async with opened(simulator.url) as (connection, owner):
        session = await simulator.wait_for_session()
        session.stall()
        connection.abort()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await connection.wait_closed()
        assert owner.lost.empty()
        session.resume()


@pytest.mark.parametrize(
    "odd", ["", "not json", "null", "[]", '"text"', "17", "{}", '{"type":5}', '{"type":null}', '{"type":"a"', "\0"]
)
async def test_message_that_is_no_event_is_skipped(simulator: RealtimeSimulator, odd: str) -> None:
    async with opened(simulator.url) as (_, owner):
        session = await simulator.wait_for_session()
        await owner.next_event("conversation.created")
        simulator.faults.send(session, odd)
        simulator.faults.send(session, {"type": "event.of.next.year"})
        assert await owner.events.get() == {"type": "event.of.next.year"}
        assert owner.lost.empty()


async def test_writing_is_paused_while_the_api_does_not_read(simulator: RealtimeSimulator) -> None:
    async with opened(simulator.url) as (connection, owner):
        session = await simulator.wait_for_session()
        session.stall()
        event = orjson.dumps({"type": "conversation.item.create", "filling": "x" * 100_000})
        async with asyncio.timeout(PATIENCE_SECONDS):
            while not connection.write_paused:
                connection.send(event)
                await asyncio.sleep(0)  # lets the socket take what it can
            assert not owner.writable.is_set()
            session.resume()
            await owner.writable.wait()
        assert not connection.write_paused


async def test_unopened_connection_sends_nothing_and_can_be_closed() -> None:
    connection = RealtimeConnection(Owner())
    assert not connection.write_paused
    connection.send(b"{}")
    connection.close()
    connection.abort()
    await connection.wait_closed()
