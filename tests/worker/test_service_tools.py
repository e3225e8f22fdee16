"""Tools of a call whose next session is opened on the same worker."""

from __future__ import annotations

import asyncio

import pytest

from common.link import wire
from common.observe.tool_outcome import ToolOutcome
from dispatcher.call.memory import CallMemory
from simulator.realtime.server import RealtimeSimulator
from tests.helpers import eventually
from tests.worker.call_desk import PATIENCE_SECONDS, begin_tool, outputs
from tests.worker.dispatcher_end import DispatcherEnd, link_to
from tests.worker.test_service import Service, here
from worker.tools.result import ToolResult
from worker.tools.tool_set import ToolSet

__all__ = ["here"]  # the fixture


class Tool:
    """The only tool; it answers when it may.

    Attributes:
        gate: it may.
        began: it runs.
        ended: the outcome of each run.
    """

    def __init__(self) -> None:
        self.gate = asyncio.Event()
        self.began = asyncio.Event()
        self.ended: list[str] = []

    async def run(self, tool_set: ToolSet, name: str, arguments: str, **_: object) -> ToolResult:
        self.began.set()
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.ended.append("cancelled")
            raise
        self.ended.append("ok")
        return ToolResult("found", ToolOutcome.OK)


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> Tool:
    found = Tool()

    async def run(tool_set: ToolSet, name: str, arguments: str, **options: object) -> ToolResult:
        return await found.run(tool_set, name, arguments, **options)

    monkeypatch.setattr(ToolSet, "run", run)
    return found


async def call_tool(simulator: RealtimeSimulator, dispatcher: DispatcherEnd, tool: Tool) -> list[wire.Control]:
    """Open a call whose model calls the tool; return the memory of its dispatcher."""
    dispatcher.open("call-1", 1)
    await dispatcher.next(1, wire.Ready)
    begin_tool(simulator, await simulator.wait_for_session())
    await dispatcher.next(1, wire.Tool)
    dispatcher.send(wire.ToolKnown("call_1"), 1)
    async with asyncio.timeout(PATIENCE_SECONDS):
        await tool.began.wait()
    memory = CallMemory()
    for record in dispatcher.on(1):
        if isinstance(record, wire.ItemUpdate):
            memory.remember(record, 100)
    return list(memory.records())


def restore(dispatcher: DispatcherEnd, epoch: int, memory: list[wire.Control], *, standby: bool = False) -> None:
    """Open the next session of the call; its epoch is its channel."""
    dispatcher.open("call-1", epoch, epoch=epoch, restore=True)
    for record in memory:
        dispatcher.send(record, epoch)
    dispatcher.send(wire.Resume("worker_lost", standby), epoch)


async def test_a_tool_runs_on_when_its_worker_gets_the_call_again(here: Service, tool: Tool) -> None:
    async with link_to(here.address) as first:
        memory = await call_tool(here.simulator, first, tool)
        first.end.abort()
    async with link_to(here.address) as second:
        restore(second, 2, memory)
        await second.next(2, wire.Ready)
        again = await here.simulator.wait_for_session(2)
        assert not outputs(again)
        tool.gate.set()
        await again.wait_for(outputs)
        assert outputs(again) == ["found"]
        assert tool.ended == ["ok"]


async def test_an_output_that_no_link_carried_is_not_lost(here: Service, tool: Tool) -> None:
    async with link_to(here.address) as first:
        memory = await call_tool(here.simulator, first, tool)
        first.end.abort()
    tool.gate.set()
    await eventually(lambda: tool.ended)
    async with link_to(here.address) as second:
        restore(second, 2, memory)
        again = await here.simulator.wait_for_session(2)
        await again.wait_for(outputs)
        assert outputs(again) == ["found"]


async def test_a_tool_runs_on_past_a_standby_that_is_left(here: Service, tool: Tool) -> None:
    async with link_to(here.address) as first:
        memory = await call_tool(here.simulator, first, tool)
        restore(first, 2, memory, standby=True)
        await first.next(2, wire.Ready)
        first.end.abort()
    async with link_to(here.address) as second:
        restore(second, 3, memory)
        await second.next(3, wire.Ready)
        tool.gate.set()
        again = await here.simulator.wait_for_session(3)
        await again.wait_for(outputs)
        assert outputs(again) == ["found"]
        assert tool.ended == ["ok"]


async def test_a_tool_runs_on_when_a_standby_was_lost_meanwhile(here: Service, tool: Tool) -> None:
    async with link_to(here.address) as dispatcher:
        memory = await call_tool(here.simulator, dispatcher, tool)
        (await here.simulator.wait_for_session()).drop()
        await dispatcher.next(1, wire.Released)
        dispatcher.open("call-1", 2, epoch=2, restore=True)
        await dispatcher.next(2, wire.Opened)
        dispatcher.send(wire.Close("it is not wanted"), 2)
        restore(dispatcher, 3, memory)
        await dispatcher.next(3, wire.Ready)
        tool.gate.set()
        again = await here.simulator.wait_for_session(2)
        await again.wait_for(outputs)
        assert outputs(again) == ["found"]
