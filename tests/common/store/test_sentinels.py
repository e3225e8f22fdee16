"""Redis by its sentinels, against real ones: which server gets the commands, and what an error says."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.asyncio.sentinel import SentinelConnectionPool

from common.errors import RegistryUnavailable
from common.store.leases import CallLease
from common.store.pins import Pin
from common.store.registry import Registry
from common.store.sentinels import NoPrimary, PrimaryPool
from tests.certificates import Authority
from tests.common.store.test_registry import publish, worker
from tests.conftest import start_watched
from tests.helpers import eventually
from tests.sentinel_process import (
    PATIENCE_SECONDS,
    SERVICE,
    Server,
    Watched,
    find_redis_with_tls,
    role_of,
    until,
)

PASSWORD = "p4ssw0rd-of-the-primary"
SENTINEL_PASSWORD = "p4ssw0rd-of-the-sentinels"


@pytest.fixture(scope="module")
def shared() -> Iterator[Watched]:
    """Yield servers that no test of this module harms: primary, replica, three sentinels, all with passwords."""
    watched = start_watched(password=PASSWORD, sentinel_password=SENTINEL_PASSWORD)
    yield watched
    watched.close()


@pytest.fixture
async def registry_of() -> AsyncIterator[Callable[..., Registry]]:
    """Yield a function that opens registries, which are closed behind the test."""
    opened: list[Registry] = []

    def open_registry(url: str, timeout_seconds: float = 0.5) -> Registry:
        opened.append(Registry.from_url(url, timeout_seconds=timeout_seconds))
        return opened[-1]

    yield open_registry
    for each in opened:
        await each.aclose()


async def answered(registry: Registry) -> None:
    """Wait until Redis answers."""

    async def answers() -> bool:
        return await registry.ping()

    await eventually(answers, PATIENCE_SECONDS)


def pool_of(registry: Registry) -> PrimaryPool:
    pool = registry._redis.connection_pool
    assert isinstance(pool, PrimaryPool)
    return pool


def names(server: Server) -> set[str]:
    """Return the claims that a server has."""
    with server.client() as client:
        return {key.rpartition(":")[2] for key in client.keys("avr-sts:2:claim:*")}


async def claimed(registry: Registry, name: str) -> None:
    """Write a name until Redis has it."""

    async def claims() -> bool:
        try:
            await registry.claim(name, seconds=600)
        except RegistryUnavailable:
            return False
        return True

    await eventually(claims, PATIENCE_SECONDS)


async def test_commands_reach_the_primary(shared: Watched, registry_of: Callable[..., Registry]) -> None:
    registry = registry_of(shared.url, 30)
    await registry.claim("first", seconds=600)
    assert "first" in names(shared.primary())
    assert isinstance(pool_of(registry), SentinelConnectionPool)


@pytest.mark.parametrize(
    ("wrong", "message", "todo"),
    [
        ((SENTINEL_PASSWORD, "wrong-password"), "invalid username-password", "REDIS_SENTINEL_PASSWORD"),
        ((f"?sentinel_password={SENTINEL_PASSWORD}", ""), "Authentication required", "REDIS_SENTINEL_PASSWORD"),
        (("/calls/0", "/other/0"), "knows no primary 'other'", "sentinel monitor NAME"),
    ],
)
async def test_refusal_of_sentinels_says_what_to_do(
    shared: Watched, registry_of: Callable[..., Registry], wrong: tuple[str, str], message: str, todo: str
) -> None:
    registry = registry_of(shared.url.replace(*wrong), 30)
    with pytest.raises(RegistryUnavailable, match=message) as refused:
        await registry.workers()
    assert isinstance(refused.value.__cause__, NoPrimary)
    assert todo in refused.value.__cause__.todo
    assert shared.sentinels[0].address in str(refused.value)
    assert "p4ssw0rd" not in f"{refused.value}{refused.value.__cause__.todo}"


async def test_wrong_password_of_the_primary_is_refused_by_it(
    shared: Watched, registry_of: Callable[..., Registry]
) -> None:
    registry = registry_of(shared.url.replace(PASSWORD, "wrong-password"), 30)
    with pytest.raises(RegistryUnavailable, match="invalid username-password") as refused:
        await registry.workers()
    assert not isinstance(refused.value.__cause__, NoPrimary)


async def test_new_connections_have_replaced_passwords(
    shared: Watched, registry_of: Callable[..., Registry]
) -> None:
    registry = registry_of(shared.url.replace("p4ssw0rd", "former-password"), 30)
    with pytest.raises(RegistryUnavailable):
        await registry.workers()
    registry.use_account(shared.url)
    assert await registry.workers() == []


async def test_replica_in_place_of_the_primary_gets_no_command(
    shared: Watched, registry_of: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = registry_of(shared.url, 30)
    (replica,) = [each for each in shared.servers if each is not shared.primary()]

    async def stale(_: str) -> tuple[str, int]:
        return replica.host, replica.port

    monkeypatch.setattr(pool_of(registry).sentinels, "discover_master", stale)
    with pytest.raises(RegistryUnavailable, match=f"{replica.address} is not the primary any more"):
        await registry.workers()


async def test_sentinels_that_answer_nothing_delay_nothing(
    watched: Watched, registry_of: Callable[..., Registry]
) -> None:
    primary = watched.primary()
    watched.sentinels[0].freeze()
    registry = registry_of(watched.url, 30)
    async with asyncio.timeout(10):  # the question's own limit is 15 s
        assert await registry.workers() == []
    watched.sentinels[1].kill()
    primary.freeze()
    with pytest.raises(RegistryUnavailable, match=r"did not answer within 0\.5 s"):
        await registry_of(watched.url).workers()


async def test_one_sentinel_of_three_is_enough(watched: Watched, registry_of: Callable[..., Registry]) -> None:
    for sentinel in watched.sentinels[:2]:
        sentinel.kill()
    registry = registry_of(watched.url)
    assert await registry.workers() == []


async def test_frozen_sentinels_are_named_in_time(watched: Watched, registry_of: Callable[..., Registry]) -> None:
    for sentinel in watched.sentinels:
        sentinel.freeze()
    registry = registry_of(watched.url)
    with pytest.raises(RegistryUnavailable, match=f"{watched.sentinels[0].address}: no answer within 0.25 s"):
        await registry.workers()


async def test_killed_primary_is_replaced_by_the_replica(
    watched: Watched, registry_of: Callable[..., Registry]
) -> None:
    registry = registry_of(watched.url)
    await registry.claim("before", seconds=600)
    former = watched.primary()
    former.kill()
    with pytest.raises(RegistryUnavailable):
        await registry.workers()
    await claimed(registry, "after")
    assert "after" in names(watched.wait_for_failover(former))
    # It comes back as a primary, until the sentinels make it a replica.
    watched.start_server(former)
    await claimed(registry, "at the end")
    until(lambda: "at the end" in names(former), "the former primary follows the new one")


async def test_former_primary_that_wakes_gets_no_command(
    watched: Watched, registry_of: Callable[..., Registry]
) -> None:
    registry = registry_of(watched.url)
    # All connections of the pool are open, and idle.
    await asyncio.gather(*(registry.claim(f"before-{number}", seconds=600) for number in range(8)))
    former = watched.primary()
    former.freeze()
    # Written into its socket: it executes the command when it wakes.
    with pytest.raises(RegistryUnavailable):
        await registry.claim("late", seconds=600)
    present = watched.wait_for_failover(former)
    await claimed(registry, "after")
    for sentinel in watched.sentinels:
        sentinel.freeze()  # nobody tells the former primary that it is a replica now
    former.thaw()
    until(lambda: "late" in names(former), "the former primary executes the late command")
    for number in range(16):
        await registry.claim(f"split-{number}", seconds=600)
    split = {f"split-{number}" for number in range(16)}
    assert split <= names(present)
    assert not split & names(former)
    for sentinel in watched.sentinels:
        sentinel.thaw()
    until(lambda: names(former) == names(present), "the former primary follows the new one")
    assert "late" not in names(present), "the late command has changed nothing"


async def test_former_primary_that_answers_gets_no_command(
    watched: Watched, registry_of: Callable[..., Registry]
) -> None:
    registry = registry_of(watched.url)
    await asyncio.gather(*(registry.claim(f"before-{number}", seconds=600) for number in range(8)))
    former = watched.primary()
    # It goes on as a primary, as if the sentinels could not reach it, and closes no connection.
    former.ask("ACL", "SETUSER", "default", "-replicaof", "-slaveof")
    watched.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
    present = watched.wait_for_failover(former)

    async def arrives() -> bool:
        await claimed(registry, "after")
        return "after" in names(present)

    await eventually(arrives, PATIENCE_SECONDS)
    await asyncio.gather(*(registry.claim(f"later-{number}", seconds=600) for number in range(16)))
    assert role_of(former) == "master"
    assert not any(name.startswith("later") for name in names(former))


async def test_answer_of_the_latest_failover_counts(
    watched: Watched, registry_of: Callable[..., Registry], monkeypatch: pytest.MonkeyPatch
) -> None:
    pool = pool_of(registry_of(watched.url, 30))
    former, first, ask = watched.primary(), pool.sentinels.sentinels[0], pool.sentinels._ask
    before = await ask(first)
    assert await pool.get_master_address() == (former.host, former.port)
    watched.sentinels[0].ask("SENTINEL", "FAILOVER", SERVICE)
    watched.wait_for_failover(former)

    async def cut_off(sentinel: Redis) -> Mapping[str, Any] | None:
        return before if sentinel is first else await ask(sentinel)

    monkeypatch.setattr(pool.sentinels, "_ask", cut_off)
    found = await asyncio.gather(*(pool.get_master_address() for _ in range(8)))
    assert (former.host, former.port) not in found
    assert pool.switches == 1, "those who ask together count it once"


async def test_what_a_lagging_replica_lost_is_written_again(
    watched: Watched, registry_of: Callable[..., Registry]
) -> None:
    registry = registry_of(watched.url)
    former = watched.primary()
    (replica,) = [each for each in watched.servers if each is not former]
    await publish(registry, worker("w1"))
    pins = [await pin(registry, "older", epoch=1)]
    until(lambda: replica.ask("EXISTS", "avr-sts:2:call:older"), "the replica has the older call")
    watched.hold_back(replica)
    pins += [await pin(registry, "newer", epoch=1), await pin(registry, "older", epoch=4)]
    assert [each.epoch for each in pins] == [1, 1, 4]
    former.kill()
    replica.thaw()
    present = watched.wait_for_failover(former)
    await answered(registry)
    assert present.ask("HGET", "avr-sts:2:call:older", "epoch") == "1", "it has lost the last pin"
    assert present.ask("EXISTS", "avr-sts:2:call:newer") == 0

    # The dispatcher of the calls knows their epochs, and Redis takes these.
    renewal = await registry.renew("d1", [lease("older", 4), lease("newer", 1)], lease_seconds=60)
    assert not renewal.superseded
    stored = [await registry.call(uuid) for uuid in ("older", "newer")]
    assert [(each.epoch, each.worker) for each in stored if each is not None] == [(4, "w1"), (1, "w1")]
    # A holder from before does not come back.
    late = await registry.renew("d0", [lease("older", 1)], lease_seconds=60)
    assert late.superseded == {"older"}
    assert (await pin(registry, "older", epoch=2)).epoch == 5


async def pin(registry: Registry, uuid: str, *, epoch: int) -> Pin:
    found = await registry.pin(uuid, dispatcher="d1", epoch=epoch, metadata={}, lease_seconds=60)
    assert isinstance(found, Pin)
    return found


def lease(uuid: str, epoch: int) -> CallLease:
    return CallLease(uuid, "w1", epoch, "open", None, 1, {})


async def test_tls_reaches_sentinels_and_primary(tmp_path: Path, registry_of: Callable[..., Registry]) -> None:
    if find_redis_with_tls() is None:
        pytest.skip("no redis-server on PATH was built with TLS")
    watched = start_watched(authority=Authority(tmp_path), password=PASSWORD, sentinel_password=SENTINEL_PASSWORD)
    try:
        registry = registry_of(watched.url, 30)
        await registry.claim("first", seconds=600)
        assert "first" in names(watched.primary())
        stranger = registry_of(watched.url.partition("&ssl_ca_certs")[0], 30)
        with pytest.raises(RegistryUnavailable, match="certificate verify failed"):
            await stranger.workers()
        former = watched.primary()
        former.kill()
        await claimed(registry, "after")
        assert "after" in names(watched.wait_for_failover(former))
    finally:
        watched.close()
