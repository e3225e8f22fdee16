"""A failover of Redis by real sentinels, while callers talk and new calls come.

AVR_FAILOVER_CALLS (50) is the number of running calls, AVR_FAILOVER_CALLS_PER_SECOND (10) that of new ones.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from typing import Any, Final

import pytest

from common.store.keys import KEY_PREFIX
from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from tests.conftest import start_watched
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster
from tests.scenarios.test_recovery import converse, hang_up, process_of
from tests.sentinel_process import Server, Watched

pytestmark = pytest.mark.system

CALLS: Final = int(os.environ.get("AVR_FAILOVER_CALLS", "50"))
CALLS_PER_SECOND: Final = float(os.environ.get("AVR_FAILOVER_CALLS_PER_SECOND", "10"))
CALL_SECONDS: Final = 90.0
"""Maximum time for many calls at once on a busy machine."""


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Yield a primary, two replicas and three sentinels, all with passwords."""
    watched = start_watched(replicas=2, password="of-the-primary", sentinel_password="of-the-sentinels")
    yield watched
    watched.close()


@pytest.fixture
async def cluster(watched: Watched, simulator: RealtimeSimulator) -> AsyncIterator[Cluster]:
    """Run two dispatchers and three workers."""
    async with Cluster(watched.url, simulator.url, WORKER_MAX_CALLS=1000) as cluster:
        await cluster.start(workers=3, dispatchers=2)
        yield cluster


class Callers:
    """Callers who come at a rate, and stay.

    Attributes:
        calls: that were placed.
    """

    def __init__(self, urls: Sequence[str]) -> None:
        self.calls: list[SimulatedCall] = []
        self.slowest_seconds = 0.0
        self._urls = urls
        self._placing: list[asyncio.Task[None]] = []

    async def place(self, count: int) -> None:
        """Place calls at all dispatchers, and wait for their greetings."""
        await asyncio.gather(*(self._place(number) for number in range(count)))

    @contextlib.asynccontextmanager
    async def come(self, per_second: float) -> AsyncIterator[None]:
        """Let callers come meanwhile; behind it, all of them have been greeted."""

        async def ring() -> None:
            while True:
                self._placing.append(asyncio.create_task(self._place(len(self._placing))))
                await asyncio.sleep(1 / per_second)  # the rate of the load, no wait for anything

        ringing = asyncio.create_task(ring())
        try:
            yield
        finally:
            ringing.cancel()
            await asyncio.gather(*self._placing)

    async def _place(self, number: int) -> None:
        began = time.monotonic()
        call = await place_call(self._urls[number % len(self._urls)])
        self.calls.append(call)
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=CALL_SECONDS)
        self.slowest_seconds = max(self.slowest_seconds, time.monotonic() - began)


def records(server: Server) -> dict[str, dict[str, Any]]:
    """Return the records of calls that a Redis has, by uuid."""
    with server.client() as client:
        keys = client.keys(f"{KEY_PREFIX}call:*")
        pipeline = client.pipeline(transaction=False)
        for key in keys:
            pipeline.hgetall(key)
        found = zip(keys, pipeline.execute(), strict=True)
    return {key.rpartition(":")[2]: fields for key, fields in found if fields}


def epochs(server: Server) -> dict[str, int]:
    """Return the epoch of each call that a Redis knows, by uuid."""
    return {uuid: int(fields["epoch"]) for uuid, fields in records(server).items()}


async def has_all(server: Server, known: dict[str, int], calls: Sequence[SimulatedCall]) -> None:
    """Wait until a Redis has all calls, none at an epoch below the one that was known."""

    def has() -> bool:
        found = epochs(server)
        uuids = {call.uuid for call in calls}
        return found.keys() == uuids and all(found[uuid] >= known.get(uuid, 1) for uuid in uuids)

    await eventually(has, PATIENCE_SECONDS)


