from __future__ import annotations

import asyncio
import functools
import os
import signal
import sys
import time
from collections.abc import Callable, Coroutine
from typing import Any

import psutil
import pytest
import uvloop
from structlog.testing import capture_logs

from common.runtime.child import Child
from common.runtime.heartbeat import HEARTBEAT_SECONDS, Watchdog
from tests.helpers import eventually

READY = "VARIABLE"
SAY_READY = f"import os; os.write(int(os.environ['{READY}']), b'ready\\n')"
WAIT = "import signal; signal.pause()"
BEAT = f"""
import os, time
while True:
    os.write(int(os.environ["{READY}"]), b"ready\\n")
    time.sleep(0.05)
"""
SUSPENDED_SECONDS = 5.0
IMPATIENT = functools.partial(Watchdog, max_silence_seconds=SUSPENDED_SECONDS / 2)
IGNORE_SIGTERM = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN)"


def on_uvloop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test as the service runs: asyncio's own loop would start a thread for each child."""

    @functools.wraps(test)
    def run(**fixtures: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_run(test, fixtures))

    return run


async def _run(test: Callable[..., Coroutine[Any, Any, None]], fixtures: dict[str, Any]) -> None:
    try:
        await test(**fixtures)
    finally:
        for child in fixtures["start"].children:
            child.kill()
            await asyncio.wait_for(child.wait(), 10)


class Ends(list[int]):
    """Exit statuses, and whether to start again."""

    again = True

    def __call__(self, status: int) -> bool:
        self.append(status)
        return self.again


@pytest.fixture
def ends() -> Ends:
    return Ends()


class Start:
    """Starts children that run these statements; none is left when the test ends."""

    def __init__(self, ends: Ends) -> None:
        self.children: list[Child] = []
        self._ends = ends

    def __call__(
        self,
        *statements: str,
        ready_variable: str | None = READY,
        watchdog: Callable[[float], Watchdog] = Watchdog,
    ) -> Child:
        command = (sys.executable, "-c", "; ".join(statements))
        child = Child(
            "it", command, os.environ, ready_variable=ready_variable, ended=self._ends, watchdog=watchdog
        )
        self.children.append(child)
        child.start()
        return child


@pytest.fixture
def start(ends: Ends) -> Start:
    return Start(ends)


async def ready(child: Child) -> psutil.Process:
    """Return the process of this slot, once it says that it is ready."""
    await asyncio.wait_for(child.ready.wait(), 60)
    assert child.pid is not None
    return psutil.Process(child.pid)


async def died(ends: Ends, times: int) -> None:
    await eventually(lambda: len(ends) >= times, 60)


@on_uvloop
async def test_a_child_reports_when_it_is_ready(start: Start) -> None:
    child = start(SAY_READY, WAIT)
    await ready(child)
    assert child.running


@on_uvloop
async def test_a_child_may_send_its_heartbeat_to_stdout(start: Start, ends: Ends) -> None:
    child = start(
        "print('ready', flush=True)", "print('x\\n' * 500_000, flush=True)", "exit(3)", ready_variable=None
    )
    await asyncio.wait_for(child.ready.wait(), 60)
    await died(ends, 1)
    assert ends[0] == 3


@on_uvloop
async def test_too_long_a_line_is_no_line(start: Start) -> None:
    with capture_logs() as lines:
        start("print('x' * 100_000, flush=True)", WAIT, ready_variable=None)
        await eventually(lambda: [line for line in lines if "too long" in line["event"]], 60)


@on_uvloop
async def test_a_dead_child_is_restarted(start: Start, ends: Ends) -> None:
    child = start(SAY_READY, WAIT)
    with capture_logs() as lines:
        for life in range(1, 3):
            process = await ready(child)
            process.kill()
            await died(ends, life)
    assert (await ready(child)).pid != process.pid
    assert ends == [-signal.SIGKILL] * 2
    assert [line["status"] for line in lines if line["event"] == "process ended"] == ["SIGKILL"] * 2


@on_uvloop
async def test_a_child_that_is_suspended_is_killed_and_replaced(start: Start, ends: Ends) -> None:
    child = start(BEAT, watchdog=IMPATIENT)
    process = await ready(child)
    with capture_logs() as lines:
        process.suspend()
        await died(ends, 1)
    assert ends == [-signal.SIGKILL]
    (hung,) = [line for line in lines if line["event"] == "process hung"]
    assert hung["child"] == "it"
    assert SUSPENDED_SECONDS / 2 <= hung["silent_seconds"] < SUSPENDED_SECONDS
    assert (await ready(child)).pid != process.pid


