"""The password of a Redis is replaced while processes use it."""

from __future__ import annotations

import pytest
import redis

from common.store.redis_account import Account
from common.store.registry import Registry
from tests.conftest import start_real_redis


@pytest.mark.parametrize(
    ("url", "credentials"),
    [
        ("redis://here", ()),
        ("redis://:p@here:1/2", ("p",)),
        ("redis://u:p@here", ("u", "p")),
        ("redis://u@here", ("u", "")),
        ("unix://:p@/a/socket", ("p",)),
        ("rediss://u:%2Fp@here", ("u", "/p")),
        ("redis://here?password=p", ("p",)),
    ],
)
async def test_credentials_are_those_of_the_url(url: str, credentials: tuple[str, ...]) -> None:
    account = Account(url)
    assert await account.get_credentials_async() == credentials
    assert "password" not in account.address
    assert "username" not in account.address


async def test_new_connections_use_the_new_password() -> None:
    server = start_real_redis("first-password")
    try:
        registry = Registry.from_url(server.url)
        assert await registry.ping()
        with redis.Redis.from_url(server.url) as client:
            client.config_set("requirepass", "second-password")
            client.client_kill_filter(_type="normal", skipme=True)
        assert not await registry.ping()
        registry.use_account(server.url.replace("first", "second"))
        assert await registry.ping()
        await registry.aclose()
    finally:
        server.close()