async def went_well(cluster: Cluster, simulator: RealtimeSimulator, callers: Callers, sessions: int) -> None:
    """Check that no call was lost or opened again, that all converse, and that no process failed.

    Args:
        cluster: the processes.
        simulator: the API.
        callers: with all calls.
        sessions: number of sessions that may have been opened.
    """
    assert not any(call.closed.is_set() or call.errors or call.violations for call in callers.calls)
    assert simulator.opened == sessions
    await asyncio.gather(*map(converse, callers.calls[: max(10, CALLS // 2)]))
    assert simulator.opened == sessions
    assert "Traceback" not in cluster.logs
    assert not any(secret in cluster.logs for secret in ("of-the-primary", "of-the-sentinels"))
    await hang_up(callers.calls, simulator)


async def test_killed_primary_with_lagging_replicas_loses_nothing(
    watched: Watched, cluster: Cluster, simulator: RealtimeSimulator, capsys: pytest.CaptureFixture[str]
) -> None:
    callers = Callers([await cluster.url(number) for number in range(2)])
    await callers.place(CALLS)
    former = watched.primary()
    assert epochs(former) == {call.uuid: 1 for call in callers.calls}

    # The replicas miss what follows: a worker dies, its calls move, and new calls come.
    for replica in watched.servers[1:]:
        watched.hold_back(replica)
    victim = await process_of(cluster, callers.calls[0])
    held = len(await _calls_of(cluster, former, victim.pid))
    victim.signal(signal.SIGKILL)
    moved = CALLS + held
    await simulator.wait_for(lambda s: s.opened == moved, timeout_seconds=CALL_SECONDS)
    await callers.place(2)
    await eventually(lambda: sorted(epochs(former).values())[-held:] == [2] * held, PATIENCE_SECONDS)
    known = epochs(former)
    assert len(known) == CALLS + 2

    async with callers.come(CALLS_PER_SECOND):
        began = time.monotonic()
        former.kill()
        for replica in watched.servers[1:]:
            replica.thaw()
        for dispatcher in cluster.dispatchers:
            await dispatcher.line("redis is away")
        during = len(callers.calls)
        present = await asyncio.to_thread(watched.wait_for_failover, former)
        for dispatcher in cluster.dispatchers:
            await dispatcher.line("redis is back")
        failover_seconds = time.monotonic() - began
        placed = len(callers.calls) - during
    assert placed, "no call was placed during the failover"
    await has_all(present, known, callers.calls)
    with capsys.disabled():
        print(  # noqa: T201 - a measurement
            f"\n{CALLS} calls, {CALLS_PER_SECOND:g} new ones a second, Redis away for {failover_seconds:.1f} s: "
            f"{placed} calls placed meanwhile, slowest greeting {callers.slowest_seconds:.1f} s"
        )
    # The former primary comes back empty, and becomes a replica.
    watched.start_server(former)
    await eventually(lambda: epochs(former).keys() == epochs(present).keys(), PATIENCE_SECONDS)
    await has_all(present, known, callers.calls)
    await went_well(cluster, simulator, callers, len(callers.calls) + held)


async def test_primary_that_wakes_after_a_failover_changes_nothing(
    watched: Watched, cluster: Cluster, simulator: RealtimeSimulator
) -> None:
    callers = Callers([await cluster.url(number) for number in range(2)])
    await callers.place(max(2, CALLS // 2))
    former = watched.primary()
    known = epochs(former)
    async with callers.come(max(1.0, CALLS_PER_SECOND / 2)):
        # Pins and renewals go into its sockets until they time out; it executes them when it wakes.
        former.freeze()
        for dispatcher in cluster.dispatchers:
            await dispatcher.line("redis is away")
        present = await asyncio.to_thread(watched.wait_for_failover, former)
        for dispatcher in cluster.dispatchers:
            await dispatcher.line("redis is back")
        await eventually(lambda: known.keys() <= epochs(present).keys(), PATIENCE_SECONDS)
        known = epochs(present)
        former.thaw()

        def follows() -> bool:
            with former.client() as client:
                about = client.info("replication")
            return bool(about["role"] == "slave" and about["master_link_status"] == "up")

        await eventually(follows, PATIENCE_SECONDS)
    await has_all(present, known, callers.calls)
    await eventually(lambda: epochs(former) == epochs(present), PATIENCE_SECONDS)
    away = [len(each.events("redis is away")) for each in cluster.dispatchers]
    assert away == [1, 1], "the former primary that woke was no second outage"
    await went_well(cluster, simulator, callers, len(callers.calls))


async def _calls_of(cluster: Cluster, server: Server, pid: int) -> list[str]:
    """Return the uuids of the calls that the worker process with this pid holds."""
    (worker_id,) = [
        (await worker.line("worker listening"))["worker"] for worker in cluster.workers if worker.pid == pid
    ]
    return [uuid for uuid, fields in records(server).items() if fields["worker"] == worker_id]
