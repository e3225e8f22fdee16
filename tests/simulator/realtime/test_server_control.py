"""Control of the Realtime simulator over HTTP."""

from __future__ import annotations

from typing import Any

import aiohttp
import pytest

from simulator.realtime.server import FAULTS, RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from tests.simulator.realtime_client import opened, refused_by


async def test_sessions_are_listed_with_their_conversation() -> None:
    settings = SimulatorSettings(first_audio_seconds=0.0, speed=float("inf"))
    async with RealtimeSimulator(settings) as simulator, aiohttp.ClientSession() as http:
        async with opened(simulator) as (client, session):
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

        async with opened(simulator) as (client, session), opened(simulator) as (other, _):
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
        assert (await refused_by(simulator))[0] == 503
        async with opened(simulator) as (client, session):
            assert await command(fault="error", session=session.id, code="odd") == 200
            assert (await client.receive())["error"]["code"] == "odd"
            assert await command(fault="drop", session=session.number) == 200
            await client.closed()
        assert await command(fault="refuse", times=3) == 200
        async with http.delete(f"{simulator.control_url}/faults") as answer:
            assert answer.status == 200
        async with opened(simulator):
            pass


async def test_outage_is_commanded_and_counted_over_http() -> None:
    async with RealtimeSimulator() as simulator, aiohttp.ClientSession() as http:
        async with opened(simulator) as (client, _):
            command = {"fault": "outage", "seconds": 60, "retry_after_seconds": 2}
            async with http.post(f"{simulator.control_url}/faults", json=command) as answer:
                assert answer.status == 200
            assert (await refused_by(simulator))[::2] == (503, "2")
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
        async with opened(simulator):
            pass


async def test_false_speech_is_sent_at_once() -> None:
    async with RealtimeSimulator() as simulator, opened(simulator) as (client, session):
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
