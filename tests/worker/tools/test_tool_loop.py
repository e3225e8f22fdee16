from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Coroutine
from typing import Any

import pytest
from structlog.testing import capture_logs

from tests.helpers import eventually
from tests.worker.tools.gates import Gate
from worker.tools.errors import ToolNotRun
from worker.tools.tool_loop import MAX_BLOCKED_LOOPS, ToolLoop


@pytest.fixture
async def new_loop() -> AsyncIterator[Callable[..., ToolLoop]]:
    loops = []

    def new(*, blocked_seconds: float = 60) -> ToolLoop:
        loops.append(ToolLoop(blocked_seconds=blocked_seconds))
        return loops[-1]

    yield new
    for loop in loops:
        await loop.stop()


NewLoop = Callable[..., ToolLoop]


async def where() -> tuple[int, int]:
    return threading.get_ident(), id(asyncio.get_running_loop())


def blocking(gate: Gate) -> Callable[[], Coroutine[Any, Any, str]]:
    async def block() -> str:
        gate.wait()
        return "unblocked"

    return block


async def test_coroutines_share_one_separate_loop(new_loop: NewLoop) -> None:
    loop = new_loop()
    places = {await loop.run("a", where), await loop.run("b", where)}
    assert len(places) == 1
    assert (threading.get_ident(), id(asyncio.get_running_loop())) not in places


async def test_coroutines_run_side_by_side(new_loop: NewLoop) -> None:
    loop = new_loop()
    reached: list[asyncio.Event] = []

    async def meet() -> str:
        mine = asyncio.Event()
        reached.append(mine)
        if len(reached) == 2:
            for each in reached:
                each.set()
        await mine.wait()
        return "met"

    assert set(await asyncio.gather(loop.run("a", meet), loop.run("b", meet))) == {"met"}


async def test_cancelled_run_cancels_its_coroutine(new_loop: NewLoop) -> None:
    begun, ended = threading.Event(), threading.Event()

    async def wait() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            ended.set()

    run = asyncio.create_task(new_loop().run("wait", wait))
    await eventually(begun.is_set)
    run.cancel()
    with pytest.raises(asyncio.CancelledError):
        await run
    await eventually(ended.is_set)


async def test_run_cancelled_before_it_begins_never_begins(new_loop: NewLoop) -> None:
    loop = new_loop()
    gate = Gate()
    first = asyncio.create_task(loop.run("first", blocking(gate)))
    await gate.is_reached()
    begun: list[str] = []

    async def begin() -> None:
        begun.append("second")

    second = asyncio.create_task(loop.run("second", begin))
    await asyncio.sleep(0)
    second.cancel()
    await asyncio.wait({second})
    gate.open.set()
    assert await first == "unblocked"
    await loop.run("third", where)
    assert begun == []


async def test_blocked_loop_is_replaced_and_keeps_its_begun_coroutines(
    new_loop: NewLoop,
) -> None:
    loop = new_loop(blocked_seconds=0.05)
    gate = Gate()
    blocked = asyncio.create_task(loop.run("blocker", blocking(gate)))
    await gate.is_reached()
    with capture_logs() as lines:
        other, _ = await loop.run("other", where)
    (line,) = [line for line in lines if "blocks" in line["event"]]
    assert line["running"] == ["blocker"]
    assert line["waiting"] == "other"
    assert (await loop.run("another", where))[0] == other
    gate.open.set()
    assert await blocked == "unblocked"


async def test_number_of_blocked_loops_is_bounded(new_loop: NewLoop) -> None:
    loop = new_loop(blocked_seconds=0.05)
    gates = [Gate() for _ in range(MAX_BLOCKED_LOOPS + 1)]
    blocked = []
    for gate in gates:
        blocked.append(asyncio.create_task(loop.run("blocker", blocking(gate))))
        await gate.is_reached()
    with pytest.raises(ToolNotRun, match="tools block all 5 event loops"):
        await loop.run("other", where)
    assert loop.blocked_loops == MAX_BLOCKED_LOOPS
    for gate in gates:
        gate.open.set()
    assert await asyncio.gather(*blocked) == ["unblocked"] * len(gates)
    await loop.run("other", where)
    await eventually(lambda: loop.blocked_loops == 0)


async def test_system_exit_of_a_background_task_ends_nothing(new_loop: NewLoop) -> None:
    loop = new_loop()
    background: list[asyncio.Task[None]] = []

    async def leave() -> None:
        async def end() -> None:
            raise SystemExit(1)

        background.append(asyncio.create_task(end()))

    before = await loop.run("before", where)
    with capture_logs() as lines:
        await loop.run("leave", leave)
        assert await loop.run("after", where) == before
    assert [line["error"] for line in lines] == ["SystemExit"]
    assert isinstance(background[0].exception(), SystemExit)


async def test_message_of_a_background_failure_is_not_logged(new_loop: NewLoop) -> None:
    loop = new_loop()

    async def fail() -> None:
        def raise_it() -> None:
            raise ValueError("the caller's name is Ada")

        asyncio.get_running_loop().call_soon(raise_it)

    with capture_logs() as lines:
        await loop.run("fail", fail)
        await loop.run("after", where)
    assert [line["error"] for line in lines] == ["ValueError"]
    assert "Ada" not in str(lines)


async def test_stopping_ends_the_threads(new_loop: NewLoop) -> None:
    before = threading.active_count()
    loop = new_loop()
    begun = threading.Event()

    async def wait() -> None:
        begun.set()
        await asyncio.Event().wait()

    run = asyncio.create_task(loop.run("wait", wait))
    await eventually(begun.is_set)
    await loop.stop()
    await eventually(lambda: threading.active_count() == before)
    run.cancel()
    await asyncio.wait({run})
