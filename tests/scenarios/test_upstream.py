"""The effects on a call when the Realtime API refuses, fails or violates its protocol."""

from __future__ import annotations

import asyncio

import aiohttp
import pytest

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from tests.scenarios.processes import KEY, PATIENCE_SECONDS, Cluster
from tests.scenarios.tones import tone


async def _ended(call: SimulatedCall) -> str:
    await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
    assert call.close_code == 1011
    assert len(call.errors) == 1
    return call.errors[0].message


async def test_refused_key_ends_the_call_and_is_not_shown(real_redis_url: str) -> None:
    async with (
        RealtimeSimulator(SimulatorSettings(api_key="another")) as simulator,
        Cluster(real_redis_url, simulator.url, FALLBACK_WAV="none") as cluster,
    ):
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        message = await _ended(call)
        assert "OPENAI_API_KEY" in message
        assert KEY not in message
        assert simulator.refused == 1, "no retry can help against a wrong key"
        assert KEY not in cluster.logs


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"OPENAI_MODEL": "no-such-model"}, "OPENAI_MODEL"),
        ({"OPENAI_BASE_URL": "ws://127.0.0.1:9/v1", "UPSTREAM_RETRY_SECONDS": 1}, "cannot be reached"),
    ],
)
async def test_permanent_refusal_ends_the_call_with_the_cause(
    real_redis_url: str, simulator: RealtimeSimulator, settings: dict[str, object], named: str
) -> None:
    async with Cluster(real_redis_url, simulator.url, **settings, FALLBACK_WAV="none") as cluster:
        await cluster.start(workers=1)
        assert named in await _ended(await place_call(await cluster.url()))


async def test_temporary_refusal_loses_none_of_the_callers_words(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    simulator.faults.refuse(503, times=2)
    simulator.faults.refuse(429, times=1)
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url(), speech=tone(900, 1.0))
        session = await simulator.wait_for_session(timeout_seconds=PATIENCE_SECONDS)
        assert simulator.refused == 3
        # The model gets the caller's words from the time without a session.
        await session.wait_for(lambda s: s.sent["input_audio_buffer.committed"] == 1)
        assert session.appended_ms >= 1000
        await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        await call.hang_up()


async def test_lasting_refusal_ends_the_call_after_the_retry_time(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    simulator.faults.refuse(503, times=100)
    async with Cluster(real_redis_url, simulator.url, UPSTREAM_RETRY_SECONDS=1, FALLBACK_WAV="none") as cluster:
        await cluster.start(workers=1)
        message = await _ended(await place_call(await cluster.url()))
        assert "503" in message
        assert simulator.refused >= 2


async def test_harmless_upstream_errors_do_not_end_a_call(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster, aiohttp.ClientSession() as http:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        session = await simulator.wait_for_session()
        simulator.faults.error(session, code="server_error")
        simulator.faults.error(
            session, code="conversation_already_has_active_response", kind="invalid_request_error"
        )
        simulator.faults.send(session, "this is not JSON")
        simulator.faults.send(session, {"type": "response.of.the.future", "event_id": "event_1"})
        simulator.faults.send(session, {"type": "response.output_audio.delta", "event_id": "event_2"})
        await session.wait_for(lambda s: s.responses and s.responses[-1].status == "completed")
        simulator.faults.end_response("failed", session=session, after_ms=400)
        await call.say(tone(700, 0.8))
        await session.wait_for(lambda s: any(r.status == "failed" for r in s.responses))
        await call.say(tone(700, 0.8))
        await session.wait_for(lambda s: s.responses[-1].status == "completed" and len(s.responses) > 2)
        assert not call.errors
        assert not call.closed.is_set()
        await call.hang_up()
        worker = await cluster.workers[0].line("worker listening")
        async with http.get(f"http://127.0.0.1:{worker['admin_port']}/metrics") as response:
            metrics = await response.text()
        assert 'avr_sts_upstream_errors_total{code="server_error",key="ours"} 2.0' in metrics
        assert 'avr_sts_upstream_errors_total{code="bad_event",key="ours"} 2.0' in metrics
