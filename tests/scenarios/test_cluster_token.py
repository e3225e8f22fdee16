"""Dispatchers and workers with different values of CLUSTER_TOKEN: both log advice and keep trying."""

from __future__ import annotations

import aiohttp

from simulator.avr.core import place_call
from simulator.realtime.server import RealtimeSimulator
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess, worker_id

TOKEN = "the-token-of-the-cluster"
ADVICE = "set the same on both"


async def test_worker_with_another_token_is_refused_with_advice(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with (
        Cluster(real_redis_url, simulator.url, CLUSTER_TOKEN=TOKEN) as cluster,
        aiohttp.ClientSession() as http,
    ):
        other = await cluster.add_worker(CLUSTER_TOKEN="the-token-of-another-one")
        none = await cluster.add_worker(CLUSTER_TOKEN="")
        dispatcher = await ServiceProcess.start("dispatcher", **cluster.settings)
        cluster.dispatchers.append(dispatcher)

        # Each side of each link logs the variable and advice.
        for worker in (other, none):
            await dispatcher.line("link not up")
            line = await worker.line("link refused")
            assert line["reason"].startswith("CLUSTER_TOKEN ")
            assert line["reason"].endswith(ADVICE)
            assert line["peer"].startswith("dispatcher ")
        ids = {await worker_id(worker) for worker in (other, none)}
        await dispatcher.line("link not up")
        told = [line["reason"] for line in dispatcher.events("link not up")]
        assert any(reason.startswith(f"worker {name} ") for name in ids for reason in told)
        assert all(ADVICE in reason for reason in told)

        # No worker can take a call, but the dispatcher does not end.
        admin = await cluster.admin_url()
        async with http.get(f"{admin}/readyz") as response:
            assert response.status == 503
        assert [process.returncode for process in (dispatcher, other, none)] == [None] * 3

        # A worker with the right token is found.
        right = await cluster.add_worker()
        await dispatcher.line("link up", worker=await worker_id(right))
        call = await place_call(await cluster.url())
        await call.wait_for(lambda c: c.received_pcm, timeout_seconds=PATIENCE_SECONDS)
        await call.hang_up()

        # The dispatcher retries refused workers with a back-off: 0.1, 0.2, 0.4 s, ... instead of every 0.1 s.
        for worker in (other, none):
            assert len(worker.events("link refused")) < 12
        assert TOKEN not in cluster.logs
        assert "the-token-of-another-one" not in cluster.logs
