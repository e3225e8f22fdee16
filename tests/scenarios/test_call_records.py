"""Each call leaves one record behind, whichever of its processes die."""

from __future__ import annotations

import signal
from typing import Any

import aiohttp
import orjson
import redis.asyncio as aioredis

from common.store.keys import KEY_PREFIX
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, worker_id
from tests.scenarios.test_recovery import converse, converse_from_the_greeting

LOST_SECONDS = 60.0
"""Time within which another dispatcher writes the record of a lost call (guarantees.md)."""


def records(cluster: Cluster) -> list[dict[str, Any]]:
    """Return the records in the logs of all processes."""
    lines = [line for line in cluster.logs.splitlines() if '"call record"' in line]
    return [orjson.loads(line) for line in lines]


async def draft(redis_url: str, call: SimulatedCall) -> str:
    """Return what Redis knows of a call's record, as JSON."""
    async with aioredis.from_url(redis_url, decode_responses=True) as client:
        return str(await client.get(f"{KEY_PREFIX}draft:{call.uuid}"))


async def test_deaths_of_worker_and_dispatcher_are_in_one_record(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=2, dispatchers=2)
        urls = [await cluster.url(1)]
        call = await place_call(await cluster.url(0), reconnect_seconds=PATIENCE_SECONDS, reconnect_urls=urls)
        await converse_from_the_greeting(call)
        pinned = await cluster.dispatchers[0].line("call pinned")
        (victim,) = [each for each in cluster.workers if await worker_id(each) == pinned["worker"]]
        victim.signal(signal.SIGKILL)
        await converse(call)

        async def is_kept() -> bool:
            """Return whether Redis knows of the last turn: it does within about a second."""
            return '"turns":2' in await draft(real_redis_url, call)

        await eventually(is_kept, PATIENCE_SECONDS)
        cluster.dispatchers[0].signal(signal.SIGKILL)
        await call.wait_for(lambda c: c.outages, timeout_seconds=PATIENCE_SECONDS)
        await converse(call)
        turns = sum(each.role == "user" for each in call.transcripts)
        await call.press("5")
        await call.hang_up()
        await eventually(lambda: records(cluster), PATIENCE_SECONDS)
        (record,) = records(cluster)
    assert (record["uuid"], record["ending"], record["reason"]) == (call.uuid, "completed", "caller_hung_up")
    assert (record["turns"], record["keys"], record["recoveries"]) == (turns, 1, 1)
    assert record["turn_latency_count"] == 3
    assert record["greeting_seconds"] > 0
    # Of both sessions, though the worker of the first one is dead, and so is the dispatcher that it told.
    sessions = [await simulator.wait_for_session(number) for number in (1, 2)]
    assert record["tokens_output_audio"] == sum(each.core.usage.output.audio for each in sessions)


async def test_lost_call_gets_its_record_from_another_dispatcher(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1, dispatchers=2)
        call = await place_call(await cluster.url(0))
        await converse_from_the_greeting(call)
        turns = sum(each.role == "user" for each in call.transcripts)
        cluster.dispatchers[0].signal(signal.SIGKILL)
        cluster.workers[0].signal(signal.SIGKILL)
        await eventually(lambda: records(cluster), LOST_SECONDS)
        (record,) = records(cluster)
        admin_url = await cluster.admin_url(1)
        async with aiohttp.ClientSession() as http, http.get(f"{admin_url}/metrics") as response:
            metrics = await response.text()
    assert 'avr_sts_calls_total{outcome="failed",reason="lost",tenant=""} 1.0' in metrics
    assert 'avr_sts_call_duration_seconds_count{tenant=""} 1.0' in metrics
    assert (record["uuid"], record["ending"], record["reason"]) == (call.uuid, "lost", "lost")
    assert record["hung_up_by"] == "unknown"
    assert record["turns"] <= turns
    assert 0 < record["seconds"] < PATIENCE_SECONDS
