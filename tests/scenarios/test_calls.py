"""Calls through the real processes: dispatcher, workers, Redis, and a Realtime API that listens."""

from __future__ import annotations

import asyncio
import socket
from collections import Counter

import aiohttp
import pytest
import redis.asyncio

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings, Voice
from tests.helpers import eventually
from tests.scenarios.processes import BRIEF, PATIENCE_SECONDS, Cluster, worker_id
from tests.scenarios.tones import loudest, signal_to_noise_db, tone

CALLS = 20
WORD_SAMPLES = 8 * 400
GREETING_SAMPLES = WORD_SAMPLES  # one word
REPLY_SAMPLES = 4 * WORD_SAMPLES
# Silence fills up the greeting's last frame behind the resampler's tail of 30 samples.
GREETING_FRAMES_SAMPLES = -(-(GREETING_SAMPLES + 30) // 160) * 160
EDGE_SAMPLES = 400


def _frequency(number: int) -> float:
    return 400.0 + 100.0 * number


async def _greeted(call: SimulatedCall) -> None:
    await call.wait_for(
        lambda c: len(c.received_pcm) >= 2 * GREETING_FRAMES_SAMPLES, timeout_seconds=PATIENCE_SECONDS
    )


async def _talk(call: SimulatedCall, number: int) -> None:
    await _greeted(call)
    await call.say(tone(_frequency(number), 1.2))
    wanted = 2 * (GREETING_FRAMES_SAMPLES + REPLY_SAMPLES)
    await call.wait_for(lambda c: len(c.received_pcm) >= wanted, timeout_seconds=PATIENCE_SECONDS)


async def test_20_calls_on_4_workers_each_hear_their_own_reply(redis_url: str) -> None:
    settings = SimulatorSettings(voice=Voice.TONE, echo=True, words=4, greeting_words=1)
    async with (
        RealtimeSimulator(settings) as simulator,
        Cluster(redis_url, simulator.url) as cluster,
        redis.asyncio.Redis.from_url(redis_url, decode_responses=True) as client,
        aiohttp.ClientSession() as http,
    ):
        await cluster.start(workers=4, dispatchers=2)
        urls = [await cluster.url(0), await cluster.url(1)]
        calls = await asyncio.gather(
            *(place_call(urls[n % 2], metadata={"from": str(n)}) for n in range(CALLS)),
        )
        await asyncio.gather(*(_talk(call, number) for number, call in enumerate(calls)))

        # Each worker has its share, and both dispatchers list the same calls.
        for number in (0, 1):
            async with http.get(f"{await cluster.admin_url(number)}/calls") as response:
                listed = await response.json()
            assert {entry["uuid"] for entry in listed} == {call.uuid for call in calls}
            assert Counter(entry["worker"] for entry in listed) == {
                await worker_id(worker): CALLS // 4 for worker in cluster.workers
            }
            assert {entry["metadata"]["from"] for entry in listed} == {str(n) for n in range(CALLS)}
            assert {entry["pins"] for entry in listed} == {1}

        for number, call in enumerate(calls):
            assert not call.errors
            assert not call.violations
            reply = call.received_pcm[2 * GREETING_FRAMES_SAMPLES :][: 2 * REPLY_SAMPLES]
            middle = reply[2 * EDGE_SAMPLES : -2 * EDGE_SAMPLES]
            # The simulator measures the caller's tone, and answers at that frequency.
            assert abs(loudest(middle) - _frequency(number)) < 2
            assert signal_to_noise_db(middle) >= 60

        # The model received each caller's audio intact, from the first frame on.
        for session in simulator.sessions:
            heard = session.received_audio
            begin = next(n for n in range(0, len(heard), 960) if any(heard[n : n + 960]))
            spoken = heard[begin : begin + 2 * 24 * 1200][2 * 1200 : -2 * 1200]
            assert signal_to_noise_db(spoken, rate_hz=24_000) >= 60
        frequencies = {round(loudest(s.received_audio, rate_hz=24_000) / 100) for s in simulator.sessions}
        assert frequencies == {round(_frequency(n) / 100) for n in range(CALLS)}

        await asyncio.gather(*(call.hang_up() for call in calls))
        await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)

        async def nothing_left() -> bool:
            return not [key async for key in client.scan_iter("*call*")]

        await eventually(nothing_left, PATIENCE_SECONDS)
        for process in (*cluster.dispatchers, *cluster.workers):
            assert await process.stop() == 0
        assert not [key async for key in client.scan_iter("*")]


async def test_newer_connection_of_a_uuid_replaces_the_older(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=2, dispatchers=2)
        for first, second in ((0, 0), (0, 1)):  # at the same dispatcher, and at another dispatcher
            older = await place_call(await cluster.url(first), uuid=f"same-{second}")
            await older.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
            newer = await place_call(await cluster.url(second), uuid=f"same-{second}")
            await asyncio.wait_for(older.closed.wait(), PATIENCE_SECONDS)
            await newer.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
            assert not newer.closed.is_set()
            await eventually(lambda: len(simulator.sessions) == 1, PATIENCE_SECONDS)
            await newer.hang_up()
            await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)


async def test_calls_over_capacity_are_refused_and_others_continue(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url, WORKER_MAX_CALLS=2, FALLBACK_WAV="none") as cluster:
        await cluster.start(workers=2)
        url = await cluster.url()
        calls = [await place_call(url) for _ in range(4)]
        for call in calls:
            await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        extra = await place_call(url)
        await asyncio.wait_for(extra.closed.wait(), PATIENCE_SECONDS)
        assert extra.close_code == 1013
        assert "no capacity" in extra.errors[0].message
        assert not any(call.closed.is_set() for call in calls)
        # The place of an ended call can be used again.
        await calls[0].hang_up()
        await eventually(lambda: len(simulator.sessions) == 3, PATIENCE_SECONDS)
        again = await place_call(url)
        await again.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        for call in (*calls, again):
            await call.hang_up()


async def test_a_worker_on_an_ipv6_address_is_found(real_redis_url: str) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("this host has no IPv6")
    async with (
        RealtimeSimulator(BRIEF) as simulator,
        Cluster(real_redis_url, simulator.url, WORKER_ADDRESS="::1") as cluster,
    ):
        # Start as far as the link between the two.
        await cluster.start(workers=1)
        line = await cluster.workers[0].line("worker listening")
        assert line["address"].startswith("[::1]:")
        async with await place_call(await cluster.url()) as call:
            await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
