"""A call survives the death of its processes, and caller and model keep their knowledge of the call."""

from __future__ import annotations

import asyncio
import signal
import time
from collections.abc import Sequence
from typing import Any

import aiohttp
import orjson
import pytest
import redis.asyncio as aioredis

from common.store.keys import KEY_PREFIX
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from simulator.realtime.simulated_session import SimulatedSession
from tests.helpers import eventually
from tests.redis_process import RealRedis, find_redis_server
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess, worker_id
from tests.scenarios.tones import tone

# Maximum number of moves of a call while all workers are restarted (docs/operations.md).
MOST_MOVES = 2


async def listed(cluster: Cluster, what: str = "calls") -> list[dict[str, Any]]:
    """Return the answer of a dispatcher's calls API."""
    async with (
        aiohttp.ClientSession() as http,
        http.get(f"{await cluster.admin_url()}/{what}") as response,
    ):
        found: list[dict[str, Any]] = await response.json()
        return found


async def place(cluster: Cluster, count: int) -> list[SimulatedCall]:
    """Place calls, and wait for the end of their greetings."""
    calls = [await place_call(await cluster.url(), reconnect_seconds=PATIENCE_SECONDS) for _ in range(count)]
    for call in calls:
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
    return calls


async def converse(call: SimulatedCall) -> None:
    """Take a caller's turn, and wait for the answer."""
    known = len(call.transcripts)
    await call.say(tone(700, 0.8))
    await call.wait_for(
        lambda c: [t.role for t in c.transcripts[known:]] == ["user", "agent"], timeout_seconds=PATIENCE_SECONDS
    )


async def converse_from_the_greeting(call: SimulatedCall) -> None:
    """Wait for the greeting, take a caller's turn, and wait for the answer."""
    await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
    await converse(call)


def told(session: SimulatedSession) -> list[tuple[str | None, str]]:
    """Return the conversation as a session's model knows it, without notes of the service."""
    return [(item.role, item.text) for item in session.items if item.text and not item.text.startswith("[")]


def notes(session: SimulatedSession) -> int:
    """Return how many notes of the service the conversation has."""
    return sum(item.text.startswith("[") for item in session.items)


def opened_seconds(session: SimulatedSession) -> float:
    """Return when a session's connection was opened, by the simulator's clock."""
    return float(session.report()["timeline"]["opened_seconds"])


def closed_seconds(session: SimulatedSession) -> float:
    """Return when a session's connection was closed, by the simulator's clock."""
    return float(session.report()["timeline"]["closed_seconds"])


def said(call: SimulatedCall) -> list[tuple[str, str]]:
    """Return the transcripts that AVR Core got, with the API's names of the roles."""
    return [("assistant" if t.role == "agent" else t.role, t.text) for t in call.transcripts]


async def process_of(cluster: Cluster, call: SimulatedCall) -> ServiceProcess:
    """Return the process of the worker that holds a call."""
    (entry,) = [each for each in await listed(cluster) if each["uuid"] == call.uuid]
    for worker in cluster.workers:
        if await worker_id(worker) == entry["worker"]:
            return worker
    raise AssertionError(f"{entry['worker']} is none of the workers")


async def hang_up(calls: Sequence[SimulatedCall], simulator: RealtimeSimulator) -> None:
    """Hang up all calls, and wait until no session is left upstream."""
    assert not any(call.closed.is_set() for call in calls)
    assert not any(call.errors or call.violations for call in calls)
    for call in calls:
        await call.hang_up()
    await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)


@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGSTOP])
async def test_killed_or_stalled_worker_loses_no_call(
    real_redis_url: str, simulator: RealtimeSimulator, fault: signal.Signals
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=2)
        calls = await place(cluster, 4)
        victim = await process_of(cluster, calls[0])
        lost = [call for call in calls if await process_of(cluster, call) is victim]
        assert len(lost) == 2
        opened = simulator.opened
        victim.signal(fault)
        await simulator.wait_for(lambda s: s.opened == opened + 2, timeout_seconds=PATIENCE_SECONDS)
        for call in calls:
            await converse(call)
        successors = [await simulator.wait_for_session(number) for number in (opened + 1, opened + 2)]
        assert sorted(map(told, successors)) == sorted(map(said, lost))
        for call in lost:
            assert sum(t.text.startswith("greeting") for t in call.transcripts) == 1
        entries = {entry["uuid"]: entry["pins"] for entry in await listed(cluster)}
        assert {entries[call.uuid] for call in lost} == {2}
        if fault is signal.SIGSTOP:
            victim.signal(signal.SIGCONT)
            # The stalled worker wakes up, and releases all its calls.
            await victim.line("event loop stalled")
            await eventually(lambda: len(simulator.sessions) == len(calls), PATIENCE_SECONDS)
        await hang_up(calls, simulator)


