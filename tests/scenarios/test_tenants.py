"""Calls of several customers in one deployment: each keeps its tenant, whichever of its processes die."""

from __future__ import annotations

import asyncio
import contextlib
import re
import signal
from collections.abc import AsyncIterator
from typing import Any

import aiohttp
import aiohttp.web
import orjson
import pytest

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.scenarios.conversations import BRIEF, are_on, converse
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess

NUMBERS = {"acme": "+4930123456", "umbrella": "+4930777000", "other": "+4930999111"}
"""Called numbers: of a tenant in TENANTS, of one that the instructions service names, and of nobody."""


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    """Run a simulated Realtime API with short replies."""
    async with RealtimeSimulator(BRIEF) as simulator:
        yield simulator


@contextlib.asynccontextmanager
async def instructions_service() -> AsyncIterator[str]:
    """Run a service that knows one tenant by its number; yield its URL."""

    async def answer(request: aiohttp.web.Request) -> aiohttp.web.Response:
        told: dict[str, str] = {"system": "Be kind."}
        if request.query["to"] == NUMBERS["umbrella"]:
            told["tenant"] = "umbrella"
        return aiohttp.web.json_response(told)

    app = aiohttp.web.Application()
    app.router.add_get("/", answer)
    runner = aiohttp.web.AppRunner(app)
    await runner.setup()
    await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
    try:
        yield f"http://127.0.0.1:{runner.addresses[0][1]}/"
    finally:
        await runner.cleanup()


async def get(url: str) -> str:
    async with aiohttp.ClientSession() as http, http.get(url) as response:
        assert response.status == 200
        return await response.text()


async def tenants_listed(cluster: Cluster, number: int, query: str = "") -> dict[str, str]:
    """Return the tenants of calls by uuid, as one dispatcher lists them."""
    listed: list[dict[str, Any]] = orjson.loads(await get(f"{await cluster.admin_url(number)}/calls{query}"))
    return {call["uuid"]: call["tenant"] for call in listed}


def by_tenant(metrics: str, name: str) -> dict[str, float]:
    """Return the sums of a metric's series by tenant."""
    found: dict[str, float] = {}
    for labels, value in re.findall(rf"^avr_sts_{name}\{{(.*)\}} (\S+)$", metrics, re.MULTILINE):
        tenant = re.search('tenant="([^"]*)"', labels)
        assert tenant is not None
        found[tenant[1]] = found.get(tenant[1], 0.0) + float(value)
    return found


async def test_each_call_keeps_its_tenant_whichever_process_dies(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with (
        instructions_service() as url,
        Cluster(
            real_redis_url,
            simulator.url,
            OPENAI_URL_INSTRUCTIONS=url,
            TENANT_KEY="to",
            TENANTS=f"acme={NUMBERS['acme']},globex",
            CALL_RECORDS_KEEP_SECONDS="3600",
        ) as cluster,
    ):
        await cluster.start(workers=1, dispatchers=2)
        calls = await place_all(cluster)
        expected = {call.uuid: tenant for tenant, call in calls.items()}

        async def are_told(dispatcher: int) -> None:
            async def is_so() -> bool:
                return await tenants_listed(cluster, dispatcher) == expected

            await eventually(is_so, PATIENCE_SECONDS)

        await are_told(0)
        await are_told(1)
        assert await tenants_listed(cluster, 1, "?tenant=umbrella") == {calls["umbrella"].uuid: "umbrella"}

        # A worker that knows no tenants, as one of an earlier release, and then one that does.
        for key in ("", "to"):
            await move_by_a_death(cluster, calls, tenant_key=key)
            await are_told(1)
        cluster.dispatchers[0].signal(signal.SIGKILL)
        await asyncio.gather(
            *(call.wait_for(lambda c: c.outages, timeout_seconds=PATIENCE_SECONDS) for call in calls.values())
        )
        await converse(*calls.values())
        await are_told(1)
        for call in calls.values():
            await call.hang_up()

        admin_url = await cluster.admin_url(1)

        async def have_records() -> bool:
            return len(orjson.loads(await get(f"{admin_url}/calls?ended"))) == len(calls)

        await eventually(have_records, PATIENCE_SECONDS)
        for tenant, call in calls.items():
            (record,) = orjson.loads(await get(f"{admin_url}/calls?ended&tenant={tenant}"))
            assert (record["uuid"], record["tenant"], record["ending"]) == (call.uuid, tenant, "completed")
            assert record["cost_usd"] > 0
        of_dispatcher = await get(f"{admin_url}/metrics")
        assert by_tenant(of_dispatcher, "calls_total") == {"acme": 1, "globex": 0, "umbrella": 1, "other": 1}
        assert by_tenant(of_dispatcher, "call_duration_seconds_count") == {
            **{"acme": 1, "globex": 0},
            **{"umbrella": 1, "other": 1},
        }
        worker = await cluster.workers[-1].line("worker listening")
        of_worker = await get(f"http://127.0.0.1:{worker['admin_port']}/metrics")
        costs = by_tenant(of_worker, "cost_usd_total")
        assert costs.pop("globex") == 0
        assert costs.keys() == calls.keys()
        assert min(costs.values()) > 0
        assert "4930" not in of_dispatcher + of_worker
        logged = [orjson.loads(line) for line in cluster.logs.splitlines() if '"call ended"' in line]
        assert {line["uuid"]: line["tenant"] for line in logged if line["ending"] == "completed"} == expected


async def place_all(cluster: Cluster) -> dict[str, SimulatedCall]:
    """Place a call for each number through the first dispatcher; its caller may come back to the second one."""
    url, other_url = await cluster.url(0), await cluster.url(1)
    calls = {
        tenant: await place_call(
            url,
            metadata={"from": "100", "to": number},
            reconnect_seconds=PATIENCE_SECONDS,
            reconnect_urls=[other_url],
        )
        for tenant, number in NUMBERS.items()
    }
    for call in calls.values():
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
    return calls


async def move_by_a_death(cluster: Cluster, calls: dict[str, SimulatedCall], *, tenant_key: str) -> None:
    """Kill the worker that has the calls, after another one with this TENANT_KEY has been started."""
    victim: ServiceProcess = cluster.workers[-1]
    await cluster.add_worker(TENANT_KEY=tenant_key)
    victim.signal(signal.SIGKILL)
    await are_on(cluster, cluster.workers[-1], *calls.values())
    await converse(*calls.values())
