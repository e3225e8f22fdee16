"""What a new dispatcher waits for during a rollout, with real and embedded Redis."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys

import pytest
from structlog.testing import capture_logs

from common.runtime.release import RELEASE
from common.store.leases import WorkerRecord, WorkerState
from common.store.registry import Registry
from dispatcher.workers.await_workers import wait
from tests.helpers import eventually

LONG_SECONDS = 60


def worker(release: str, state: str = "ready") -> WorkerRecord:
    return WorkerRecord(
        id=f"w-{release}",
        address="w.example:7000",
        host="host",
        pid=1,
        release=release,
        capacity=10,
        state=WorkerState(state),
        boot_id="",
    )


async def publish(registry: Registry, *workers: WorkerRecord) -> None:
    for record in workers:
        await registry.publish_worker(record, lease_seconds=LONG_SECONDS)


async def outcome(registry: Registry, *, seconds: float) -> bool:
    return await wait(registry, asyncio.Event(), seconds=seconds, release="1.2.0", poll_seconds=0.01)


@pytest.mark.parametrize(
    "others", [(), ("1.3.0",), ("1.2.0",)], ids=["alone", "beside a newer one", "beside its like"]
)
async def test_a_worker_of_this_release_is_what_it_waits_for(registry: Registry, others: tuple[str, ...]) -> None:
    await publish(registry, worker("1.2.0"), *(worker(each) for each in others))
    assert await outcome(registry, seconds=LONG_SECONDS)


async def test_a_newer_release_is_accepted_during_a_rollback(registry: Registry) -> None:
    await publish(registry, worker("1.3.0"))
    assert await outcome(registry, seconds=LONG_SECONDS)


async def test_older_workers_are_awaited_until_they_drain(registry: Registry) -> None:
    await publish(registry, worker("1.1.0"))
    with capture_logs() as logs:
        waiting = asyncio.create_task(outcome(registry, seconds=LONG_SECONDS))
        await eventually(lambda: [line["found"] for line in logs] == ["no worker of this release"])
        await publish(registry, worker("1.2.0"))
        await eventually(lambda: logs[-1]["found"] == "workers of this release and of older ones")
        assert not waiting.done()
        await publish(registry, worker("1.1.0", "draining"))
        assert await waiting


async def test_older_workers_of_another_deployment_time_out(registry: Registry) -> None:
    await publish(registry, worker("1.1.0"), worker("1.2.0"))
    assert await outcome(registry, seconds=0)


@pytest.mark.parametrize("state", ["ready", "draining"])
async def test_without_a_worker_of_this_release_it_does_not_start(registry: Registry, state: str) -> None:
    await publish(registry, worker("1.1.0"), worker("1.2.0", "draining"))
    assert not await outcome(registry, seconds=0)


async def test_redis_is_waited_for() -> None:
    registry = Registry.from_url("redis://127.0.0.1:1", timeout_seconds=1)
    with capture_logs() as logs:
        assert not await outcome(registry, seconds=0)
    assert "redis is away" in [line["event"] for line in logs]


async def test_it_stops_when_it_is_told_to(registry: Registry) -> None:
    stop = asyncio.Event()
    waiting = asyncio.create_task(wait(registry, stop, seconds=LONG_SECONDS))
    stop.set()
    assert not await waiting


def command(redis_url: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-P", "-m", "common.runtime.cli", "await-workers", "--seconds", str(LONG_SECONDS)],
        env={**os.environ, "REDIS_URL": redis_url},
        stderr=subprocess.PIPE,
        text=True,
    )


async def test_the_command_ends_with_0_when_workers_are_there(registry: Registry, redis_url: str) -> None:
    await publish(registry, worker(RELEASE))
    process = command(redis_url)
    _, printed = await asyncio.to_thread(process.communicate, timeout=LONG_SECONDS)
    assert process.returncode == 0, printed


async def test_the_command_ends_with_1_at_a_signal(redis_url: str) -> None:
    process = command(redis_url)
    assert process.stderr is not None
    assert "no worker of this release" in await asyncio.to_thread(process.stderr.readline)
    process.send_signal(signal.SIGTERM)
    await asyncio.to_thread(process.communicate, timeout=LONG_SECONDS)
    assert process.returncode == 1
