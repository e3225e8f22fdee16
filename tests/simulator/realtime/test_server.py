from __future__ import annotations

import asyncio
import base64
import socket as sockets
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import orjson
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from simulator.realtime.server import FAULTS, RealtimeSimulator
from simulator.realtime.settings import DialectName, SimulatorSettings, Voice
from simulator.realtime.simulated_session import SimulatedSession
from tests.helpers import eventually
from tests.simulator.realtime_driver import Event, kinds, only, silence, tone
from tests.simulator.validation import validate_client_event, validate_server_event

_MODEL = "gpt-realtime-2"


class Client:
    """A Realtime client that checks every event in both directions."""

    def __init__(self, socket: ClientConnection) -> None:
        self.socket = socket

    async def receive(self) -> Event:
        async with asyncio.timeout(10):
            event: Event = orjson.loads(await self.socket.recv())
        validate_server_event(event)
        return event

    async def until(self, kind: str) -> list[Event]:
        events: list[Event] = []
        while not events or events[-1]["type"] != kind:
            events.append(await self.receive())
        return events

    async def send(self, kind: str, **fields: Any) -> None:
        event = {"type": kind, **fields}
        validate_client_event(event)
        await self.socket.send(orjson.dumps(event).decode())

    async def closed(self) -> tuple[int | None, str | None, list[Event]]:
        """Close code, reason and the events before."""
        events: list[Event] = []
        while True:
            try:
                events.append(await self.receive())
            except ConnectionClosed as closed:
                frame = closed.rcvd
                return (frame.code, frame.reason, events) if frame else (None, None, events)


@asynccontextmanager
async def _open(
    simulator: RealtimeSimulator,
    *,
    model: str = _MODEL,
    key: str = "sk-test",
    headers: dict[str, str] | None = None,
) -> AsyncIterator[tuple[Client, SimulatedSession]]:
    async with _dial(simulator, model=model, key=key, headers=headers) as client:
        assert (await client.receive())["type"] == "session.created"
        assert (await client.receive())["type"] == "conversation.created"
        yield client, simulator.sessions[-1]


@asynccontextmanager
async def _dial(
    simulator: RealtimeSimulator,
    *,
    model: str = _MODEL,
    key: str = "sk-test",
    headers: dict[str, str] | None = None,
    url: str | None = None,
) -> AsyncIterator[Client]:
    authorization = {"Authorization": f"Bearer {key}"} if key else {}
    address = f"{url or simulator.url}?model={model}"
    headers = {**authorization, **(headers or {})}
    async with connect(address, additional_headers=headers, close_timeout=1) as socket:
        yield Client(socket)


async def _refused(simulator: RealtimeSimulator, **how: Any) -> tuple[int, dict[str, Any], str | None]:
    """HTTP status, error and `Retry-After` of a refused handshake."""
    with pytest.raises(InvalidStatus) as refused:
        async with _dial(simulator, **how):
            pass
    response = refused.value.response
    assert response.body is not None
    return response.status_code, orjson.loads(response.body)["error"], response.headers.get("Retry-After")


# A call.


async def test_a_call_over_a_real_socket() -> None:
    async with RealtimeSimulator(SimulatorSettings(speed=20.0, first_audio_seconds=0.02)) as simulator:
        async with _open(simulator) as (client, session):
            assert session.model == _MODEL
            await client.send("session.update", session={"type": "realtime", "instructions": "Be kind."})
            await client.until("session.updated")
            assert session.instructions == "Be kind."
            await client.send("response.create")
            events = await client.until("rate_limits.updated")
            assert only(events, "response.done")["response"]["status"] == "completed"
            pcm = tone(500) + silence(600)
            for start in range(0, len(pcm), 960):
                await client.send(
                    "input_audio_buffer.append", audio=base64.b64encode(pcm[start : start + 960]).decode()
                )
            await client.until("input_audio_buffer.committed")
            await session.wait_for(lambda session: session.responses[-1].done and len(session.responses) == 2)
            assert session.received_audio == pcm
            assert [item.role for item in session.items] == ["assistant", "user", "assistant"]
        await simulator.wait_for(lambda simulator: not simulator.sessions)
        assert list(simulator.history) == [session]
        assert session.closed
        assert session.close_code == 1000


