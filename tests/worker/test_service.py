"""A worker with real sockets, a real Redis and a Realtime API: its links, its table of calls, its end."""

from __future__ import annotations

import asyncio
import socket
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import aiohttp
import numpy as np
import pytest
import redis.asyncio
from pydantic import SecretStr
from structlog.testing import capture_logs

import worker.runner.session_runner
from common.link import wire
from common.link.wire import Hello, Kind, Outcome, Refusal
from common.observe import metrics
from common.observe.problems import REDIS_AWAY
from common.settings.settings import Settings
from common.store.leases import CallLease, WorkerRecord, WorkerState
from common.store.registry import OVER_CAPACITY, Registry
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings, Voice
from simulator.realtime.voice import ToneVoice
from tests.helpers import eventually
from tests.redis_process import RedisProcess
from tests.worker.dispatcher_end import HELLO, PATIENCE_SECONDS, DispatcherEnd, link_to
from tests.worker.link_records import Ack, Record
from tests.worker.shared import resources
from worker import service
from worker.audio.resample import Downsampler, Upsampler
from worker.service import Worker
from worker.session.memory_writer import MemoryWriter

KEY = "sk-test-0123456789abcdefghij"
CAPACITY = 3
GREETING_MS = 400
QUICK = SimulatorSettings(
    voice=Voice.TONE,
    greeting_words=1,
    words=1,
    word_ms=GREETING_MS,
    first_audio_seconds=0.0,
    transcription_delay_seconds=0.0,
    speed=float("inf"),
)


class Service:
    """A running worker and what is around it."""

    def __init__(self, worker: Worker, record: WorkerRecord, simulator: RealtimeSimulator, redis_url: str) -> None:
        self.worker = worker
        self.record = record
        self.simulator = simulator
        self.redis_url = redis_url

    @property
    def address(self) -> str:
        return self.record.address

    async def redis_keys(self) -> list[str]:
        async with redis.asyncio.Redis.from_url(self.redis_url, decode_responses=True) as client:
            return sorted(str(key) for key in await client.keys("*"))

    async def published(self) -> WorkerState | None:
        """As Redis knows the worker; None: not at all."""
        registry = Registry.from_url(self.redis_url, timeout_seconds=PATIENCE_SECONDS)
        try:
            found = [worker for worker in await registry.workers() if worker.id == self.record.id]
        finally:
            await registry.aclose()
        return found[0].state if found else None


@asynccontextmanager
async def running(
    redis_url: str,
    settings: SimulatorSettings = QUICK,
    *,
    unready_seconds: float = service.UNREADY_SECONDS,
    **service_settings: Any,
) -> AsyncIterator[Service]:
    """A worker, until the end of the test; behind it nothing may be left."""
    before = asyncio.all_tasks()
    async with AsyncExitStack() as stack:
        simulator = await stack.enter_async_context(RealtimeSimulator(settings))
        sock = socket.create_server(("127.0.0.1", 0))
        record = WorkerRecord(
            id="worker-1",
            address=f"127.0.0.1:{sock.getsockname()[1]}",
            host="here",
            pid=1,
            release="0.1.0",
            capacity=CAPACITY,
            state=WorkerState.READY,
            boot_id="boot_id-of-worker-1",
        )
        registry = Registry.from_url(redis_url)
        stack.push_async_callback(registry.aclose)
        chosen = Settings(openai_base_url=simulator.url, openai_api_key=SecretStr(KEY), **service_settings)
        shared = await stack.enter_async_context(resources(chosen))
        worker = Worker(record, registry, shared, unready_seconds=unready_seconds)
        await worker.start(sock)
        try:
            yield Service(worker, record, simulator, redis_url)
        finally:
            async with asyncio.timeout(PATIENCE_SECONDS):
                await worker.stop()
    await eventually(lambda: not asyncio.all_tasks() - before - {asyncio.current_task()})


@pytest.fixture
async def here(redis_url: str) -> AsyncIterator[Service]:
    async with running(redis_url) as running_service:
        yield running_service


async def live_call(dispatcher: DispatcherEnd, uuid: str, channel: int, **options: Any) -> None:
    """Open a call and hear its greeting to the end."""
    dispatcher.open(uuid, channel, **options)
    await dispatcher.next(channel, wire.ReplyItemDone)


def speech(milliseconds: int, seed: int = 1) -> bytes:
    """Loud noise: PCM16 at 8 kHz."""
    return np.random.default_rng(seed).integers(-9000, 9000, 8 * milliseconds).astype("<i2").tobytes()


