"""The announcement and transfer of calls that cannot continue, and the filler, through real processes."""

from __future__ import annotations

import asyncio
from pathlib import Path

import aiohttp
import pytest

import dispatcher
from common.audio.wav import read_wav, write_wav
from simulator.avr.ami import AmiDouble
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess
from tests.scenarios.tones import tone

BUILTIN = Path(dispatcher.__file__).parent / "runner" / "recordings" / "fallback.wav"


@pytest.fixture
def sentence(tmp_path: Path) -> Path:
    """Return a recording of half a second, whose last frame is incomplete."""
    path = tmp_path / "sorry.wav"
    write_wav(path, tone(500, 0.51) + bytes(100))
    return path


def whole(path: Path) -> bytes:
    """Return a recording in whole frames, as AVR Core gets it."""
    pcm = read_wav(path)
    return pcm + bytes(-len(pcm) % 320)


async def _closed(call: SimulatedCall) -> tuple[int | None, list[str]]:
    await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
    assert not call.violations
    return call.close_code, [error.message for error in call.errors]


def _refusing() -> RealtimeSimulator:
    return RealtimeSimulator(SimulatorSettings(api_key="another"))


async def test_refused_key_plays_the_apology_then_closes(real_redis_url: str) -> None:
    async with _refusing() as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        code, (message,) = await _closed(call)
        assert code == 1011
        assert "OPENAI_API_KEY" in message
        assert call.received_pcm == whole(BUILTIN)
        # The caller heard the whole announcement before the connection closed.
        assert call.report().heard_seconds == pytest.approx(len(whole(BUILTIN)) / 16_000)
        line = await cluster.dispatchers[0].line("call could not go on")
        assert (line["uuid"], line["outcome"]) == (call.uuid, "ended")
        dispatching = await cluster.admin_url()
        async with aiohttp.ClientSession() as http, http.get(f"{dispatching}/metrics") as response:
            metrics = await response.text()
        assert 'avr_sts_fallbacks_total{outcome="ended"} 1.0' in metrics
        assert 'avr_sts_calls_total{outcome="failed",reason="upstream",tenant=""} 1.0' in metrics
        assert 'avr_sts_call_duration_seconds_count{tenant=""} 1.0' in metrics
        assert "avr_sts_greeting_latency_seconds_count 0.0" in metrics


async def test_refused_key_is_named_where_an_operator_looks(real_redis_url: str) -> None:
    line = "the Realtime API refused the last attempt with OPENAI_API_KEY: invalid_api_key"
    async with _refusing() as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        await _closed(call)
        worker_port = (await cluster.workers[0].line("worker listening"))["admin_port"]
        dispatching = await cluster.admin_url()

        async def is_named() -> bool:
            async with aiohttp.ClientSession() as http:
                async with http.get(f"http://127.0.0.1:{worker_port}/readyz") as response:
                    assert (response.status, await response.text()) == (200, f"ok\n{line}\n")
                async with http.get(f"{dispatching}/readyz") as response:
                    assert response.status == 200
                    named = await response.text() == f"ok\n{line} (on 1 of 1 workers)\n"
                async with http.get(f"{dispatching}/workers") as response:
                    (row,) = await response.json()
            return named and row["problem"] == "invalid_api_key"

        # The worker says so with its next heartbeat.
        await eventually(is_named, PATIENCE_SECONDS)


async def test_a_full_cluster_plays_the_sentence_then_closes_with_1013(
    real_redis_url: str, simulator: RealtimeSimulator, sentence: Path
) -> None:
    async with Cluster(real_redis_url, simulator.url, WORKER_MAX_CALLS=1, FALLBACK_WAV=sentence) as cluster:
        await cluster.start(workers=1)
        held = await place_call(await cluster.url())
        await held.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        extra = await place_call(await cluster.url())
        code, (message,) = await _closed(extra)
        assert code == 1013
        assert "no capacity" in message
        assert extra.received_pcm == whole(sentence)
        assert not held.closed.is_set()
        await held.hang_up()


async def test_a_failed_call_is_transferred_once_for_each_caller(real_redis_url: str, sentence: Path) -> None:
    async with (
        AmiDouble() as ami,
        _refusing() as simulator,
        Cluster(
            real_redis_url,
            simulator.url,
            FALLBACK_WAV=sentence,
            FALLBACK_EXTENSION="600@people",
            AMI_URL=ami.url,
        ) as cluster,
    ):
        await cluster.start(workers=1, dispatchers=2)
        first = await place_call(await cluster.url(0), metadata={"from": "+390612345678"})
        assert await _closed(first) == (1000, [])
        assert first.received_pcm == whole(sentence)
        (asked,) = ami.requests
        assert (asked.action, asked.uuid, asked.exten, asked.context) == ("transfer", first.uuid, "600", "people")
        # The extension leads back to this service, at another dispatcher.
        again = await place_call(await cluster.url(1), metadata={"from": "+390612345678"})
        code, (message,) = await _closed(again)
        assert code == 1011
        assert "OPENAI_API_KEY" in message
        assert again.received_pcm == whole(sentence)
        other = await place_call(await cluster.url(1), metadata={"from": "+390687654321"})
        ami.fail()
        assert (await _closed(other))[0] == 1011
        assert [each.uuid for each in ami.requests] == [first.uuid, other.uuid]
        line = await cluster.dispatchers[1].line("call not transferred", uuid=again.uuid)
        assert line["reason"] == "this caller was transferred within the last 300 s"
        assert "390612345678" not in cluster.logs


async def test_sentence_is_played_when_the_api_stays_unavailable(
    real_redis_url: str, simulator: RealtimeSimulator, sentence: Path
) -> None:
    async with Cluster(real_redis_url, simulator.url, UPSTREAM_RETRY_SECONDS=1, FALLBACK_WAV=sentence) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        simulator.faults.refuse(503, times=100)
        simulator.faults.drop(await simulator.wait_for_session(1))
        code, (message,) = await _closed(call)
        assert code == 1011
        assert "503" in message
        assert call.received_pcm.endswith(whole(sentence))


async def test_a_missing_recording_stops_the_start_with_one_line() -> None:
    process = await ServiceProcess.start(
        "dispatcher", REDIS_URL="redis://127.0.0.1:9", PORT=0, ADMIN_PORT=0, FALLBACK_WAV="/no/such.wav"
    )
    assert await process.ended() != 0
    wanted = "FALLBACK_WAV='/no/such.wav' must be a WAV file (PCM or G.711) of at most 20 s, builtin or none"
    assert wanted in process.raw
    assert len(process.raw.strip().splitlines()) == 1


async def test_filler_is_heard_during_a_slow_reply(real_redis_url: str, tmp_path: Path) -> None:
    filler = tmp_path / "filler.wav"
    write_wav(filler, tone(300, 0.4, dbfs=-26.0))
    loop = read_wav(filler)
    async with (
        RealtimeSimulator(SimulatorSettings(greeting_words=2, first_audio_seconds=3.0)) as simulator,
        Cluster(real_redis_url, simulator.url, FILLER_WAV=filler, FILLER_AFTER_MS=500) as cluster,
    ):
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        session = await simulator.wait_for_session(timeout_seconds=PATIENCE_SECONDS)
        await session.wait_for(lambda s: s.responses and s.responses[0].status == "completed")
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        received = call.received_pcm
        frames = 0
        while received[frames * 320 : (frames + 1) * 320] == (loop * 20)[frames * 320 : (frames + 1) * 320]:
            frames += 1
        assert 1.5 <= frames * 0.02 <= 3.5
        assert not call.interruptions
        await call.hang_up()