async def test_unfinished_utterance_is_recovered_completely(real_redis_url: str) -> None:
    async with (
        RealtimeSimulator(SimulatorSettings(echo=True)) as simulator,
        Cluster(real_redis_url, simulator.url) as cluster,
    ):
        await cluster.start(workers=2)
        (call,) = await place(cluster, 1)
        victim = await process_of(cluster, call)
        (session,) = simulator.sessions
        before = session.appended_ms
        saying = asyncio.create_task(call.say(tone(440, 6.0)))
        await session.wait_for(lambda s: s.appended_ms >= before + 4000, timeout_seconds=PATIENCE_SECONDS)
        victim.signal(signal.SIGKILL)
        await saying
        successor = await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        await successor.wait_for(
            lambda s: s.sent["input_audio_buffer.committed"] == 1, timeout_seconds=PATIENCE_SECONDS
        )
        turn = successor.items[-1] if successor.items[-1].role == "user" else successor.items[-2]
        # Six seconds, with the API's prefix padding and the silence that ended the turn.
        assert 6000 <= turn.audio_ms <= 7500
        await call.hang_up()


async def test_stopping_worker_moves_its_calls_and_exits_with_0(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url, DRAIN_SECONDS=20) as cluster:
        await cluster.start(workers=1)
        calls = await place(cluster, 3)
        first = cluster.workers[0]
        await cluster.add_worker()
        first.signal(signal.SIGTERM)
        assert await first.ended() == 0
        for call in calls:
            await converse(call)
        sessions = [each for each in simulator.sessions if not each.closed]
        assert sorted(map(str, map(told, sessions))) == sorted(map(str, map(said, calls)))
        assert {entry["pins"] for entry in await listed(cluster)} == {2}
        await hang_up(calls, simulator)


async def test_rolling_restart_of_workers_loses_nothing(real_redis_url: str, simulator: RealtimeSimulator) -> None:
    settings = {"DRAIN_SECONDS": 20, "OPENAI_INSTRUCTIONS": "call {uuid}"}
    async with Cluster(real_redis_url, simulator.url, **settings) as cluster:
        await cluster.start(workers=3)
        calls = await place(cluster, 6)
        restarted = asyncio.Event()

        async def talk(call: SimulatedCall) -> None:
            while not restarted.is_set():
                await converse(call)

        talking = [asyncio.create_task(talk(call)) for call in calls]
        for worker in list(cluster.workers):
            worker.signal(signal.SIGTERM)
            # Like a supervisor, start the next worker only after this one has been told to stop.
            await worker.line("draining")
            await cluster.dispatchers[0].line("link up", worker=await worker_id(await cluster.add_worker()))
            assert await worker.ended() == 0
        restarted.set()
        await asyncio.gather(*talking)
        pins = {entry["uuid"]: entry["pins"] for entry in await listed(cluster)}
        for call in calls:
            sessions = [
                session
                for session in (*simulator.history, *simulator.sessions)
                if session.instructions == f"call {call.uuid}"
            ]
            assert 1 <= pins[call.uuid] - 1 <= MOST_MOVES
            assert 1 <= len(sessions) - 1 <= MOST_MOVES
            assert told(sessions[-1]) == said(call)
            assert not call.outages
        await hang_up(calls, simulator)


async def test_ended_realtime_session_is_replaced(real_redis_url: str, simulator: RealtimeSimulator) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        (call,) = await place(cluster, 1)
        await converse(call)
        simulator.faults.expire(await simulator.wait_for_session(1))
        successor = await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        await converse(call)
        assert told(successor) == said(call)
        assert {entry["pins"] for entry in await listed(cluster)} == {1}
        await hang_up([call], simulator)


