"""A client of one Redis, whose commands take a bounded time and raise an error of this service.

Commands wait for a free connection, first come, first served. The time limit of a command begins when it is sent.
So a long queue is not mistaken for a Redis that is away. If a sent command has no answer in time, the waiting
commands fail with it, because they would wait in vain.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final, Self

from redis.asyncio import Redis
from redis.commands.core import AsyncScript
from redis.exceptions import NoScriptError, RedisError, ResponseError

from common.errors import RegistryBusy, RegistryUnavailable
from common.store.redis_account import Account
from common.store.redis_pool import redis_pool, server_of
from common.store.sentinels import PrimaryPool

# Commands in flight per process. More connections than this gain nothing: Redis runs one command at a time.
_MAX_CONNECTIONS: Final = 8
# Commands that wait for a connection, at most. More are refused at once.
_MAX_WAITING: Final = 20_000
# Scripts that one round trip carries, at most: 2 ms of Redis, and as much of this event loop.
_PIPELINE: Final = 32
# Round trips with several scripts at once. The other connections stay free for beats.
_MAX_PIPELINES: Final = 2
# A stalled event loop sees an answer that is there only after its timers. It looks once more before it gives up.
_LAST_LOOK_SECONDS: Final = 0.02

_Waiting = deque[tuple[AsyncScript, Sequence[Any], asyncio.Future[Any]]]


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
        # redis-py's own blocking pool lets a new command overtake a waiting one.
        self._free = _MAX_CONNECTIONS
        self._waiting: deque[asyncio.Future[None]] = deque()
        # Scripts that are not sent yet, and round trips with scripts.
        self._scripts: _Waiting = deque()
        self._pipelines: set[asyncio.Task[None]] = set()
        self._answered_seconds = float("-inf")

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

    def has_answered(self, seconds: float) -> bool:
        """Return whether Redis has answered a command within the last seconds."""
        return asyncio.get_running_loop().time() - self._answered_seconds <= seconds

    async def run(self, command: Callable[..., Awaitable[Any]], *args: Any, **options: Any) -> Any:
        """Execute a command of `redis`.

        Raises:
            RegistryUnavailable: Redis refused it, or did not answer in time, connecting included.
            RegistryBusy: too many commands wait.
        """
        await self._connection()
        try:
            async with self._deadline():
                answer = await command(*args, **options)
            self._answered_seconds = asyncio.get_running_loop().time()
            return answer
        except TimeoutError as error:
            self._failed()
            message = f"Redis at {self._name} did not answer within {self._timeout_seconds} s"
            self._give_up(message)
            raise RegistryUnavailable(message) from error
        except (RedisError, OSError) as error:
            self._failed()
            raise RegistryUnavailable(f"Redis at {self._name} failed: {error}") from error
        finally:
            self._release()

    async def evaluate(self, script: AsyncScript, args: Sequence[Any]) -> Any:
        """Run a script; scripts that come meanwhile share round trips.

        Raises:
            RegistryUnavailable: as in `run`.
            RegistryBusy: too many scripts wait.
        """
        if len(self._scripts) >= _MAX_WAITING:
            raise self._busy()
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._scripts.append((script, args, answer))
        if len(self._pipelines) < _MAX_PIPELINES:
            task = asyncio.create_task(self._send_scripts(), name="redis scripts")
            self._pipelines.add(task)
            task.add_done_callback(self._pipelines.discard)
        return await answer

    async def _send_scripts(self) -> None:
        """Send the waiting scripts, some with each round trip, until none is left."""
        while self._scripts:
            sent = [self._scripts.popleft() for _ in range(min(_PIPELINE, len(self._scripts)))]
            try:
                replies = await self.run(self._execute, sent)
            except BaseException as error:
                _fail([answer for _, _, answer in sent], error)
                if not isinstance(error, RegistryUnavailable):
                    raise
                continue
            for (_, _, answer), reply in zip(sent, replies, strict=True):
                if answer.done():
                    continue  # whoever asked was cancelled
                if isinstance(reply, Exception):
                    self._failed()
                    answer.set_exception(RegistryUnavailable(f"Redis at {self._name} failed: {reply}"))
                else:
                    answer.set_result(reply)

    async def _execute(self, scripts: Sequence[tuple[AsyncScript, Sequence[Any], object]]) -> list[Any]:
        if len(scripts) == 1:
            ((script, args, _),) = scripts
            return [await script(args=args)]
        async with self.redis.pipeline(transaction=False) as pipeline:
            for script, args, _ in scripts:
                pipeline.evalsha(script.sha, 0, *args)
            replies = await pipeline.execute(raise_on_error=False)
        for index, (script, args, _) in enumerate(scripts):
            if isinstance(replies[index], NoScriptError):
                try:
                    replies[index] = await script(args=args)
                except ResponseError as error:
                    replies[index] = error
        return replies

    async def _connection(self) -> None:
        """Wait for a connection of the pool."""
        if self._free:
            self._free -= 1
            return
        if len(self._waiting) >= _MAX_WAITING:
            raise self._busy()
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._release()
            raise

    def _release(self) -> None:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._free += 1

    def _give_up(self, message: str) -> None:
        """Fail the waiting commands, because Redis does not answer."""
        waiting, self._waiting = self._waiting, deque()
        scripts, self._scripts = self._scripts, deque()
        _fail([*waiting, *(answer for _, _, answer in scripts)], RegistryUnavailable(message))

    def _busy(self) -> RegistryBusy:
        return RegistryBusy(f"{_MAX_WAITING} commands wait for Redis at {self._name}")

    @asynccontextmanager
    async def _deadline(self) -> AsyncIterator[None]:
        """Raise `TimeoutError` in the block when its time is over, and its answer has not come."""
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(None) as limit:
            last_look = loop.call_later(
                self._timeout_seconds, lambda: limit.reschedule(loop.time() + _LAST_LOOK_SECONDS)
            )
            try:
                yield
            finally:
                last_look.cancel()

    def _failed(self) -> None:
        """Ask the sentinels for the primary again, because it may be another server now."""
        pool = self.redis.connection_pool
        if isinstance(pool, PrimaryPool):
            pool.look_again()

    async def aclose(self) -> None:
        """Close the connections; commands that wait are given up."""
        for task in self._pipelines:
            task.cancel()
        self._give_up(f"the connections to Redis at {self._name} are closed")
        await self.redis.aclose()


def _fail(waiting: Sequence[asyncio.Future[Any]], error: BaseException) -> None:
    for each in waiting:
        if not each.done():
            each.set_exception(RegistryUnavailable(str(error)))
            each.exception()  # whoever waits gets it, and may be gone
