"""What the leak test starts from."""

from __future__ import annotations

import pytest
import redis


@pytest.fixture
def real_redis_url(redis_server: str) -> str:
    """An empty real Redis."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
    return redis_server
