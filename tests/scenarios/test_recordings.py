"""Recordings of real processes, compared sample by sample with what the simulated caller said and heard."""

from __future__ import annotations

import asyncio
import signal
from pathlib import Path

import aiohttp
import numpy as np

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from tests.dispatcher.recording.strict_wav import frames_of
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess
from tests.scenarios.recordings import TOLERANCE_SECONDS, Ear, Samples, matches, read, recorded_of
from tests.scenarios.test_recovery import process_of
from tests.scenarios.tones import tone
from tests.tiny_folder import fill, tiny_folder

RATE_HZ = 8000
TALKATIVE = SimulatorSettings(greeting_words=2, words=20, word_ms=300, first_audio_seconds=0.1)


async def _answered(call: SimulatedCall, ear: Ear, sound: bytes) -> None:
    """Take a turn, and wait until two seconds of the answer were heard."""
    heard_ms = call.heard_ms
    await ear.say(sound)
    await call.wait_for(lambda c: c.heard_ms >= heard_ms + 2000, timeout_seconds=PATIENCE_SECONDS)


def _recorded(path: Path) -> Samples:
    return read(path)


async def _whole(folder: Path, seconds: float) -> Samples:
    """Wait until the only recording has so many seconds, and return it."""
    (path,) = await recorded_of(folder)
    await eventually(lambda: len(_recorded(path)) >= seconds * RATE_HZ)
    return _recorded(path)


async def test_interruption_and_lost_worker_are_recorded_as_heard(real_redis_url: str, tmp_path: Path) -> None:
    async with (
        RealtimeSimulator(TALKATIVE) as simulator,
        Cluster(real_redis_url, simulator.url, RECORDINGS_DIR=tmp_path) as cluster,
    ):
        await cluster.start(workers=2)
        call = await place_call(await cluster.url(), reconnect_seconds=PATIENCE_SECONDS)
        ear = Ear(call)
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        await _answered(call, ear, tone(500, 0.8))
        await _answered(call, ear, tone(700, 0.8))  # it interrupts the answer
        assert call.interruptions
        (await process_of(cluster, call)).signal(signal.SIGKILL)
        await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        await _answered(call, ear, tone(900, 0.8))
        await call.hang_up()
        heard = ear.heard_samples()
        recorded = await _whole(tmp_path, len(heard) / RATE_HZ - TOLERANCE_SECONDS)
    said = ear.said_samples(len(recorded))
    for expected, channel in ((said, recorded[:, 0]), (heard, recorded[:, 1])):
        found = matches(expected[: len(recorded)], channel)
        assert len(found) >= 3
        assert {match.different for match in found} == {0}, found
        assert max(abs(match.shift_seconds) for match in found) < TOLERANCE_SECONDS, found
    # Nothing else is in the recording than what was said and heard.
    for expected, channel in ((said, recorded[:, 0]), (heard, recorded[:, 1])):
        assert np.count_nonzero(channel) <= np.count_nonzero(expected) + 0.1 * RATE_HZ


async def _returns(cluster: Cluster) -> SimulatedCall:
    urls = [await cluster.url(1)]
    call = await place_call(await cluster.url(0), reconnect_seconds=PATIENCE_SECONDS, reconnect_urls=urls)
    await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
    return call


async def _post(cluster: Cluster, call: SimulatedCall, *, paused: bool, number: int = 0) -> tuple[int, object]:
    url = f"{await cluster.admin_url(number)}/calls/{call.uuid}/recording"
    async with aiohttp.ClientSession() as http, http.post(url, json={"paused": paused}) as response:
        return response.status, await response.json()


async def _kill(dispatcher: ServiceProcess) -> None:
    dispatcher.signal(signal.SIGKILL)
    await dispatcher.ended()


