"""Connections to Redis with TLS: one context for all of them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import ConnectionPool

from common.store.redis_account import Account
from common.store.redis_pool import redis_pool
from common.store.sentinels import PrimaryPool

PLAIN = "rediss://here"
BY_SENTINELS = "rediss+sentinel://one,two/calls"


def made(pool: ConnectionPool) -> Any:
    """Return a new connection of a pool, which is not connected."""
    return pool.make_connection()  # type: ignore[no-untyped-call]


@pytest.mark.parametrize("url", [PLAIN, BY_SENTINELS])
def test_connections_of_a_pool_share_one_context(url: str) -> None:
    pool = redis_pool(Account(url), timeout_seconds=1)
    contexts = {id(made(pool).ssl_context.get()) for _ in range(3)}
    if isinstance(pool, PrimaryPool):
        pools = [each.connection_pool for each in pool.sentinels.sentinels]
        contexts |= {id(made(each).ssl_context.get()) for each in pools}
    assert len(contexts) == 1


@pytest.mark.parametrize("url", [PLAIN, BY_SENTINELS])
def test_missing_file_of_a_ca_is_told_by_a_connection(url: str, tmp_path: Path) -> None:
    pool = redis_pool(Account(f"{url}?ssl_ca_certs={tmp_path / 'missing'}"), timeout_seconds=1)
    with pytest.raises(FileNotFoundError):
        made(pool).ssl_context.get()


def test_options_of_tls_reach_sentinels_and_primary(tmp_path: Path) -> None:
    pool = redis_pool(Account(f"{BY_SENTINELS}?ssl_check_hostname=false&db=3"), timeout_seconds=1)
    assert isinstance(pool, PrimaryPool)
    connections = [made(each.connection_pool) for each in pool.sentinels.sentinels]
    assert [each.ssl_context.check_hostname for each in (made(pool), *connections)] == [False] * 3
    assert [each.db for each in (made(pool), *connections)] == [3, 0, 0]