def say(dispatcher: DispatcherEnd, channel: int, pcm: bytes, position: int = 0) -> None:
    """Caller's audio in frames of 20 ms."""
    for start in range(0, len(pcm), 320):
        frame = pcm[start : start + 320]
        dispatcher.end.send(wire.encode_caller_audio(channel, position + start // 2, frame))


# Links and calls


async def test_both_sides_say_who_they_are(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        assert dispatcher.hello == Hello(
            wire.PROTOCOL_VERSION, "0.1.0", "worker", "worker-1", "boot_id-of-worker-1"
        )


async def test_a_call_is_opened_ready_and_greeted(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        kinds = [type(record) for record in dispatcher.said(1)]
        assert kinds[:3] == [wire.Opened, wire.Ready, wire.ReplyItem]
        # What the call is to be is known before it has a session.
        assert [type(record) for record in dispatcher.on(1)[:3]] == [wire.Opened, wire.Profile, wire.Ready]
        assert dispatcher.on(1)[0] == wire.Opened(wire.CALLER_CREDIT_BYTES)
        assert here.worker.calls == 1


async def test_audio_arrives_whole_both_ways(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        said = speech(1500)
        say(dispatcher, 1, said)
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.appended_ms == 1500)
        assert session.received_audio == Upsampler().process(said)
        downsampler = Downsampler()
        spoken = downsampler.process(ToneVoice(QUICK.tone_hz).pcm(0, GREETING_MS)) + downsampler.flush()
        assert dispatcher.audio(1, 0) == spoken


async def test_a_turn_is_answered_transcribed_and_marked(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1, position=16_000)
        # The greeting is still playing: the caller cuts it before a sample of it was heard.
        say(dispatcher, 1, speech(1000) + bytes(16 * 1000), position=16_000)
        await dispatcher.next(1, wire.Flush)
        finished = await dispatcher.wait_for_one(1, lambda r: isinstance(r, wire.Finished) and r.position_samples)
        await dispatcher.next(1, wire.ReplyItemDone, 2)
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.received["conversation.item.delete"])
        assert [item.role for item in session.items] == ["user", "assistant"]
        assert 16_000 + 8 * 1000 <= finished.position_samples <= 16_000 + 8 * 2000
        (transcript,) = [record for record in dispatcher.on(1) if isinstance(record, wire.Transcript)]
        assert (transcript.role, transcript.item_id) == ("user", session.items[0].id)
        assert transcript.text.startswith("heard")


async def test_calls_of_one_link_and_of_two_keep_apart(here: Service) -> None:
    async with link_to(here.address) as one, link_to(here.address) as other:
        await live_call(one, "call-1", 1)
        await live_call(one, "call-2", 2)
        await live_call(other, "call-3", 1)
        assert here.worker.calls == 3
        for number, (dispatcher, channel) in enumerate(((one, 1), (one, 2), (other, 1)), 1):
            said = speech(100, seed=number)
            say(dispatcher, channel, said)
            session = await here.simulator.wait_for_session(number)
            await session.wait_for(lambda s: s.appended_ms == 100)
            assert session.received_audio == Upsampler().process(said)


async def test_reply_audio_keeps_to_the_credit(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        dispatcher.open("call-1", 1, credit=1000)
        await dispatcher.wait_for(lambda: len(dispatcher.audio(1, 0)) == 1000)
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.sent["response.done"])
        # The worker has read all that came before this.
        say(dispatcher, 1, bytes(wire.CREDIT_STEP_BYTES))
        await dispatcher.next(1, wire.Credit)
        assert len(dispatcher.audio(1, 0)) == 1000
        dispatcher.end.send(wire.encode_credit(1, 10**6))
        await dispatcher.next(1, wire.ReplyItemDone)


# What is refused


async def test_above_its_capacity_a_worker_refuses_whatever_redis_says(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        for channel in range(1, CAPACITY + 1):
            dispatcher.open(f"call-{channel}", channel)
        dispatcher.open("one-too-many", 9)
        assert await dispatcher.next(9, wire.Refused) == wire.Refused(Refusal.FULL)
        assert here.worker.calls == CAPACITY
        dispatcher.send(wire.Close("the caller hung up"), 1)
        dispatcher.open("one-too-many", 10)
        assert await dispatcher.next(10, wire.Opened)


async def test_a_refused_call_leaves_no_session_and_no_channel(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        for channel in range(1, CAPACITY + 1):
            await live_call(dispatcher, f"call-{channel}", channel)
        dispatcher.open("one-too-many", 9)
        await dispatcher.next(9, wire.Refused)
        say(dispatcher, 9, bytes(320))
        dispatcher.send(wire.Close("gone"), 9)
        dispatcher.send(wire.Close("gone"), 1)
        await eventually(lambda: here.worker.calls == CAPACITY - 1)
        assert here.simulator.opened == CAPACITY


async def test_a_draining_worker_refuses_new_calls_and_keeps_its_own(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        until = asyncio.Event()
        drained = asyncio.create_task(here.worker.drain(until, 100.0))
        await eventually(lambda: here.worker.draining)
        dispatcher.open("call-2", 2)
        assert await dispatcher.next(2, wire.Refused) == wire.Refused(Refusal.DRAINING)
        # What it has is to go to another worker, in time.
        move = await dispatcher.next(1, wire.Move)
        assert move.reason == "drain"
        assert 79 < move.seconds <= 80
        await eventually(lambda: _is(here, WorkerState.DRAINING))
        assert not here.worker.is_ready
        say(dispatcher, 1, bytes(320))
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.appended_ms == 20)
        assert not drained.done()
        dispatcher.send(wire.Close("the caller hung up"), 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await drained


async def _is(here: Service, state: WorkerState | None) -> bool:
    return await here.published() is state


async def test_draining_ends_at_its_deadline_too(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        until = asyncio.Event()
        until.set()
        async with asyncio.timeout(PATIENCE_SECONDS):
            await here.worker.drain(until, 100.0)
        assert here.worker.calls == 1


async def test_a_draining_worker_lets_a_call_go_at_a_quiet_moment(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        drained = asyncio.create_task(here.worker.drain(asyncio.Event(), 100.0))
        await dispatcher.next(1, wire.Move)
        dispatcher.send(wire.Playout((wire.ItemHeard(0, 10**6),), idle=True), 1)
        assert not drained.done()
        # Another session stands by.
        dispatcher.send(wire.Release(80.0), 1)
        released = await dispatcher.next(1, wire.Released)
        assert released.reason == "drain"
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.closed)
        # What it knows is kept until the other session has the call.
        assert not drained.done()
        dispatcher.send(wire.Close("another session has the call"), 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await drained


async def test_what_has_not_left_in_time_is_let_go(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        drained = asyncio.create_task(here.worker.drain(asyncio.Event(), 0.5))
        released = await dispatcher.next(1, wire.Released)
        assert released.reason == "drain"
        dispatcher.send(wire.Close("another session has the call"), 1)
        async with asyncio.timeout(PATIENCE_SECONDS):
            await drained
        assert here.worker.calls == 0


async def test_a_call_that_moves_is_counted_once(here: Service) -> None:
    """A session that stands by, or that released its call, is not a call of this worker's."""
    active = metrics.worker().calls_active._value
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        assert active.get() == 1
        dispatcher.open("call-2", 2, restore=True)
        dispatcher.send(wire.Resume("drain", standby=True), 2)
        await dispatcher.next(2, wire.Ready)
        assert (here.worker.calls, active.get()) == (2, 1)
        dispatcher.send(wire.Resume("drain"), 2)
        await eventually(lambda: active.get() == 2)
        (await here.simulator.wait_for_session()).drop()
        await dispatcher.next(1, wire.Released)
        await eventually(lambda: active.get() == 1)
        assert here.worker.calls == 2


async def test_calls_that_stand_by_leave_their_place_to_new_ones(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        for channel in (2, 3):
            dispatcher.open(f"call-{channel}", channel, restore=True)
            dispatcher.send(wire.Resume("drain", standby=True), channel)
            await dispatcher.next(channel, wire.Ready)
        assert here.worker.calls == CAPACITY
        for channel in (4, 5):
            dispatcher.open(f"call-{channel}", channel)
            assert await dispatcher.next(channel, wire.Opened)
        # With those that stand by there is a limit all the same.
        assert len(range(2, 6)) + 1 >= CAPACITY * OVER_CAPACITY
        dispatcher.open("call-6", 6)
        assert await dispatcher.next(6, wire.Refused) == wire.Refused(Refusal.FULL)


@pytest.mark.parametrize("epoch", [3, 4])
async def test_an_epoch_that_is_not_newer_is_stale(here: Service, epoch: int) -> None:
    async with link_to(here.address) as one, link_to(here.address) as other:
        await live_call(one, "call-1", 1, epoch=4)
        other.open("call-1", 1, epoch=epoch)
        assert await other.next(1, wire.Refused) == wire.Refused(Refusal.STALE_EPOCH, 4)
        assert here.simulator.opened == 1
        assert here.worker.calls == 1


@pytest.mark.parametrize("same_link", [True, False])
@pytest.mark.parametrize("attach", [True, False])
async def test_a_higher_epoch_goes_on_with_the_session(here: Service, same_link: bool, attach: bool) -> None:
    """The caller came back, to another dispatcher or to the same; whether that one knows it or not."""
    async with link_to(here.address) as one, link_to(here.address) as other:
        for channel in range(2, CAPACITY + 1):
            await live_call(one, f"call-{channel}", channel)
        await live_call(one, "call-1", 1)  # the worker is full
        here.worker.draining = True
        say(one, 1, bytes(320))
        session = await here.simulator.wait_for_session(CAPACITY)
        await session.wait_for(lambda s: s.appended_ms == 20)
        newer = one if same_link else other
        newer.open("call-1", 7, epoch=2, attach=attach)
        assert await newer.next(7, wire.Opened) == wire.Opened(
            wire.CALLER_CREDIT_BYTES, attached=True, position_samples=160
        )
        # It is told everything; and the older one that it has the call no more.
        assert [type(record) for record in newer.on(7)[:2]] == [wire.Opened, wire.Profile]
        await newer.next(7, wire.Ready)
        assert await newer.next(7, wire.ItemUpdate)
        closed = await one.next(1, wire.Close)
        assert closed.reason == "another dispatcher has this call"
        assert here.simulator.opened == CAPACITY
        assert here.worker.calls == CAPACITY
        # What the older one still says reaches nobody.
        say(one, 1, bytes(320))
        one.send(wire.Close("gone"), 1)
        say(newer, 7, bytes(640), position=160)
        await session.wait_for(lambda s: s.appended_ms >= 60)
        assert session.appended_ms == 60
        assert here.worker.calls == CAPACITY


async def test_a_superseded_dispatcher_leaves_the_session(here: Service) -> None:
    async with link_to(here.address) as one, link_to(here.address) as other:
        await live_call(one, "call-1", 1)
        one.send(wire.Close("superseded", keep=True), 1)
        await eventually(lambda: here.worker._calls["call-1"][0].call.waits_for_dispatcher)
        # The link of the first dispatcher is up, and has no say any more.
        one.send(wire.Close("gone"), 1)
        other.open("call-1", 7, epoch=2, attach=True)
        opened = await other.next(7, wire.Opened)
        assert opened.attached
        assert here.simulator.opened == 1
        assert here.worker.calls == 1


async def test_there_is_no_session_to_go_on_with(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        dispatcher.open("call-1", 1, epoch=2, attach=True)
        assert await dispatcher.next(1, wire.Refused) == wire.Refused(Refusal.UNKNOWN)
        assert here.worker.calls == 0


async def test_a_call_without_its_session_may_exceed_the_capacity(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        for channel in range(1, CAPACITY + 1):
            dispatcher.open(f"call-{channel}", channel)
        dispatcher.open("recovers-1", 8, epoch=2, restore=True)
        assert await dispatcher.next(8, wire.Opened)
        dispatcher.open("recovers-2", 9, epoch=2, restore=True)
        assert await dispatcher.next(9, wire.Opened)
        # By half of three, and no more.
        dispatcher.open("recovers-3", 10, epoch=2, restore=True)
        assert await dispatcher.next(10, wire.Refused) == wire.Refused(Refusal.FULL)


async def test_the_older_session_continues_until_the_newer_takes_over(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        dispatcher.send(wire.Playout((wire.ItemHeard(0, 10**6),), idle=True), 1)
        dispatcher.open("call-1", 2, epoch=2, restore=True)
        dispatcher.send(wire.Resume("rollover", standby=True), 2)
        await dispatcher.next(2, wire.Ready)
        # Two sessions, of which one may answer.
        assert here.worker.calls == 1
        assert not [record for record in dispatcher.on(1) if isinstance(record, (wire.Close, wire.Released))]
        dispatcher.send(wire.Release(60.0), 1)
        await dispatcher.next(1, wire.Released)
        first = await here.simulator.wait_for_session(1)
        await first.wait_for(lambda s: s.closed)
        dispatcher.send(wire.Resume("rollover"), 2)
        say(dispatcher, 2, bytes(320))
        second = await here.simulator.wait_for_session(2)
        await second.wait_for(lambda s: s.appended_ms == 20)
        assert here.worker.calls == 1


async def test_the_older_session_ends_when_the_newer_has_the_call(here: Service) -> None:
    async with link_to(here.address) as one, link_to(here.address) as other:
        await live_call(one, "call-1", 1)
        other.open("call-1", 1, epoch=2, restore=True)
        other.send(wire.Resume("worker_lost"), 1)
        closed = await one.next(1, wire.Close)
        assert closed.reason == "another session has this call"
        first = await here.simulator.wait_for_session(1)
        await first.wait_for(lambda s: s.closed)
        await other.next(1, wire.Ready)
        assert here.worker.calls == 1


async def test_a_hang_up_is_handed_over_to_the_next_session(here: Service) -> None:
    async with link_to(here.address) as one, link_to(here.address) as other:
        await live_call(one, "call-1", 1)
        one.end.abort()
        await eventually(lambda: here.worker._calls["call-1"][0].call.waits_for_dispatcher)
        other.send(wire.Command(1, "call-1", "hang_up"), 0)
        assert (await other.next(0, wire.Result)).status == 200
        # The dispatcher has given the old session up, and knows nothing of the order.
        other.open("call-1", 1, epoch=2, restore=True)
        other.send(wire.Resume("worker_lost"), 1)
        order = await other.next(1, wire.TelephonyCommand)
        assert order.action == wire.TelephonyAction.HANG_UP


async def test_a_draining_worker_refuses_a_call_without_its_session(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        here.worker.draining = True
        dispatcher.open("call-1", 2, epoch=2, restore=True)
        assert await dispatcher.next(2, wire.Refused) == wire.Refused(Refusal.DRAINING)
        # Nobody else has it either, so its session stays.
        assert here.worker.calls == 1


@pytest.mark.parametrize("command", ["holds", "conversation"])
async def test_who_has_a_call_is_answered(here: Service, command: str) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1, epoch=4)
        dispatcher.send(wire.Command(1, "call-1", command), 0)
        dispatcher.send(wire.Command(2, "call-2", command), 0)
        first, second = await dispatcher.next(0, wire.Result), await dispatcher.next(0, wire.Result, 2)
        assert (first.status, second.status) == (200, 404)
        if command == "holds":
            assert first.body == {"epoch": 4}


# Ends


async def test_when_the_caller_is_gone_the_session_is_closed(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        dispatcher.send(wire.Close("the caller hung up"), 1)
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.closed)
        assert session.close_code == 1000
        await eventually(lambda: here.worker.calls == 0)
        assert not [record for record in dispatcher.on(1) if isinstance(record, wire.Ended)]


async def test_a_call_that_fails_says_why_and_is_forgotten(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        here.simulator.faults.refuse(401)
        dispatcher.open("call-1", 1)
        ended = await dispatcher.next(1, wire.Ended)
        assert ended.outcome == Outcome.FAILED
        assert "OPENAI_API_KEY" in ended.message
        assert KEY not in ended.message
        await live_call(dispatcher, "call-1", 2)


async def test_calls_without_a_link_are_kept_for_their_return(here: Service) -> None:
    async with link_to(here.address) as one, link_to(here.address) as other:
        await live_call(one, "call-1", 1)
        await live_call(other, "call-2", 1)
        assert one.end.connection is not None
        one.end.connection.abort()
        await one.gone()
        say(other, 1, bytes(320))
        session = await here.simulator.wait_for_session(2)
        await session.wait_for(lambda s: s.appended_ms == 20)
        assert here.worker.calls == 2
        assert len(here.simulator.sessions) == 2


async def test_only_calls_without_a_dispatcher_are_shown_as_waiting(here: Service) -> None:
    registry = Registry.from_url(here.redis_url)
    try:
        async with link_to(here.address) as one, link_to(here.address) as other:
            await live_call(one, "call-1", 1, epoch=5)
            await live_call(other, "call-2", 1)
            assert one.end.connection is not None
            one.end.connection.abort()
            await one.gone()

            async def is_told() -> bool:
                return [record.uuid for record in await registry.calls()] == ["call-1"]

            await eventually(is_told)
            record = await registry.call("call-1")
            assert record is not None
            assert (record.worker, record.dispatcher, record.epoch) == (here.record.id, "", 5)
            assert record.metadata == {"from": "100"}
            # Another worker has it: whoever comes back does not come here.
            held = CallLease("call-1", "worker-2", 6, "live", None, 2, {})
            await registry.renew("d-2", [held], lease_seconds=60)
            await eventually(lambda: here.worker.calls == 1)
            first = await here.simulator.wait_for_session(1)
            await first.wait_for(lambda s: s.closed)
    finally:
        await registry.aclose()


async def test_a_call_that_nobody_comes_for_ends(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worker.runner.session_runner, "KEPT_LONGER_SECONDS", 0.1)
    async with running(redis_url, call_reconnect_seconds=0) as here, link_to(here.address) as other:
        async with link_to(here.address) as one:
            await live_call(one, "call-1", 1)
        await live_call(other, "call-2", 1)
        first = await here.simulator.wait_for_session(1)
        await first.wait_for(lambda s: s.closed)
        await eventually(lambda: here.worker.calls == 1)

        registry = Registry.from_url(redis_url)

        async def is_taken_out() -> bool:
            (status,) = await registry.workers()
            return not await registry.calls() and status.calls == 0

        await eventually(is_taken_out, PATIENCE_SECONDS)
        await registry.aclose()
        say(other, 1, bytes(320))
        second = await here.simulator.wait_for_session(2)
        await second.wait_for(lambda s: s.appended_ms == 20)


async def test_a_call_goes_on_on_another_link_of_its_dispatcher(here: Service) -> None:
    async with link_to(here.address) as one:
        await live_call(one, "call-1", 1, epoch=5)
        say(one, 1, bytes(3200))
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.appended_ms == 200)
    async with link_to(here.address) as again:
        # It has got all but the last two records, and the worker the ten frames.
        received = one.counts[1] - 2
        again.send(wire.Attach("call-1", 5, received), 1)
        assert await again.next(1, wire.Attached) == wire.Attached(10)
        await eventually(lambda: len(again.on(1)) >= 3)
        assert again.on(1)[1:3] == _counted(one.on(1))[-2:]
        say(again, 1, bytes(320), position=1600)
        await session.wait_for(lambda s: s.appended_ms == 220)
        assert here.simulator.opened == 1
        assert here.worker.calls == 1


def _counted(records: list[Record]) -> list[Record]:
    return [record for record in records if not isinstance(record, Ack)]


@pytest.mark.parametrize(("uuid", "epoch"), [("call-2", 5), ("call-1", 4), ("call-1", 6)])
async def test_who_comes_for_another_call_is_told_so(here: Service, uuid: str, epoch: int) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1, epoch=5)
    async with link_to(here.address) as dispatcher:
        dispatcher.send(wire.Attach(uuid, epoch, 0), 1)
        assert await dispatcher.next(1, wire.Refused) == wire.Refused(Refusal.UNKNOWN)


async def test_a_stalled_process_suspends_calls_until_confirmed(here: Service) -> None:
    async with link_to(here.address) as one:
        await live_call(one, "call-1", 1)
        await live_call(one, "call-2", 2)
        here.worker.watch(time.monotonic() + 3.0)
        # What waits in the links is not read: who sent it may have given the calls to another worker.
        assert await one.gone()
    async with link_to(here.address) as again:
        again.send(wire.Attach("call-1", 1, one.counts[1]), 1)
        await again.next(1, wire.Attached)
        say(again, 1, bytes(320))
        first = await here.simulator.wait_for_session(1)
        await first.wait_for(lambda s: s.appended_ms == 20)
        # Nobody came for the other one.
        second = await here.simulator.wait_for_session(2)
        await second.wait_for(lambda s: s.closed)
        await eventually(lambda: here.worker.calls == 1)


async def test_redis_confirms_a_waiting_call_after_a_stall(here: Service) -> None:
    async with link_to(here.address) as one:
        await live_call(one, "call-1", 1)
    await eventually(lambda: here.worker._calls["call-1"][0].call.waits_for_dispatcher)
    here.worker.watch(time.monotonic() + 3.0)
    call = here.worker._calls["call-1"][0].call
    assert call.is_suspended
    await eventually(lambda: not call.is_suspended)
    assert here.worker.calls == 1


async def test_a_short_stall_is_none(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        here.worker.watch(time.monotonic() + 1.5)
        say(dispatcher, 1, bytes(320))
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.appended_ms == 20)


async def test_stop_lets_everything_go_and_says_so(redis_url: str) -> None:
    async with running(redis_url) as here:
        async with link_to(here.address) as one, link_to(here.address) as other:
            await live_call(one, "call-1", 1)
            await live_call(other, "call-2", 1)
            other.open("call-3", 2)  # connecting
            await other.next(2, wire.Opened)
            async with asyncio.timeout(PATIENCE_SECONDS):
                await here.worker.stop()
            for dispatcher, channel in ((one, 1), (other, 1), (other, 2)):
                # They go on elsewhere.
                released = await dispatcher.next(channel, wire.Released)
                assert released == wire.Released("drain", "the worker is stopping")
                assert not [record for record in dispatcher.on(channel) if isinstance(record, wire.Ended)]
            assert await one.gone() == await other.gone() == "the worker is stopping"
        await here.simulator.wait_for(lambda s: not s.sessions)
        assert here.worker.calls == 0
        assert await here.published() is None
        assert await here.redis_keys() == []
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(*here.address.split(":"))


async def test_stop_does_not_wait_for_an_api_that_does_not_answer(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(service, "STOP_SECONDS", 0.05)
    async with running(redis_url) as here, link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        stalled = await here.simulator.wait_for_session()
        stalled.stall()
        async with asyncio.timeout(4.0):  # the WebSocket's own limit is 5 s
            await here.worker.stop()
        stalled.resume()
        await stalled.wait_for(lambda s: s.closed)


async def test_a_worker_may_stop_twice_and_before_it_has_done_anything(redis_url: str) -> None:
    async with running(redis_url) as here:
        await here.worker.stop()


# Bad input


def raw(data: bytes) -> Callable[[DispatcherEnd], None]:
    """Sends a binary message as it is."""

    def send(dispatcher: DispatcherEnd) -> None:
        assert dispatcher.end.connection is not None
        dispatcher.end.connection.send_binary(data)

    return send


def text(data: bytes) -> Callable[[DispatcherEnd], None]:
    """Sends a text message."""

    def send(dispatcher: DispatcherEnd) -> None:
        assert dispatcher.end.connection is not None
        dispatcher.end.connection.send_text(data)

    return send


def record(kind: int, channel: int, payload: bytes) -> bytes:
    """A record with any payload."""
    return kind.to_bytes(1, "big") + channel.to_bytes(4, "big") + len(payload).to_bytes(4, "big") + payload


OPEN_OF_CALL_9 = wire.encode(wire.Open("call-9", 1), 1)


@pytest.mark.parametrize(
    "send",
    [
        pytest.param(raw(b"\x06\x00\x00"), id="cut off in a head"),
        pytest.param(raw(record(Kind.CALLER_AUDIO, 1, bytes(328))[:-1]), id="cut off in a payload"),
        pytest.param(text(b'{"type":"init"}'), id="text"),
        pytest.param(raw(record(Kind.OPEN, 9, b"{}")), id="OPEN of nothing"),
        pytest.param(raw(OPEN_OF_CALL_9), id="OPEN on a channel in use"),
        pytest.param(raw(bytes(wire.MAX_MESSAGE_BYTES + 1)), id="too long"),
    ],
)
async def test_what_is_no_record_closes_the_link_and_nothing_else(
    here: Service, send: Callable[[DispatcherEnd], None]
) -> None:
    async with link_to(here.address) as bad, link_to(here.address) as good:
        await live_call(bad, "call-1", 1)
        await live_call(good, "call-2", 1)
        send(bad)
        assert await bad.gone()
        # The call waits for a link that is better.
        assert here.worker.calls == 2
        say(good, 1, bytes(320))
        session = await here.simulator.wait_for_session(2)
        await session.wait_for(lambda s: s.appended_ms == 20)
    async with link_to(here.address) as better:
        better.send(wire.Attach("call-1", 1, bad.counts[1]), 1)
        await better.next(1, wire.Attached)
        say(better, 1, bytes(320))
        session = await here.simulator.wait_for_session(1)
        await session.wait_for(lambda s: s.appended_ms == 20)


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.CALLER_AUDIO, b"short"),
        (Kind.CREDIT, b""),
        (Kind.HEARD, b"not json"),
        (Kind.PLAYOUT, b'{"items":[{"index":"one"}]}'),
        (Kind.CLOSE, b"[]"),
    ],
)
async def test_an_unreadable_record_ends_its_own_call_alone(here: Service, kind: Kind, payload: bytes) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        await live_call(dispatcher, "call-2", 2)
        raw(record(kind, 1, payload))(dispatcher)
        ended = await dispatcher.next(1, wire.Ended)
        assert ended.outcome == Outcome.FAILED
        assert "does not understand" in ended.message
        assert here.worker.calls == 1
        say(dispatcher, 2, bytes(320))
        session = await here.simulator.wait_for_session(2)
        await session.wait_for(lambda s: s.appended_ms == 20)
        assert dispatcher.lost_reason is None


@pytest.mark.parametrize("attach", [True, False])
async def test_a_call_that_cannot_be_taken_up_ends_and_no_other(
    here: Service, attach: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("nobody thought of this")

    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-2", 2)
        if attach:
            await live_call(dispatcher, "call-1", 1)
            monkeypatch.setattr(MemoryWriter, "write_all", fail)
        else:
            monkeypatch.setattr(worker.runner.session_runner.SessionRunner, "begin", fail)
        dispatcher.open("call-1", 3, epoch=2, attach=attach)
        assert await dispatcher.next(3, wire.Ended) == wire.Ended(Outcome.FAILED, "internal error", "internal")
        assert here.worker.calls == 1
        # The channel is nobody's, and may be used again.
        say(dispatcher, 3, bytes(320))
        say(dispatcher, 2, bytes(320))
        session = await here.simulator.wait_for_session(1)
        await session.wait_for(lambda s: s.appended_ms == 20)
        assert dispatcher.lost_reason is None


async def test_unknown_records_and_channels_are_passed_over(here: Service) -> None:
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        for unknown in (
            record(200, 1, b"of a newer release"),
            record(200, 0, b""),
            record(Kind.CALLER_AUDIO, 77, b"short"),
            wire.encode(HELLO, 0),
        ):
            raw(unknown)(dispatcher)
        say(dispatcher, 1, bytes(320))
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.appended_ms == 20)
        assert dispatcher.lost_reason is None


@pytest.mark.parametrize(
    "hello",
    [
        Hello(0, "0.0.1", "dispatcher", "old", "x"),
        wire.Open("call-1", 1),
    ],
    ids=["too old", "none"],
)
async def test_a_link_without_a_hello_that_is_understood_is_closed(here: Service, hello: Any) -> None:
    async with link_to(here.address, hello) as dispatcher:
        dispatcher.open("call-1", 1)
        reason = await dispatcher.gone()
        assert "link protocol 0" in reason or "before HELLO" in reason
    assert here.worker.calls == 0
    assert here.simulator.opened == 0


@pytest.mark.parametrize("origin", ["https://evil.example", "null", "http://127.0.0.1"])
async def test_a_web_page_opens_no_link(here: Service, origin: str) -> None:
    async with aiohttp.ClientSession() as http:
        with capture_logs() as lines:
            for _ in range(3):
                with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
                    await http.ws_connect(f"http://{here.address}/link", origin=origin)
                assert refused.value.status == 403
    assert [line["times"] for line in lines if line["event"] == "link refused"] == [1]
    assert "evil" not in str(lines)


@pytest.mark.parametrize("path", ["/", "/v1/realtime", "/link/"])
async def test_there_is_nothing_else_on_the_port(here: Service, path: str) -> None:
    async with aiohttp.ClientSession() as http:
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(f"http://{here.address}{path}")
        assert refused.value.status == 404


# Redis


async def test_a_worker_is_published_and_kept_so(here: Service) -> None:
    assert here.worker.is_ready
    assert await here.published() is WorkerState.READY
    async with redis.asyncio.Redis.from_url(here.redis_url) as client:
        await client.flushdb()
    await eventually(lambda: _is(here, WorkerState.READY))


async def test_calls_continue_without_redis_and_the_worker_returns(redis_process: RedisProcess) -> None:
    async with running(redis_process.url) as here, link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        redis_process.kill()
        await live_call(dispatcher, "call-2", 2)
        say(dispatcher, 1, bytes(320))
        session = await here.simulator.wait_for_session()
        await session.wait_for(lambda s: s.appended_ms == 20)
        redis_process.start()
        await eventually(lambda: _is(here, WorkerState.READY))


def _redis_up() -> float:
    lines = metrics.render()[0].decode().splitlines()
    return next(float(line.split()[1]) for line in lines if line.startswith("avr_sts_worker_redis_up "))


async def test_a_worker_without_redis_is_ready_and_stops_all_the_same(redis_process: RedisProcess) -> None:
    redis_process.kill()
    async with running(redis_process.url) as here:
        assert here.worker.is_ready
        assert (_redis_up(), here.worker.problems) == (0, [REDIS_AWAY])
        redis_process.start()
        await eventually(lambda: _is(here, WorkerState.READY))
        await eventually(lambda: (_redis_up(), here.worker.problems) == (1, []))
        redis_process.kill()


async def test_a_worker_is_unready_while_its_heartbeat_fails(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish = Registry.publish_worker
    async with running(redis_url, unready_seconds=2 * service.HEARTBEAT_SECONDS) as here:

        async def fail(registry: Registry, worker: WorkerRecord, *, lease_seconds: float) -> None:
            # Not a failure of Redis, which answers.
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "a reply of somebody else")

        monkeypatch.setattr(Registry, "publish_worker", fail)
        await eventually(lambda: not here.worker.is_ready)
        monkeypatch.setattr(Registry, "publish_worker", publish)
        await eventually(lambda: here.worker.is_ready)


async def test_the_gauges_follow_the_calls(here: Service) -> None:
    gauges = metrics.worker()
    assert gauges.calls_capacity._value.get() == CAPACITY
    async with link_to(here.address) as dispatcher:
        await live_call(dispatcher, "call-1", 1)
        await live_call(dispatcher, "call-2", 2)
        assert gauges.calls_active._value.get() == 2
        dispatcher.send(wire.Close("gone"), 1)
        await eventually(lambda: gauges.calls_active._value.get() == 1)
        dispatcher.send(wire.Close("gone"), 2)
        await eventually(lambda: gauges.calls_active._value.get() == 0)


async def test_a_failed_heartbeat_is_followed_by_the_next(redis_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service, "HEARTBEAT_SECONDS", 0.01)
    publish, tries = Registry.publish_worker, 0

    async def odd(self: Registry, *args: Any, **options: Any) -> None:
        nonlocal tries
        tries += 1
        if tries in (2, 3):
            raise ValueError("a reply that nobody expected")
        await publish(self, *args, **options)

    monkeypatch.setattr(Registry, "publish_worker", odd)
    async with running(redis_url) as here:
        await eventually(lambda: tries >= 5)
        assert await here.published() is WorkerState.READY
