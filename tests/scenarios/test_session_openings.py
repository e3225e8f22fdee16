"""After the death of a worker its sessions are opened again at a rate that the API accepts."""

from __future__ import annotations

import asyncio
import signal

from simulator.avr.core import place_call
from simulator.realtime.server import RealtimeSimulator
from tests.scenarios.processes import BRIEF, PATIENCE_SECONDS, Cluster, worker_id
from tests.scenarios.test_recovery import converse, hang_up

CALLS = 24
# The API accepts half of the calls at once.
API_PER_SECOND = 12
SPREAD_PER_SECOND = 8
# Above any rate of this test, as without a setting.
AT_ONCE_PER_SECOND = 10_000


async def refusals(redis_url: str, simulator: RealtimeSimulator, sessions_per_second: int) -> int:
    """Kill the worker of all calls, have all calls go on, and return how many connections the API refused."""
    async with Cluster(redis_url, simulator.url, SESSIONS_PER_SECOND=sessions_per_second) as cluster:
        await cluster.start(workers=1)
        url = await cluster.url()
        calls = [await place_call(url, reconnect_seconds=PATIENCE_SECONDS) for _ in range(CALLS)]
        for call in calls:
            await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        successor = await cluster.add_worker()
        await cluster.dispatchers[0].line("link up", worker=await worker_id(successor))
        opened, refused = simulator.opened, simulator.refused
        simulator.faults.limit_connections(API_PER_SECOND)
        cluster.workers[0].signal(signal.SIGKILL)
        await simulator.wait_for(lambda s: s.opened == opened + CALLS, timeout_seconds=PATIENCE_SECONDS)
        refused = simulator.refused - refused
        simulator.faults.clear()
        await asyncio.gather(*map(converse, calls))
        await hang_up(calls, simulator)
    return refused


async def test_reopened_sessions_are_spread_and_no_call_is_lost(real_redis_url: str) -> None:
    async with RealtimeSimulator(BRIEF) as simulator:
        spread = await refusals(real_redis_url, simulator, SPREAD_PER_SECOND)
        at_once = await refusals(real_redis_url, simulator, AT_ONCE_PER_SECOND)
    assert spread < at_once, f"{spread} of {CALLS} were refused when spread, {at_once} when not"
