"""Placement through a Redis, real and embedded, and without one."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.errors import RegistryBusy, RegistryUnavailable
from common.link import wire
from common.observe.problems import REDIS_AWAY
from common.store.keys import KEY_PREFIX
from common.store.leases import Beat, CallLease, Renewal, WorkerRecord, WorkerState
from common.store.memory import MemoryUpdate
from common.store.pins import NoCapacity, NoCapacityReason, Pin, Superseded
from common.store.registry import Registry
from dispatcher.call.assignment import Assignment
from dispatcher.call.memory import CallMemory
from dispatcher.workers import placement
from dispatcher.workers.placement import LOADS_SECONDS, REWRITE_SECONDS, SAID_CALLS, SAID_CHARS, Placement
from dispatcher.workers.worker_table import REFRESH_SECONDS
from tests.helpers import eventually
from tests.redis_process import RealRedis, RedisProcess

LONG_SECONDS = 60
NOBODY: frozenset[str] = frozenset()
METADATA = {"from": "100"}


def worker(name: str, *, capacity: int = 10, release: str = "1.0.0", state: str = "ready") -> WorkerRecord:
    return WorkerRecord(
        id=name,
        address=f"{name}.example:7000",
        host="host",
        pid=1,
        release=release,
        capacity=capacity,
        state=WorkerState(state),
        boot_id="",
    )


class Rig:
    """Placement of one dispatcher, with its events and its table."""

    def __init__(self, registry: Registry, dispatcher_id: str = "d-1") -> None:
        self.registry = registry
        self.own_calls: dict[str, int] = {}
        self.redis_up: list[float] = []
        self.out_of_reach: set[str] = set()
        self.placement = Placement(
            registry,
            dispatcher_id,
            own_calls=lambda worker_id: self.own_calls.get(worker_id, 0),
            has_link=lambda worker_id: worker_id not in self.out_of_reach,
            redis_up=self.redis_up.append,
            ask_loads=self._loads,
            clock=lambda: self.now,
        )
        self.now = 1000.0
        # What workers say of themselves, and how often they were asked.
        self.loads: dict[str, int] = {}
        self.asked = 0

    async def _loads(self) -> dict[str, int]:
        self.asked += 1
        await asyncio.sleep(0)
        return dict(self.loads)

    async def publish(self, *workers: WorkerRecord) -> None:
        for record in workers:
            await self.registry.publish_worker(record, lease_seconds=LONG_SECONDS)

    async def place(self, uuid: str = "call", **options: Any) -> Assignment | NoCapacity | Superseded:
        chosen: dict[str, Any] = {"epoch": 1, "metadata": METADATA, "excluded": NOBODY, "pins": 0, **options}
        return await self.placement.place(uuid, **chosen)

    async def placed(self, uuid: str = "call", **options: Any) -> Assignment:
        outcome = await self.place(uuid, **options)
        assert isinstance(outcome, Assignment), outcome
        return outcome


@pytest.fixture
def rig(registry: Registry) -> Rig:
    return Rig(registry)


def lease(uuid: str = "call", worker_id: str = "w-1", **changes: Any) -> CallLease:
    return replace(CallLease(uuid, worker_id, 1, "live", None, 1, METADATA), **changes)


class TestThroughRedis:
    async def test_a_call_is_pinned_and_redis_says_where(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        placed = await rig.placed()
        assert (placed.worker_id, placed.address, placed.epoch, placed.pins) == ("w-1", "w-1.example:7000", 1, 1)
        record = await rig.registry.call("call")
        assert record is not None
        assert (record.worker, record.dispatcher, record.metadata) == ("w-1", "d-1", METADATA)
        assert record.started_at_ms == placed.started_at_ms
        assert rig.redis_up == [True]

    async def test_calls_spread_over_the_workers(self, rig: Rig) -> None:
        await rig.publish(*(worker(f"w-{number}") for number in range(4)))
        placed = await asyncio.gather(*(rig.placed(f"call-{number}") for number in range(20)))
        workers = [each.worker_id for each in placed]
        assert {name: workers.count(name) for name in set(workers)} == dict.fromkeys(
            (f"w-{number}" for number in range(4)), 5
        )

    async def test_workers_that_were_asked_already_are_left_out(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"), worker("w-2"))
        assert (await rig.placed(excluded=frozenset({"w-1"}))).worker_id == "w-2"
        assert await rig.place(excluded=frozenset({"w-1", "w-2"})) == NoCapacity(NoCapacityReason.NO_WORKERS)

    async def test_a_call_that_is_placed_again_gets_the_next_epoch(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"), worker("w-2"))
        first = await rig.placed()
        again = await rig.placed(epoch=2, excluded=frozenset({first.worker_id}), pins=1)
        assert (again.epoch, again.pins) == (2, 2)
        assert again.worker_id != first.worker_id
        assert again.started_at_ms == first.started_at_ms

    async def test_there_is_no_worker(self, rig: Rig) -> None:
        assert await rig.place() == NoCapacity(NoCapacityReason.NO_WORKERS)
        assert rig.redis_up == [True]

    async def test_every_worker_is_full(self, rig: Rig) -> None:
        await rig.publish(worker("w-1", capacity=1))
        await rig.placed("first")
        assert await rig.place("second") == NoCapacity(NoCapacityReason.FULL)

    async def test_a_call_that_ended_is_taken_out(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        placed = await rig.placed()
        await rig.placement.unpin("call", placed.epoch)
        assert await rig.registry.calls() == []

    async def test_a_call_that_somebody_placed_again_is_not(self, rig: Rig, registry: Registry) -> None:
        await rig.publish(worker("w-1"))
        placed = await rig.placed()
        newer = await Rig(registry, "d-2").placed()
        await rig.placement.unpin("call", placed.epoch)
        record = await registry.call("call")
        assert record is not None
        assert (record.dispatcher, record.epoch) == ("d-2", newer.epoch)

    async def test_a_renewal_publishes_what_is_held_and_brings_the_workers(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"), worker("w-2", state="draining"))
        before = rig.placement.workers
        renewal = await rig.placement.renew([lease(metadata={"to": "7"})])
        assert renewal.superseded == frozenset()
        # Redis did not know of it, nor of what was said in it.
        assert renewal.missing == frozenset({"call"})
        assert (await rig.placement.renew([lease()])).missing == frozenset()
        assert ([w.id for w in before], [w.id for w in rig.placement.workers]) == ([], ["w-1", "w-2"])
        record = await rig.registry.call("call")
        assert record is not None
        assert (record.worker, record.state, record.metadata) == ("w-1", "live", {"to": "7"})

    async def test_a_call_that_ends_during_a_renewal_is_taken_out(
        self, rig: Rig, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rig.publish(worker("w-1"))
        assignment = await rig.placed()
        beat = Registry.beat

        async def beat_slowly(self: Registry, *args: Any, **options: Any) -> Beat:
            await rig.placement.unpin("call", assignment.epoch)
            return await beat(self, *args, **options)

        monkeypatch.setattr(Registry, "beat", beat_slowly)
        await rig.placement.renew([lease(epoch=assignment.epoch), lease("other")])
        assert [call.uuid for call in await registry.calls()] == ["other"]

    async def test_a_failed_renewal_that_arrives_late_brings_no_call_back(
        self, rig: Rig, registry: Registry
    ) -> None:
        """It goes to Redis on another connection than the end of the call, which may come first."""
        await rig.publish(worker("w-1"))
        assignment = await rig.placed()
        renew = Registry.renew

        async def renew_late(self: Registry, *args: Any, **options: Any) -> Renewal:
            await rig.placement.unpin("call", assignment.epoch)
            await renew(self, *args, **options)
            raise RegistryUnavailable("no answer in time")

        with pytest.MonkeyPatch.context() as late:
            late.setattr(Registry, "renew", renew_late)
            await rig.placement.renew([lease(epoch=assignment.epoch), lease("other")])
        assert {call.uuid for call in await registry.calls()} == {"call", "other"}
        await rig.placement.renew([lease("other")])
        assert [call.uuid for call in await registry.calls()] == ["other"]

    async def test_a_renewal_tells_which_calls_another_dispatcher_has(self, rig: Rig, registry: Registry) -> None:
        await rig.publish(worker("w-1"))
        mine, taken = await rig.placed("mine"), await rig.placed("taken")
        await Rig(registry, "d-2").placed("taken")
        held = [
            lease("mine", epoch=mine.epoch, worker=mine.worker_id),
            lease("taken", epoch=taken.epoch, worker=taken.worker_id),
        ]
        renewal = await rig.placement.renew(held)
        assert (renewal.superseded, renewal.missing) == (frozenset({"taken"}), frozenset())

    async def test_a_worker_that_has_the_call_keeps_it(self, rig: Rig, registry: Registry) -> None:
        """The caller comes back to another dispatcher: its session goes on, full or not, draining or not."""
        await rig.publish(worker("w-1", capacity=1), worker("w-2", capacity=0))
        first = await rig.placed()
        await rig.publish(worker("w-1", capacity=1, state="draining"), worker("w-2"))
        other = Rig(registry, "d-2")
        again = await other.placed()
        assert (again.worker_id, again.epoch, again.pins, again.attach) == (first.worker_id, 2, first.pins, True)
        assert (again.address, again.started_at_ms) == (first.address, first.started_at_ms)
        # But not for a call that has no session any more, nor if it is not to be that worker.
        await rig.publish(worker("w-1"))
        lost = await other.placed(epoch=3, recovers=True)
        assert not lost.attach
        excluded = await other.placed(epoch=4, excluded=frozenset({lost.worker_id}))
        assert excluded.worker_id != lost.worker_id
        assert not excluded.attach

    async def test_a_call_without_its_session_may_exceed_the_capacity(self, rig: Rig) -> None:
        await rig.publish(worker("w-1", capacity=2))
        await rig.placed("first")
        await rig.placed("second")
        assert await rig.place("third") == NoCapacity(NoCapacityReason.FULL)
        assert (await rig.placed("third", recovers=True)).worker_id == "w-1"
        # By half.
        assert await rig.place("fourth", recovers=True) == NoCapacity(NoCapacityReason.FULL)

    async def test_a_worker_is_chosen_for_a_move_without_a_pin(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"), worker("w-2", capacity=2))
        await rig.placement.renew([])
        rig.own_calls = {"w-1": 1, "w-2": 1}
        chosen = rig.placement.choose(7, NOBODY, 2)
        assert isinstance(chosen, Assignment)
        assert (chosen.worker_id, chosen.address, chosen.epoch, chosen.pins) == ("w-1", "w-1.example:7000", 7, 3)
        assert await rig.registry.calls() == []
        rig.own_calls = {"w-2": 2}
        full = rig.placement.choose(7, frozenset({"w-1"}), 2)
        assert isinstance(full, Assignment), "a call that moves may fill a worker above its capacity, too"
        rig.own_calls = {"w-2": 3}
        assert rig.placement.choose(7, frozenset({"w-1"}), 2) == NoCapacity(NoCapacityReason.FULL)
        nobody = rig.placement.choose(7, frozenset({"w-1", "w-2"}), 2)
        assert nobody == NoCapacity(NoCapacityReason.NO_WORKERS)

    async def test_a_rolling_restart_moves_each_call_at_most_twice(self, rig: Rig) -> None:
        old = [f"a-{number}" for number in range(5)]
        held: dict[str, list[int]] = {name: [] for name in old}
        for call in range(50):
            held[old[call % len(old)]].append(call)
        first: dict[int, int] = {}
        moves = dict.fromkeys(range(50), 0)
        await rig.publish(*(worker(name, capacity=30) for name in old))
        await rig.placement.renew([])
        for number, name in enumerate(old):
            # One ends before its successor is there: the worst case.
            leaving = held.pop(name)
            for call in leaving:
                rig.own_calls = {each: len(calls) for each, calls in held.items()}
                after = first.setdefault(call, rig.placement.newest_worker)
                found = rig.placement.choose(7, frozenset({name}), 2, newer_than=after)
                assert isinstance(found, Assignment)
                held[found.worker_id].append(call)
                moves[call] += 1
            await rig.registry.remove_worker(name)
            rig.out_of_reach.add(name)
            held[f"z-{number}"] = []
            await rig.publish(worker(f"z-{number}", capacity=30))
            await rig.placement.renew([])
        assert set(moves.values()) <= {1, 2}
        assert max(len(calls) for calls in held.values()) <= 30

    async def test_a_worker_started_since_is_preferred_while_it_has_room(self, rig: Rig) -> None:
        await rig.publish(worker("w-1", capacity=2), worker("w-2"))
        await rig.placement.renew([])
        before = rig.placement.newest_worker
        await rig.publish(worker("w-3", capacity=2))
        await rig.placement.renew([])
        rig.own_calls = {"w-1": 0, "w-2": 3, "w-3": 1}
        younger = rig.placement.choose(7, NOBODY, 2, newer_than=before)
        assert isinstance(younger, Assignment)
        assert younger.worker_id == "w-3"
        rig.own_calls["w-3"] = 2
        least_loaded = rig.placement.choose(7, NOBODY, 2, newer_than=before)
        assert isinstance(least_loaded, Assignment)
        assert least_loaded.worker_id == "w-1"
        # One of a newer release is worth more than either.
        await rig.publish(worker("w-2", release="1.0.1"))
        await rig.placement.renew([])
        newest = rig.placement.choose(7, NOBODY, 2, newer_than=before)
        assert isinstance(newest, Assignment)
        assert newest.worker_id == "w-2"


class TestTheCopyOfWhatWasSaid:
    def spoken(self, *texts: str) -> CallMemory:
        memory = CallMemory()
        memory.keep_profile(wire.Profile({"model": "m"}, {"api_key": "a secret"}))
        for number, text in enumerate(texts):
            after = f"item_{number - 1}" if number else ""
            memory.remember(wire.ItemUpdate(f"item_{number}", after, item={"text": text}, sound="c291bmQ="), 100)
        return memory

    async def test_it_is_written_and_read_again_without_secrets_and_sound(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        await rig.placed()
        await rig.placement.remember({"call": self.spoken("Hello.", "Hi.")})
        recalled = await rig.placement.recall("call")
        assert recalled is not None
        assert list(recalled.records()) == [
            wire.Profile({"model": "m"}),
            wire.ItemUpdate("item_0", "", item={"text": "Hello."}),
            wire.ItemUpdate("item_1", "item_0", item={"text": "Hi."}),
        ]
        assert "secret" not in str(await rig.registry.recall("call"))

    async def test_what_changes_is_written_when_it_changes(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        await rig.placed()
        memory = self.spoken("Hello.", "Hi.", "Bye.")
        await rig.placement.remember({"call": memory})
        memory.remember(wire.ItemUpdate("item_1", deleted=True), 10)
        memory.remember(wire.ItemUpdate("item_2", item={"text": "Goodbye."}), 10)
        await rig.placement.remember({"call": memory})
        recalled = await rig.placement.recall("call")
        assert recalled is not None
        assert recalled.order == ["item_0", "item_2"]
        assert recalled.item("item_2") == {"text": "Goodbye."}

    async def test_a_call_that_redis_does_not_know_is_written_when_it_does(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        memory = self.spoken("Hello.")
        await rig.placement.renew([])
        await rig.placement.remember({"call": memory})
        assert await rig.placement.recall("call") is None
        await rig.placed()
        await rig.placement.remember({"call": memory})
        recalled = await rig.placement.recall("call")
        assert recalled is not None
        assert recalled.order == ["item_0"]

    async def test_many_copies_are_written_together_despite_unknown_calls(self, rig: Rig) -> None:
        calls = 2 * SAID_CALLS + 1
        await rig.publish(worker("w-1", capacity=calls))
        memories = {f"call-{number}": self.spoken("Hello.", f"{number}") for number in range(calls)}
        for number in range(1, calls):
            await rig.placed(f"call-{number}")
        await rig.placement.remember(memories)
        memories["call-3"].remember(wire.ItemUpdate("item_1", deleted=True), 10)
        memories["call-4"].remember(wire.ItemUpdate("item_2", "item_1", item={"text": "Bye."}), 10)
        await rig.placed("call-0")
        await rig.placement.remember(memories)
        for number in range(calls):
            recalled = await rig.placement.recall(f"call-{number}")
            assert recalled is not None
            assert recalled.order[:2] == (["item_0"] if number == 3 else ["item_0", "item_1"])
            assert number == 3 or recalled.item("item_1") == {"text": f"{number}"}
        assert (await rig.registry.recall("call-4"))["item:item_2"] == '{"text":"Bye."}'

    async def test_what_is_long_is_written_in_parts(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        for number in range(4):
            await rig.placed(f"call-{number}")
        text = "x" * SAID_CHARS
        await rig.placement.remember({f"call-{number}": self.spoken(text) for number in range(4)})
        for number in range(4):
            recalled = await rig.placement.recall(f"call-{number}")
            assert recalled is not None
            assert recalled.item("item_0") == {"text": text}

    async def test_it_leaves_redis_with_the_call(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        placed = await rig.placed()
        await rig.placement.remember({"call": self.spoken("Hello.")})
        await rig.placement.unpin("call", placed.epoch)
        assert await rig.registry.recall("call") == {}

    async def test_nothing_is_remembered_of_a_call_that_nobody_had(self, rig: Rig) -> None:
        assert await rig.placement.recall("call") is None


class TestWithoutRedis:
    """Redis is killed: the table that it gave last is all there is."""

    @pytest.fixture
    async def rig(self, redis_process: RedisProcess) -> AsyncIterator[Rig]:
        registry = Registry.from_url(redis_process.url, timeout_seconds=1)
        self.redis = redis_process
        yield Rig(registry)
        await registry.aclose()

    async def with_table(self, rig: Rig, *workers: WorkerRecord) -> None:
        await rig.publish(*workers)
        await rig.placement.renew([])
        self.redis.kill()

    async def test_without_a_table_there_is_no_worker(self, rig: Rig) -> None:
        self.redis.kill()
        assert await rig.place() == NoCapacity(NoCapacityReason.NO_WORKERS)
        assert rig.redis_up == [False]
        assert rig.placement.problems == [REDIS_AWAY]

    async def test_a_call_goes_to_the_worker_with_the_fewest_of_our_own(self, rig: Rig) -> None:
        await self.with_table(rig, worker("w-1"), worker("w-2"), worker("w-3"))
        rig.own_calls = {"w-1": 3, "w-2": 1, "w-3": 2}
        # The epoch is the caller's own, and when it began Redis says later.
        placed = await rig.placed(epoch=4, pins=2)
        assert (placed.worker_id, placed.address, placed.epoch, placed.pins) == ("w-2", "w-2.example:7000", 4, 3)
        assert placed.started_at_ms is None

    async def test_the_load_counts_in_proportion_to_the_capacity(self, rig: Rig) -> None:
        await self.with_table(rig, worker("w-1", capacity=2), worker("w-2", capacity=100))
        rig.own_calls = {"w-1": 1, "w-2": 20}
        assert (await rig.placed()).worker_id == "w-2"

    async def test_the_newest_release_comes_first(self, rig: Rig) -> None:
        await self.with_table(rig, worker("old", release="1.9.0"), worker("new", release="1.10.0", capacity=2))
        rig.own_calls = {"old": 0, "new": 1}
        assert (await rig.placed()).worker_id == "new"
        rig.own_calls = {"old": 0, "new": 2}
        assert (await rig.placed()).worker_id == "old"

    async def test_workers_that_drain_or_have_refused_are_left_out(self, rig: Rig) -> None:
        await self.with_table(rig, worker("w-1", state="draining"), worker("w-2"), worker("w-3"))
        assert (await rig.placed(excluded=frozenset({"w-2"}))).worker_id == "w-3"
        assert await rig.place(excluded=frozenset({"w-2", "w-3"})) == NoCapacity(NoCapacityReason.NO_WORKERS)

    async def test_capacity_is_respected_as_far_as_it_is_known(self, rig: Rig) -> None:
        await self.with_table(rig, worker("w-1", capacity=1), worker("w-2", capacity=0))
        assert (await rig.placed()).worker_id == "w-1"
        rig.own_calls = {"w-1": 1}
        assert await rig.place() == NoCapacity(NoCapacityReason.FULL)

    async def test_a_call_without_its_session_may_exceed_the_capacity(self, rig: Rig) -> None:
        await self.with_table(rig, worker("w-1", capacity=2))
        rig.own_calls = {"w-1": 2}
        assert await rig.place() == NoCapacity(NoCapacityReason.FULL)
        assert (await rig.placed(recovers=True)).worker_id == "w-1"
        rig.own_calls = {"w-1": 3}
        assert await rig.place(recovers=True) == NoCapacity(NoCapacityReason.FULL)

    async def test_workers_to_which_there_is_a_link_come_first(self, rig: Rig) -> None:
        await self.with_table(rig, worker("w-1"), worker("w-2"))
        rig.own_calls = {"w-2": 5}
        rig.out_of_reach = {"w-1"}
        assert (await rig.placed()).worker_id == "w-2"
        # Where there is none to any of them, they are tried.
        rig.out_of_reach = {"w-1", "w-2"}
        assert (await rig.placed()).worker_id == "w-1"

    async def test_a_worker_missing_from_the_table_is_asked_last(self, rig: Rig) -> None:
        """It may have been hung, and is there again."""
        await rig.publish(worker("w-1"), worker("w-2"))
        await rig.placement.renew([])
        await rig.registry.remove_worker("w-1")
        rig.out_of_reach = {"w-1"}
        await self.with_table(rig)
        rig.now += 60.0
        assert (await rig.placed()).worker_id == "w-2"
        assert (await rig.placed(excluded=frozenset({"w-2"}))).worker_id == "w-1"
        assert await rig.place(excluded=frozenset({"w-1", "w-2"})) == NoCapacity(NoCapacityReason.NO_WORKERS)
        # After two minutes it is taken for gone.
        rig.now += 61.0
        assert await rig.place(excluded=frozenset({"w-2"})) == NoCapacity(NoCapacityReason.NO_WORKERS)

    async def test_while_redis_is_there_it_is_not(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        await rig.placement.renew([])
        await rig.registry.remove_worker("w-1")
        rig.out_of_reach = {"w-1"}
        await rig.placement.renew([])
        assert rig.placement.choose(2, NOBODY, 1) == NoCapacity(NoCapacityReason.NO_WORKERS)

    async def test_nothing_is_recalled_and_what_is_to_be_written_waits(self, rig: Rig) -> None:
        await self.with_table(rig, worker("w-1"))
        memory = CallMemory()
        memory.remember(wire.ItemUpdate("item", item={"text": "Hello."}), 10)
        assert await rig.placement.recall("call") is None
        away = [rig.placement.redis_is_away]
        await rig.placement.remember({"call": memory})
        self.redis.start()
        await rig.placement.renew([lease()])
        away.append(rig.placement.redis_is_away)
        assert away == [True, False]
        await rig.placement.remember({"call": memory})
        recalled = await rig.placement.recall("call")
        assert recalled is not None
        assert recalled.order == ["item"]

    async def test_what_cannot_be_written_is_written_anew(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        await rig.placed()
        memory = CallMemory()
        memory.remember(wire.ItemUpdate("item_0", item={"text": "Hello."}), 10)
        await rig.placement.remember({"call": memory})
        memory.remember(wire.ItemUpdate("item_1", "item_0", item={"text": "Hi."}), 10)
        self.redis.kill()
        await rig.placement.remember({"call": memory})
        assert rig.placement.redis_is_away
        self.redis.start()
        await rig.placement.renew([lease()])
        await rig.placement.remember({"call": memory})
        recalled = await rig.placement.recall("call")
        assert recalled is not None
        assert recalled.order == ["item_0", "item_1"]

    async def test_a_renewal_keeps_the_table_and_supersedes_nobody(self, rig: Rig) -> None:
        await self.with_table(rig, worker("w-1"))
        renewal = await rig.placement.renew([lease()])
        assert (renewal.superseded, renewal.missing) == (frozenset(), frozenset())
        assert [status.id for status in rig.placement.workers] == ["w-1"]

    @pytest.mark.parametrize("is_back", [False, True])
    async def test_a_call_that_ends_is_taken_out_when_it_is_back(self, rig: Rig, is_back: bool) -> None:
        await rig.publish(worker("w-1"))
        placed = await rig.placed()
        self.redis.freeze()
        await rig.placement.unpin("call", placed.epoch)
        assert not rig.redis_up[-1]
        self.redis.thaw()
        # It may have come back meanwhile: then it is there to stay.
        held = [lease(epoch=placed.epoch, worker=placed.worker_id, pins=placed.pins)] if is_back else []
        await rig.placement.renew(held)
        assert [record.uuid for record in await rig.registry.calls()] == ["call"] * is_back

    async def test_its_coming_and_going_is_logged_once_each(self, rig: Rig) -> None:
        with capture_logs() as lines:
            await self.with_table(rig, worker("w-1"))
            for _ in range(3):
                await rig.place()
            self.redis.start()
            await rig.placement.renew([])
            await rig.placement.renew([])
        assert [line["event"] for line in lines] == ["redis is away", "redis is back"]
        # No call waits for a Redis that was away a moment ago: the renewals see when it is back.
        assert rig.redis_up == [True, False, True, True]

    async def test_a_redis_that_hangs_is_away_too(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        await rig.placement.renew([])
        self.redis.freeze()
        assert (await rig.placed()).started_at_ms is None
        self.redis.thaw()

    async def test_what_was_placed_meanwhile_is_published_when_it_is_back(self, rig: Rig) -> None:
        await self.with_table(rig, worker("w-1"))
        placed = await rig.placed()
        self.redis.start()
        held = lease(epoch=placed.epoch, worker=placed.worker_id, pins=placed.pins)
        assert (await rig.placement.renew([held])).superseded == frozenset()
        record = await rig.registry.call("call")
        assert record is not None
        assert (record.worker, record.epoch, record.dispatcher) == ("w-1", 1, "d-1")
        assert record.started_at_ms > 0


class TestTheCallsOfOtherDispatchers:
    """Moves, and placement without Redis, go by the last table."""

    async def filled(self, rig: Rig, *workers: WorkerRecord, **calls: int) -> None:
        """Publish workers that have calls of another dispatcher, and take the table."""
        await rig.publish(*workers)
        held = [
            lease(f"{name}-{n}", worker=name.replace("_", "-"))
            for name, many in calls.items()
            for n in range(many)
        ]
        await rig.registry.renew("d-2", held, lease_seconds=LONG_SECONDS)
        await rig.placement.renew([])

    async def test_a_move_goes_to_the_least_loaded_worker(self, rig: Rig) -> None:
        await self.filled(rig, worker("w-1"), worker("w-2"), w_1=5, w_2=2)
        rig.own_calls = {"w-2": 1}
        found = rig.placement.choose(2, NOBODY, 1)
        assert isinstance(found, Assignment)
        assert found.worker_id == "w-2"

    async def test_a_full_worker_of_a_newer_release_comes_last(self, rig: Rig) -> None:
        await self.filled(rig, worker("w-1", release="1.1.0"), worker("w-2"), w_1=10, w_2=9)
        found = rig.placement.choose(2, NOBODY, 1)
        assert isinstance(found, Assignment)
        assert found.worker_id == "w-2"

    async def test_moves_since_the_table_count(self, rig: Rig) -> None:
        await self.filled(rig, worker("w-1"), worker("w-2"), w_1=3, w_2=2)
        rig.own_calls = {"w-2": 2}
        await rig.placement.renew([])
        rig.own_calls = {"w-2": 4}
        found = rig.placement.choose(2, NOBODY, 1)
        assert isinstance(found, Assignment)
        assert found.worker_id == "w-1"

    async def test_a_move_fills_no_worker_above_the_limit(self, rig: Rig) -> None:
        await self.filled(rig, worker("w-1"), w_1=15)
        assert rig.placement.choose(2, NOBODY, 1) == NoCapacity(NoCapacityReason.FULL)

    async def test_without_redis_calls_go_by_the_table(self, rig: Rig) -> None:
        await self.filled(rig, worker("w-1", release="1.1.0"), worker("w-2"), w_1=10, w_2=1)
        rig.placement._note(False)
        assert (await rig.placed()).worker_id == "w-2"

    async def test_without_redis_a_full_worker_is_asked_last(self, rig: Rig) -> None:
        await self.filled(rig, worker("w-1"), w_1=10)
        rig.placement._note(False)
        # The table may be old: the worker knows better.
        assert (await rig.placed()).worker_id == "w-1"


async def test_a_write_that_a_failover_lost_is_written_again(rig: Rig) -> None:
    await rig.publish(worker("w-1"))
    await rig.placed()
    memory = CallMemory()
    memory.remember(wire.ItemUpdate("item_1", item={"role": "user", "text": "My name is Ann."}), 50)
    await rig.placement.renew([lease()])
    await rig.placement.remember({"call": memory})
    older = await rig.registry.recall("call")
    memory.remember(wire.ItemUpdate("item_2", "item_1", item={"role": "agent", "text": "Hello Ann."}), 50)
    await rig.placement.remember({"call": memory})
    # The replica has the call, and what was said before the last write.
    await rig.registry.remember({"call": MemoryUpdate(older, anew=True, version=1)})
    rig.now += REWRITE_SECONDS
    assert (await rig.placement.renew([lease()])).missing == {"call"}
    memory.copy_lost()
    await rig.placement.remember({"call": memory})
    rig.now += REWRITE_SECONDS
    assert (await rig.placement.renew([lease()])).missing == frozenset()
    recalled = await rig.placement.recall("call")
    assert recalled is not None
    assert recalled.order == ["item_1", "item_2"]


async def test_a_write_that_a_restarted_redis_lacks_is_found_at_once(redis_process: RedisProcess) -> None:
    if not isinstance(redis_process, RealRedis):
        pytest.skip("the embedded Redis keeps nothing on disk")
    rig = Rig(Registry.from_url(redis_process.url, timeout_seconds=30))
    await rig.publish(worker("w-1"))
    await rig.placed()
    memory = CallMemory()
    await rig.placement.renew([lease()])
    await rig.registry.run(lambda redis: redis.save())
    memory.remember(wire.ItemUpdate("item_1", item={"role": "user", "text": "My name is Ann."}), 50)
    await rig.placement.remember({"call": memory})
    # As with a failover to a replica that lags: all is there but the last write.
    redis_process.kill()
    redis_process.start()
    await rig.placement.renew([lease()])  # by the connection that broke
    assert (await rig.placement.renew([lease()])).missing == {"call"}
    memory.copy_lost()
    await rig.placement.remember({"call": memory})
    assert (await rig.placement.renew([lease()])).missing == frozenset()
    await rig.registry.aclose()


async def test_a_call_is_placed_by_the_table_while_redis_is_busy(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    await rig.publish(worker("w-1"))
    await rig.placement.renew([])

    async def busy(*_: object, **__: object) -> None:
        raise RegistryBusy("too many commands wait")

    monkeypatch.setattr(rig.registry, "pin", busy)
    placed = await rig.placed()
    assert (placed.worker_id, placed.started_at_ms) == ("w-1", None)
    assert not rig.placement.redis_is_away
    assert False not in rig.redis_up


class TestAStalledDispatcher:
    """The lease of a dispatcher ends while it stalls, or while Redis does."""

    @pytest.fixture
    async def rigs(self, registry: Registry, monkeypatch: pytest.MonkeyPatch) -> tuple[Rig, Rig]:
        """Return a dispatcher whose lease has ended, and one that beats; the first one holds the calls a and b."""
        monkeypatch.setattr(placement, "CALL_LEASE_SECONDS", 0.2)
        stalled = Rig(registry, "d-1")
        monkeypatch.undo()
        other = Rig(registry, "d-2")
        await stalled.publish(worker("w-1"), worker("w-2"))
        await stalled.placement.renew(self.held())
        await stalled.placement.remember({"a": self.memory()})

        async def has_ended() -> bool:
            return await registry.call("a") is None

        await eventually(has_ended)
        return stalled, other

    @staticmethod
    def held() -> list[CallLease]:
        return [lease("a", epoch=3, pins=2), lease("b")]

    @staticmethod
    def memory() -> CallMemory:
        memory = CallMemory()
        memory.remember(wire.ItemUpdate("item_1", item={"role": "user", "text": "Hi"}), 20)
        return memory

    async def test_its_calls_are_written_again(self, rigs: tuple[Rig, Rig]) -> None:
        stalled, other = rigs
        await other.placement.renew([])  # removes them
        assert await other.registry.run(lambda redis: redis.keys("*said*")) == []
        renewal = await stalled.placement.renew(self.held())
        assert (set(renewal.superseded), set(renewal.missing)) == (set(), {"a", "b"})
        calls = await other.registry.calls()
        assert {(call.uuid, call.dispatcher, call.epoch) for call in calls} == {("a", "d-1", 3), ("b", "d-1", 1)}
        assert {each.id: each.calls for each in await other.registry.workers()} == {"w-1": 2, "w-2": 0}

    async def test_calls_that_were_not_removed_yet_are_kept(self, rigs: tuple[Rig, Rig]) -> None:
        stalled, _ = rigs
        assert (await stalled.placement.renew(self.held())).missing == frozenset()
        assert (await stalled.registry.recall("a"))["order"] == '["item_1"]'

    async def test_calls_that_others_took_are_superseded(self, rigs: tuple[Rig, Rig]) -> None:
        stalled, other = rigs
        await other.placement.renew([lease("a", "w-2", epoch=4)])
        assert (await stalled.placement.renew(self.held())).superseded == {"a"}
        assert {each.id: each.calls for each in await other.registry.workers()} == {"w-1": 1, "w-2": 1}


class TestOnlyChanges:
    """Only what has changed is written and read."""

    @staticmethod
    def counted(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
        written: list[list[str]] = []
        renew = rig.registry.renew

        async def counting(dispatcher: str, calls: list[CallLease], **options: Any) -> Any:
            written.append([call.uuid for call in calls])
            return await renew(dispatcher, calls, **options)

        monkeypatch.setattr(rig.registry, "renew", counting)
        return written

    async def test_an_unchanged_call_is_not_written_again(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        written = self.counted(rig, monkeypatch)
        held = [lease("a"), lease("b")]
        await rig.placement.renew(held)
        await rig.placement.renew(held)
        await rig.placement.renew([lease("a"), lease("b", state="parting"), lease("c")])
        assert written == [["a", "b"], [], ["b", "c"]]

    async def test_an_unchanged_call_is_written_after_a_while(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        written = self.counted(rig, monkeypatch)
        await rig.placement.renew([lease("a")])
        rig.now += REWRITE_SECONDS
        await rig.placement.renew([lease("a")])
        assert written == [["a"], ["a"]]

    async def test_a_call_that_was_published_is_not_written_again(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rig.placement.renew([])
        written = self.counted(rig, monkeypatch)
        await rig.placement.publish([lease("a")])
        await rig.placement.renew([lease("a")])
        assert written == [["a"], []]

    async def test_a_call_that_another_dispatcher_took_is_looked_at(
        self, rig: Rig, registry: Registry, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        held = [lease("a"), lease("b")]
        await rig.placement.renew(held)
        await registry.renew("d-2", [lease("b", epoch=2)], lease_seconds=LONG_SECONDS)
        written = self.counted(rig, monkeypatch)
        assert (await rig.placement.renew(held)).superseded == {"b"}
        assert written == [["b"]]

    async def test_after_a_failed_command_all_calls_are_written(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rig.placement.renew([lease("a")])
        written = self.counted(rig, monkeypatch)
        rig.placement._note(False, "it did not answer")
        await rig.placement.renew([lease("a")])
        assert written == [["a"]]

    async def test_a_dispatcher_whose_lease_has_ended_writes_all_calls(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rig.placement.renew([lease("a")])
        await rig.registry.run(lambda redis: redis.delete(f"{KEY_PREFIX}dispatcher:d-1"))
        written = self.counted(rig, monkeypatch)
        await rig.placement.renew([lease("a")])
        assert written == [["a"]]
        assert [call.uuid for call in await rig.registry.calls()] == ["a"]

    async def test_a_call_that_ends_during_a_beat_is_not_written_again(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rig.publish(worker("w-1"))
        placed = await rig.placed()
        beat = rig.registry.beat

        async def ending(*args: Any, **options: Any) -> Any:
            answer = await beat(*args, **options)
            await rig.placement.unpin("call", placed.epoch)
            return answer

        monkeypatch.setattr(rig.registry, "beat", ending)
        await rig.placement.renew([lease()])
        assert await rig.registry.calls() == []

    async def test_changes_of_workers_are_read(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"), worker("w-2"))
        await rig.placement.renew([])
        await rig.publish(worker("w-2", state="draining"), worker("w-3"))
        await rig.registry.remove_worker("w-1")
        await rig.registry.pin("x", dispatcher="d-2", epoch=1, metadata={}, lease_seconds=LONG_SECONDS)
        rig.out_of_reach = {"w-1"}
        await rig.placement.renew([])
        assert [(each.id, each.state.value, each.calls) for each in rig.placement.workers] == [
            ("w-2", "draining", 0),
            ("w-3", "ready", 1),
        ]

    async def test_a_table_of_many_workers_is_read_in_parts(self, rig: Rig) -> None:
        await rig.publish(*(worker(f"w-{number:03}") for number in range(120)))
        await rig.placement.renew([])
        assert len(rig.placement.workers) == 120
        await rig.publish(*(worker(f"w-{number:03}", capacity=20) for number in range(110)))
        await rig.placement.renew([])
        assert sum(each.capacity for each in rig.placement.workers) == 110 * 20 + 10 * 10

    async def test_the_whole_table_is_read_after_a_while(self, rig: Rig) -> None:
        rig.out_of_reach = {"w-1"}
        await rig.publish(worker("w-1"), worker("w-2"))
        await rig.placement.renew([])
        # A change that this dispatcher does not hear of.
        await rig.registry.run(lambda redis: redis.zrem(f"{KEY_PREFIX}table", "w-1"))
        await rig.placement.renew([])
        assert [each.id for each in rig.placement.workers] == ["w-1", "w-2"]
        rig.now += REFRESH_SECONDS
        await rig.placement.renew([])
        assert [each.id for each in rig.placement.workers] == ["w-2"]


class TestStaleSlots:
    """Redis counts calls that have ended: of a dispatcher that died, or whose hang-ups Redis has not heard of."""

    async def fill(self, rig: Rig, *workers: WorkerRecord) -> None:
        """Have all slots of these workers taken in Redis, by another dispatcher."""
        await rig.publish(*workers)
        for number in range(sum(each.capacity for each in workers)):
            pin = await rig.registry.pin(
                f"stale-{number}", dispatcher="d-2", epoch=1, metadata={}, lease_seconds=LONG_SECONDS
            )
            assert isinstance(pin, Pin)
        await rig.placement.renew([])

    async def test_a_worker_that_says_it_has_room_gets_the_call(self, rig: Rig) -> None:
        await self.fill(rig, worker("w-1", capacity=3), worker("w-2", capacity=3))
        rig.loads = {"w-1": 3, "w-2": 2}
        assert (await rig.placed("new")).worker_id == "w-2"
        assert (await rig.registry.call("new")) is not None

    async def test_many_calls_at_once_ask_once(self, rig: Rig) -> None:
        await self.fill(rig, worker("w-1", capacity=3))
        rig.loads = {"w-1": 0}
        placed = await asyncio.gather(*(rig.placed(f"new-{number}") for number in range(20)))
        assert {each.worker_id for each in placed} == {"w-1"}  # it refuses what is too much
        assert rig.asked == 1
        rig.now += LOADS_SECONDS
        await rig.placed("later")
        assert rig.asked == 2

    @pytest.mark.parametrize("loads", [{}, {"w-1": 3}, {"w-1": 4}, {"unknown": 0}])
    async def test_workers_that_are_full_or_say_nothing_are_full(self, rig: Rig, loads: dict[str, int]) -> None:
        await self.fill(rig, worker("w-1", capacity=3))
        rig.loads = loads
        assert await rig.place("new") == NoCapacity(NoCapacityReason.FULL)
        assert await rig.registry.call("new") is None

    async def test_a_worker_that_has_refused_the_call_is_not_asked_for(self, rig: Rig) -> None:
        await self.fill(rig, worker("w-1", capacity=3))
        rig.loads = {"w-1": 0}
        assert not isinstance(await rig.place("new", excluded=frozenset({"w-1"})), Assignment)

    async def test_a_recovering_call_is_placed_by_what_workers_say(self, rig: Rig) -> None:
        await self.fill(rig, worker("w-1", capacity=4))
        for number in range(2):
            await rig.placed(f"lost-{number}", recovers=True)
        rig.loads = {"w-1": 5}
        assert (await rig.placed("lost", recovers=True)).worker_id == "w-1"
        rig.now += LOADS_SECONDS
        rig.loads = {"w-1": 6}
        assert await rig.place("another", recovers=True) == NoCapacity(NoCapacityReason.FULL)

    async def test_nobody_is_asked_while_there_is_room(self, rig: Rig) -> None:
        await rig.publish(worker("w-1"))
        await rig.placed()
        assert rig.asked == 0