async def test_call_waits_while_the_realtime_api_is_unavailable(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        (call,) = await place(cluster, 1)
        simulator.faults.refuse(503, times=3)
        simulator.faults.drop(await simulator.wait_for_session(1))
        known = len(call.transcripts)
        await call.say(tone(700, 0.8))
        await call.wait_for(
            lambda c: [t.role for t in c.transcripts[known:]] == ["user", "agent"],
            timeout_seconds=PATIENCE_SECONDS,
        )
        assert simulator.refused == 3
        await hang_up([call], simulator)


async def test_call_ends_when_the_realtime_api_stays_unavailable(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url, UPSTREAM_RETRY_SECONDS=1, FALLBACK_WAV="none") as cluster:
        await cluster.start(workers=1)
        (call,) = await place(cluster, 1)
        simulator.faults.refuse(503, times=100)
        simulator.faults.drop(await simulator.wait_for_session(1))
        await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
        assert call.close_code == 1011
        assert "503" in call.errors[0].message


async def test_session_is_replaced_before_it_expires(real_redis_url: str, simulator: RealtimeSimulator) -> None:
    async with Cluster(real_redis_url, simulator.url, SESSION_ROLLOVER_SECONDS=2) as cluster:
        await cluster.start(workers=1)
        (call,) = await place(cluster, 1)
        successor = await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        # Make before break: the second session opens before the first one closes, and gets the latest items at the
        # end.
        first = await simulator.wait_for_session(1)
        await first.wait_for(lambda s: s.closed, timeout_seconds=PATIENCE_SECONDS)
        assert opened_seconds(successor) < closed_seconds(first)
        await eventually(lambda: told(successor)[: len(told(first))] == told(first), PATIENCE_SECONDS)
        await converse(call)
        await hang_up([call], simulator)


async def test_caller_of_a_killed_dispatcher_returns_to_its_session(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1, dispatchers=2)
        urls = [await cluster.url(1)]
        call = await place_call(await cluster.url(0), reconnect_seconds=PATIENCE_SECONDS, reconnect_urls=urls)
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        cluster.dispatchers[0].signal(signal.SIGKILL)
        await call.wait_for(lambda c: c.outages, timeout_seconds=PATIENCE_SECONDS)
        await converse(call)
        assert simulator.opened == 1, "the same session"
        assert not call.closed.is_set()
        await call.hang_up()
        await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)


async def test_call_longer_than_the_drain_continues_elsewhere(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        leaving = await cluster.add_dispatcher(DRAIN_SECONDS=1)
        urls = [await cluster.url(0)]
        call = await place_call(await cluster.url(1), reconnect_seconds=PATIENCE_SECONDS, reconnect_urls=urls)
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        leaving.signal(signal.SIGTERM)
        assert await leaving.ended() == 0
        await call.wait_for(lambda c: c.outages, timeout_seconds=PATIENCE_SECONDS)
        await converse(call)
        assert simulator.opened == 1, "the same session"
        assert told(simulator.sessions[0]) == said(call)
        await hang_up([call], simulator)


async def place_where_it_can_come_back(cluster: Cluster) -> SimulatedCall:
    """Place a call at the first dispatcher, converse, and give it the address of the second dispatcher, too."""
    urls = [await cluster.url(1)]
    call = await place_call(await cluster.url(0), reconnect_seconds=PATIENCE_SECONDS, reconnect_urls=urls)
    await converse_from_the_greeting(call)
    return call


async def remembered(redis_url: str, call: SimulatedCall) -> list[str]:
    """Return the items of a call in Redis, as JSON."""
    async with aioredis.from_url(redis_url, decode_responses=True) as client:
        fields = await client.hgetall(f"{KEY_PREFIX}said:{call.uuid}")
    return [str(text) for name, text in fields.items() if str(name).startswith("item:")]


async def test_nothing_is_repeated_when_dispatcher_and_worker_die(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=2, dispatchers=2)
        call = await place_where_it_can_come_back(cluster)
        victim = await process_of(cluster, call)
        known = len(call.transcripts)

        async def is_remembered() -> bool:
            items = await remembered(real_redis_url, call)
            return len(items) == known and all('"reported":true' in text for text in items)

        await eventually(is_remembered, PATIENCE_SECONDS)
        victim.signal(signal.SIGKILL)
        cluster.dispatchers[0].signal(signal.SIGKILL)
        successor = await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        await converse(call)
        await eventually(lambda: told(successor) == said(call), PATIENCE_SECONDS)
        assert notes(successor) == 1, "the caller is not told that words may be lost"
        await call.hang_up()
        await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)


