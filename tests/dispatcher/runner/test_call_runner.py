"""The shell around a call: its caller, its pin and its channel, whichever of them comes or goes first."""

from __future__ import annotations

import asyncio
import base64
import dataclasses
import http
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Any

import pytest
from structlog.testing import capture_logs

import dispatcher.runner.measurements
import dispatcher.workers.links
from common.link import wire
from common.link.wire import Kind
from common.net.websocket_limits import Limits
from dispatcher.call.actions import Metric
from dispatcher.call.assignment import Assignment
from dispatcher.runner.assignment_channel import AssignmentChannel
from tests.dispatcher.rig import PATIENCE_SECONDS, Rig, counted
from tests.dispatcher.scripted_worker import attach_or_take, refuse, say_nothing, take
from tests.helpers import eventually
from tests.redis_process import RedisProcess

FRAME = bytes(range(160)) * 2
HUNG_UP = 'avr_sts_calls_total{outcome="completed",reason="caller_hung_up",tenant=""}'


@pytest.fixture
async def rig(redis_url: str) -> AsyncIterator[Rig]:
    async with Rig(redis_url) as rig:
        yield rig


@pytest.fixture
def quick_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give up a silent worker sooner than in production."""
    monkeypatch.setattr(dispatcher.workers.links, "LINK_LIMITS", Limits(open_timeout_seconds=0.3))


@pytest.fixture
def deaf_address() -> Iterator[str]:
    """Yield an address at which a process accepts connections and does not answer."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        yield f"127.0.0.1:{deaf.getsockname()[1]}"


@pytest.fixture
def dead_address() -> str:
    """Return an address at which no process listens."""
    with socket.create_server(("127.0.0.1", 0)) as closed:
        return f"127.0.0.1:{closed.getsockname()[1]}"


class TestACall:
    async def test_it_is_pinned_carried_and_leaves_nothing(self, rig: Rig) -> None:
        worker = await rig.worker()
        completed = counted(HUNG_UP)
        measured = counted('avr_sts_call_duration_seconds_count{tenant=""}')
        core = await rig.call("call-1", "path?from=100&to=%2B39")
        await eventually(lambda: rig.state("call-1") == "live")
        ((channel, opening),) = worker.opens()
        assert dataclasses.replace(opening, age_seconds=0.0) == wire.Open(
            "call-1", 1, {"from": "100", "to": "+39"}, 0, wire.REPLY_CREDIT_BYTES, collects=True
        )
        await core.audio(FRAME)
        far = await worker.only_link()
        await eventually(lambda: len(far.records) == 2)
        assert far.records[1] == (Kind.CALLER_AUDIO, channel, bytes(8) + FRAME)
        far.end.send(wire.encode_reply_audio(channel, 1, FRAME))
        assert await core.hear() == {"type": "audio", "audio": base64.b64encode(FRAME).decode()}
        far.send(wire.Transcript("item", "agent", "Hello"), channel)
        assert await core.hear() == {"type": "transcript", "role": "agent", "text": "Hello"}
        (record,) = await rig.registry.calls()
        assert (record.uuid, record.worker, record.dispatcher, record.pins) == ("call-1", "w-1", "d-1", 1)
        await core.hang_up()
        await rig.nothing_is_left()
        assert far.controls(wire.Close) == [(channel, wire.Close("the caller's connection closed with 1000"))]
        assert counted(HUNG_UP) == completed + 1
        assert counted('avr_sts_call_duration_seconds_count{tenant=""}') == measured + 1

    async def test_the_worker_ends_it(self, rig: Rig) -> None:
        worker = await rig.worker()
        core = await rig.live()
        far = await worker.only_link()
        far.send(wire.Ended("failed", "no quota"), 1)
        assert await core.end() == (1011, "no quota")
        await rig.nothing_is_left()

    async def test_the_worker_is_lost_and_nobody_takes_the_call_over(self, redis_url: str) -> None:
        async with Rig(redis_url, recovery_seconds=0.5) as rig:
            worker = await rig.worker()
            core = await rig.live()
            worker.vanish()
            assert await core.end() == (1011, "no worker took the call within 0.5 s")
            await rig.nothing_is_left()

    async def test_the_caller_is_lost(self, redis_url: str) -> None:
        async with Rig(redis_url, reconnect_seconds=0.3) as rig:
            worker = await rig.worker()
            core = await rig.live()
            core.socket.transport.abort()
            await rig.nothing_is_left()
            far = await worker.only_link()
            await eventually(lambda: far.controls(wire.Close))
            reason = "the caller's connection closed with 1006, and it did not come back within 0.3 s"
            assert far.controls(wire.Close) == [(1, wire.Close(reason))]


