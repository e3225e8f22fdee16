from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from typing import Any

import orjson
import pytest
import structlog
from redis.asyncio import Redis

from common.errors import RegistryUnavailable
from common.observe import redaction
from common.store.keys import KEY_PREFIX
from common.store.leases import (
    Beat,
    CallLease,
    CallRecord,
    TableVersion,
    WorkerRecord,
    WorkerState,
    WorkerStatus,
)
from common.store.memory import MemoryUpdate
from common.store.pins import NoCapacity, NoCapacityReason, Pin, Superseded
from common.store.record_reader import CONNECTING
from common.store.registry import NOBODY, Registry
from tests.helpers import eventually
from tests.redis_process import RealRedis, RedisProcess

LONG_SECONDS = 60
SHORT_SECONDS = 0.1

FULL = NoCapacity(NoCapacityReason.FULL)
NO_WORKERS = NoCapacity(NoCapacityReason.NO_WORKERS)


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Yield a client of the registry's Redis."""
    async with Redis.from_url(redis_url, decode_responses=True) as client:
        yield client


def worker(
    name: str,
    *,
    capacity: int = 10,
    release: str = "1.0.0",
    state: WorkerState = WorkerState.READY,
    problem: str = "",
) -> WorkerRecord:
    return WorkerRecord(
        id=name,
        address=f"{name}.example:7000",
        host=f"{name}.example",
        pid=42,
        release=release,
        capacity=capacity,
        state=state,
        boot_id=f"{name}-boot_id",
        problem=problem,
    )


async def publish(registry: Registry, *workers: WorkerRecord, lease_seconds: float = LONG_SECONDS) -> None:
    for record in workers:
        await registry.publish_worker(record, lease_seconds=lease_seconds)


async def pin(registry: Registry, uuid: str, **options: Any) -> Pin | NoCapacity | Superseded:
    defaults: dict[str, Any] = {"dispatcher": "d1", "epoch": 1, "metadata": {}, "lease_seconds": LONG_SECONDS}
    return await registry.pin(uuid, **(defaults | options))


async def pinned(registry: Registry, uuid: str, **options: Any) -> Pin:
    outcome = await pin(registry, uuid, **options)
    assert isinstance(outcome, Pin), outcome
    return outcome


async def loads(registry: Registry) -> dict[str, int]:
    return {status.id: status.calls for status in await registry.workers()}


def lease(uuid: str, worker: str, *, epoch: int = 1, state: str = "live") -> CallLease:
    return CallLease(
        uuid=uuid,
        worker=worker,
        epoch=epoch,
        state=state,
        started_at_ms=1_000,
        pins=epoch,
        metadata={"from": "100"},
    )


async def beat(
    registry: Registry, dispatcher: str = "d1", *, lease_seconds: float = LONG_SECONDS, **options: Any
) -> Beat:
    defaults: dict[str, Any] = {"version": TableVersion()}
    return await registry.beat(dispatcher, lease_seconds=lease_seconds, **(defaults | options))


async def is_swept(registry: Registry, redis: Redis) -> bool:
    """Have another process beat, and return whether nothing of calls is left."""
    await beat(registry, "another")
    return not [key async for key in redis.scan_iter("*call*")] and not await redis.keys("*:said:*")


async def redis_ms(redis: Redis) -> int:
    seconds, microseconds = await redis.time()
    return seconds * 1000 + microseconds // 1000


def passed(redis: Redis, moment_ms: int) -> Callable[[], Awaitable[bool]]:
    async def has_passed() -> bool:
        return await redis_ms(redis) > moment_ms

    return has_passed