async def test_reply_playing_when_both_died_counts_as_heard(real_redis_url: str) -> None:
    slow = SimulatorSettings(greeting_words=2, words=12, word_ms=400)
    async with RealtimeSimulator(slow) as simulator, Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=2, dispatchers=2)
        call = await place_where_it_can_come_back(cluster)
        victim = await process_of(cluster, call)

        async def plays_and_is_remembered() -> bool:
            items = [orjson.loads(text) for text in await remembered(real_redis_url, call)]
            return any(
                item.get("role") == "agent" and item.get("text_done") and "heard_share" not in item
                for item in items
            )

        known = len(call.transcripts)
        await call.say(tone(700, 0.8))
        await eventually(plays_and_is_remembered, PATIENCE_SECONDS)
        victim.signal(signal.SIGKILL)
        cluster.dispatchers[0].signal(signal.SIGKILL)
        successor = await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        # The earlier conversation, and one reply that says that the last words may be lost.
        await call.wait_for(lambda c: len(c.transcripts) == known + 3, timeout_seconds=PATIENCE_SECONDS)
        assert told(successor) == said(call)
        assert notes(successor) == 1
        assert sum(item.origin == "model" for item in successor.items) == 1, "it is not said again"
        await call.hang_up()
        await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)


async def test_calls_survive_the_loss_of_redis_and_then_a_worker(
    simulator: RealtimeSimulator,
) -> None:
    executable = find_redis_server()
    if executable is None:
        pytest.skip("there is no redis-server")
    server = RealRedis(executable)
    try:
        async with Cluster(server.url, simulator.url) as cluster:
            await cluster.start(workers=2)
            calls = await place(cluster, 2)
            victim = await process_of(cluster, calls[0])
            server.kill()
            await cluster.dispatchers[0].line("redis is away")
            victim.signal(signal.SIGKILL)
            for call in calls:
                await converse(call)
            # New calls are accepted.
            calls += await place(cluster, 1)
            server.start()
            await cluster.dispatchers[0].line("redis is back")
            wanted = {call.uuid for call in calls}

            async def is_whole() -> bool:
                return {entry["uuid"] for entry in await listed(cluster)} == wanted

            began = time.monotonic()
            await eventually(is_whole, PATIENCE_SECONDS)
            assert time.monotonic() - began < PATIENCE_SECONDS
            await hang_up(calls, simulator)
    finally:
        server.close()


async def test_calls_of_a_full_cluster_move_above_its_capacity(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url, WORKER_MAX_CALLS=2, FALLBACK_WAV="none") as cluster:
        await cluster.start(workers=2)
        calls = await place(cluster, 4)
        victim = await process_of(cluster, calls[0])
        victim.signal(signal.SIGKILL)
        # One more call moves at once, up to one and a half times the capacity. The other waits for a worker.
        await simulator.wait_for(lambda s: s.opened == 5, timeout_seconds=PATIENCE_SECONDS)
        refused = await place_call(await cluster.url())
        await asyncio.wait_for(refused.closed.wait(), PATIENCE_SECONDS)
        assert refused.close_code == 1013
        await cluster.add_worker()
        for call in calls:
            await converse(call)
        await hang_up(calls, simulator)


async def test_overload_is_refused_without_harm_to_running_calls(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url, WORKER_MAX_CALLS=3, FALLBACK_WAV="none") as cluster:
        await cluster.start(workers=2)
        url = await cluster.url()
        offered = await asyncio.gather(*(place_call(url) for _ in range(12)))
        await eventually(lambda: sum(call.closed.is_set() for call in offered) == 6, PATIENCE_SECONDS)
        refused = [call for call in offered if call.closed.is_set()]
        accepted = [call for call in offered if not call.closed.is_set()]
        assert {call.close_code for call in refused} == {1013}
        assert all("no capacity" in call.errors[0].message for call in refused)
        await asyncio.gather(*map(converse_from_the_greeting, accepted))
        # No refused caller had a session or used the place of another caller.
        assert simulator.opened == len(accepted)
        sessions = sorted(map(told, simulator.sessions))
        assert sessions == sorted(map(said, accepted))
        assert {entry["uuid"] for entry in await listed(cluster)} == {call.uuid for call in accepted}
        assert {worker["calls"] for worker in await listed(cluster, "workers")} == {3}
        await hang_up(accepted, simulator)