@pytest.mark.parametrize("path", ["/realtime", "/v1/realtime", "/some/proxy/v1/realtime"])
async def test_any_path_that_ends_in_realtime_is_served(path: str) -> None:
    async with RealtimeSimulator() as simulator:
        url = simulator.url.removesuffix("/v1/realtime") + path
        async with _dial(simulator, url=url) as client:
            assert (await client.receive())["type"] == "session.created"


async def test_sessions_know_their_order_and_do_not_mix() -> None:
    async with RealtimeSimulator() as simulator, _open(simulator) as (one, _), _open(simulator) as (other, _):
        first, second = await simulator.wait_for_session(1), await simulator.wait_for_session(2)
        assert simulator.sessions == [first, second]
        await other.send("session.update", session={"type": "realtime", "instructions": "second"})
        await other.until("session.updated")
        await one.send("session.update", session={"type": "realtime", "instructions": "first"})
        await one.until("session.updated")
        assert (first.instructions, second.instructions) == ("first", "second")


async def test_wait_ends_when_true_or_fails_with_a_summary() -> None:
    async with RealtimeSimulator() as simulator:
        waiting = asyncio.ensure_future(simulator.wait_for_session(1))
        async with _open(simulator) as (client, session):
            assert await waiting is session
            update = asyncio.ensure_future(session.wait_for(lambda session: session.sent["session.updated"]))
            await client.send("session.update", session={"type": "realtime"})
            await update
            with pytest.raises(TimeoutError, match=r"'session\.updated': 1"):
                await session.wait_for(lambda session: len(session.responses) == 3, timeout_seconds=0.05)
        with pytest.raises(TimeoutError, match="1 opened"):
            await simulator.wait_for_session(2, timeout_seconds=0.05)


async def test_history_is_bounded() -> None:
    async with RealtimeSimulator(SimulatorSettings(history_limit=2)) as simulator:
        for _ in range(4):
            async with _open(simulator):
                pass
        await simulator.wait_for(lambda simulator: not simulator.sessions)
        assert [session.number for session in simulator.history] == [3, 4]
        with pytest.raises(LookupError, match="session 1 is forgotten"):
            await simulator.wait_for_session(1)


async def test_binary_message_is_an_error_and_the_session_continues() -> None:
    async with RealtimeSimulator() as simulator, _open(simulator) as (client, _):
        await client.socket.send(b"\x00\x01")
        assert (await client.receive())["error"]["code"] == "invalid_json"
        await client.send("session.update", session={"type": "realtime"})
        await client.until("session.updated")


# Refusals.


async def test_a_wrong_key_is_refused_and_never_repeated() -> None:
    async with RealtimeSimulator(SimulatorSettings(api_key="sk-right")) as simulator:
        status, error, _ = await _refused(simulator, key="sk-wrong")
        assert (status, error["code"]) == (401, "invalid_api_key")
        assert "sk-" not in str(error)
        assert (await _refused(simulator, key=""))[0] == 401
        async with _open(simulator, key="sk-right"):
            pass
        assert simulator.refused == 2


async def test_a_wrong_key_can_be_refused_after_the_handshake() -> None:
    settings = SimulatorSettings(api_key="sk-right", bad_key_in_band=True)
    async with RealtimeSimulator(settings) as simulator, _dial(simulator, key="sk-wrong") as client:
        code, reason, (event,) = await client.closed()
        assert event["error"]["code"] == "invalid_api_key"
        assert (code, reason) == (3000, "invalid_request_error.invalid_api_key")


@pytest.mark.parametrize(
    ("settings", "model"),
    [(SimulatorSettings(), "whisper-9"), (SimulatorSettings(models=("gpt-realtime-2.1",)), "gpt-realtime-2")],
)
async def test_an_unknown_model_is_refused_after_the_handshake(settings: SimulatorSettings, model: str) -> None:
    async with RealtimeSimulator(settings) as simulator, _dial(simulator, model=model) as client:
        code, reason, (event,) = await client.closed()
        assert event["error"]["code"] == "model_not_found"
        assert model in event["error"]["message"]
        assert (code, reason) == (4004, "invalid_request_error.model_not_found")
        assert simulator.opened == 0


async def test_the_beta_dialect_is_gone() -> None:
    headers = {"OpenAI-Beta": "realtime=v1"}
    async with RealtimeSimulator() as simulator, _dial(simulator, headers=headers) as client:
        code, _, (event,) = await client.closed()
        assert (code, event["error"]["code"]) == (4000, "beta_api_shape_disabled")