class TestRecovery:
    async def test_another_worker_takes_over_from_one_that_is_lost(self, rig: Rig) -> None:
        workers = [await rig.worker("w-1"), await rig.worker("w-2")]
        repins = counted('avr_sts_repins_total{reason="worker_lost"}')
        core = await rig.live()
        lost, other = sorted(workers, key=lambda worker: not worker.opens())
        far = await lost.only_link()
        far.send(wire.ItemUpdate("item", item={"text": "Hello."}), 1)
        far.send(wire.Transcript("item", "agent", "Hello."), 1)
        assert (await core.hear())["text"] == "Hello."
        lost.vanish()
        await eventually(lambda: other.opens() and rig.state() == "live", PATIENCE_SECONDS)
        ((channel, opening),) = other.opens()
        assert (opening.uuid, opening.epoch, opening.restore, opening.attach) == ("call", 2, True, False)
        new = await other.only_link()
        assert [record for _, record in new.controls(wire.ItemUpdate)] == [
            wire.ItemUpdate("item", item={"text": "Hello."})
        ]
        assert [record for _, record in new.controls(wire.Resume)] == [wire.Resume("worker_lost")]
        # The caller hears of it by what the other one says.
        new.send(wire.Transcript("item", "agent", "Hello."), channel)
        new.send(wire.Transcript("item_2", "agent", "Where were we?"), channel)
        assert (await core.hear())["text"] == "Where were we?"

        async def is_pinned_there() -> bool:
            (record,) = await rig.registry.calls()
            return (record.worker, record.epoch, record.pins) == (other.id, 2, 2)

        await eventually(is_pinned_there, PATIENCE_SECONDS)
        assert counted('avr_sts_repins_total{reason="worker_lost"}') == repins + 1
        await core.hang_up()
        await rig.nothing_is_left()

    async def test_a_link_that_breaks_is_replaced_and_nothing_is_lost(self, rig: Rig) -> None:
        worker = await rig.worker()
        core = await rig.live()
        await worker.only_link()
        worker.cut()
        for _ in range(5):
            await core.audio(FRAME)
        await eventually(lambda: len(worker.links) == 2 and worker.links[1].controls(wire.Attach))
        far = worker.links[1]
        assert far.controls(wire.Attach) == [(1, wire.Attach("call", 1, 2))]  # OPENED and READY

        def audio() -> list[tuple[int, int]]:
            """Positions in the call; frames of one read travel together."""
            payloads = [record[2] for each in worker.links for record in each.records if record[0] == 6]
            pieces = [wire.decode_caller_audio(memoryview(payload)) for payload in payloads]
            return [(position, position + len(pcm) // 2) for position, pcm in pieces]

        await eventually(lambda: audio() and audio()[-1][1] == 5 * 160)
        assert [begin for begin, _ in audio()] == [0, *(end for _, end in audio()[:-1])]
        # The call stays where it was.
        far.send(wire.Transcript("item", "agent", "Hello."), 1)
        assert (await core.hear())["text"] == "Hello."
        assert rig.state() == "live"
        assert len(worker.opens()) == 1
        assert [record.epoch for record in await rig.registry.calls()] == [1]
        await core.hang_up()
        await rig.nothing_is_left()

    async def test_a_call_that_ends_on_a_broken_link_leaves_nothing(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        worker = await rig.worker()
        core, neighbour = await rig.live("call"), await rig.live("neighbour")
        await worker.only_link()
        channel = next(channel for channel, opening in worker.opens() if opening.uuid == "call")
        caller = rig.dispatcher._by_uuid["call"]
        broke = AssignmentChannel.link_broke

        def break_and_end(assignment_channel: AssignmentChannel) -> None:
            broke(assignment_channel)
            if assignment_channel._owner is caller:
                caller.stop("it ends now")

        monkeypatch.setattr(AssignmentChannel, "link_broke", break_and_end)
        worker.cut()
        await core.end()
        await eventually(lambda: len(worker.links) == 2 and worker.links[1].controls(wire.Attach))
        assert rig.state("neighbour") == "live"
        # Its worker is told, or would keep the session for who may come back for it.
        far = worker.links[1]
        await eventually(lambda: (channel, wire.Close("it ends now")) in far.controls(wire.Close))
        assert rig.dispatcher.links.calls("w-1") == 1
        await neighbour.hang_up()
        await rig.nothing_is_left()

    async def test_a_lost_session_is_followed_by_one_on_the_same_worker(self, rig: Rig) -> None:
        workers = [await rig.worker("w-1"), await rig.worker("w-2")]
        core = await rig.live()
        holder, other = sorted(workers, key=lambda worker: not worker.opens())
        far = await holder.only_link()
        far.send(wire.Released("dropped", "the connection was lost"), 1)
        await eventually(lambda: len(holder.opens()) == 2 and rig.state() == "live")
        assert [opening.epoch for _, opening in holder.opens()] == [1, 2]
        assert other.opens() == []
        assert [record for _, record in far.controls(wire.Resume)] == [wire.Resume("dropped")]
        await core.hang_up()
        await rig.nothing_is_left()

    async def test_a_reason_of_a_newer_release_costs_no_call(self, rig: Rig) -> None:
        workers = [await rig.worker("w-1"), await rig.worker("w-2")]
        core = await rig.live()
        holder, other = sorted(workers, key=lambda worker: not worker.opens())
        far = await holder.only_link()
        far.send(wire.Released("a reason of a newer release", "why"), 1)
        await eventually(lambda: other.opens() and rig.state() == "live", PATIENCE_SECONDS)
        assert core.socket.close_code is None
        await core.hang_up()
        await rig.nothing_is_left()

    async def test_a_worker_that_is_to_end_gives_its_call_to_another(self, rig: Rig) -> None:
        workers = [await rig.worker("w-1"), await rig.worker("w-2")]
        core = await rig.live()
        leaving, other = sorted(workers, key=lambda worker: not worker.opens())
        await eventually(lambda: {each.id for each in rig.dispatcher.placement.workers} == {"w-1", "w-2"})
        far = await leaving.only_link()
        with capture_logs() as lines:
            far.send(wire.Move("drain", 20.0), 1)
            await eventually(lambda: far.controls(wire.Release), PATIENCE_SECONDS)
        # It stands by: it has the call when it goes on.
        assert not [line for line in lines if line["event"] == "call pinned"]
        ((_, release),) = far.controls(wire.Release)
        assert isinstance(release, wire.Release)
        assert 19 < release.seconds <= 20
        new = await other.only_link()
        assert [record for _, record in new.controls(wire.Resume)] == [wire.Resume("drain", standby=True)]
        assert rig.state() == "live"
        with capture_logs() as lines:
            far.send(wire.Released("drain", "another session goes on"), 1)
            await eventually(lambda: len(new.controls(wire.Resume)) == 2)
        (line,) = [line for line in lines if line["event"] == "call pinned"]
        assert (line["worker"], line["epoch"], line["pins"]) == (other.id, 2, 2)
        assert new.controls(wire.Resume)[1] == (1, wire.Resume("drain"))

        async def is_pinned_there() -> bool:
            (record,) = await rig.registry.calls()
            return (record.worker, record.epoch) == (other.id, 2)

        await eventually(is_pinned_there, PATIENCE_SECONDS)
        assert core.socket.close_code is None
        await core.hang_up()
        await rig.nothing_is_left()

    async def test_a_second_move_goes_to_a_worker_started_since(self, rig: Rig) -> None:
        workers = {name: await rig.worker(name) for name in ("w-1", "w-2")}
        core = await rig.live()

        async def move(leaving: str, known: set[str]) -> str:
            await eventually(lambda: {each.id for each in rig.dispatcher.placement.workers} == known)
            await eventually(lambda: all(rig.dispatcher.links.has(each) for each in known), PATIENCE_SECONDS)
            (channel, _), far = workers[leaving].opens()[-1], await workers[leaving].only_link()
            far.send(wire.Move("drain", 20.0), channel)
            await eventually(lambda: far.controls(wire.Release), PATIENCE_SECONDS)
            far.send(wire.Released("drain", "another session goes on"), channel)
            held = rig.dispatcher._by_uuid["call"].call
            await eventually(lambda: held.assignments.worker_id != leaving, PATIENCE_SECONDS)
            successor = workers[held.assignments.worker_id]
            (channel, _), new = successor.opens()[-1], await successor.only_link()
            new.send(wire.Ready(), channel)
            await eventually(lambda: rig.state() == "live", PATIENCE_SECONDS)
            return held.assignments.worker_id

        first = rig.dispatcher._by_uuid["call"].call.assignments.worker_id
        second = await move(first, {"w-1", "w-2"})
        assert {first, second} == {"w-1", "w-2"}
        workers["w-3"] = await rig.worker("w-3")
        # The first is as empty, and comes before it in the table.
        assert await move(second, {"w-1", "w-2", "w-3"}) == "w-3"
        await core.hang_up()
        await rig.nothing_is_left()


class TestACallerThatComesBack:
    async def test_to_the_same_dispatcher(self, rig: Rig) -> None:
        worker = await rig.worker()
        core = await rig.live()
        far = await worker.only_link()
        core.socket.transport.abort()
        await eventually(lambda: rig.dispatcher._by_uuid["call"].call.is_away)
        far.send(wire.Transcript("item", "agent", "Are you there?"), 1)
        far.end.send(wire.encode_reply_audio(1, 1, FRAME))
        await eventually(lambda: rig.dispatcher._by_uuid["call"].call._playback._queued_messages)
        back = await rig.call()
        assert (await back.hear())["text"] == "Are you there?"
        assert (await back.hear())["type"] == "audio"
        await back.audio(FRAME)
        await eventually(lambda: Kind.CALLER_AUDIO in [kind for kind, _, _ in far.records])
        assert len(worker.opens()) == 1
        assert rig.dispatcher.calls == 1
        await back.hang_up()
        await rig.nothing_is_left()

    async def test_to_another_dispatcher_after_its_own_died(self, rig: Rig, redis_url: str) -> None:
        """The pin says which worker has it; that one tells all that the new dispatcher has to know."""
        worker = await rig.worker(answer=attach_or_take)
        await rig.live()
        async with Rig(redis_url, "d-2") as other:
            back = await other.call()
            await eventually(lambda: other.state() == "live")
            _, (channel, opening) = worker.opens()
            assert (opening.epoch, opening.attach, opening.restore) == (2, True, False)
            await back.audio(FRAME)
            far = worker.links[-1]
            await eventually(lambda: Kind.CALLER_AUDIO in [kind for kind, _, _ in far.records])
            audio = next(payload for kind, _, payload in far.records if kind == Kind.CALLER_AUDIO)
            position, pcm = wire.decode_caller_audio(memoryview(audio))
            assert (position, bytes(pcm)) == (8000, FRAME)
            far.send(wire.Transcript("item", "agent", "Hello."), channel)
            assert (await back.hear())["text"] == "Hello."
            # The one before is still there in this test, and would bring the call back to Redis.
            await eventually(lambda: rig.state() is None, PATIENCE_SECONDS)
            await back.hang_up()
            await other.nothing_is_left()

    @pytest.mark.parametrize("known", [True, False])
    async def test_while_redis_is_away(self, known: bool, redis_process: RedisProcess) -> None:
        """Then the workers are asked which of them has the call, also by who is the first to notice it."""
        async with (
            Rig(redis_process.url, timeout_seconds=1) as rig,
            Rig(redis_process.url, "d-2", timeout_seconds=1) as other,
        ):
            worker = await rig.worker(answer=attach_or_take)
            await rig.live()
            await eventually(lambda: other.dispatcher.is_ready)
            redis_process.kill()
            if known:
                await eventually(lambda: other.dispatcher.placement.redis_is_away, PATIENCE_SECONDS)
            worker.holds = {"call": 1}
            back = await other.call()
            await eventually(lambda: other.state() == "live", PATIENCE_SECONDS)
            _, (_, opening) = worker.opens()
            assert (opening.epoch, opening.attach) == (2, True)
            await back.hang_up()
            redis_process.start()

    async def test_its_worker_lives_and_redis_lost_that_worker(self, rig: Rig, redis_url: str) -> None:
        """Redis came back empty, and got the call again before its worker: the worker still has the session."""
        holder = await rig.worker("w-1", answer=attach_or_take)
        await rig.live()
        async with Rig(redis_url, "d-2") as again:
            await eventually(lambda: again.dispatcher.links.up("w-1") is not None, PATIENCE_SECONDS)
            other = await rig.worker("w-2")
            await rig.registry.remove_worker("w-1")
            holder.holds = {"call": 1}
            back = await again.call()
            await eventually(lambda: again.state() == "live", PATIENCE_SECONDS)
            assert other.opens() == []
            _, opening = holder.opens()[-1]
            # The pin at w-2 had 2.
            assert (opening.epoch, opening.attach, opening.restore) == (3, True, False)

            async def is_pinned_there() -> bool:
                calls = await rig.registry.calls()
                return [(each.worker, each.dispatcher) for each in calls] == [("w-1", "d-2")]

            await eventually(is_pinned_there, PATIENCE_SECONDS)
            # The one before is still there in this test, and would bring the call back to Redis.
            await eventually(lambda: rig.state() is None, PATIENCE_SECONDS)
            await back.hang_up()
            await again.nothing_is_left()

    async def test_then_a_worker_is_filled_above_its_capacity_for_it(self, rig: Rig, redis_url: str) -> None:
        dead = await rig.worker("w-1")
        await rig.live()
        (await dead.only_link()).send(wire.ItemUpdate("item", item={"text": "Hello."}), 1)

        async def is_written() -> bool:
            return "item:item" in await rig.registry.recall("call")

        await eventually(is_written, PATIENCE_SECONDS)
        await rig.registry.remove_worker("w-1")
        other = await rig.worker("w-2", capacity=2)
        for number in range(2):
            await rig.live(f"call-{number}")
        async with Rig(redis_url, "d-2") as again:
            assert (await (await again.call("a-new-one")).end())[0] == 1013
            back = await again.call()
            await eventually(lambda: again.state() == "live", PATIENCE_SECONDS)
            _, opening = other.opens()[-1]
            assert (opening.uuid, opening.epoch, opening.restore) == ("call", 2, True)
            await back.hang_up()

    async def test_after_its_dispatcher_and_its_worker_died(self, rig: Rig, redis_url: str) -> None:
        """Another worker continues from the copy in Redis."""
        dead = await rig.worker("w-1")
        await rig.live()
        far = await dead.only_link()
        far.send(wire.Profile({"model": "m"}, {"api_key": "secret"}), 1)
        far.send(wire.ItemUpdate("item", item={"text": "Hello."}), 1)

        async def is_written() -> bool:
            return "item:item" in await rig.registry.recall("call")

        await eventually(is_written, PATIENCE_SECONDS)
        await rig.registry.remove_worker("w-1")
        other = await rig.worker("w-2")
        async with Rig(redis_url, "d-2") as again:
            back = await again.call()
            await eventually(lambda: again.state() == "live")
            ((_, opening),) = other.opens()
            assert (opening.epoch, opening.restore, opening.attach) == (2, True, False)
            new = other.links[-1]
            assert [record for _, record in new.controls(wire.Profile)] == [wire.Profile({"model": "m"})]
            assert [record for _, record in new.controls(wire.ItemUpdate)] == [
                wire.ItemUpdate("item", item={"text": "Hello."})
            ]
            assert [record for _, record in new.controls(wire.Resume)] == [
                wire.Resume("worker_lost", recalled=True)
            ]
            await back.hang_up()
            await again.nothing_is_left()

    async def test_redis_loses_the_copy_before_the_hung_worker_is_found(self, rig: Rig, redis_url: str) -> None:
        hung = await rig.worker("w-1")
        await rig.live()
        far = await hung.only_link()
        far.send(wire.Profile({"model": "m"}), 1)
        far.send(wire.ItemUpdate("item", item={"text": "Hello."}), 1)

        async def is_written() -> bool:
            return "item:item" in await rig.registry.recall("call")

        await eventually(is_written, PATIENCE_SECONDS)
        hung.answer = say_nothing
        async with Rig(redis_url, "d-2") as again:
            back = await again.call()
            await eventually(lambda: len(hung.opens()) == 2)
            (caller,) = again.dispatcher._runners
            await eventually(lambda: caller._finder._copy is not None)
            await rig.registry._redis.flushdb()
            other = await rig.worker("w-2")
            hung.vanish()
            await eventually(lambda: again.state() == "live", PATIENCE_SECONDS)
            assert [record for _, record in other.links[-1].controls(wire.ItemUpdate)] == [
                wire.ItemUpdate("item", item={"text": "Hello."})
            ]
            assert caller._finder._copy is None
            await back.hang_up()
            await again.nothing_is_left()


class TestWorkersThatDoNotTakeIt:
    async def test_there_is_none(self, rig: Rig) -> None:
        core = await rig.call()
        assert await core.end() == (1013, "no capacity: there is no live worker")
        await rig.nothing_is_left()

    async def test_all_are_full(self, rig: Rig) -> None:
        await rig.worker(capacity=1)
        first = await rig.live("first")
        rejected = counted('avr_sts_calls_total{outcome="rejected",reason="no_capacity",tenant=""}')
        measured = counted('avr_sts_call_duration_seconds_count{tenant=""}')
        core = await rig.call("second")
        code, said = await core.end()
        assert code == 1013
        assert said is not None
        assert "no capacity" in said
        assert counted('avr_sts_calls_total{outcome="rejected",reason="no_capacity",tenant=""}') == rejected + 1
        assert counted('avr_sts_call_duration_seconds_count{tenant=""}') == measured
        assert rig.state("first") == "live"
        await first.hang_up()
        await rig.nothing_is_left()

    async def test_redis_counts_calls_that_ended(self, rig: Rig) -> None:
        await rig.worker(capacity=120)
        await asyncio.wait_for(rig.dispatcher.links.wait_up(), PATIENCE_SECONDS)
        for number in range(120):
            await rig.registry.pin(f"gone-{number}", dispatcher="d-dead", epoch=1, metadata={}, lease_seconds=60)
        cores = [await rig.live(f"new-{number}") for number in range(3)]
        assert [each.calls for each in await rig.registry.workers()] == [123]
        for core in cores:
            await core.hang_up()

    @pytest.mark.parametrize("reason", ["full", "draining"])
    async def test_the_only_one_refuses(self, rig: Rig, reason: str) -> None:
        await rig.worker(answer=refuse(reason))
        core = await rig.call()
        assert await core.end() == (1013, "no capacity: every worker has all the calls that it may take")
        await rig.nothing_is_left()

    async def test_one_refuses_and_the_next_takes_it(self, rig: Rig) -> None:
        refusing, taking = await rig.worker("w-1", refuse("draining")), await rig.worker("w-2")
        for number in range(3):
            await rig.live(f"call-{number}")
        assert {opening.uuid for _, opening in taking.opens()} == {"call-0", "call-1", "call-2"}
        # It looks the less loaded from the second call on, so it is asked first.
        assert len(refusing.opens()) >= 2
        records = await rig.registry.calls()
        assert {record.worker for record in records} == {"w-2"}
        assert all(record.epoch == record.pins for record in records)

    async def test_one_that_knows_a_newer_epoch_is_asked_again(self, rig: Rig) -> None:
        worker = await rig.worker(answer=refuse("stale_epoch", 6))
        core = await rig.call()
        await eventually(lambda: len(worker.opens()) == 4)
        assert [opening.epoch for _, opening in worker.opens()] == [1, 7, 8, 9]
        assert (await core.end())[0] == 1011
        await rig.nothing_is_left()

    async def test_one_is_out_of_reach_and_the_next_takes_it(self, rig: Rig, dead_address: str) -> None:
        await rig.publish("w-dead", dead_address)
        taking = await rig.worker("w-2")
        for number in range(4):
            await rig.live(f"call-{number}")
        assert len(taking.opens()) == 4
        workers = {status.id: status.calls for status in await rig.registry.workers()}
        assert workers == {"w-dead": 0, "w-2": 4}
        # A worker that was never reached has held nothing.
        assert [record.pins for record in await rig.registry.calls()] == [1] * 4

    async def test_the_only_one_is_out_of_reach(self, redis_url: str, dead_address: str) -> None:
        async with Rig(redis_url, placing_seconds=0.5) as rig:
            await rig.publish("w-dead", dead_address)
            core = await rig.call()
            code, said = await core.end()
            assert code == 1011
            # Whichever is noticed first.
            assert said in (
                "none of the 1 workers that were asked took the call",
                "no worker took the call within 0.5 s",
            )
            await rig.nothing_is_left()

    async def test_the_only_one_was_out_of_reach_for_a_moment(self, rig: Rig) -> None:
        worker = await rig.worker()
        worker.refusal = (http.HTTPStatus.SERVICE_UNAVAILABLE, "not yet\n")
        core = await rig.call()
        await eventually(lambda: rig.state() == "placing")
        caller = rig.dispatcher._by_uuid["call"]
        await eventually(lambda: caller.call._placing.again_seconds is not None)
        worker.refusal = None
        await eventually(lambda: rig.state() == "live", PATIENCE_SECONDS)
        await core.hang_up()
        await rig.nothing_is_left()

    async def test_one_does_not_answer_in_time(self, redis_url: str) -> None:
        async with Rig(redis_url, placing_seconds=0.3) as rig:
            worker = await rig.worker(answer=say_nothing)
            core = await rig.call()
            code, said = await core.end()
            assert (code, said) == (1011, "no worker took the call within 0.3 s")
            await rig.nothing_is_left()
            assert [kind for kind, _, _ in worker.links[0].records] == [Kind.OPEN, Kind.CLOSE]


class TestCallersThatHangUpMeanwhile:
    async def test_while_redis_is_asked(self, redis_process: RedisProcess) -> None:
        async with Rig(redis_process.url) as rig:
            worker = await rig.worker()
            await eventually(lambda: rig.dispatcher.is_ready)
            redis_process.freeze()
            core = await rig.call()
            await eventually(lambda: rig.state() == "placing")
            await core.hang_up()
            await eventually(lambda: rig.state() is None)
            # Redis pins the call only now.
            redis_process.thaw()
            await rig.nothing_is_left()
            assert worker.opens() == []

    async def test_while_the_link_is_opened(self, rig: Rig, deaf_address: str, quick_links: None) -> None:
        await rig.publish("w-deaf", deaf_address)
        core = await rig.call()
        await eventually(rig.registry.calls)
        assert rig.state() == "placing"
        await core.hang_up()
        await rig.nothing_is_left()

    async def test_between_two_workers(self, redis_process: RedisProcess) -> None:
        async with Rig(redis_process.url) as rig:
            worker = await rig.worker(answer=say_nothing)
            other = await rig.worker("w-2", say_nothing)
            core = await rig.call()
            await eventually(lambda: worker.opens() or other.opens())
            asked = worker if worker.opens() else other
            redis_process.freeze()
            asked.links[0].send(wire.Refused("full"), 1)
            await eventually(lambda: rig.state() == "placing")
            await core.hang_up()
            await eventually(lambda: rig.state() is None)
            redis_process.thaw()
            await rig.nothing_is_left()
            assert len(worker.opens()) + len(other.opens()) == 1

    async def test_before_the_worker_has_answered(self, rig: Rig) -> None:
        worker = await rig.worker(answer=say_nothing)
        core = await rig.call()
        await eventually(worker.opens)
        await core.hang_up()
        await rig.nothing_is_left()
        # The answer comes too late, and has no effect.
        worker.answer = take
        worker.links[0].send(wire.Opened(1000), 1)
        worker.links[0].send(wire.Ready(), 1)
        await rig.live("another")

    async def test_many_at_once_at_any_moment(self, redis_url: str) -> None:
        async with Rig(redis_url, reconnect_seconds=0.3) as rig:
            await self.many_hang_up(rig)

    async def many_hang_up(self, rig: Rig) -> None:
        for number in range(3):
            await rig.worker(f"w-{number}", capacity=100)

        async def call_for_a_moment(number: int) -> None:
            core = await rig.call(f"call-{number}")
            # More turns of the event loop each, from none to well past the pin.
            for _ in range(number):
                await asyncio.sleep(0)
            core.socket.transport.abort()

        await asyncio.gather(*(call_for_a_moment(number) for number in range(60)))
        await rig.nothing_is_left()


class TestTwoConnectionsWithOneUuid:
    async def test_the_newer_has_the_call(self, rig: Rig) -> None:
        worker = await rig.worker()
        older = await rig.live()
        newer = await rig.call()
        code, said = await older.end()
        assert code == 1008
        assert said is not None
        assert "same uuid" in said
        assert rig.dispatcher.calls == 1
        # It is the same call: its worker notices nothing.
        far = await worker.only_link()
        await newer.audio(FRAME)
        await eventually(lambda: len(far.records) == 2)
        assert [kind for kind, _, _ in far.records] == [Kind.OPEN, Kind.CALLER_AUDIO]
        far.send(wire.Transcript("item", "agent", "Hello."), 1)
        assert (await newer.hear())["text"] == "Hello."
        (record,) = await rig.registry.calls()
        assert record.epoch == 1
        await newer.hang_up()
        await rig.nothing_is_left()

    async def test_while_the_older_is_still_being_placed(self, redis_process: RedisProcess) -> None:
        async with Rig(redis_process.url) as rig:
            worker = await rig.worker()
            await eventually(lambda: rig.dispatcher.is_ready)
            redis_process.freeze()
            older = await rig.call()
            await eventually(lambda: rig.state() == "placing")
            newer = await rig.call()
            assert (await older.end())[0] == 1008
            redis_process.thaw()
            await eventually(lambda: rig.state() == "live", PATIENCE_SECONDS)
            # One channel alone was opened, and that is the newer one's.
            ((channel, _),) = worker.opens()
            worker.links[0].send(wire.Transcript("item", "agent", "Hello"), channel)
            assert (await newer.hear())["text"] == "Hello"
            assert rig.dispatcher.links.calls("w-1") == 1
            await eventually(rig.registry.calls)
            await newer.hang_up()
            await rig.nothing_is_left()

    async def test_many_in_a_row(self, rig: Rig) -> None:
        await rig.worker("w-1")
        await rig.worker("w-2")
        cores = [await rig.call() for _ in range(12)]
        for core in cores[:-1]:
            assert (await core.end())[0] == 1008
        await eventually(lambda: rig.state() == "live")
        assert rig.dispatcher.calls == 1

        async def is_pinned_once() -> bool:
            slots = sum(status.calls for status in await rig.registry.workers())
            return slots == len(await rig.registry.calls()) == 1

        # At the latest the next renewal puts right what raced.
        await eventually(is_pinned_once, PATIENCE_SECONDS)
        await cores[-1].hang_up()
        await rig.nothing_is_left()

    async def test_through_another_dispatcher(self, rig: Rig, redis_url: str) -> None:
        worker = await rig.worker()
        older = await rig.live()
        async with Rig(redis_url, "d-2") as other:
            newer = await other.call()
            await eventually(lambda: other.state() == "live")
            # The older dispatcher learns of it with its next renewal.
            assert (await older.end())[0] == 1008
            assert [opening.epoch for _, opening in worker.opens()] == [1, 2]
            (record,) = await rig.registry.calls()
            assert (record.dispatcher, record.epoch) == ("d-2", 2)
            await newer.hang_up()
            await other.nothing_is_left()
        await rig.nothing_is_left()


class TestWithoutRedis:
    async def test_without_redis_calls_are_placed_from_the_last_table(self, redis_process: RedisProcess) -> None:
        async with Rig(redis_process.url, timeout_seconds=1) as rig:
            workers = [await rig.worker("w-1"), await rig.worker("w-2")]
            running = await rig.live("running")
            await eventually(lambda: rig.dispatcher.links.has("w-1") and rig.dispatcher.links.has("w-2"))
            redis_process.kill()
            cores = [await rig.call(f"call-{number}") for number in range(5)]
            await eventually(
                lambda: all(rig.state(f"call-{number}") == "live" for number in range(5)), PATIENCE_SECONDS
            )
            # Spread by what this dispatcher knows itself.
            assert sorted(len(worker.opens()) for worker in workers) == [3, 3]
            assert rig.state("running") == "live"
            await cores[0].hang_up()
            await eventually(lambda: rig.state("call-0") is None)
            redis_process.start()
            for worker in workers:
                await rig.publish(worker.id, worker.address)

            async def all_are_published() -> bool:
                return {record.uuid for record in await rig.registry.calls()} == {
                    "running",
                    *(f"call-{number}" for number in range(1, 5)),
                }

            await eventually(all_are_published, PATIENCE_SECONDS)
            for core in (running, *cores):
                await core.hang_up()
            await rig.nothing_is_left()


class TestBugs:
    """A failure of one call ends that call with 1011, is logged with its uuid, and affects no other call."""

    async def ends_alone(self, rig: Rig, uuid: str, lines: list[Any], core: Any, neighbour: Any) -> None:
        assert await core.end() == (1011, "internal error")
        assert any(line.get("uuid") == uuid and line.get("exc_info") for line in lines)
        assert rig.state("neighbour") == "live"
        await neighbour.hang_up()
        await rig.nothing_is_left()

    async def test_an_action_that_cannot_be_done(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        await rig.worker()
        core, neighbour = await rig.live("call"), await rig.live("neighbour")
        monkeypatch.setitem(dispatcher.runner.measurements._REPORTS, Metric.DIGIT, _fail)
        with capture_logs() as lines:
            await core.say(type="dtmf_digit", digit="1")
            await self.ends_alone(rig, "call", lines, core, neighbour)

    @pytest.mark.interpreted
    async def test_a_message_that_breaks_the_state_machine(
        self, rig: Rig, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        await rig.worker()
        core, neighbour = await rig.live("call"), await rig.live("neighbour")
        caller = rig.dispatcher._by_uuid["call"]
        monkeypatch.setattr(caller.call, "message", _fail)
        with capture_logs() as lines:
            await core.say(type="dtmf_digit", digit="1")
            await self.ends_alone(rig, "call", lines, core, neighbour)

    @pytest.mark.interpreted
    async def test_audio_that_breaks_it(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        await rig.worker()
        core, neighbour = await rig.live("call"), await rig.live("neighbour")
        monkeypatch.setattr(rig.dispatcher._by_uuid["call"].call, "audio", _fail)
        with capture_logs() as lines:
            await core.audio(FRAME)
            await self.ends_alone(rig, "call", lines, core, neighbour)

    async def test_a_placement_that_fails(self, rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
        await rig.worker()
        neighbour = await rig.live("neighbour")
        monkeypatch.setattr(rig.dispatcher.placement, "place", _fail)
        with capture_logs() as lines:
            core = await rig.call("call")
            await self.ends_alone(rig, "call", lines, core, neighbour)

    async def test_a_record_that_cannot_be_understood(self, rig: Rig) -> None:
        worker = await rig.worker()
        core, neighbour = await rig.live("call"), await rig.live("neighbour")
        channel = next(channel for channel, opening in worker.opens() if opening.uuid == "call")
        worker.links[0].send(wire.Ready(), channel)
        assert await core.end() == (1011, "internal error")
        assert rig.state("neighbour") == "live"
        await neighbour.hang_up()
        await rig.nothing_is_left()


ILLEGAL = 'avr_sts_illegal_transitions_total{process="dispatcher"}'


class TestAnIllegalTransition:
    """A fault of the call's own costs a session, at most twice, and then the call."""

    async def test_costs_a_session_twice_and_then_the_call(self, rig: Rig) -> None:
        worker = await rig.worker()
        core, neighbour = await rig.live("call"), await rig.live("neighbour")
        runner, link = rig.dispatcher._by_uuid["call"], rig.dispatcher.links.up("w-1")
        assert link is not None
        before = counted(ILLEGAL)
        for repairs in (1, 2):
            with capture_logs() as lines:
                runner.placed(Assignment("w-1", 99), link)
            (line,) = [line for line in lines if line["event"] == "illegal transition"]
            assert (line["uuid"], line["machine"], line["state"]) == ("call", "call", "live")
            # Its session is closed, and another one opened; the channel of the fault is left.
            await eventually(lambda: rig.state("call") == "live", PATIENCE_SECONDS)
            assert counted(ILLEGAL) - before == repairs
            assert rig.dispatcher.links.calls("w-1") == 2
        sessions = [opening for _, opening in worker.opens() if opening.uuid == "call"]
        assert [opening.restore for opening in sessions] == [False, True, True]
        assert len((await worker.only_link()).controls(wire.Close)) == 2
        runner.placed(Assignment("w-1", 99), link)
        assert await core.end() == (1011, "internal error")
        assert rig.state("neighbour") == "live"
        await neighbour.hang_up()
        await rig.nothing_is_left()


def _fail(*_: object, **__: object) -> None:
    raise RuntimeError("a bug")
