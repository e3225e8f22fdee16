from __future__ import annotations

import asyncio

import pytest

from tests.worker.tools.callers import ScriptedCaller, entered
from worker.tools.entries import MAX_COUNT, MAX_PROMPT_CHARACTERS, Entry, EntryEnding, KeyRequest
from worker.tools.key_requests import MOVED, NO_CALLER, ONE_AT_A_TIME, KeyRequests, RunCaller
from worker.tools.run_clock import RunClock

PIN = KeyRequest("Your PIN", 4, 10.0)
ENTRY = Entry(EntryEnding.COUNT, "2580")


class Session:
    """A session that takes requests, or none as yet."""

    def __init__(self, *, is_up: bool = True) -> None:
        self.is_up = is_up
        self.begun: list[int] = []
        self.left: list[int] = []
        self.requests = KeyRequests(self._begin, self.left.append)

    def _begin(self, number: int, wanted: KeyRequest) -> bool:
        assert wanted == PIN
        if self.is_up:
            self.begun.append(number)
        return self.is_up

    async def ask(self) -> asyncio.Task[Entry]:
        task = asyncio.create_task(self.requests.digits(PIN))
        await asyncio.sleep(0)
        return task


async def test_tool_gets_the_keys_of_its_session() -> None:
    session = Session()
    asked = await session.ask()
    session.requests.collected(session.begun[0], ENTRY)
    assert await asked == ENTRY
    assert session.left == []


async def test_request_without_a_session_waits_for_one() -> None:
    session = Session(is_up=False)
    asked = await session.ask()
    session.is_up = True
    session.requests.begin_waiting()
    session.requests.begin_waiting()  # each is begun once
    (number,) = session.begun
    session.requests.collected(number, ENTRY)
    assert await asked == ENTRY


async def test_request_that_waits_moves_with_the_tool() -> None:
    first, second = Session(is_up=False), Session()
    asked = await first.ask()
    first.requests.hand_over(second.requests)
    second.requests.collected(second.begun[0], ENTRY)
    assert await asked == ENTRY


async def test_request_that_a_session_has_begun_does_not_move() -> None:
    first, second = Session(), Session()
    asked = await first.ask()
    first.requests.hand_over(second.requests)
    assert await asked == Entry(EntryEnding.LOST, message=MOVED)
    assert second.begun == []


async def test_tool_that_moved_asks_the_session_that_has_the_call() -> None:
    first, second = Session(), Session()
    first.requests.hand_over(second.requests)
    asked = await first.ask()
    assert first.begun == []
    second.requests.collected(second.begun[0], ENTRY)
    assert await asked == ENTRY


async def test_cancelled_request_is_left() -> None:
    session = Session()
    asked = await session.ask()
    asked.cancel()
    await asyncio.wait([asked])
    assert session.left == session.begun


async def test_numbers_are_used_once() -> None:
    sessions = [Session(), Session()]
    tasks = [await session.ask() for session in sessions]
    assert sessions[0].begun != sessions[1].begun
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        ((None, 4, 10), "prompt"),
        (("x" * (MAX_PROMPT_CHARACTERS + 1), 4, 10), "prompt"),
        (("", 0, 10), "count"),
        (("", MAX_COUNT + 1, 10), "count"),
        (("", True, 10), "count"),
        (("", 4.5, 10), "count"),
        (("", None, 10), "count"),
        (("", 4, 0), "timeout"),
        (("", 4, -1), "timeout"),
        (("", 4, 61), "timeout"),
        (("", 4, float("nan")), "timeout"),
        (("", 4, "10"), "timeout"),
        (("", 4, None), "timeout"),
    ],
)
async def test_wrong_arguments_are_refused(arguments: tuple[object, object, object], what: str) -> None:
    caller = ScriptedCaller()
    entry = await RunCaller(caller, RunClock(60)).digits(*arguments)
    assert entry.ending is EntryEnding.REFUSED
    assert what in entry.message
    assert caller.asked == []


async def test_run_without_a_call_is_refused() -> None:
    assert (await RunCaller(None, RunClock(60)).digits("", 4, 10)).message == NO_CALLER


async def test_run_asks_once_at_a_time() -> None:
    caller = ScriptedCaller()
    run = RunCaller(caller, RunClock(60))
    first = asyncio.create_task(run.digits("", 4, 10))
    await caller.is_asked.wait()
    assert (await run.digits("", 4, 10)).message == ONE_AT_A_TIME
    first.cancel()
    await asyncio.wait([first])
    assert caller.left == 1


async def test_run_that_got_keys_is_known() -> None:
    run = RunCaller(entered("2580"), RunClock(60))
    assert not run.has_given_keys
    assert (await run.digits("Your PIN", 4.0, 10)).digits == "2580"  # JavaScript has no whole numbers
    assert run.has_given_keys


async def test_clock_stands_still_while_the_caller_is_asked() -> None:
    clock = RunClock(0.05)
    caller = ScriptedCaller()
    asked = asyncio.create_task(RunCaller(caller, clock).digits("", 4, 10))
    await caller.is_asked.wait()
    # Another clock of the same length, begun later, has run out.
    await RunClock(0.1).expired
    assert not clock.expired.done()
    asked.cancel()
    await clock.expired