def _request_and_reset(port: int, model: str) -> None:
    """Ask for a session and reset the connection before the server has read the request."""
    request = (
        f"GET /v1/realtime?model={model} HTTP/1.1\r\nHost: simulator\r\nAuthorization: Bearer sk-test\r\n"
        "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
        "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
    )
    with sockets.create_connection(("127.0.0.1", port)) as socket:
        socket.sendall(request.encode())
        socket.setsockopt(sockets.SOL_SOCKET, sockets.SO_LINGER, struct.pack("ii", 1, 0))


@pytest.mark.parametrize("model", [_MODEL, "unknown"])
async def test_client_that_resets_before_the_handshake_is_no_error(
    model: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with RealtimeSimulator() as simulator:
        port = urlsplit(simulator.url).port
        assert port is not None
        _request_and_reset(port, model)
        await eventually(lambda: simulator.counters.totals["connections"] == 1)
    assert caplog.text == ""


async def test_connections_are_refused_on_command() -> None:
    async with RealtimeSimulator() as simulator:
        simulator.faults.refuse(status=503, times=2)
        simulator.faults.refuse(status=429, retry_after_seconds=7)
        assert (await _refused(simulator))[0] == 503
        assert (await _refused(simulator))[0] == 503
        status, error, retry_after = await _refused(simulator)
        assert (status, error["code"], retry_after) == (429, "rate_limit_exceeded", "7")
        async with _open(simulator):
            pass


# Other dialects, and Azure.


@asynccontextmanager
async def _socket(
    simulator: RealtimeSimulator, path: str, headers: dict[str, str]
) -> AsyncIterator[ClientConnection]:
    address = simulator.url.removesuffix("/v1/realtime") + path
    async with connect(address, additional_headers=headers, close_timeout=1) as socket:
        yield socket


async def _first(socket: ClientConnection) -> Event:
    async with asyncio.timeout(10):
        event: Event = orjson.loads(await socket.recv())
    return event


_BEARER = {"Authorization": "Bearer sk-test"}
_BETA = {"OpenAI-Beta": "realtime=v1"}


async def test_beta_dialect_is_spoken_if_asked_for() -> None:
    async with RealtimeSimulator(SimulatorSettings(dialect=DialectName.BETA)) as simulator:
        path = "/v1/realtime?model=gpt-4o-realtime-preview"
        async with _socket(simulator, path, _BEARER | _BETA) as socket:
            assert (await _first(socket))["session"]["voice"] == "alloy"
            assert simulator.sessions[0].headers["OpenAI-Beta"] == "realtime=v1"
            assert simulator.sessions[0].session["audio"]["output"]["voice"] == "alloy"
        async with _socket(simulator, path, _BEARER) as socket:
            assert (await _first(socket))["error"]["code"] == "missing_beta_header"


async def test_xais_dialect_is_spoken_with_its_models() -> None:
    async with RealtimeSimulator(SimulatorSettings(dialect=DialectName.XAI)) as simulator:
        async with _socket(simulator, "/v1/realtime?model=grok-voice-latest", _BEARER) as socket:
            assert (await _first(socket))["type"] == "conversation.created"
            assert (await _first(socket))["session"]["voice"] == "eve"
        async with _socket(simulator, "/v1/realtime?model=gpt-realtime-2", _BEARER) as socket:
            assert (await _first(socket))["error"]["code"] == "model_not_found"


@pytest.mark.parametrize("headers", [{"api-key": "azure-key"}, {"Authorization": "Bearer azure-key"}])
async def test_azure_path_takes_api_key_or_bearer_and_any_deployment(headers: dict[str, str]) -> None:
    async with RealtimeSimulator(SimulatorSettings(api_key="azure-key")) as simulator:
        path = "/openai/v1/realtime?model=my-deployment"
        async with _socket(simulator, path, headers) as socket:
            event = await _first(socket)
            validate_server_event(event)
            assert event["session"]["model"] == "my-deployment"
            session = simulator.sessions[0]
            assert session.path == path
            assert session.key_header in headers
            assert "azure-key" not in str(session.headers)


async def test_azures_older_path_speaks_beta_to_a_deployment() -> None:
    async with RealtimeSimulator() as simulator:
        path = "/openai/realtime?api-version=2025-04-01-preview&deployment=mine"
        async with _socket(simulator, path, {"api-key": "azure-key"}) as socket:
            session = (await _first(socket))["session"]
            assert (session["model"], session["input_audio_format"]) == ("mine", "pcm16")


@pytest.mark.parametrize(
    ("path", "headers", "status"),
    [
        ("/openai/v1/realtime?model=mine", {"api-key": "wrong"}, 401),
        ("/openai/v1/realtime?model=mine", {}, 401),
        ("/openai/realtime?deployment=mine", {"api-key": "azure-key"}, 404),
        ("/v1/realtime?model=gpt-realtime-2", {"api-key": "azure-key"}, 401),
    ],
)
async def test_path_or_query_unknown_to_azure_is_refused(path: str, headers: dict[str, str], status: int) -> None:
    async with RealtimeSimulator(SimulatorSettings(api_key="azure-key")) as simulator:
        with pytest.raises(InvalidStatus) as refused:
            async with _socket(simulator, path, headers):
                pass
        assert refused.value.response.status_code == status


@pytest.mark.parametrize(
    "path",
    [
        "/openai/v1/realtime",
        "/openai/realtime?api-version=1",
        "/openai/realtime?api-version=1&model=gpt-realtime-2",
    ],
)
async def test_azure_needs_a_deployment(path: str) -> None:
    async with RealtimeSimulator() as simulator, _socket(simulator, path, {"api-key": "k"}) as socket:
        assert (await _first(socket))["error"]["code"] == "model_not_found"


# Ends and faults.


async def test_a_session_ends_at_its_limit() -> None:
    async with RealtimeSimulator(SimulatorSettings(session_limit_seconds=0.3)) as simulator:
        async with _open(simulator) as (client, session):
            code, reason, (event,) = await client.closed()
        assert event["error"]["code"] == "session_expired"
        assert (code, reason) == (1001, event["error"]["message"])
        await session.wait_for(lambda session: session.closed)
        assert session.close_code == 1001


async def test_a_dropped_session_ends_without_a_close_frame() -> None:
    async with RealtimeSimulator() as simulator, _open(simulator) as (client, session):
        simulator.faults.drop(session)
        assert (await client.closed())[:2] == (None, None)
        await session.wait_for(lambda session: session.closed)
        assert session.close_code == 1006


async def test_stalled_session_neither_reads_nor_writes() -> None:
    async with RealtimeSimulator() as simulator, _open(simulator) as (client, session):
        simulator.faults.stall(session)
        await client.send("session.update", session={"type": "realtime"})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.2):
                await client.socket.recv()
        assert not session.received
        simulator.faults.resume(session)
        await client.until("session.updated")


