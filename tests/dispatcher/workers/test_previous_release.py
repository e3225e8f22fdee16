"""The warning of a dispatcher that finds workers of a release which it does not understand."""

from __future__ import annotations

from redis.asyncio import Redis
from structlog.testing import capture_logs

from common.store.registry import Registry
from dispatcher.workers.previous_release import PreviousReleaseNotice
from tests.common.store.test_keys import LEASE_SECONDS, publish_previous
from tests.redis_process import RedisProcess


async def test_workers_of_the_previous_release_are_named_once(registry: Registry, redis_url: str) -> None:
    async with Redis.from_url(redis_url) as redis:
        await publish_previous(redis, "old-1", lease_seconds=LEASE_SECONDS)
        await publish_previous(redis, "old-2", lease_seconds=LEASE_SECONDS)
    notice = PreviousReleaseNotice(registry)
    with capture_logs() as logs:
        await notice.look()
        await notice.look()
    (line,) = logs
    assert line["log_level"] == "warning"
    assert line["workers"] == 2
    assert "docs/releases.md" in line["todo"]


async def test_nothing_is_said_if_no_such_worker_lives(registry: Registry) -> None:
    with capture_logs() as logs:
        await PreviousReleaseNotice(registry).look()
    assert logs == []


async def test_redis_is_asked_again_until_it_answers(redis_process: RedisProcess) -> None:
    registry = Registry.from_url(redis_process.url, timeout_seconds=0.5)
    notice = PreviousReleaseNotice(registry)
    redis_process.kill()
    with capture_logs() as logs:
        await notice.look()
        assert logs == []
        redis_process.start()
        async with Redis.from_url(redis_process.url) as redis:
            await publish_previous(redis, "old", lease_seconds=LEASE_SECONDS)
        await notice.look()
    assert [line["workers"] for line in logs] == [1]
    await registry.aclose()
