"""Connections to the primary that Redis' sentinels name.

A new connection asks the sentinels for the primary, and then the server for its role. After a failed command, and
before a command when the last question is a second ago, the sentinels are asked again, and connections to another
server are closed. A former primary that still answers gets commands for a second at most.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import structlog
from redis.asyncio import ConnectionPool, Redis
from redis.asyncio.connection import AbstractConnection
from redis.asyncio.sentinel import Sentinel, SentinelConnectionPool, SentinelManagedConnection
from redis.exceptions import AuthenticationError, NoPermissionError, RedisError
from redis.exceptions import ConnectionError as RedisConnectionError

from common.errors import DependencyError
from common.store.tls_connection import TlsConnection

ASK_AGAIN_SECONDS: Final = 1.0
"""Age from which on an answer of the sentinels is asked for again before the next command."""

_ASK_INTERVAL_SECONDS: Final = 0.1
"""Minimum time between two questions after failed commands: a Redis that refuses each one has the same answer."""

_REST_SECONDS: Final = 0.02
"""Time for the other answers when more than half of the sentinels have answered: after a failover, its leader is
alone with the news for a moment."""

log = structlog.get_logger()


class NoPrimary(DependencyError, RedisConnectionError):
    """No sentinel names a primary that can be used.

    Attributes:
        what: the fault.
        todo: what an operator can do.
    """

    def __init__(self, what: str, todo: str) -> None:
        super().__init__(f"{what}; {todo}")
        self.what = what
        self.todo = todo


@dataclass(frozen=True, slots=True)
class Answers:
    """Answers of sentinels to the question for a primary.

    Attributes:
        states: of the primary, as each sentinel sees it.
        faults: what is wrong with each of the others, by its address.
        refused: whether a sentinel refused user and password.
        unknown: whether a sentinel does not know the service.
    """

    states: Sequence[Mapping[str, Any]]
    faults: Mapping[str, str]
    refused: bool = False
    unknown: bool = False


class Sentinels(Sentinel):
    """The sentinels of one service.

    Attributes:
        service: name of the primary among the sentinels.
    """

    def __init__(
        self, addresses: Sequence[tuple[str, int]], service: str, *, ask_seconds: float, **options: Any
    ) -> None:
        """Create clients that connect at the first question.

        Args:
            addresses: host and port of each sentinel.
            service: name of the primary among the sentinels.
            ask_seconds: maximum time of a question, connecting included.
            options: of a connection to a sentinel.
        """
        super().__init__([])  # type: ignore[no-untyped-call]
        self.service = service
        self.sentinels = [
            Redis.from_pool(ConnectionPool(host=host, port=port, **options)) for host, port in addresses
        ]
        self._ask_seconds = ask_seconds
        self._question: asyncio.Task[tuple[str, int]] | None = None

    @property
    def name(self) -> str:
        """The addresses of the sentinels."""
        return ",".join(_name(each) for each in self.sentinels)

    async def discover_master(self, service_name: str) -> tuple[str, int]:
        """Return host and port of the primary. Connections that ask together share one question.

        Raises:
            NoPrimary: no sentinel names a primary that can be used.
        """
        if self._question is None or self._question.done():
            self._question = asyncio.create_task(self._primary(), name="ask the sentinels")
            self._question.add_done_callback(_retrieve)
        # The time limit of one command does not end the question of the others.
        return await asyncio.shield(self._question)

    async def ask(self, *, wait_for_all: bool = False) -> Answers:
        """Ask the sentinels for the primary, all at once.

        Args:
            wait_for_all: False: when more than half of them have answered, the others have 20 ms left.
        """
        questions = {asyncio.create_task(self._ask(each)): _name(each) for each in self.sentinels}
        deadline = time.monotonic() + self._ask_seconds
        is_enough = False
        pending = set(questions)
        states: list[Mapping[str, Any]] = []
        faults: dict[str, str] = {}
        refused = unknown = False
        try:
            while pending and (left := deadline - time.monotonic()) > 0:
                done, pending = await asyncio.wait(pending, timeout=left, return_when=asyncio.FIRST_COMPLETED)
                for each in done:
                    try:
                        state = each.result()
                    except (RedisError, OSError) as error:
                        faults[questions[each]] = str(error) or type(error).__name__
                        refused |= _is_refusal(error)
                        continue
                    if state is not None:
                        states.append(state)
                    else:
                        faults[questions[each]] = f"knows no primary {self.service!r}"
                        unknown = True
                if not (wait_for_all or is_enough) and len(states) > len(questions) // 2:
                    is_enough = True
                    deadline = min(deadline, time.monotonic() + _REST_SECONDS)
            faults |= {questions[each]: f"no answer within {self._ask_seconds:g} s" for each in pending}
        finally:
            for each in pending:
                each.cancel()
            await asyncio.gather(*pending, return_exceptions=True)
        return Answers(states, faults, refused, unknown)

    async def aclose(self) -> None:
        """Close the connections to the sentinels."""
        if self._question is not None:
            self._question.cancel()
        await super().aclose()

    async def _ask(self, sentinel: Redis) -> Mapping[str, Any] | None:
        """Return the primary as a sentinel sees it; None: it does not know the service."""
        masters: Any = sentinel.sentinel_masters()
        found: Mapping[str, Any] | None = (await masters).get(self.service)
        return found

    async def _primary(self) -> tuple[str, int]:
        answers = await self.ask()
        if not answers.states:
            told = "; ".join(f"{name}: {fault}" for name, fault in answers.faults.items())
            raise NoPrimary(f"no sentinel names a primary: {told}", _todo(answers))
        # The sentinel that took part in the last failover has the highest epoch. One that was cut off from the
        # others may still name the former primary.
        epoch = max(each.get("config-epoch", 0) for each in answers.states)
        latest = [each for each in answers.states if each.get("config-epoch", 0) == epoch]
        usable = next((each for each in latest if self.check_master_state(dict(each), self.service)), None)
        if usable is None:
            where = f"{latest[0]['ip']}:{latest[0]['port']}"
            raise NoPrimary(
                f"the sentinels say that the primary {self.service!r}, {where}, is down",
                "wait for the failover; without one, look at the sentinels' logs, and whether a replica runs",
            )
        return usable["ip"], usable["port"]


class PrimaryConnection(SentinelManagedConnection):
    """A connection to a server that is, by its own word, a primary."""

    async def on_connect_check_health(self, check_health: bool = True) -> None:
        """Log in, and ask the server for its role.

        Raises:
            redis.ConnectionError: it is a replica.
        """
        await super().on_connect_check_health(check_health=check_health)
        await self.send_command("ROLE", check_health=False)
        try:
            role = await self.read_response()
        except NoPermissionError:
            return  # the account may not ask: a replica refuses writes (READONLY)
        if role[0] not in ("master", b"master"):
            raise RedisConnectionError(f"{self.host}:{self.port} is not the primary any more")


class PrimaryTlsConnection(PrimaryConnection, TlsConnection):
    """The same with TLS."""


class PrimaryPool(SentinelConnectionPool):
    """Connections to the present primary of a service.

    Attributes:
        switches: how often another server has become the primary.
    """

    def __init__(self, sentinels: Sentinels, **options: Any) -> None:
        """Create a pool that connects at its first command.

        Args:
            sentinels: that know the primary.
            options: of a connection to the primary.
        """
        super().__init__(sentinels.service, sentinels, **options)  # type: ignore[no-untyped-call]
        self._looking: asyncio.Task[None] | None = None
        self._asked_seconds = float("-inf")
        self._has_answer = False
        # The primary of the last answer. The pool's own address changes before all that asked with it hear of it.
        self._known: tuple[str, int] | None = None
        self.switches = 0

    @property
    def sentinels(self) -> Sentinels:
        """The sentinels that know the primary."""
        sentinels: Sentinels = self.sentinel_manager
        return sentinels

    async def get_master_address(self) -> tuple[str, int]:
        """Ask for the primary, and close idle connections to another server."""
        self._asked_seconds = time.monotonic()
        try:
            address: tuple[str, int] = await super().get_master_address()  # type: ignore[no-untyped-call]
        except (RedisError, OSError):
            self._has_answer = False
            raise
        self._has_answer = True
        before, self._known = self._known, address
        if before not in (None, address):
            self.switches += 1
            log.info("redis primary changed", service=self.service_name, primary=_joined(address))
        return address

    async def get_connection(self, command_name: Any = None, *keys: Any, **options: Any) -> AbstractConnection:
        """Return a connection to the primary, after a question whether it still is."""
        if time.monotonic() - self._asked_seconds > ASK_AGAIN_SECONDS:
            self.look_again()
        # Sentinels that did not answer the last time delay no command: the primary may be well.
        if self._has_answer and self._looking is not None and not self._looking.done():
            await asyncio.wait({self._looking})
        connection: AbstractConnection = await super().get_connection()  # type: ignore[no-untyped-call]
        return connection

    async def release(self, connection: AbstractConnection) -> None:
        """Take a connection back, and close it if it is to another server."""
        if (connection.host, connection.port) != self.master_address:  # type: ignore[attr-defined]
            connection.mark_for_reconnect()  # type: ignore[no-untyped-call]
        await super().release(connection)

    def look_again(self) -> None:
        """Ask for the primary soon; a question under way, or a moment ago, is enough."""
        now = time.monotonic()
        if self._looking is not None and not self._looking.done():
            return
        if now - self._asked_seconds >= _ASK_INTERVAL_SECONDS:
            self._asked_seconds = now
            self._looking = asyncio.create_task(self._look(), name="look for the primary of Redis")

    async def aclose(self) -> None:
        """Close all connections."""
        if self._looking is not None:
            self._looking.cancel()
        await super().aclose()
        await self.sentinels.aclose()

    async def _look(self) -> None:
        # The next command that needs a connection asks again, and tells.
        with contextlib.suppress(RedisError, OSError):
            await self.get_master_address()


def _todo(answers: Answers) -> str:
    if answers.refused:
        return "correct the sentinels' password: REDIS_SENTINEL_PASSWORD, or sentinel_password in REDIS_URL"
    if answers.unknown:
        return "name the service in REDIS_URL as in `sentinel monitor NAME ...` of the sentinels"
    return "start the sentinels, or correct their addresses in REDIS_URL"


def _is_refusal(error: Exception) -> bool:
    # A new connection's refused AUTH may come as a plain error with the words of Redis.
    return isinstance(error, AuthenticationError | NoPermissionError) or any(
        word in str(error) for word in ("NOAUTH", "WRONGPASS", "without any password")
    )


def _retrieve(question: asyncio.Task[tuple[str, int]]) -> None:
    """Take the error of a question whose commands have all been cancelled."""
    if not question.cancelled():
        question.exception()


def _name(client: Redis) -> str:
    options = client.connection_pool.connection_kwargs
    return _joined((options["host"], options["port"]))


def _joined(address: tuple[str, int]) -> str:
    host, port = address
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
