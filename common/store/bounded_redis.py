"""A client of one Redis, whose commands take a bounded time and raise an error of this service."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import RedisError

from common.errors import RegistryUnavailable
from common.store.redis_account import Account
from common.store.redis_pool import redis_pool, server_of
from common.store.sentinels import PrimaryPool

# Commands in flight per process. More connections than this gain nothing: Redis runs one command at a time.
_MAX_CONNECTIONS: Final = 8


class BoundedRedis:
    """One Redis, as a process uses it: a server, or the primary that sentinels name.

    Attributes:
        redis: redis-py's client. Let `run` execute its commands.
    """

    def __init__(self, redis: Redis, account: Account, *, timeout_seconds: float) -> None:
        self.redis = redis
        self._account = account
        self._timeout_seconds = timeout_seconds
        self._name = server_of(redis.connection_pool)
        # First come, first served; in redis-py's own blocking pool a new command may overtake a waiting one.
        self._connections = asyncio.Semaphore(_MAX_CONNECTIONS)

    @classmethod
    def from_url(cls, url: str, *, timeout_seconds: float) -> Self:
        """Create a client that connects at its first command.

        Raises:
            ValueError: the URL is not a Redis URL.
        """
        account = Account(url)
        pool = redis_pool(account, timeout_seconds=timeout_seconds)
        return cls(Redis.from_pool(pool), account, timeout_seconds=timeout_seconds)

    @property
    def switches(self) -> int:
        """How often another server has become the primary: it may lack the latest writes."""
        pool = self.redis.connection_pool
        return pool.switches if isinstance(pool, PrimaryPool) else 0

    def use_account(self, url: str | None) -> None:
        """Use this URL's user and password for new connections; open connections stay."""
        if url is not None:
            self._account.change(url)

    def script(self, folder: Path, name: str, prefix: str) -> AsyncScript:
        """Return the script `name` of a folder, behind the folder's prelude and the prefix of its keys."""
        sources = [(folder / file).read_text("utf-8") for file in ("_prelude.lua", f"{name}.lua")]
        return self.redis.register_script("\n".join([f"local PREFIX = '{prefix}'", *sources]))

    async def run(self, command: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        """Execute a command of `redis`.

        Raises:
            RegistryUnavailable: Redis refused it, or did not answer in time, connecting included.
        """
        try:
            async with asyncio.timeout(self._timeout_seconds), self._connections:
                return await command(*args, **options)
        except TimeoutError as error:
            self._failed()
            message = f"Redis at {self._name} did not answer within {self._timeout_seconds} s"
            raise RegistryUnavailable(message) from error
        except (RedisError, OSError) as error:
            self._failed()
            raise RegistryUnavailable(f"Redis at {self._name} failed: {error}") from error

    def _failed(self) -> None:
        """Ask the sentinels for the primary again, because it may be another server now."""
        pool = self.redis.connection_pool
        if isinstance(pool, PrimaryPool):
            pool.look_again()

    async def aclose(self) -> None:
        """Close the connections."""
        await self.redis.aclose()
