"""The check of Redis, against real servers."""

from __future__ import annotations

import redis

from common.check import redis_server
from common.check.finding import Finding, State
from common.settings.roles import Role
from common.settings.settings import Settings
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
