"""The check of Redis, against real servers."""

from __future__ import annotations

import redis

from common.check import redis_server
from common.check.finding import Finding, State
from common.settings.roles import Role
from common.settings.settings import Settings
from tests.conftest import start_watched
from tests.redis_process import RealRedis


async def look(url: str, seconds: float = 10.0) -> list[Finding]:
    settings = Settings.parse({"REDIS_URL": url}, Role.DISPATCHER)
    return [*await redis_server.check(settings, Role.DISPATCHER, seconds).run(seconds)]


async def test_sound_redis_is_ok(real_redis_url: str) -> None:
    (found,) = await look(real_redis_url)
    assert found.state is State.OK, found


async def test_missing_password_is_named(locked_redis: RealRedis) -> None:
    (found,) = await look(locked_redis.url.replace("redis-p4ssw0rd-of-this-test", "another-p4ssw0rd"))
    assert found.state is State.FAIL
    assert "REDIS_URL_PASSWORD" in found.todo
    assert "p4ssw0rd" not in repr(found)


async def test_evicting_redis_is_a_warning(locked_redis: RealRedis) -> None:
    with redis.Redis.from_url(locked_redis.url) as client:
        client.config_set("maxmemory-policy", "allkeys-lru")
    (found,) = await look(locked_redis.url)
    assert found.state is State.WARN
    assert "noeviction" in found.todo


async def test_frozen_redis_is_given_up(locked_redis: RealRedis) -> None:
    locked_redis.freeze()
    (found,) = await look(locked_redis.url, 0.5)
    locked_redis.thaw()
    assert found.state is State.FAIL
    assert found.todo


async def test_sentinels_with_primary_and_replica_are_ok() -> None:
    watched = start_watched(password="p4ssw0rd-of-redis", sentinel_password="p4ssw0rd-of-sentinels")
    try:
        (found,) = await look(watched.url)
        assert found.state is State.OK, found
        assert f"3 sentinels, primary {watched.primary().address}" in found.what
        assert found.value.startswith("redis+sentinel://")
        assert found.value.endswith("/calls/0")
        assert "p4ssw0rd" not in repr(found)

        (found,) = await look(watched.url.replace("p4ssw0rd-of-sentinels", "another"))
        assert (found.state, "REDIS_SENTINEL_PASSWORD" in found.todo) == (State.FAIL, True)
        (found,) = await look(watched.url.replace("p4ssw0rd-of-redis", "another"))
        assert (found.state, "REDIS_URL_PASSWORD" in found.todo) == (State.FAIL, True)

        watched.sentinels[0].kill()
        (found,) = await look(watched.url)
        assert (found.state, watched.sentinels[0].address in found.what) == (State.WARN, True)
        assert found.todo
    finally:
        watched.close()


async def test_sentinels_without_a_replica_are_a_warning() -> None:
    watched = start_watched(replicas=0, sentinels=1)
    try:
        few, no_replica = await look(watched.url)
        assert (few.state, no_replica.state) == (State.WARN, State.WARN)
        assert "fewer than three sentinels" in few.what
        assert "no replica" in no_replica.what
        watched.servers[0].kill()
        (found,) = await look(watched.url)
        assert found.state is State.FAIL
        assert found.todo
    finally:
        watched.close()
