"""Keys of releases that do not understand each other, in one Redis."""

from __future__ import annotations

import time

from redis.asyncio import Redis

from common.store.keys import KEY_PREFIX, PREVIOUS_KEY_PREFIX
from common.store.leases import CallLease, WorkerRecord, WorkerState
from common.store.memory import MemoryUpdate
from common.store.registry import Registry

LEASE_SECONDS = 60
WORKER = WorkerRecord("w", "w.example:7000", "w.example", 42, "0.2.0", 10, WorkerState.READY, "boot")


async def publish_previous(redis: Redis, worker_id: str, *, lease_seconds: float) -> None:
    """Publish a worker as release 0.1 does."""
    await redis.zadd(f"{PREVIOUS_KEY_PREFIX}workers", {worker_id: (time.time() + lease_seconds) * 1000})
    await redis.hset(
        f"{PREVIOUS_KEY_PREFIX}worker:{worker_id}", mapping={"address": "old:7000", "release": "0.1.0"}
    )


async def test_every_key_of_this_release_has_its_prefix(registry: Registry, redis_url: str) -> None:
    await registry.publish_worker(WORKER, lease_seconds=LEASE_SECONDS)
    await registry.pin("call", dispatcher="d", epoch=1, metadata={}, lease_seconds=LEASE_SECONDS)
    await registry.renew("d", [CallLease("call", "w", 1, "live", None, 1, {})], lease_seconds=LEASE_SECONDS)
    await registry.remember({"call": MemoryUpdate({"profile": "{}"}, anew=True, version=1)})
    await registry.claim("name", seconds=LEASE_SECONDS)
    await registry.ask_to_hang_up("call")
    async with Redis.from_url(redis_url, decode_responses=True) as redis:
        keys = [str(key) for key in await redis.keys()]
    kinds = {key.removeprefix(KEY_PREFIX).partition(":")[0] for key in keys}
    leases = {"workers", "worker", "dispatchers", "dispatcher", "releases", "ready", "table", "loads"}
    assert kinds == leases | {"calls", "call", "said", "claim", "hang-up"}


async def test_previous_releases_workers_are_counted_and_get_no_call(registry: Registry, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        assert await registry.previous_workers() == 0
        await publish_previous(redis, "live", lease_seconds=LEASE_SECONDS)
        await publish_previous(redis, "gone", lease_seconds=-1)
    assert await registry.previous_workers() == 1
    assert await registry.workers() == []


async def test_workers_of_this_release_are_no_previous_ones(registry: Registry) -> None:
    await registry.publish_worker(WORKER, lease_seconds=LEASE_SECONDS)
    assert await registry.previous_workers() == 0
