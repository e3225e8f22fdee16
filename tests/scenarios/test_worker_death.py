"""A worker's death is seen at once and said honestly; the calls of other workers go on."""

from __future__ import annotations

import asyncio
import signal

import aiohttp

from simulator.avr_core import place_call
from simulator.realtime_api import RealtimeSimulator
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, worker_id


async def test_a_killed_worker_ends_its_calls_with_an_error_and_no_others(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster, aiohttp.ClientSession() as http:
        await cluster.start(workers=2)
        calls = [await place_call(await cluster.url()) for _ in range(4)]
        for call in calls:
            await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        async with http.get(f"{await cluster.admin_url()}/calls") as response:
            worker_of = {entry["uuid"]: entry["worker"] for entry in await response.json()}
        victim = await worker_id(cluster.workers[0])
        cluster.workers[0].signal(signal.SIGKILL)

        lost = [call for call in calls if worker_of[call.uuid] == victim]
        others = [call for call in calls if worker_of[call.uuid] != victim]
        assert len(lost) == len(others) == 2
        for call in lost:
            await asyncio.wait_for(call.closed.wait(), PATIENCE_SECONDS)
            assert call.close_code == 1011
            assert victim in call.errors[0].message
        assert not any(call.closed.is_set() for call in others)

        # Nothing of them is left, and nobody new is sent to the dead.
        async def only_the_others() -> bool:
            async with http.get(f"{await cluster.admin_url()}/calls") as response:
                return {entry["uuid"] for entry in await response.json()} == {call.uuid for call in others}

        await eventually(only_the_others, PATIENCE_SECONDS)
        again = await place_call(await cluster.url())
        await again.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        for call in (*others, again):
            await call.hang_up()
        await eventually(lambda: not simulator.sessions, PATIENCE_SECONDS)


async def test_a_worker_that_is_told_to_stop_takes_no_new_calls(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with (
        Cluster(real_redis_url, simulator.url, DRAIN_SECONDS=60) as cluster,
        aiohttp.ClientSession() as http,
    ):
        await cluster.start(workers=2)
        first = await place_call(await cluster.url())
        await first.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        async with http.get(f"{await cluster.admin_url()}/calls") as response:
            (entry,) = await response.json()
        ids = [await worker_id(worker) for worker in cluster.workers]
        stopping = cluster.workers[ids.index(entry["worker"])]
        stopping.signal(signal.SIGTERM)
        await stopping.line("draining")
        more = [await place_call(await cluster.url()) for _ in range(3)]
        for call in more:
            await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        async with http.get(f"{await cluster.admin_url()}/calls") as response:
            listed = await response.json()
        assert len(listed) == 4
        stopping_id = await worker_id(stopping)
        assert [entry["uuid"] for entry in listed if entry["worker"] == stopping_id] == [first.uuid]
        assert not first.closed.is_set()
        await first.hang_up()
        assert await stopping.ended() == 0
        for call in more:
            await call.hang_up()
