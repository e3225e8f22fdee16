"""The effects of stalled dispatchers, broken links and processes lost together on a caller."""

from __future__ import annotations

import signal

import pytest

from simulator.avr.core import SimulatedCall
from simulator.realtime.server import RealtimeSimulator
from tests.chaos import sockets
from tests.helpers import eventually
from tests.redis_process import RealRedis, find_redis_server
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess
from tests.scenarios.test_recovery import (
    converse,
    hang_up,
    place,
    place_where_it_can_come_back,
    process_of,
    said,
    told,
)


async def _link_port(worker: ServiceProcess) -> int:
    line = await worker.line("worker listening")
    return int(line["address"].rpartition(":")[2])


async def _hang(dispatcher: ServiceProcess, worker: ServiceProcess) -> None:
    """Stop a dispatcher until its worker has detected that the link is dead."""
    lost = len(worker.events("link lost"))
    dispatcher.signal(signal.SIGSTOP)
    await eventually(lambda: len(worker.events("link lost")) > lost, PATIENCE_SECONDS)


async def test_link_that_breaks_keeps_the_session(real_redis_url: str, simulator: RealtimeSimulator) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        (call,) = await place(cluster, 1)
        (worker,), (dispatcher,) = cluster.workers, cluster.dispatchers
        assert sockets.cut(worker.pid, await _link_port(worker), dispatcher.pid) > 0
        await converse(call)
        assert simulator.opened == 1, "the same session"
        assert not call.outages
        await hang_up([call], simulator)


async def test_stalled_realtime_connection_is_replaced(real_redis_url: str, simulator: RealtimeSimulator) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        (call,) = await place(cluster, 1)
        simulator.faults.stall(simulator.sessions[0])
        successor = await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        await converse(call)
        assert told(successor) == said(call)
        assert not call.outages
        await call.hang_up()


async def test_hung_dispatcher_that_wakes_keeps_its_calls(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1)
        (call,) = await place(cluster, 1)
        (worker,), (dispatcher,) = cluster.workers, cluster.dispatchers
        await _hang(dispatcher, worker)
        dispatcher.signal(signal.SIGCONT)
        await converse(call)
        assert not call.outages
        await hang_up([call], simulator)


async def test_caller_of_a_hung_dispatcher_returns_when_it_is_killed(
    real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with Cluster(real_redis_url, simulator.url) as cluster:
        await cluster.start(workers=1, dispatchers=2)
        call = await place_where_it_can_come_back(cluster)
        (worker,), hung = cluster.workers, cluster.dispatchers[0]
        await _hang(hung, worker)
        assert not call.outages
        hung.signal(signal.SIGKILL)
        await call.wait_for(lambda c: c.outages, timeout_seconds=PATIENCE_SECONDS)
        await converse(call)
        assert simulator.opened == 1, "the same session"
        await hang_up([call], simulator)


def _greetings(call: SimulatedCall) -> int:
    return sum(each.text.startswith("greeting") for each in call.transcripts)


async def test_call_lost_by_all_processes_begins_anew(simulator: RealtimeSimulator) -> None:
    executable = find_redis_server()
    if executable is None:
        pytest.skip("there is no redis-server")
    server = RealRedis(executable)
    try:
        async with Cluster(server.url, simulator.url) as cluster:
            await cluster.start(workers=2, dispatchers=2)
            call = await place_where_it_can_come_back(cluster)
            worker, dispatcher = await process_of(cluster, call), cluster.dispatchers[0]
            # Redis loses its data, and is unavailable while both die.
            server.kill()
            await cluster.dispatchers[1].line("redis is away")
            for process in (worker, dispatcher):
                process.signal(signal.SIGKILL)
            await call.wait_for(lambda _: _greetings(call) == 2, timeout_seconds=PATIENCE_SECONDS)
            await converse(call)
            server.start()
            await hang_up([call], simulator)
    finally:
        server.close()