async def test_an_error_can_come_at_any_time_and_can_end_the_session() -> None:
    async with RealtimeSimulator() as simulator, _open(simulator) as (client, session):
        simulator.faults.error(session, code="server_error")
        error = (await client.receive())["error"]
        assert (error["type"], error["event_id"]) == ("server_error", None)
        simulator.faults.error(session, code="insufficient_quota", close_code=4003)
        code, reason, (event,) = await client.closed()
        assert event["error"]["code"] == "insufficient_quota"
        assert (code, reason) == (4003, "server_error.insufficient_quota")


async def test_any_message_can_be_sent() -> None:
    async with RealtimeSimulator() as simulator, _open(simulator) as (client, session):
        simulator.faults.send(session, "{not json")
        simulator.faults.send(session, {"type": "response.levitated"})
        assert await client.socket.recv() == "{not json"
        assert await client.socket.recv() == '{"type":"response.levitated"}'


async def test_accepted_connection_may_stay_silent() -> None:
    async with RealtimeSimulator() as simulator:
        simulator.faults.silence()
        async with _dial(simulator) as client:
            session = await simulator.wait_for_session(1)
            await client.send("session.update", session={"type": "realtime"})
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.2):
                    await client.socket.recv()
            assert not session.sent
        async with _open(simulator):
            pass


async def test_update_may_stay_unanswered() -> None:
    async with RealtimeSimulator() as simulator, _open(simulator) as (client, session):
        simulator.faults.ignore("session.update", session=session)
        await client.send("session.update", session={"type": "realtime", "instructions": "lost"})
        await client.send("session.update", session={"type": "realtime"})
        assert only(await client.until("session.updated"), "session.updated")["session"]["instructions"] != "lost"


