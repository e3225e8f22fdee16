"""What every scenario starts from."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from simulator.realtime_api import RealtimeSimulator


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    """A Realtime API; tests change its settings before they place calls."""
    async with RealtimeSimulator() as simulator:
        yield simulator


@pytest.fixture
def real_redis_url(redis_server: str) -> str:
    """An empty real Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server
