from __future__ import annotations

import asyncio
from typing import Any

import orjson
import pytest

from common.link import wire
from dispatcher.api.commands import MAX_WAITING_EVENTS, RESULT_SECONDS, CommandError, Commands
from tests.helpers import eventually


class Worker:
    """The worker's end of a link, for commands only."""

    def __init__(self, result_seconds: float = RESULT_SECONDS) -> None:
        self.commands = Commands(self._send, result_seconds=result_seconds)
        self.asked: list[wire.Command] = []

    def _send(self, record: bytes) -> None:
        ((kind, channel, payload),) = wire.decode(record)
        assert (kind, channel) == (wire.Kind.COMMAND, 0)
        self.asked.append(wire.decode_control(wire.Command, payload))

    def answer(self, record: wire.Result | wire.Event) -> None:
        ((kind, _, payload),) = wire.decode(wire.encode(record, 0))
        self.commands.record(kind, payload)

    async def asked_for(self, count: int) -> wire.Command:
        await eventually(lambda: len(self.asked) >= count)
        return self.asked[count - 1]


@pytest.fixture
def worker() -> Worker:
    return Worker()


async def test_results_in_any_order_reach_their_commands(worker: Worker) -> None:
    first = asyncio.create_task(worker.commands.run("call-1", "say", {"text": "one"}))
    second = asyncio.create_task(worker.commands.run("call-2", "conversation"))
    one, two = await worker.asked_for(1), await worker.asked_for(2)
    assert (one.uuid, one.action, one.body) == ("call-1", "say", {"text": "one"})
    worker.answer(wire.Result(two.number, 200, {"of": "two"}))
    worker.answer(wire.Result(one.number, 200, {"of": "one"}))
    assert await first == {"of": "one"}
    assert await second == {"of": "two"}


async def test_a_refusal_is_an_error_with_its_status(worker: Worker) -> None:
    running = asyncio.create_task(worker.commands.run("call-1", "say"))
    asked = await worker.asked_for(1)
    worker.answer(wire.Result(asked.number, 409, {"error": "not yet"}))
    with pytest.raises(CommandError, match="not yet") as refused:
        await running
    assert refused.value.status == 409


async def test_unanswered_command_times_out() -> None:
    worker = Worker(result_seconds=0.01)
    with pytest.raises(CommandError) as refused:
        await worker.commands.run("call-1", "say")
    assert refused.value.status == 504
    worker.answer(wire.Result(worker.asked[0].number, 200))  # too late, and without effect


async def test_lost_worker_fails_its_commands(worker: Worker) -> None:
    running = asyncio.create_task(worker.commands.run("call-1", "say"))
    await worker.asked_for(1)
    worker.commands.lost()
    with pytest.raises(CommandError) as refused:
        await running
    assert refused.value.status == 502


class Watcher:
    """A watcher of a call that reads only on request."""

    def __init__(self, worker: Worker) -> None:
        self.seen: list[dict[str, Any]] = []
        self.go_on = asyncio.Event()
        self.number = 0
        self._worker = worker
        self._begun = asyncio.Event()
        self.task = asyncio.create_task(self._watch())

    async def begun(self) -> Watcher:
        """Wait until the watch has begun."""
        self.number = (await self._worker.asked_for(1)).number
        self._worker.answer(wire.Result(self.number, 200))
        await self._begun.wait()
        return self

    async def _watch(self) -> None:
        async with self._worker.commands.watch("call-1") as events:
            self._begun.set()
            await self.go_on.wait()
            self.seen.extend([event async for event in events])


async def test_watcher_gets_events_until_the_call_ends(worker: Worker) -> None:
    watcher = await Watcher(worker).begun()
    watcher.go_on.set()
    worker.answer(wire.Event(watcher.number, {"type": "live"}))
    worker.answer(wire.Event(watcher.number, {"type": "transcript"}))
    worker.answer(wire.Event(watcher.number))
    await asyncio.wait_for(watcher.task, 5)
    assert watcher.seen == [{"type": "live"}, {"type": "transcript"}]


async def test_too_slow_watcher_gets_the_end_of_the_stream(worker: Worker) -> None:
    watcher = await Watcher(worker).begun()
    for number in range(2 * MAX_WAITING_EVENTS):
        worker.answer(wire.Event(watcher.number, {"n": number}))
    watcher.go_on.set()
    await asyncio.wait_for(watcher.task, 5)
    assert len(watcher.seen) == MAX_WAITING_EVENTS - 1


async def test_too_slow_watcher_is_unwatched_at_once(worker: Worker) -> None:
    watcher = await Watcher(worker).begun()
    for number in range(MAX_WAITING_EVENTS + 1):
        worker.answer(wire.Event(watcher.number, {"n": number}))
    assert [(each.action, each.number) for each in worker.asked[1:]] == [("unwatch", watcher.number)]
    watcher.go_on.set()
    await asyncio.wait_for(watcher.task, 5)
    assert len(worker.asked) == 2


async def test_watcher_that_leaves_is_unwatched(worker: Worker) -> None:
    watcher = await Watcher(worker).begun()
    watcher.task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await watcher.task
    assert (worker.asked[-1].action, worker.asked[-1].number) == ("unwatch", watcher.number)
    worker.answer(wire.Event(watcher.number, {"type": "live"}))


@pytest.mark.parametrize(
    "body", [{"a": orjson.loads(b"[" * 101 + b"]" * 101)}, {"a": "x" * wire.MAX_MESSAGE_BYTES}, {"a": "\ud800"}]
)
async def test_a_body_that_the_link_cannot_carry_is_refused(worker: Worker, body: dict[str, Any]) -> None:
    with pytest.raises(CommandError) as refused:
        await worker.commands.run("call-1", "session", body)
    assert refused.value.status == 400
    assert worker.asked == []


@pytest.mark.parametrize("kind", [wire.Kind.RESULT, wire.Kind.EVENT])
async def test_invalid_record_does_not_end_the_link(worker: Worker, kind: wire.Kind) -> None:
    running = asyncio.create_task(worker.commands.run("call-1", "say"))
    asked = await worker.asked_for(1)
    worker.commands.record(kind, memoryview(b'{"body":[]}'))
    worker.answer(wire.Result(asked.number, 200, {"of": "say"}))
    assert await running == {"of": "say"}