async def test_responses_end_badly_and_late_audio_comes_on_command() -> None:
    settings = SimulatorSettings(greeting_words=100, speed=2.0)
    async with RealtimeSimulator(settings) as simulator, _open(simulator) as (client, session):
        simulator.faults.end_response("failed", session=session, code="server_error")
        await client.send("response.create")
        response = (await client.until("response.done"))[-1]["response"]
        assert response["status"] == "failed"
        await client.until("rate_limits.updated")
        simulator.faults.late_deltas(2, session=session)
        await client.send("response.create")
        await client.until("response.output_audio.delta")
        await client.send("response.cancel")
        await client.until("rate_limits.updated")
        assert kinds([await client.receive(), await client.receive()]) == ["response.output_audio.delta"]


async def test_client_that_reads_nothing_loses_nothing() -> None:
    # 25 MB of events: more than all buffers on the way take.
    settings = SimulatorSettings(
        greeting_words=1000, delta_ms=1000, speed=float("inf"), first_audio_seconds=0.0, voice=Voice.TONE
    )
    async with RealtimeSimulator(settings) as simulator, _open(simulator) as (client, session):
        await client.send("response.create")
        await session.wait_for(lambda session: session.sent["response.created"])
        await session.wait_for(lambda session: session.responses[-1].done)
        events = await client.until("rate_limits.updated")
        audio = b"".join(
            base64.b64decode(event["delta"]) for event in events if event["type"] == "response.output_audio.delta"
        )
        assert len(audio) == 1000 * 400 * 48


# Start and stop.


async def test_stop_ends_every_session_and_leaves_no_task() -> None:
    before = asyncio.all_tasks()
    simulator = RealtimeSimulator()
    await simulator.start()
    async with _open(simulator) as (client, _), _open(simulator) as (stalled, session):
        simulator.faults.stall(session)
        await simulator.stop()
        assert simulator.sessions == []
        assert (await client.closed())[0] == 1001
        await stalled.closed()
    await simulator.stop()
    assert asyncio.all_tasks() == before


async def test_an_address_is_only_known_when_started() -> None:
    with pytest.raises(RuntimeError, match="not started"):
        _ = RealtimeSimulator().url


async def test_a_port_that_is_taken_is_an_error() -> None:
    async with RealtimeSimulator() as simulator:
        port = int(simulator.url.split(":")[2].split("/")[0])
        with pytest.raises(OSError, match="address already in use"):
            await RealtimeSimulator().start(port=port)


# Control over HTTP.


async def test_sessions_are_listed_with_what_the_model_was_told() -> None:
    settings = SimulatorSettings(first_audio_seconds=0.0, speed=float("inf"))
    async with RealtimeSimulator(settings) as simulator, aiohttp.ClientSession() as http:
        async with _open(simulator) as (client, session):
            await client.send("session.update", session={"type": "realtime", "instructions": "Be kind."})
            await client.send("response.create")
            await client.until("rate_limits.updated")
            where = {"item_id": session.items[0].id, "content_index": 0}
            await client.send("conversation.item.truncate", **where, audio_end_ms=900)
            await client.until("conversation.item.truncated")
            async with http.get(f"{simulator.control_url}/sessions") as answer:
                report = await answer.json()
        (live,) = report["live"]
        assert live["instructions"] == "Be kind."
        (item,) = live["items"]
        assert item["role"] == "assistant"
        assert item["text"] == "greeting one"
        assert item["said"] == "greeting one alpha bravo charlie"
        assert item["truncated_ms"] == 900
        assert live["responses"][0]["status"] == "completed"
        assert live["usage"]["output_token_details"]["audio_tokens"] == 40
        await simulator.wait_for(lambda simulator: not simulator.sessions)
        async with http.get(f"{simulator.control_url}/sessions") as answer:
            report = await answer.json()
        assert [each["id"] for each in report["ended"]] == [session.id]
        assert report["live"] == []


