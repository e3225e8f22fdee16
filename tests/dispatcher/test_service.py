"""A dispatcher as a whole: its lasting tasks, and its end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from structlog.testing import capture_logs
from websockets.asyncio.client import connect
from websockets.exceptions import InvalidStatus

import common.runtime.process
import dispatcher.service
import dispatcher.workers.links
from common.link import wire
from common.store.leases import CallLease, Renewal, TableChanges, TableVersion
from common.store.registry import Registry
from dispatcher.workers.placement import RENEW_INTERVAL_SECONDS
from tests.dispatcher.rig import PATIENCE_SECONDS, Rig
from tests.dispatcher.scripted_worker import attach_or_take, say_nothing, take
from tests.helpers import eventually
from tests.redis_process import RedisProcess


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with Rig(redis_url) as rig:
        yield rig


@pytest.fixture
async def second_look(redis_url: str) -> AsyncIterator[Registry]:
    """Yield another client of the same Redis, for when the dispatcher's own is closed."""
    registry = Registry.from_url(redis_url, timeout_seconds=30)
    yield registry
    await registry.aclose()


class TestAllTheTime:
    async def test_links_are_opened_ahead_of_the_first_call(self, rig: Rig) -> None:
        ready = [rig.dispatcher.is_ready]
        worker = await rig.worker()
        await asyncio.wait_for(rig.dispatcher.links.wait_up(), PATIENCE_SECONDS)
        ready.append(rig.dispatcher.is_ready)
        assert ready == [False, True]
        assert len(worker.links) == 1

    async def test_a_worker_that_comes_later_is_found(self, rig: Rig) -> None:
        await rig.worker("w-1")
        await asyncio.wait_for(rig.dispatcher.links.wait_up(), PATIENCE_SECONDS)
        await rig.worker("w-2")
        await eventually(lambda: rig.dispatcher.links.has("w-2"), PATIENCE_SECONDS)

    async def test_what_is_held_is_published_again(self, rig: Rig) -> None:
        await rig.worker()
        await rig.live()

        async def published_state() -> bool:
            (record,) = await rig.registry.calls()
            return record.state == "live"

        await eventually(published_state, PATIENCE_SECONDS)

    async def test_without_a_link_calls_are_renewed_no_more_often(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = await rig.worker()
        core = await rig.live()
        worker.vanish()
        await eventually(lambda: not rig.dispatcher.is_ready)
        looks, renewals = [], []
        renew, look = rig.registry.renew, rig.registry.table

        async def counted_renew(*args: Any, **options: Any) -> Renewal:
            renewals.append(1)
            return await renew(*args, **options)

        async def counted_look(version: TableVersion) -> TableChanges:
            looks.append(1)
            return await look(version)

        monkeypatch.setattr(rig.registry, "renew", counted_renew)
        monkeypatch.setattr(rig.registry, "table", counted_look)
        since_seconds = time.monotonic()
        await eventually(lambda: len(looks) >= 20, PATIENCE_SECONDS)
        # One for each second, and one when the call lost its worker.
        assert len(renewals) <= (time.monotonic() - since_seconds) / RENEW_INTERVAL_SECONDS + 2
        await core.hang_up()

    async def test_a_new_call_is_published_without_the_others(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rig.worker(capacity=100)
        for number in range(20):
            await rig.live(f"old-{number}")
        published: set[str] = set()
        renew = rig.registry.renew

        async def counted(dispatcher: str, calls: Sequence[CallLease], **options: Any) -> Renewal:
            published.update(call.uuid for call in calls)
            return await renew(dispatcher, calls, **options)

        async def is_live() -> bool:
            record = await rig.registry.call("new")
            return record is not None and record.state == "live"

        async def all_are_live() -> bool:
            return {record.state for record in await rig.registry.calls()} == {"live"}

        await eventually(all_are_live, PATIENCE_SECONDS)
        monkeypatch.setattr(rig.registry, "renew", counted)
        await rig.live("new")
        await eventually(is_live, PATIENCE_SECONDS)
        assert published == {"new"}

    async def test_calls_are_ticked(self, redis_url: str) -> None:
        async with Rig(redis_url, init_seconds=0.3) as rig:
            core = await rig.connect()
            assert await core.end() == (1008, "no init within 0.3 s")
            await rig.nothing_is_left()

    @pytest.mark.interpreted
    async def test_a_call_whose_clock_fails_ends_alone(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        await rig.worker()
        core, neighbour = await rig.live("call"), await rig.live("neighbour")

        def fail(_: float) -> None:
            raise RuntimeError("a bug")

        monkeypatch.setattr(rig.dispatcher._by_uuid["call"].call, "tick", fail)
        with capture_logs() as lines:
            assert await core.end() == (1011, "internal error")
        assert any(line.get("uuid") == "call" and line.get("exc_info") for line in lines)
        assert rig.state("neighbour") == "live"
        await neighbour.hang_up()
        await rig.nothing_is_left()

    async def test_a_renewal_that_fails_is_not_the_last(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        renewals: list[list[CallLease]] = []

        async def fail(held: list[CallLease]) -> frozenset[str]:
            renewals.append(held)
            raise RuntimeError("a bug")

        monkeypatch.setattr(rig.dispatcher.placement, "renew", fail)
        with capture_logs() as lines:
            await eventually(lambda: len(renewals) >= 3)
        assert [(line["event"], line["task"]) for line in lines] == [("task step failed", "publish")]


class TestDraining:
    async def test_new_calls_are_turned_away_and_running_ones_awaited(self, rig: Rig) -> None:
        await rig.worker()
        core = await rig.live()
        stop = asyncio.Event()
        draining = asyncio.create_task(rig.dispatcher.drain(stop))
        await eventually(lambda: rig.dispatcher.draining)
        assert not rig.dispatcher.is_ready
        with pytest.raises(ConnectionError):
            await connect(rig.url)
        assert not draining.done()
        await core.hang_up()
        await asyncio.wait_for(draining, PATIENCE_SECONDS)

    async def test_an_accepted_connection_gets_503(self, rig: Rig) -> None:
        rig.dispatcher.draining = True
        with pytest.raises(InvalidStatus) as refused:
            await connect(rig.url)
        assert refused.value.response.status_code == 503

    async def test_the_deadline_ends_the_waiting(self, rig: Rig) -> None:
        await rig.worker()
        await rig.live()
        stop = asyncio.Event()
        draining = asyncio.create_task(rig.dispatcher.drain(stop))
        await eventually(lambda: rig.dispatcher.draining)
        stop.set()
        await asyncio.wait_for(draining, PATIENCE_SECONDS)
        assert rig.state() == "live"

    async def test_without_calls_there_is_nothing_to_wait_for(self, rig: Rig) -> None:
        await asyncio.wait_for(rig.dispatcher.drain(asyncio.Event()), PATIENCE_SECONDS)

    async def test_the_last_call_is_out_of_redis_when_all_is_over(
        self, redis_url: str, second_look: Registry
    ) -> None:
        async with Rig(redis_url, reconnect_seconds=0.2) as rig:
            await rig.worker()
            core = await rig.live()
            draining = asyncio.create_task(rig.dispatcher.drain(asyncio.Event()))
            core.socket.transport.abort()
            await draining
            # The pin is being taken out at this moment; a process would go on just so.
            await rig.dispatcher.stop()
            assert await second_look.calls() == []


class TestStopping:
    async def test_calls_end_with_an_error_and_nothing_is_left(
        self, redis_url: str, second_look: Registry
    ) -> None:
        async with Rig(redis_url) as rig:
            worker = await rig.worker()
            await rig.worker("w-2", say_nothing)
            cores = [await rig.call(f"call-{number}") for number in range(6)]
            silent = await rig.connect()
            await eventually(lambda: len(rig.dispatcher._by_uuid) == 6)
            await eventually(lambda: {rig.state(f"call-{n}") for n in range(6)} == {"live", "opening"})
            ends = [asyncio.create_task(core.end()) for core in (*cores, silent)]
            await rig.dispatcher.stop()
            for end in ends:
                assert await end == (1011, "the service is stopping")
            assert await second_look.calls() == []
            # Workers were told to let go, and then that this is the end.
            (far,) = worker.links
            assert len(far.controls(wire.Close)) == len(worker.opens())
            await eventually(lambda: far.lost_because is not None)
            assert far.lost_because == "the dispatcher ends"

    async def test_a_drained_dispatcher_leaves_calls_to_their_workers(
        self, redis_url: str, second_look: Registry
    ) -> None:
        async with Rig(redis_url, "d-2") as other, Rig(redis_url, leaves_calls=True) as rig:
            worker = await rig.worker(answer=attach_or_take)
            core, unknown = await rig.live(), await rig.connect()
            await rig.dispatcher.stop()
            # It was not closed but cut: AVR Core comes back then.
            assert await core.end() == (1006, None)
            assert await unknown.end() == (1011, "the service is stopping")
            (far,) = [each for each in worker.links if each.hello is not None and each.hello.id == "d-1"]
            await eventually(lambda: far.lost_because is not None)
            assert not far.controls(wire.Close)
            assert [(record.uuid, record.dispatcher) for record in await second_look.calls()] == [("call", "d-1")]
            back = await other.call()
            await eventually(lambda: other.state() == "live", PATIENCE_SECONDS)
            opening = max((opening for _, opening in worker.opens()), key=lambda opening: opening.epoch)
            assert (opening.epoch, opening.attach) == (2, True)
            await back.hang_up()
            await other.nothing_is_left()

    @pytest.mark.parametrize("why", ["no time to come back", "not taken yet"])
    async def test_others_end_all_the_same(self, redis_url: str, why: str) -> None:
        seconds = 0.0 if why == "no time to come back" else 10.0
        async with Rig(redis_url, leaves_calls=True, reconnect_seconds=seconds) as rig:
            worker = await rig.worker(answer=take if seconds == 0 else say_nothing)
            core = await rig.call()
            await eventually(lambda: worker.opens() and rig.state() in ("live", "opening"))
            if seconds == 0:
                await eventually(lambda: rig.state() == "live")
            end = asyncio.create_task(core.end())
            await rig.dispatcher.stop()
            assert await end == (1011, "the service is stopping")

    async def test_no_task_is_left(self, redis_url: str) -> None:
        before = asyncio.all_tasks()
        async with Rig(redis_url) as rig:
            await rig.worker()
            await rig.live()
            await rig.call("another")
            await rig.connect()
        await eventually(lambda: asyncio.all_tasks() <= before)

    async def test_it_keeps_its_time_whoever_does_not_answer(
        self, redis_process: RedisProcess, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with Rig(redis_process.url, timeout_seconds=1) as rig:
            worker = await rig.worker()
            core = await rig.live()
            with socket.create_server(("127.0.0.1", 0)) as deaf:
                await rig.publish("w-deaf", f"127.0.0.1:{deaf.getsockname()[1]}")
                # A caller, a worker and Redis that all have stopped, and a worker that never answered.
                core.socket.transport.pause_reading()
                transport = worker.links[0].end.connection
                assert transport is not None
                assert transport._transport is not None
                transport._transport.pause_reading()
                redis_process.freeze()
                budget_seconds = (
                    dispatcher.service.CLOSE_SECONDS
                    + dispatcher.service.SETTLE_SECONDS
                    + dispatcher.workers.links.CLOSE_SECONDS
                )
                assert budget_seconds < common.runtime.process.STOP_SECONDS
                # With some patience for a busy machine; without the bounds it would be 5 s and more.
                async with asyncio.timeout(budget_seconds + 2.0):
                    await rig.dispatcher.stop()
                redis_process.thaw()

    async def test_stopping_twice_is_stopping_once(self, rig: Rig) -> None:
        await rig.worker()
        await rig.live()
        await rig.dispatcher.stop()
        await rig.dispatcher.stop()


class TestAStartWithoutRedis:
    async def test_callers_are_accepted_when_a_worker_is_known(self, redis_process: RedisProcess) -> None:
        redis_process.kill()
        async with Rig(redis_process.url, timeout_seconds=1) as rig:
            assert rig.dispatcher._server is None
            redis_process.start()
            await rig.worker()
            await rig.live()

    async def test_callers_are_accepted_after_a_bound(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(dispatcher.service, "FIRST_WORKER_SECONDS", 0.1)
        with capture_logs() as lines:
            async with Rig("redis://127.0.0.1:1", timeout_seconds=1, unknown_seconds=0.3) as rig:
                assert await (await rig.call()).end() == (1011, "no worker is known, because Redis is away")
        said = [line["event"] for line in lines]
        assert "no worker is known, and redis is away" in said
        assert "no worker is known" in said

    async def test_a_stop_before_that_closes_the_socket(self) -> None:
        async with Rig("redis://127.0.0.1:1", timeout_seconds=1) as rig:
            assert rig.dispatcher._server is None
            sock = rig.dispatcher._socket
        assert sock is not None
        assert sock.fileno() == -1