async def test_killed_dispatcher_leaves_a_valid_file_another_goes_on(
    real_redis_url: str, tmp_path: Path, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url, RECORDINGS_DIR=tmp_path) as cluster:
        await cluster.start(workers=1, dispatchers=2)
        call = await _returns(cluster)
        ear = Ear(call)
        await ear.say(tone(500, 3.0))
        before = len(await _whole(tmp_path, 2.0))
        await _kill(cluster.dispatchers[0])
        (first,) = await recorded_of(tmp_path)
        left = _recorded(first)
        assert len(left) >= before
        await call.wait_for(lambda c: c.outages and c.is_connected, timeout_seconds=PATIENCE_SECONDS)
        await ear.say(tone(700, 2.0))
        _, second = await recorded_of(tmp_path, 2)
        await eventually(lambda: len(_recorded(second)) >= 2 * RATE_HZ)
        assert _recorded(first).tobytes() == left.tobytes(), "the file of the dead process stays as it is"
        await call.hang_up()
        await eventually(lambda: matches_of(ear, second, 1))
        (one,) = matches(ear.said_samples(len(left)), left[:, 0])
        assert one.different == 0
        url = f"{await cluster.admin_url(1)}/calls/{call.uuid}/recording"
        async with aiohttp.ClientSession() as http:
            async with http.get(url) as response:
                assert response.status == 300
                assert len((await response.json())["segments"]) == 2
            async with http.get(f"{url}?segment=1") as response:
                assert frames_of(await response.read()).tobytes() == left.tobytes()


def matches_of(ear: Ear, path: Path, number: int) -> bool:
    """Return whether what was said last is in a recording, wherever it is there."""
    sound = np.frombuffer(ear.said[number][1], np.int16)
    channel = _recorded(path)[:, 0]
    loud = np.flatnonzero(channel)
    if not len(loud):
        return False
    return channel[loud[0] : loud[0] + len(sound) - 1].tobytes() == sound[1:].tobytes()


async def test_pause_survives_the_death_of_worker_dispatcher_and_redis(
    real_redis_url: str, tmp_path: Path, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url, RECORDINGS_DIR=tmp_path) as cluster:
        await cluster.start(workers=2, dispatchers=2)
        call = await _returns(cluster)
        ear = Ear(call)
        # The dispatcher that does not have the call is asked.
        assert await _post(cluster, call, paused=True, number=1) == (200, {"paused": True, "stored": True})
        paused = len(await _whole(tmp_path, 0.5)) + 2 * RATE_HZ
        await ear.say(tone(500, 3.0))
        (await process_of(cluster, call)).signal(signal.SIGKILL)
        await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        await ear.say(tone(500, 2.0))
        await _kill(cluster.dispatchers[0])
        await call.wait_for(lambda c: c.outages and c.is_connected, timeout_seconds=PATIENCE_SECONDS)
        await ear.say(tone(500, 3.0))
        first, second = await recorded_of(tmp_path, 2)
        await eventually(lambda: len(_recorded(second)) >= 2 * RATE_HZ)
        assert not _recorded(first)[paused:].any()
        assert not _recorded(second).any()
        assert await _post(cluster, call, paused=False, number=1) == (200, {"paused": False, "stored": True})
        await ear.say(tone(700, 2.0))
        await eventually(lambda: bool(_recorded(second).any()))
        await call.hang_up()


async def test_full_disk_costs_calls_nothing(
    real_redis_url: str, tmp_path: Path, simulator: RealtimeSimulator
) -> None:
    with tiny_folder(tmp_path, 2**20) as tiny:
        async with Cluster(real_redis_url, simulator.url, RECORDINGS_DIR=tiny) as cluster:
            await cluster.start(workers=1)
            call = await place_call(await cluster.url())
            ear = Ear(call)
            await _whole(tiny, 1.0)
            await asyncio.to_thread(fill, tiny)
            known = len(call.transcripts)
            await ear.say(tone(500, 1.0))
            await cluster.dispatchers[0].line("recording stopped")
            await call.wait_for(
                lambda c: [t.role for t in c.transcripts[known:]][-2:] == ["user", "agent"],
                timeout_seconds=PATIENCE_SECONDS,
            )
            assert not call.errors
            (path,) = await recorded_of(tiny)
            assert len(_recorded(path)) >= RATE_HZ
            await call.hang_up()