async def test_sessions_of_one_call_are_listed_with_their_timelines() -> None:
    async with RealtimeSimulator() as simulator, aiohttp.ClientSession() as http:

        async def report(**query: str) -> dict[str, Any]:
            async with http.get(f"{simulator.control_url}/sessions", params=query) as answer:
                found: dict[str, Any] = await answer.json()
                return found

        async with _open(simulator) as (client, session), _open(simulator) as (other, _):
            for each, uuid in ((client, "u1"), (other, "u2")):
                await each.send("session.update", session={"type": "realtime", "instructions": f"call {uuid}."})
                await each.until("session.updated")
            (live,) = (await report(mentions="u1", brief="1"))["live"]
            assert live["id"] == session.id
            assert live["may_answer"]
            assert "items" not in live
            host, _, port = live["peer"].rpartition(":")
            assert (host, int(port) > 0) == ("127.0.0.1", True)
            timeline = live["timeline"]
            assert timeline["opened_seconds"] <= timeline["answering"][0][0] == timeline["last_event_seconds"]
            simulator.faults.stall(session)
            assert (await report(mentions="u1"))["live"][0]["timeline"]["answering"][0][1] is not None
            simulator.faults.resume(session)
        await simulator.wait_for(lambda simulator: not simulator.sessions)
        assert (await report(mentions="u1", live="1")) == {"live": [], "ended": [], "opened": 2, "refused": 0}
        (ended,) = (await report(mentions="u1"))["ended"]
        assert not ended["may_answer"]
        answering = ended["timeline"]["answering"]
        assert len(answering) == 2
        assert answering[1][1] == ended["timeline"]["closed_seconds"]


async def test_faults_are_commanded_over_http() -> None:
    async with RealtimeSimulator() as simulator, aiohttp.ClientSession() as http:

        async def command(**fault: Any) -> int:
            async with http.post(f"{simulator.control_url}/faults", json=fault) as answer:
                return answer.status

        assert await command(fault="refuse", status=503) == 200
        assert (await _refused(simulator))[0] == 503
        async with _open(simulator) as (client, session):
            assert await command(fault="error", session=session.id, code="odd") == 200
            assert (await client.receive())["error"]["code"] == "odd"
            assert await command(fault="drop", session=session.number) == 200
            await client.closed()
        assert await command(fault="refuse", times=3) == 200
        async with http.delete(f"{simulator.control_url}/faults") as answer:
            assert answer.status == 200
        async with _open(simulator):
            pass


async def test_outage_is_commanded_and_counted_over_http() -> None:
    async with RealtimeSimulator() as simulator, aiohttp.ClientSession() as http:
        async with _open(simulator) as (client, _):
            command = {"fault": "outage", "seconds": 60, "retry_after_seconds": 2}
            async with http.post(f"{simulator.control_url}/faults", json=command) as answer:
                assert answer.status == 200
            assert (await _refused(simulator))[::2] == (503, "2")
            await client.send("response.create")
            response = (await client.until("response.done"))[-1]["response"]
            assert response["status"] == "failed"
        async with http.get(f"{simulator.control_url}/counters") as answer:
            totals = (await answer.json())["totals"]
        assert totals["input_tokens"] == response["usage"]["input_tokens"] > 0
        assert (totals["connections"], totals["connections_refused"]) == (2, 1)
        assert (totals["response.create"], totals["responses_failed"]) == (1, 1)
        async with http.delete(f"{simulator.control_url}/faults") as answer:
            assert answer.status == 200
        async with _open(simulator):
            pass


async def test_false_speech_is_sent_at_once() -> None:
    async with RealtimeSimulator() as simulator, _open(simulator) as (client, session):
        simulator.faults.false_speech(session)
        assert (await client.receive())["type"] == "input_audio_buffer.speech_started"


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"{", "unexpected end"),
        (b"[]", "must be a JSON object"),
        (b"{}", "fault"),
        (b'{"fault": "explode"}', "there is no fault 'explode'"),
        (b'{"fault": "drop"}', "session"),
        (b'{"fault": "drop", "session": 7}', "no live session 7"),
        (b'{"fault": "refuse", "colour": "red"}', "colour"),
        (b'{"fault": "end_response", "status": "splendid"}', "splendid"),
    ],
)
async def test_wrong_command_is_answered_with_the_reason(body: bytes, reason: str) -> None:
    async with (
        RealtimeSimulator() as simulator,
        aiohttp.ClientSession() as http,
        http.post(f"{simulator.control_url}/faults", data=body) as answer,
    ):
        assert answer.status == 400
        assert reason in (await answer.json())["error"]


def test_every_fault_there_is_can_be_commanded() -> None:
    faults = RealtimeSimulator().faults
    methods = {
        name for name in dir(faults) if not name.startswith(("_", "take_")) and callable(getattr(faults, name))
    }
    assert set(FAULTS) == methods - {"clear"}
