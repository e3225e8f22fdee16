"""The common fixtures of the scenarios."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import redis

from simulator.realtime.server import RealtimeSimulator
from tests.scenarios.processes import BRIEF


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    """Run a simulated Realtime API. Tests change its settings before they place calls."""
    async with RealtimeSimulator(BRIEF) as simulator:
        yield simulator


@pytest.fixture(scope="module")
def module_redis_url(redis_server: str) -> str:
    """URL of a real Redis that is empty when the first test of a file begins: for a service that they share."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server
