from __future__ import annotations

import asyncio
import threading

import pytest
from structlog.testing import capture_logs

from tests.helpers import eventually
from tests.worker.tools.gates import Gate
from worker.tools.errors import ToolNotRun
from worker.tools.threads import Threads


async def test_functions_run_side_by_side_off_the_event_loop() -> None:
    threads = Threads("test")
    both = threading.Barrier(2)

    def meet() -> int:
        both.wait(60)  # would never end if the functions ran one after the other
        return threading.get_ident()

    idents = await asyncio.gather(threads.run("a", meet), threads.run("b", meet))
    assert len({*idents, threading.get_ident()}) == 3


@pytest.mark.parametrize(
    ("error", "seen"),
    [
        (ValueError("wrong"), "ValueError('wrong')"),
        (SystemExit(1), "RuntimeError('SystemExit in a thread')"),
        (KeyboardInterrupt(), "RuntimeError('KeyboardInterrupt in a thread')"),
        (StopIteration(), "RuntimeError('StopIteration in a thread')"),
    ],
    ids=repr,
)
async def test_exception_of_a_function_reaches_only_its_caller(error: BaseException, seen: str) -> None:
    def fail() -> object:
        raise error

    threads = Threads("test")
    with pytest.raises(Exception) as raised:  # noqa: PT011 - which one is compared
        await threads.run("fail", fail)
    assert repr(raised.value) == seen
    assert await threads.run("other", lambda: "done") == "done"


async def test_run_fails_and_logs_when_all_threads_are_stuck() -> None:
    threads = Threads("test", limit=2, wait_seconds=0.01)
    stuck = [Gate(), Gate()]
    callers = [asyncio.create_task(threads.run("stuck", gate.wait)) for gate in stuck]
    for gate in stuck:
        await gate.is_reached()
    for caller in callers:  # their callers were cancelled, but the threads still run
        caller.cancel()
    await asyncio.wait(callers)

    with capture_logs() as lines:
        for _ in range(2):
            with pytest.raises(ToolNotRun, match="all 2 threads are busy"):
                await threads.run("other", lambda: None)
    (line,) = [line for line in lines if line["event"] == "no thread is free"]
    assert line["running"] == {"stuck": 2}

    stuck[0].open.set()
    await eventually(lambda: threads.free == 1)
    assert await threads.run("other", lambda: "done") == "done"
    stuck[1].open.set()
    await eventually(lambda: threads.free == 2)


async def test_thread_that_becomes_free_in_time_is_used() -> None:
    threads = Threads("test", limit=1, wait_seconds=60)
    first = Gate()
    one = asyncio.create_task(threads.run("one", first.wait))
    await first.is_reached()
    two = asyncio.create_task(threads.run("two", lambda: "done"))
    await asyncio.sleep(0)
    assert not two.done()
    first.open.set()
    assert await two == "done"
    await one


async def test_stuck_thread_does_not_delay_the_end_of_the_process() -> None:
    gate = Gate()
    caller = asyncio.create_task(Threads("test").run("stuck", gate.wait))
    await gate.is_reached()
    assert all(thread.daemon for thread in threading.enumerate() if thread.name.startswith("test-"))
    gate.open.set()
    await caller