@on_uvloop
async def test_a_child_that_was_suspended_with_its_parent_is_kept(start: Start, ends: Ends) -> None:
    child = start(
        BEAT,
        watchdog=functools.partial(Watchdog, max_silence_seconds=SUSPENDED_SECONDS - 0.5, max_tick_seconds=1),
    )
    process = await ready(child)
    process.suspend()
    time.sleep(SUSPENDED_SECONDS)  # noqa: ASYNC251 - the parent does nothing, as if it were suspended too
    process.resume()
    loop = asyncio.get_running_loop()
    looked_twice = loop.time() + 3 * HEARTBEAT_SECONDS
    await eventually(lambda: loop.time() >= looked_twice or ends, 60)
    assert ends == []
    assert child.pid == process.pid


@on_uvloop
async def test_a_child_that_hangs_while_it_stops_is_killed(start: Start, ends: Ends) -> None:
    child = start(BEAT, watchdog=IMPATIENT)
    process = await ready(child)
    process.suspend()
    child.stop()
    await asyncio.wait_for(child.wait(), 60)
    assert not process.is_running()
    assert ends == []


@on_uvloop
async def test_a_child_that_starts_slowly_is_kept(start: Start, ends: Ends) -> None:
    slow = f"import time; time.sleep({SUSPENDED_SECONDS})"
    child = start(slow, SAY_READY, WAIT, watchdog=IMPATIENT)
    await ready(child)
    assert ends == []


@on_uvloop
async def test_a_child_is_not_restarted_if_its_owner_declines(start: Start, ends: Ends) -> None:
    ends.again = False
    child = start("exit(78)")
    await asyncio.wait_for(child.wait(), 60)
    assert ends == [78]
    assert not child.running


@on_uvloop
async def test_a_program_that_fails_to_start_is_retried_with_back_off(start: Start, ends: Ends) -> None:
    child = start()
    child.command = ("/nowhere/program",)
    with capture_logs() as lines:
        await died(ends, 3)
    assert ends == [os.EX_OSERR] * 3
    delays = [line["restart_seconds"] for line in lines if line["event"] == "process ended"]
    assert delays == [0.25, 0.5, 1.0]


@on_uvloop
async def test_a_child_told_to_stop_ends_and_is_not_started_again(start: Start, ends: Ends) -> None:
    child = start(SAY_READY, WAIT)
    process = await ready(child)
    child.stop()
    await asyncio.wait_for(child.wait(), 60)
    assert not process.is_running()
    assert not child.running
    assert not child.ready.is_set()
    assert ends == []


@on_uvloop
async def test_a_child_stopped_while_it_waits_is_not_started_again(start: Start, ends: Ends) -> None:
    child = start("exit(1)")
    await died(ends, 1)
    child.stop()
    await asyncio.wait_for(child.wait(), 60)
    assert ends == [1]


@on_uvloop
async def test_a_child_told_to_stop_while_it_starts_ends(start: Start, ends: Ends) -> None:
    child = start(WAIT)
    child.stop()
    await asyncio.wait_for(child.wait(), 60)
    assert ends == []


@on_uvloop
async def test_a_child_that_does_not_listen_can_be_killed(start: Start) -> None:
    child = start(IGNORE_SIGTERM, SAY_READY, "[signal.pause() for _ in iter(int, 1)]")
    process = await ready(child)
    child.stop()
    assert process.is_running()
    child.kill()
    await asyncio.wait_for(child.wait(), 60)
    assert not process.is_running()


@on_uvloop
async def test_a_child_that_is_stopped_can_be_killed(start: Start) -> None:
    child = start(SAY_READY, WAIT)
    process = await ready(child)
    process.suspend()
    child.stop()
    child.kill()
    await asyncio.wait_for(child.wait(), 60)
    assert not process.is_running()


@on_uvloop
async def test_a_child_is_out_of_reach_of_the_terminals_ctrl_c(start: Start) -> None:
    process = await ready(start(SAY_READY, WAIT))
    assert os.getsid(process.pid) == process.pid
    assert os.getpgid(process.pid) == process.pid


@on_uvloop
async def test_no_file_descriptor_is_left(start: Start, ends: Ends) -> None:
    this = psutil.Process()
    child = start(SAY_READY, WAIT)
    (await ready(child)).kill()
    await died(ends, 1)
    before = this.num_fds()
    for life in range(2, 4):
        (await ready(child)).kill()
        await died(ends, life)
    await eventually(lambda: this.num_fds() <= before)
