"""Wheels of two releases side by side: calls move only between releases that understand each other."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
from collections.abc import AsyncIterator

import pytest
import redis.asyncio as aioredis

from common.link.wire import OLDEST_PROTOCOL_VERSION
from common.store.keys import KEY_PREFIX, PREVIOUS_KEY_PREFIX
from simulator.avr.core import SimulatedCall
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.releases import InstalledRelease, NoHistory, install_commit, install_this, previous_release
from tests.scenarios.conversations import BRIEF, are_on, converse, place
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster, ServiceProcess, worker_id

PREVIOUS = previous_release()
# A later version, built from the same sources.
NEXT_VERSION = "99.0.0.dev1"

understood = pytest.mark.skipif(
    PREVIOUS.protocol < OLDEST_PROTOCOL_VERSION, reason="the two releases share no calls, on purpose"
)
refused = pytest.mark.skipif(
    PREVIOUS.protocol >= OLDEST_PROTOCOL_VERSION, reason="the two releases share their calls"
)


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    """Run a simulated Realtime API with short replies."""
    async with RealtimeSimulator(BRIEF) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def previous(tmp_path_factory: pytest.TempPathFactory) -> InstalledRelease:
    """Install the previous release."""
    try:
        installed = install_commit(PREVIOUS.commit, tmp_path_factory.mktemp("previous"))
    except NoHistory as reason:
        pytest.skip(f"get it by `git fetch --depth=1 origin {PREVIOUS.commit}`: {reason}")
    assert installed.version == PREVIOUS.version
    return installed


@pytest.fixture(scope="module")
def next_release(tmp_path_factory: pytest.TempPathFactory) -> InstalledRelease:
    """Install this release's wheel under a later version."""
    return install_this(NEXT_VERSION, tmp_path_factory.mktemp("next"))


def process_of(release: InstalledRelease) -> type[ServiceProcess]:
    """Return a class of processes that start with a release's own command."""

    class ReleaseProcess(ServiceProcess):
        pythonpath = str(release.folder)

        @classmethod
        def program(cls) -> tuple[str, ...]:
            return ("-P", str(release.command))

    return ReleaseProcess


def no_error(*calls: SimulatedCall) -> None:
    for call in calls:
        assert (call.errors, call.violations) == ([], [])


async def call_moves_to_and_fro(
    older: type[ServiceProcess], newer: type[ServiceProcess], redis_url: str, realtime_url: str
) -> None:
    """Move a call from the older release to the newer one and back. Meanwhile its caller changes dispatchers."""
    async with Cluster(redis_url, realtime_url) as cluster:
        first = await cluster.add_worker(older)
        await cluster.add_dispatcher(older)
        await cluster.add_dispatcher(newer)
        call = await place(cluster, 0, [await cluster.url(1)])
        await are_on(cluster, first, call)

        second = await cluster.add_worker(newer)
        await linked(cluster, second)
        await end(first)
        await are_on(cluster, second, call)
        await converse(call)

        # The caller returns to the newer dispatcher.
        await cluster.dispatchers[0].kill()
        await call.wait_for(lambda c: c.outages and c.is_connected, timeout_seconds=PATIENCE_SECONDS)
        await converse(call)

        third = await cluster.add_worker(older)
        await linked(cluster, third)
        await end(second)
        await are_on(cluster, third, call)
        await converse(call)
        no_error(call)
        await call.hang_up()


async def linked(cluster: Cluster, worker: ServiceProcess) -> None:
    name = await worker_id(worker)
    alive = [each for each in cluster.dispatchers if each.returncode is None]
    await asyncio.gather(*(each.line("link up", worker=name) for each in alive))


async def end(worker: ServiceProcess) -> None:
    worker.signal(signal.SIGTERM)
    assert await worker.ended() == 0


async def test_call_moves_to_next_release_and_back(
    next_release: InstalledRelease, real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    await call_moves_to_and_fro(ServiceProcess, process_of(next_release), real_redis_url, simulator.url)


@understood
async def test_call_moves_from_previous_release_and_back(
    previous: InstalledRelease, real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    await call_moves_to_and_fro(process_of(previous), ServiceProcess, real_redis_url, simulator.url)


def test_wheel_runs_as_its_own_release(next_release: InstalledRelease) -> None:
    process = process_of(next_release)
    done = subprocess.run(
        [sys.executable, *process.program(), "--version"],
        env={"PYTHONPATH": process.pythonpath},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout == f"avr-sts-openai {NEXT_VERSION}\n", done.stderr


@refused
async def test_previous_release_is_refused_and_calls_go_on(
    previous: InstalledRelease, real_redis_url: str, simulator: RealtimeSimulator
) -> None:
    async with (
        Cluster(real_redis_url, simulator.url) as old,
        Cluster(real_redis_url, simulator.url) as new,
        aioredis.from_url(real_redis_url, decode_responses=True) as client,
    ):
        old_worker, new_worker = await asyncio.gather(old.add_worker(process_of(previous)), new.add_worker())
        await asyncio.gather(old.add_dispatcher(process_of(previous)), new.add_dispatcher())
        notice = await new.dispatchers[0].line("workers of the previous release found")
        assert (notice["workers"], notice["level"]) == (1, "warning")

        calls = await asyncio.gather(place(old), place(new))
        await are_on(old, old_worker, calls[0])
        await are_on(new, new_worker, calls[1])

        # The releases do not find each other in Redis. But a reused address could still connect them.
        for worker, here, there in (
            (old_worker, PREVIOUS_KEY_PREFIX, KEY_PREFIX),
            (new_worker, KEY_PREFIX, PREVIOUS_KEY_PREFIX),
        ):
            name = await worker_id(worker)
            await client.copy(f"{here}worker:{name}", f"{there}worker:{name}")
            seconds, _ = await client.time()
            await client.zadd(f"{there}workers", {name: (seconds + PATIENCE_SECONDS) * 1000})
            await client.zadd(f"{there}table", {name: seconds * 1_000_000})
        reason = f"release {PREVIOUS.version} has link protocol {PREVIOUS.protocol}, older than"
        told = await new.dispatchers[0].line("link not up", worker=await worker_id(old_worker))
        assert reason in told["reason"]
        assert reason in (await new_worker.line("link refused"))["reason"]
        name = await worker_id(new_worker)

        def previous_knows() -> bool:
            lines = [*old.dispatchers[0].events("link lost"), *old.dispatchers[0].events("link not up")]
            return any(line["worker"] == name and reason in line["reason"] for line in lines)

        await eventually(previous_knows, PATIENCE_SECONDS)

        await converse(*calls)
        await are_on(old, old_worker, calls[0])
        await are_on(new, new_worker, calls[1])
        no_error(*calls)
        assert not [each for each in (*old.dispatchers, *new.dispatchers) if each.events("crashed")]
        for call in calls:
            await call.hang_up()