class TestWorkers:
    async def test_a_published_worker_is_listed_unchanged(self, registry: Registry) -> None:
        record = worker("w1", capacity=7, release="1.2.3", state=WorkerState.DRAINING, problem="http_401")
        await publish(registry, record)
        assert await registry.workers() == [
            WorkerStatus(
                id="w1",
                address="w1.example:7000",
                host="w1.example",
                pid=42,
                release="1.2.3",
                capacity=7,
                state=WorkerState.DRAINING,
                boot_id="w1-boot_id",
                calls=0,
                problem="http_401",
            )
        ]

    async def test_a_worker_of_a_release_without_problems_has_none(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1", problem="http_401"))
        await redis.hdel(f"{KEY_PREFIX}worker:w1", "problem")
        assert [each.problem for each in await registry.workers()] == [""]

    async def test_a_problem_that_is_over_disappears(self, registry: Registry) -> None:
        for problem in ("http_401", ""):
            await publish(registry, worker("w1", problem=problem))
        assert [each.problem for each in await registry.workers()] == [""]

    async def test_a_worker_that_stops_publishing_disappears(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"), lease_seconds=SHORT_SECONDS)

        async def is_gone() -> bool:
            return not (await registry.workers() or await redis.keys("*worker:w1*"))

        await eventually(is_gone)
        assert (await beat(registry)).changes.gone == ("w1",)

    async def test_an_abandoned_redis_empties_itself(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"), lease_seconds=SHORT_SECONDS)
        await pinned(registry, "c1", lease_seconds=SHORT_SECONDS)
        await beat(registry, lease_seconds=SHORT_SECONDS)
        lasting = [key for key in await redis.keys() if await redis.pttl(key) == -1]
        assert lasting == []

    async def test_an_unchanged_record_is_written_once(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        version = (await beat(registry)).changes.version
        await redis.hset(f"{KEY_PREFIX}worker:w1", "host", "as it was")
        await publish(registry, worker("w1"))
        assert [each.host for each in await registry.workers()] == ["as it was"]
        assert (await beat(registry, version=version)).changes.workers == ()

    async def test_a_record_that_redis_lost_is_written_again(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await redis.flushdb()
        await publish(registry, worker("w1"))
        assert await loads(registry) == {"w1": 0}

    async def test_two_writers_of_a_record_do_not_confirm_each_other(self, registry: Registry) -> None:
        other = Registry(registry._connection)
        await publish(registry, worker("w1", capacity=1))
        await publish(other, worker("w1", capacity=2))
        await publish(registry, worker("w1", capacity=1))
        assert [each.capacity for each in await registry.workers()] == [1]

    async def test_publishing_again_extends_the_lease(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"), lease_seconds=SHORT_SECONDS)
        await publish(registry, worker("w1"), lease_seconds=LONG_SECONDS)
        await eventually(passed(redis, await redis_ms(redis) + round(SHORT_SECONDS * 1000)))
        assert await loads(registry) == {"w1": 0}

    async def test_a_removed_worker_is_gone_at_once(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"), worker("w2"))
        await registry.remove_worker("w1")
        assert await loads(registry) == {"w2": 0}
        assert await redis.keys("*w1*") == []

    async def test_records_of_another_release_are_understood(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("newer"))
        await redis.hset(f"{KEY_PREFIX}worker:newer", mapping={"state": "hibernating", "colour": "blue"})
        await publish(registry, worker("older"))
        await redis.hdel(f"{KEY_PREFIX}worker:older", "release", "release_order", "boot_id", "pid")
        older, newer = sorted(await registry.workers(), key=lambda status: status.id, reverse=True)
        assert (newer.state, newer.capacity) == (WorkerState.DRAINING, 10)
        assert (older.state, older.release, older.pid, older.boot_id) == (WorkerState.READY, "", 0, "")
        assert (await pinned(registry, "c1")).worker == "older"


class TestPin:
    async def test_the_age_counts_from_the_first_pin(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        first = await pinned(registry, "c1")
        assert first.age_ms == 0
        while await redis_ms(redis) <= first.started_at_ms:
            pass
        again = await pinned(registry, "c1", epoch=2)
        assert again.started_at_ms == first.started_at_ms
        assert 0 < again.age_ms <= await redis_ms(redis) - first.started_at_ms

    async def test_a_new_call_is_recorded(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        before_ms = await redis_ms(redis)
        pin = await pinned(registry, "c1", metadata={"from": "+39 02", "name": "Zoë \N{TELEPHONE RECEIVER}"})
        after_ms = await redis_ms(redis)
        assert pin == Pin("w1", "w1.example:7000", epoch=1, pins=1, started_at_ms=pin.started_at_ms)
        assert before_ms <= pin.started_at_ms <= after_ms
        record = CallRecord(
            uuid="c1",
            worker="w1",
            dispatcher="d1",
            epoch=1,
            state=CONNECTING,
            started_at_ms=pin.started_at_ms,
            pins=1,
            metadata={"from": "+39 02", "name": "Zoë \N{TELEPHONE RECEIVER}"},
        )
        assert await registry.call("c1") == record
        assert await registry.calls() == [record]
        assert await loads(registry) == {"w1": 1}

    async def test_calls_are_spread_evenly(self, registry: Registry) -> None:
        await publish(registry, *(worker(f"w{n}") for n in range(4)))
        for number in range(22):
            await pinned(registry, f"c{number}")
        assert sorted((await loads(registry)).values()) == [5, 5, 6, 6]

    async def test_the_load_is_relative_to_the_capacity(self, registry: Registry) -> None:
        await publish(registry, worker("small", capacity=2), worker("large", capacity=20))
        for number in range(11):
            await pinned(registry, f"c{number}")
        assert await loads(registry) == {"small": 1, "large": 10}

    async def test_with_equal_load_the_worker_with_fewer_calls_is_taken(self, registry: Registry) -> None:
        await publish(registry, worker("small", capacity=2), worker("large", capacity=20))
        for number in range(11):
            await pinned(registry, f"c{number}")  # 1 of 2 and 10 of 20
        for _ in range(10):  # not by chance
            pin = await pinned(registry, "next")
            assert pin.worker == "small"
            await registry.unpin("next", epoch=pin.epoch)

    async def test_equal_workers_take_turns(self, registry: Registry) -> None:
        names = {"w1", "w2", "w3"}
        await publish(registry, *map(worker, names))
        seen = set()

        async def everyone_was_first() -> bool:
            pin = await pinned(registry, "c1")
            seen.add(pin.worker)
            await registry.unpin("c1", epoch=pin.epoch)
            return seen == names

        await eventually(everyone_was_first)

    async def test_the_newest_release_is_preferred_until_it_is_full(self, registry: Registry) -> None:
        await publish(registry, worker("old", release="1.9.0"), worker("new", release="1.10.0", capacity=2))
        assert [(await pinned(registry, f"c{n}")).worker for n in range(4)] == ["new", "new", "old", "old"]

    async def test_no_worker_exceeds_its_capacity(self, registry: Registry) -> None:
        await publish(registry, worker("w1", capacity=1), worker("w2", capacity=2), worker("off", capacity=0))
        for number in range(3):
            await pinned(registry, f"c{number}")
        assert await pin(registry, "c3") == FULL
        assert await loads(registry) == {"w1": 1, "w2": 2, "off": 0}
        assert await registry.call("c3") is None

    async def test_capacity_may_be_exceeded_on_request(self, registry: Registry) -> None:
        await publish(registry, worker("w1", capacity=4))
        for number in range(6):
            await pinned(registry, f"c{number}", over_capacity=1.5)
        assert await pin(registry, "c6", over_capacity=1.5) == FULL

    async def test_excluded_workers_are_skipped(self, registry: Registry) -> None:
        await publish(registry, worker("w1"), worker("w2"), worker("w3"))
        assert (await pinned(registry, "c1", excluded=["w1", "w3"])).worker == "w2"
        assert await pin(registry, "c2", excluded={"w1", "w2", "w3"}) == NO_WORKERS

    async def test_draining_workers_get_no_calls_and_keep_theirs(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1")
        await publish(registry, worker("w1", state=WorkerState.DRAINING))
        assert await pin(registry, "c2") == NO_WORKERS
        assert await loads(registry) == {"w1": 1}

    async def test_without_workers_there_is_no_capacity(self, registry: Registry, redis: Redis) -> None:
        assert await pin(registry, "c1") == NO_WORKERS
        assert await redis.keys() == []

    async def test_a_worker_whose_lease_is_over_gets_no_calls(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"), lease_seconds=SHORT_SECONDS)
        await eventually(passed(redis, await redis_ms(redis) + round(SHORT_SECONDS * 1000)))
        assert await pin(registry, "c1") == NO_WORKERS

    async def test_a_call_whose_dispatcher_died_frees_its_slot(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1", capacity=1))
        await pinned(registry, "c1", lease_seconds=SHORT_SECONDS)

        async def another_call_fits() -> bool:
            return isinstance(await pin(registry, "c2"), Pin)

        await eventually(another_call_fits)
        assert [record.uuid for record in await registry.calls()] == ["c2"]
        assert await loads(registry) == {"w1": 1}

    async def test_a_long_lease_outlives_a_shorter_one(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "long", lease_seconds=LONG_SECONDS)
        await pinned(registry, "short", dispatcher="d2", lease_seconds=SHORT_SECONDS)
        await eventually(passed(redis, await redis_ms(redis) + round(SHORT_SECONDS * 1000)))
        assert [record.uuid for record in await registry.calls()] == ["long"]
        await beat(registry)
        assert await loads(registry) == {"w1": 1}
        await pinned(registry, "next")
        assert await redis.zrange(f"{KEY_PREFIX}calls", 0, -1) == ["long", "next"]
        assert await redis.smembers(f"{KEY_PREFIX}worker:w1:calls") == {"long", "next"}

    async def test_one_lease_of_a_dispatcher_is_never_shortened(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "long", lease_seconds=LONG_SECONDS)
        await pinned(registry, "short", lease_seconds=SHORT_SECONDS)
        await eventually(passed(redis, await redis_ms(redis) + round(SHORT_SECONDS * 1000)))
        assert [record.uuid for record in await registry.calls()] == ["long", "short"]

    async def test_many_workers_are_looked_through(self, registry: Registry) -> None:
        await publish(registry, *(worker(f"w{number:02}", capacity=2) for number in range(60)))
        placed = [(await pinned(registry, f"c{number}")).worker for number in range(120)]
        assert {placed.count(name) for name in placed} == {2}
        assert await pin(registry, "one-more") == FULL

    async def test_a_worker_that_comes_back_gets_calls_again(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"), lease_seconds=SHORT_SECONDS)
        await eventually(passed(redis, await redis_ms(redis) + round(SHORT_SECONDS * 1000)))
        assert await pin(registry, "c1") == NO_WORKERS
        await publish(registry, worker("w1"))
        assert (await pinned(registry, "c1")).worker == "w1"

    async def test_a_worker_with_a_new_release_counts_by_it_alone(self, registry: Registry) -> None:
        await publish(registry, worker("w1"), worker("w2", release="1.1.0"))
        await publish(registry, worker("w1", release="1.2.0"))
        assert (await pinned(registry, "c1")).worker == "w1"
        await publish(registry, worker("w1", state=WorkerState.DRAINING, release="1.2.0"))
        assert (await pinned(registry, "c2")).worker == "w2"

    async def test_survives_the_loss_of_the_script_cache(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await redis.script_flush()
        assert (await pinned(registry, "c1")).worker == "w1"


class TestPinAgain:
    async def test_moves_the_slot_and_grows_the_epoch(self, registry: Registry) -> None:
        await publish(registry, worker("w1"), worker("w2"))
        first = await pinned(registry, "c1", metadata={"from": "1"})
        second = await pinned(
            registry, "c1", epoch=2, dispatcher="d2", metadata={"from": "2"}, excluded=[first.worker]
        )
        assert second.worker != first.worker
        assert (second.epoch, second.pins, second.started_at_ms) == (2, 2, first.started_at_ms)
        assert await loads(registry) == {first.worker: 0, second.worker: 1}
        record = await registry.call("c1")
        assert record is not None
        assert (record.dispatcher, record.worker, record.metadata) == ("d2", second.worker, {"from": "2"})

    @pytest.mark.parametrize(("asked", "given"), [(1, 6), (5, 6), (6, 6), (9, 9)])
    async def test_never_lowers_the_epoch(self, registry: Registry, asked: int, given: int) -> None:
        await publish(registry, worker("w1"))
        assert (await pinned(registry, "c1", epoch=5)).epoch == 5
        assert (await pinned(registry, "c1", epoch=asked)).epoch == given

    async def test_without_capacity_leaves_the_earlier_pin(self, registry: Registry) -> None:
        await publish(registry, worker("w1", capacity=1), worker("w2", capacity=1))
        first = await pinned(registry, "c1")
        await pinned(registry, "c2")
        before = await registry.call("c1")
        assert await pin(registry, "c1", epoch=2, excluded=[first.worker]) == FULL
        assert await registry.call("c1") == before
        assert await loads(registry) == {"w1": 1, "w2": 1}

    async def test_its_own_slot_does_not_count_against_it(self, registry: Registry) -> None:
        await publish(registry, worker("w1", capacity=1))
        await pinned(registry, "c1")
        assert (await pinned(registry, "c1", epoch=2)).worker == "w1"
        assert await loads(registry) == {"w1": 1}

    async def test_a_slot_that_was_lost_is_not_subtracted(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1", capacity=1))
        await pinned(registry, "c1")
        await redis.delete(f"{KEY_PREFIX}worker:w1:calls")
        await pinned(registry, "c2")
        assert await pin(registry, "c1", epoch=2) == FULL

    async def test_finds_a_place_although_its_worker_is_gone(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1")
        await registry.remove_worker("w1")
        await publish(registry, worker("w2"))
        assert (await pinned(registry, "c1", epoch=2)).worker == "w2"


class TestUnpin:
    async def test_leaves_nothing_of_the_call(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        pin = await pinned(registry, "c1", metadata={"from": "1"})
        pin = await pinned(registry, "c1", epoch=pin.epoch + 1)
        await registry.renew("d1", [lease("c1", "w1", epoch=2)], lease_seconds=LONG_SECONDS)
        assert await registry.unpin("c1", epoch=2) is True
        assert [key for key in await redis.keys() if "call" in key or "said" in key] == []

    async def test_a_former_holder_cannot_unpin(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1")
        await pinned(registry, "c1", epoch=2, dispatcher="d2")
        before = await registry.call("c1")
        assert await registry.unpin("c1", epoch=1) is False
        assert await registry.call("c1") == before

    async def test_an_unknown_call_is_not_unpinned(self, registry: Registry, redis: Redis) -> None:
        assert await registry.unpin("c1", epoch=1) is False
        assert await redis.keys() == []

    async def test_a_renewal_under_way_does_not_undo_an_unpin(self, registry: Registry) -> None:
        await publish(registry, worker("w1", capacity=1000))
        held = [lease(f"c{number}", "w1") for number in range(250)]  # three commands
        await registry.renew("d1", held, lease_seconds=LONG_SECONDS)
        renewal = asyncio.create_task(registry.renew("d1", held, lease_seconds=LONG_SECONDS))
        await asyncio.sleep(0)
        assert await registry.unpin("c249", epoch=1) is True
        await renewal
        assert await registry.call("c249") is None
        assert await loads(registry) == {"w1": 249}


class TestRenew:
    async def test_keeps_a_call_beyond_its_first_lease(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        pin = await pinned(registry, "c1", lease_seconds=SHORT_SECONDS)
        await registry.renew("d1", [lease("c1", "w1")], lease_seconds=LONG_SECONDS)
        await eventually(passed(redis, await redis_ms(redis) + round(SHORT_SECONDS * 1000)))
        record = await registry.call("c1")
        assert record is not None
        assert (record.state, record.started_at_ms) == ("live", pin.started_at_ms)
        assert await loads(registry) == {"w1": 1}

    async def test_a_renewal_takes_slots(self, registry: Registry) -> None:
        await publish(registry, worker("w1"), worker("w2", capacity=5, state=WorkerState.DRAINING))
        assert (await pinned(registry, "c1")).worker == "w1"
        renewal = await registry.renew("d1", [lease("c1", "w1"), lease("c2", "w2")], lease_seconds=LONG_SECONDS)
        assert renewal.superseded == frozenset()
        assert await loads(registry) == {"w1": 1, "w2": 1}

    async def test_a_renewal_restores_calls_that_redis_lost(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        pin = await pinned(registry, "c1", metadata={"from": "100"})
        before = await registry.call("c1")
        await redis.flushdb()
        held = replace(lease("c1", "w1", state=CONNECTING), started_at_ms=pin.started_at_ms)
        await registry.renew("d1", [held], lease_seconds=LONG_SECONDS)
        await publish(registry, worker("w1"))
        assert await registry.call("c1") == before
        assert await registry.calls() == [before]
        assert await loads(registry) == {"w1": 1}

    async def test_dates_a_call_that_was_placed_without_redis(self, registry: Registry, redis: Redis) -> None:
        held = replace(lease("c1", "w1"), started_at_ms=None)
        before_ms = await redis_ms(redis)
        await registry.renew("d1", [held], lease_seconds=LONG_SECONDS)
        after_ms = await redis_ms(redis)
        first = await registry.call("c1")
        assert first is not None
        assert before_ms <= first.started_at_ms <= after_ms
        await eventually(passed(redis, after_ms))
        await registry.renew("d1", [replace(held, state="ending")], lease_seconds=LONG_SECONDS)
        assert await registry.call("c1") == replace(first, state="ending")

    async def test_moves_a_call_that_moved_while_redis_was_away(self, registry: Registry) -> None:
        await publish(registry, worker("w1"), worker("w2"))
        first = await pinned(registry, "c1", excluded=["w2"])
        renewal = await registry.renew("d1", [lease("c1", "w2", epoch=2)], lease_seconds=LONG_SECONDS)
        assert renewal.superseded == frozenset()
        record = await registry.call("c1")
        assert record is not None
        assert (record.worker, record.epoch, record.pins) == ("w2", 2, 2)
        assert record.started_at_ms == first.started_at_ms
        assert await loads(registry) == {"w1": 0, "w2": 1}

    async def test_places_a_call_whose_pin_was_answered_too_late(self, registry: Registry) -> None:
        await publish(registry, worker("w1"), worker("w2"))
        await pinned(registry, "c1", excluded=["w2"])  # the dispatcher gave up on this one and took w2 at epoch 1
        await registry.renew("d1", [lease("c1", "w2", epoch=1)], lease_seconds=LONG_SECONDS)
        assert await loads(registry) == {"w1": 0, "w2": 1}

    async def test_the_tenant_of_a_call_is_published_when_it_is_known(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1")
        tenants = []
        # A worker, or a dispatcher of an earlier release, tells none.
        for tenant in ("", "other", "acme", ""):
            held = replace(lease("c1", "w1"), tenant=tenant)
            await registry.renew("d1", [held], lease_seconds=LONG_SECONDS)
            record = await registry.call("c1")
            assert record is not None
            tenants.append(record.tenant)
        assert tenants == ["", "other", "acme", "acme"]
        assert [call.tenant for call in await registry.calls()] == ["acme"]

    @pytest.mark.parametrize("stale_epoch", [1, 2])
    async def test_a_superseded_renewal_leaves_the_record(self, registry: Registry, stale_epoch: int) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1", dispatcher="d1")
        await pinned(registry, "c1", dispatcher="d2", epoch=2)
        before = await registry.call("c1")
        held = [lease("c1", "w1", epoch=stale_epoch), lease("c2", "w1")]
        renewal = await registry.renew("d1", held, lease_seconds=LONG_SECONDS)
        assert renewal.superseded == {"c1"}
        assert await registry.call("c1") == before
        renewal = await registry.renew("d2", [lease("c1", "w1", epoch=2)], lease_seconds=LONG_SECONDS)
        assert renewal.superseded == frozenset()

    async def test_a_workers_renewal_leaves_a_held_call_unchanged(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1", dispatcher="d1")
        before = await registry.call("c1")
        renewal = await registry.renew(NOBODY, [lease("c1", "w1", state="waiting")], lease_seconds=LONG_SECONDS)
        assert await registry.call("c1") == before
        assert renewal.superseded == frozenset()

    @pytest.mark.parametrize("elsewhere", [True, False])
    async def test_a_workers_renewal_is_superseded_by_a_dispatcher(
        self, registry: Registry, elsewhere: bool
    ) -> None:
        await publish(registry, worker("w1"), worker("w2"))
        await registry.renew(NOBODY, [lease("c1", "w1")], lease_seconds=LONG_SECONDS)
        # Another dispatcher has lost the session, or found it and is about to attach.
        pin = await pinned(
            registry, "c1", dispatcher="d2", attach=not elsewhere, excluded=["w1"] if elsewhere else []
        )
        assert pin.worker == ("w2" if elsewhere else "w1")
        before = await registry.call("c1")
        renewal = await registry.renew(NOBODY, [lease("c1", "w1")], lease_seconds=LONG_SECONDS)
        assert renewal.superseded == (frozenset({"c1"}) if elsewhere else frozenset())
        assert await registry.call("c1") == before

    async def test_a_workers_renewal_restores_a_call_that_redis_lost(self, registry: Registry) -> None:
        await publish(registry, worker("w1"), worker("w2"))
        await registry.renew(NOBODY, [lease("c1", "w1", epoch=3, state="waiting")], lease_seconds=LONG_SECONDS)
        record = await registry.call("c1")
        assert record is not None
        assert (record.dispatcher, record.worker, record.epoch, record.state) == ("", "w1", 3, "waiting")
        # A dispatcher that has it after all, by a link that was down for a moment.
        renewal = await registry.renew("d1", [lease("c1", "w1", epoch=3)], lease_seconds=LONG_SECONDS)
        assert renewal.superseded == frozenset()
        record = await registry.call("c1")
        assert record is not None
        assert (record.dispatcher, record.state) == ("d1", "live")

    async def test_an_older_epoch_than_the_waiting_call_is_superseded(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await registry.renew(NOBODY, [lease("c1", "w1", epoch=3)], lease_seconds=LONG_SECONDS)
        renewal = await registry.renew("d1", [lease("c1", "w1", epoch=2)], lease_seconds=LONG_SECONDS)
        assert renewal.superseded == {"c1"}

    async def test_a_waiting_call_is_pinned_to_its_worker(self, registry: Registry) -> None:
        await publish(registry, worker("w1", capacity=1), worker("w2"))
        await registry.renew(NOBODY, [lease("c1", "w1", epoch=3)], lease_seconds=LONG_SECONDS)
        pin = await pinned(registry, "c1", dispatcher="d1", attach=True)
        assert (pin.worker, pin.epoch, pin.attached) == ("w1", 4, True)

    async def test_a_renewal_overtaken_by_its_own_pin_changes_nothing(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1")
        await pinned(registry, "c1", epoch=2)
        before = await registry.call("c1")
        renewal = await registry.renew("d1", [lease("c1", "w1", epoch=1)], lease_seconds=LONG_SECONDS)
        assert renewal.superseded == frozenset()
        assert await registry.call("c1") == before

    async def test_a_renewal_of_many_calls_reaches_all(self, registry: Registry) -> None:
        await publish(registry, worker("w1", capacity=1000), worker("w2", capacity=1000))
        held = [lease(f"c{number}", f"w{number % 2 + 1}") for number in range(301)]
        await registry.renew("d1", held, lease_seconds=LONG_SECONDS)
        assert await loads(registry) == {"w1": 151, "w2": 150}
        await pinned(registry, "c0", dispatcher="d2")
        await pinned(registry, "c300", dispatcher="d2")
        renewal = await registry.renew("d1", held, lease_seconds=LONG_SECONDS)
        assert renewal.superseded == {"c0", "c300"}

    async def test_keeps_fields_of_a_newer_release(self, registry: Registry, redis: Redis) -> None:
        await registry.renew("d1", [lease("c1", "w1")], lease_seconds=LONG_SECONDS)
        await redis.hset(f"{KEY_PREFIX}call:c1", "colour", "blue")
        await registry.renew("d1", [lease("c1", "w1", epoch=2)], lease_seconds=LONG_SECONDS)
        assert await redis.hget(f"{KEY_PREFIX}call:c1", "colour") == "blue"


class TestCalls:
    async def test_are_listed_oldest_first_and_limited(self, registry: Registry) -> None:
        held = [replace(lease(f"c{number}", "w1"), started_at_ms=1000 - number) for number in range(250)]
        await registry.renew("d1", held, lease_seconds=LONG_SECONDS)
        uuids = [record.uuid for record in await registry.calls()]
        assert uuids == [f"c{number}" for number in reversed(range(250))]
        assert len(await registry.calls(limit=120)) == 120

    async def test_calls_of_an_older_release_have_defaults(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await redis.hset(f"{KEY_PREFIX}call:c1", mapping={"worker": "w1", "epoch": 3})
        assert await registry.call("c1") == CallRecord(
            uuid="c1",
            worker="w1",
            dispatcher="",
            epoch=3,
            state=CONNECTING,
            started_at_ms=0,
            pins=1,
            metadata={},
        )

    @pytest.mark.parametrize("newest_first", [False, True])
    async def test_pages_follow_each_other(self, newest_first: bool, registry: Registry) -> None:
        held = [replace(lease(f"c{number:03}", "w1"), started_at_ms=1000 + number // 7) for number in range(250)]
        await registry.renew("d1", held, lease_seconds=LONG_SECONDS)
        seen: list[str] = []
        end: tuple[int, str] | None = None
        while True:
            page = await registry.calls_page(end, 40, newest_first=newest_first)
            assert page.total == 250 - len(seen) // 40
            seen += [record.uuid for record in page.calls]
            if page.end is None:
                break
            end = page.end
            # A call at the end of a page may end before the next one is read.
            await registry.unpin(end[1], epoch=1)
        assert seen == [call.uuid for call in (held[::-1] if newest_first else held)]

    async def test_calls_of_a_dispatcher_without_a_lease_are_not_listed(
        self, registry: Registry, redis: Redis
    ) -> None:
        await registry.renew("d1", [lease("c1", "w1")], lease_seconds=LONG_SECONDS)
        await registry.renew("d2", [lease("c2", "w1")], lease_seconds=LONG_SECONDS)
        await redis.delete(f"{KEY_PREFIX}dispatcher:d1")
        assert [call.uuid for call in await registry.calls()] == ["c2"]
        assert await registry.call("c1") is None

    async def test_calls_without_a_holder_are_not_listed(self, registry: Registry) -> None:
        assert await registry.call("c1") is None
        assert await registry.calls() == []


class TestRedisAway:
    async def test_a_command_works_again_after_redis_returns(self, redis_process: RedisProcess) -> None:
        registry = Registry.from_url(redis_process.url, timeout_seconds=30)
        await publish(registry, worker("w1"))
        first = await pinned(registry, "c1")
        redis_process.kill()
        held = [replace(lease("c1", "w1"), started_at_ms=first.started_at_ms)]
        attempts: list[Callable[[], Awaitable[object]]] = [
            lambda: registry.publish_worker(worker("w1"), lease_seconds=LONG_SECONDS),
            lambda: registry.remove_worker("w1"),
            lambda: pin(registry, "c2"),
            lambda: registry.unpin("c1", epoch=1),
            lambda: registry.renew("d1", held, lease_seconds=LONG_SECONDS),
            registry.workers,
            registry.calls,
            lambda: registry.call("c1"),
        ]
        for attempt in attempts:
            with pytest.raises(RegistryUnavailable, match=r"Redis at .* failed"):
                await attempt()
        assert await registry.ping() is False

        redis_process.start()
        assert await registry.ping() is True
        await publish(registry, worker("w1"))
        await registry.renew("d1", held, lease_seconds=LONG_SECONDS)
        assert await loads(registry) == {"w1": 1}
        assert (await pinned(registry, "c1", epoch=2)).started_at_ms == first.started_at_ms
        await registry.aclose()

    async def test_a_redis_that_does_not_answer_is_given_up(self, redis_process: RedisProcess) -> None:
        registry = Registry.from_url(redis_process.url, timeout_seconds=0.1)
        redis_process.freeze()
        started = time.monotonic()
        outcomes = await asyncio.gather(*(pin(registry, f"c{n}") for n in range(50)), return_exceptions=True)
        assert {type(outcome) for outcome in outcomes} == {RegistryUnavailable}
        assert {str(outcome).split(" did ")[1] for outcome in outcomes} == {"not answer within 0.1 s"}
        assert time.monotonic() - started < 5  # not 50 times, nor one after the other
        redis_process.thaw()
        await eventually(registry.ping)
        await registry.aclose()

    async def test_a_refusal_names_the_server_and_no_secret(self, redis_url: str) -> None:
        url = f"{redis_url}{'&' if '?' in redis_url else '?'}password=hunter2"
        registry = Registry.from_url(url, timeout_seconds=30)
        with pytest.raises(RegistryUnavailable) as raised:
            await registry.workers()
        assert str(raised.value).startswith("Redis at ")
        assert "hunter2" not in str(raised.value)
        await registry.aclose()

    def test_an_address_that_is_no_redis_url_is_refused(self) -> None:
        with pytest.raises(ValueError, match="redis://, rediss://, unix://"):
            Registry.from_url("http://127.0.0.1:6379")


class TestClaims:
    async def test_a_name_is_claimed_once(self, registry: Registry) -> None:
        assert await registry.claim("name", seconds=60)
        assert not await registry.claim("name", seconds=60)
        assert await registry.claim("another", seconds=60)

    async def test_a_claim_ends(self, registry: Registry) -> None:
        assert await registry.claim("name", seconds=1)
        await eventually(lambda: registry.claim("name", seconds=60), 10.0)


async def test_calls_to_hang_up_are_found(registry: Registry) -> None:
    await registry.ask_to_hang_up("b")
    assert await registry.asked_to_hang_up(["a", "b", "c"]) == {"b"}


async def test_a_call_without_a_worker_holds_no_slot(registry: Registry) -> None:
    lease = CallLease("call", "", 1, "parting", None, 1, {})
    renewal = await registry.renew("d-1", [lease], lease_seconds=60)
    assert not renewal.superseded
    (record,) = await registry.calls()
    assert (record.worker, record.state) == ("", "parting")
    assert f"{KEY_PREFIX}worker::calls" not in [key async for key in registry._redis.scan_iter()]
    assert await registry.unpin("call", epoch=1)
    assert not await registry.calls()


class TestSuperseded:
    """A pin names the epoch at which Redis knew the call as this dispatcher's."""

    async def test_another_dispatcher_with_a_higher_epoch_keeps_the_call(self, registry: Registry) -> None:
        await publish(registry, worker("w-1"))
        await pinned(registry, "call", dispatcher="d1")
        await pinned(registry, "call", dispatcher="d2", epoch=2)
        assert await pin(registry, "call", dispatcher="d1", epoch=2, known_epoch=1) == Superseded()
        record = await registry.call("call")
        assert record is not None
        assert (record.dispatcher, record.epoch) == ("d2", 2)

    async def test_an_epoch_that_is_not_higher_does_not_supersede(self, registry: Registry) -> None:
        await publish(registry, worker("w-1"))
        await pinned(registry, "call", dispatcher="d2", epoch=2)
        assert (await pinned(registry, "call", dispatcher="d1", epoch=3, known_epoch=2)).epoch == 3

    async def test_a_higher_epoch_of_the_same_dispatcher_is_its_own(self, registry: Registry) -> None:
        await publish(registry, worker("w-1"))
        await pinned(registry, "call", dispatcher="d1", epoch=5)
        assert (await pinned(registry, "call", dispatcher="d1", epoch=2, known_epoch=1)).epoch == 6

    async def test_a_call_without_a_dispatcher_is_free_to_take(self, registry: Registry) -> None:
        await publish(registry, worker("w-1"))
        await registry.renew(NOBODY, [lease("call", "w-1", epoch=5)], lease_seconds=LONG_SECONDS)
        assert (await pinned(registry, "call", dispatcher="d1", epoch=2, known_epoch=1)).epoch == 6


async def test_recovery_overfills_workers_only_when_all_are_full(registry: Registry) -> None:
    await publish(registry, worker("new", capacity=2, release="1.1.0"), worker("old", capacity=2))
    placed = [(await pinned(registry, f"call-{n}", over_capacity=1.5)).worker for n in range(6)]
    assert placed == ["new", "new", "old", "old", "new", "old"]


async def test_the_uuid_of_one_call_is_never_the_key_of_anothers_words(registry: Registry) -> None:
    await publish(registry, worker("w-1"))
    await pinned(registry, "victim")
    await registry.remember({"victim": MemoryUpdate({"order": "[]"}, True, version=1)})
    for stranger in ("victim:said", "said:victim", "said"):
        await pinned(registry, stranger)
        assert await registry.recall(stranger) == {}
        assert await registry.unpin(stranger, epoch=1)
    assert await registry.recall("victim") == {"order": "[]"}


class TestLeases:
    """A dispatcher and a worker hold one lease each; the records of their calls live as long."""

    async def test_first_beat_is_of_an_unknown_dispatcher(self, registry: Registry, redis: Redis) -> None:
        assert not (await beat(registry)).is_known
        assert (await beat(registry)).is_known
        await redis.delete(f"{KEY_PREFIX}dispatcher:d1")
        # A pin extends the lease, but does not tell that Redis has all calls.
        await pin(registry, "c1")
        assert not (await beat(registry)).is_known

    async def test_calls_outlive_their_pin_with_the_beats(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1", lease_seconds=SHORT_SECONDS)
        await beat(registry)
        await eventually(passed(redis, await redis_ms(redis) + round(SHORT_SECONDS * 1000)))
        assert await registry.call("c1") is not None

    async def test_calls_of_an_ended_lease_are_removed_in_parts(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1", capacity=500))
        held = [lease(f"c{number}", "w1") for number in range(250)]
        await registry.renew("d1", held, lease_seconds=LONG_SECONDS)
        await registry.remember({"c1": MemoryUpdate({"order": "[]"}, True, version=1)})
        await registry.renew("d1", [], lease_seconds=LONG_SECONDS)
        await redis.delete(f"{KEY_PREFIX}dispatcher:d1")
        await redis.zadd(f"{KEY_PREFIX}dispatchers", {"d1": 1})
        left = []
        for _ in range(3):
            await beat(registry, "d2")
            left.append((await loads(registry))["w1"])
        assert left == [150, 50, 0]
        assert await is_swept(registry, redis)
        assert await redis.zrange(f"{KEY_PREFIX}dispatchers", 0, -1) == ["d2", "another"]

    async def test_a_call_that_moved_on_is_not_removed(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1", dispatcher="d1")
        await pinned(registry, "c1", dispatcher="d2", epoch=2)
        await redis.delete(f"{KEY_PREFIX}dispatcher:d1")
        await redis.zadd(f"{KEY_PREFIX}dispatchers", {"d1": 1})
        await beat(registry, "d2")
        record = await registry.call("c1")
        assert record is not None
        assert (record.dispatcher, await loads(registry)) == ("d2", {"w1": 1})

    async def test_slots_are_freed_though_records_ended_by_themselves(
        self, registry: Registry, redis: Redis
    ) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1")
        await redis.delete(f"{KEY_PREFIX}dispatcher:d1", f"{KEY_PREFIX}call:c1")
        await redis.zadd(f"{KEY_PREFIX}dispatchers", {"d1": 1})
        await publish(registry, worker("w1"))
        assert await loads(registry) == {"w1": 0}
        assert await is_swept(registry, redis)

    async def test_what_a_long_lease_holds_outlives_it(self, registry: Registry, redis: Redis) -> None:
        # With a long CALL_RECONNECT_SECONDS.
        await publish(registry, worker("w1"))
        await pinned(registry, "c1", lease_seconds=600)
        await pinned(registry, "c1", dispatcher="d2", epoch=2, lease_seconds=600)
        await pinned(registry, "c2", lease_seconds=600)
        await beat(registry, lease_seconds=600)
        await registry.renew("d1", [lease("c2", "w1")], lease_seconds=600)
        for key in ("dispatcher:d1:calls", "dispatcher:d2:calls", "dispatcher:d1:checks", "call:c2"):
            assert await redis.ttl(f"{KEY_PREFIX}{key}") > 600, key

    async def test_an_ended_record_is_no_call(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1", dispatcher="d1", epoch=7)
        await redis.delete(f"{KEY_PREFIX}dispatcher:d1")
        again = await pinned(registry, "c1", dispatcher="d2", known_epoch=1, attach=True)
        assert (again.epoch, again.pins, again.attached) == (1, 1, False)
        assert await loads(registry) == {"w1": 1}

    async def test_waiting_calls_live_as_long_as_their_worker(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await registry.renew(NOBODY, [lease("c1", "w1", state="waiting")], lease_seconds=LONG_SECONDS)
        assert await registry.call("c1") is not None
        await registry.remove_worker("w1")
        assert await registry.call("c1") is None
        assert await is_swept(registry, redis)

    async def test_a_waiting_call_that_ends_is_taken_out_by_its_worker(
        self, registry: Registry, redis: Redis
    ) -> None:
        await publish(registry, worker("w1"))
        held = [lease(f"c{number}", "w1", state="waiting") for number in range(3)]
        await registry.renew(NOBODY, held, lease_seconds=LONG_SECONDS)
        await registry.renew("d1", [lease("c1", "w1")], lease_seconds=LONG_SECONDS)
        await redis.delete(f"{KEY_PREFIX}call:c2")
        took = [await registry.unpin_waiting(call.uuid, worker="w1", epoch=1) for call in held]
        assert took == [True, False, False]
        # A dispatcher has one of them. The record of another had ended by itself, and its slot had not.
        assert [call.uuid for call in await registry.calls()] == ["c1"]
        (status,) = await registry.workers()
        assert status.calls == 1

    async def test_a_taken_call_is_to_be_looked_at(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        for uuid in ("c1", "c2"):
            await pinned(registry, uuid, dispatcher="d1")
        await pinned(registry, "c1", dispatcher="d2", epoch=2)
        await registry.renew("d2", [lease("c2", "w1", epoch=2)], lease_seconds=LONG_SECONDS)
        # Until the dispatcher has looked, because an answer may be lost.
        for _ in range(2):
            assert (await beat(registry, "d1")).checks == {"c1": "1", "c2": "1"}
        renewal = await registry.renew("d1", [lease("c1", "w1")], lease_seconds=LONG_SECONDS)
        assert renewal.superseded == {"c1"}
        assert (await beat(registry, "d1", not_held={"c2": "1"})).checks == {}
        assert (await beat(registry, "d2")).checks == {}

    async def test_a_call_taken_again_is_to_be_looked_at_again(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "c1", dispatcher="d1")
        await pinned(registry, "c1", dispatcher="d2", epoch=2)
        not_held = (await beat(registry, "d1")).checks
        await pinned(registry, "c1", dispatcher="d1", epoch=3)
        await pinned(registry, "c1", dispatcher="d2", epoch=4)
        assert (await beat(registry, "d1", not_held=not_held)).checks == {"c1": "3"}

    async def test_a_dispatcher_that_leaves_keeps_the_lease_of_its_calls(
        self, registry: Registry, redis: Redis
    ) -> None:
        await publish(registry, worker("w1"))
        pin = await pinned(registry, "c1")
        await registry.remove_dispatcher("d1")
        assert await registry.call("c1") is not None
        await registry.unpin("c1", epoch=pin.epoch)
        await registry.remove_dispatcher("d1")
        await registry.remove_worker("w1")
        assert await redis.keys() == []

    async def test_a_restart_of_redis_changes_its_run(self, redis_process: RedisProcess) -> None:
        registry = Registry.from_url(redis_process.url, timeout_seconds=30)
        first, second = await beat(registry), await beat(registry)
        redis_process.kill()
        redis_process.start()
        with pytest.raises(RegistryUnavailable):
            await beat(registry)
        third = await beat(registry)
        assert first.run == second.run
        assert third.run != first.run or not isinstance(redis_process, RealRedis)
        assert not third.is_known
        await registry.aclose()


class TestTheTable:
    """Changes of the worker table, by version."""

    async def test_only_changes_are_told(self, registry: Registry) -> None:
        await publish(registry, worker("w1"), worker("w2"))
        first = await registry.table(TableVersion())
        assert ([each.id for each in first.workers], first.has_more) == (["w1", "w2"], False)
        await publish(registry, worker("w1"), worker("w2", capacity=99))
        await pinned(registry, "c1", excluded=["w2"])
        second = await registry.table(first.version)
        assert ([each.id for each in second.workers], dict(second.loads)) == (["w2"], {"w1": 1})
        third = await registry.table(second.version)
        assert (third.workers, third.gone, third.loads) == ((), (), {})

    async def test_many_workers_come_in_parts(self, registry: Registry) -> None:
        await publish(registry, *(worker(f"w{number:03}") for number in range(120)))
        first = await registry.table(TableVersion())
        second = await registry.table(first.version)
        third = await registry.table(second.version)
        assert [len(each.workers) for each in (first, second, third)] == [50, 50, 20]
        assert [each.has_more for each in (first, second, third)] == [True, True, False]

    async def test_a_worker_that_left_is_told_for_a_while(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"), worker("w2"))
        version = (await registry.table(TableVersion())).version
        await registry.remove_worker("w1")
        assert (await registry.table(version)).gone == ("w1",)
        await redis.zadd(f"{KEY_PREFIX}left", {"w1": 1})
        await beat(registry)
        assert (await registry.table(version)).gone == ()
        assert await redis.zcard(f"{KEY_PREFIX}table") == 1


async def test_nothing_is_left_of_a_worker_whose_calls_end_later(registry: Registry, redis: Redis) -> None:
    await publish(registry, worker("w1"), worker("w2"))
    await pinned(registry, "c1", excluded=["w2"])
    await registry.remove_worker("w1")
    await registry.unpin("c1", epoch=1)
    assert await redis.zrange(f"{KEY_PREFIX}loads", 0, -1) == []
    assert await redis.keys("*w1*") == []


class TestALostWrite:
    """After a failover a replica may lack the last writes to the memory."""

    async def said(self, registry: Registry) -> None:
        await publish(registry, worker("w-1"))
        await pinned(registry, "call", dispatcher="d1")
        await registry.remember({"call": MemoryUpdate({"order": '["a"]', "item:a": "{}"}, True, version=7)})

    async def missing(self, registry: Registry, versions: dict[str, int]) -> frozenset[str]:
        held = [lease("call", "w-1")]
        renewed = await registry.renew("d1", held, lease_seconds=LONG_SECONDS, said_versions=versions)
        return renewed.missing

    async def test_a_complete_copy_is_not_forgotten(self, registry: Registry) -> None:
        await self.said(registry)
        assert await self.missing(registry, {"call": 7}) == frozenset()
        assert await registry.recall("call") == {"order": '["a"]', "item:a": "{}"}

    async def test_an_older_version_is_forgotten(self, registry: Registry) -> None:
        await self.said(registry)
        assert await self.missing(registry, {"call": 8}) == {"call"}
        assert await self.missing(registry, {}) == frozenset()

    async def test_a_lost_field_is_forgotten(self, registry: Registry, redis: Redis) -> None:
        await self.said(registry)
        await redis.hdel(f"{KEY_PREFIX}said:call", "item:a")
        assert await self.missing(registry, {"call": 7}) == {"call"}

    async def test_a_lost_copy_is_forgotten(self, registry: Registry, redis: Redis) -> None:
        await self.said(registry)
        await redis.delete(f"{KEY_PREFIX}said:call")
        assert await self.missing(registry, {"call": 7}) == {"call"}


class TestARecordThatIsNone:
    """Whoever wrote it: it costs itself alone."""

    async def test_a_worker_with_odd_fields_hides_no_other(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"), worker("w2"), worker("w3"))
        await redis.hset(f"{KEY_PREFIX}worker:w1", "pid", "many")
        await redis.hset(f"{KEY_PREFIX}worker:w2", "release", b"\xff\xfe")
        with structlog.testing.capture_logs() as lines:
            assert [status.id for status in await registry.workers()] == ["w2", "w3"]
            changes = (await beat(registry)).changes
        assert [status.id for status in changes.workers] == ["w2", "w3"]
        assert changes.gone == ("w1",)
        # Once, not with each heartbeat.
        assert [(line["kind"], line["id"]) for line in lines] == [("worker", "w1")]

    @pytest.mark.parametrize(
        ("name", "value"),
        [
            ("metadata", "{"),
            ("metadata", "5"),
            ("metadata", "[" * 100_000),
            ("epoch", "first"),
            ("started_at_ms", "now"),
        ],
    )
    async def test_a_call_with_odd_fields_hides_no_other(
        self, registry: Registry, redis: Redis, name: str, value: str
    ) -> None:
        await publish(registry, worker("w1"))
        for uuid in ("odd", "even"):
            await pinned(registry, uuid)
        await redis.hset(f"{KEY_PREFIX}call:odd", name, value)
        assert [call.uuid for call in await registry.calls()] == ["even"]
        assert await registry.call("odd") is None
        assert await registry.call("even") is not None

    async def test_the_log_names_a_bounded_number_of_records(self, registry: Registry, redis: Redis) -> None:
        with structlog.testing.capture_logs() as lines:
            for number in range(150):
                await redis.hset(f"{KEY_PREFIX}call:odd-{number}", "epoch", "first")
                assert await registry.call(f"odd-{number}") is None
        assert len(lines) == 100


async def test_known_secrets_are_not_written(
    registry: Registry, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    known = redaction.KnownSecrets()
    monkeypatch.setattr(redaction, "KNOWN", known)
    known.know("settings", ["plain-process-key"])
    redaction.CallSecrets("c1", known).keep(['plain-"call"-key'])
    await registry.publish_worker(worker("w1"), lease_seconds=LONG_SECONDS)
    metadata = {"note": 'plain-process-key plain-"call"-key'}
    await registry.pin("c1", dispatcher="d1", epoch=1, metadata=metadata, lease_seconds=LONG_SECONDS)
    lease = CallLease("c1", "w1", 1, "live", None, 1, metadata)
    await registry.renew("d1", [lease], lease_seconds=LONG_SECONDS)
    text = orjson.dumps({"text": metadata["note"]}).decode()
    await registry.remember({"c1": MemoryUpdate({"item:a": text}, anew=True)})
    record = await registry.call("c1")
    assert record is not None
    assert record.metadata == {"note": "*** ***"}
    assert await registry.recall("c1") == {"item:a": '{"text":"*** ***"}'}
    values = [await redis.hgetall(key) async for key in redis.scan_iter() if await redis.type(key) == "hash"]
    assert "plain-" not in str(values)


class TestDrafts:
    async def test_calls_that_nobody_holds_are_found_among_many(self, registry: Registry) -> None:
        await publish(registry, worker("w1", capacity=10_000))
        uuids = [f"call-{number}" for number in range(1200)]
        for uuid in uuids:
            await pinned(registry, uuid)
        await registry.keep_drafts(dict.fromkeys(uuids, "{}"), seconds=LONG_SECONDS)
        for uuid in set(uuids) - {"call-7", "call-1100"}:
            await registry.unpin(uuid, epoch=1)
        began = time.time()
        found = await registry.calls_without_holder()
        assert found.keys() == set(uuids) - {"call-7", "call-1100"}
        assert all(abs(written - began) < LONG_SECONDS for written in found.values())

    async def test_a_call_whose_lease_has_ended_has_no_holder(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "call", lease_seconds=SHORT_SECONDS)
        await registry.keep_drafts({"call": "{}"}, seconds=LONG_SECONDS)

        async def is_found() -> bool:
            return "call" in await registry.calls_without_holder()

        await eventually(is_found)

    async def test_a_draft_is_read_and_dropped(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "call")
        await registry.keep_drafts({"call": "one"}, seconds=LONG_SECONDS)
        await registry.keep_drafts({"call": "two"}, seconds=LONG_SECONDS)
        read = [await registry.draft("call"), await registry.draft("other")]
        await registry.drop_drafts(["call", "other"])
        assert [*read, await registry.draft("call")] == ["two", None, None]
        assert await registry.calls_without_holder() == {}

    async def test_a_draft_of_a_call_without_a_pin_is_refused(self, registry: Registry) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "call")
        await registry.unpin("call", epoch=1)
        await registry.keep_drafts({"call": "{}"}, seconds=LONG_SECONDS)
        assert await registry.draft("call") is None
        assert await registry.calls_without_holder() == {}

    async def test_a_draft_ends_by_itself(self, registry: Registry, redis: Redis) -> None:
        await publish(registry, worker("w1"))
        await pinned(registry, "call")
        await registry.keep_drafts({"call": "{}"}, seconds=LONG_SECONDS)
        assert 0 < await redis.ttl(f"{KEY_PREFIX}draft:call") <= LONG_SECONDS

    async def test_a_known_secret_is_not_written(self, registry: Registry) -> None:
        secrets = redaction.CallSecrets("call")
        secrets.keep(frozenset({"sk-of-a-tenant"}))
        await publish(registry, worker("w1"))
        await pinned(registry, "call")
        await registry.keep_drafts({"call": '{"said": "sk-of-a-tenant"}'}, seconds=LONG_SECONDS)
        draft = await registry.draft("call")
        secrets.close()
        assert draft is not None
        assert "sk-of-a-tenant" not in draft
