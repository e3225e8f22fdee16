"""Tools in Python that ask the caller for keys, in their own process."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.observe.tool_outcome import ToolOutcome
from tests.helpers import eventually
from tests.worker.tools.callers import ScriptedCaller, entered
from tests.worker.tools.conftest import NewGate, OpenRegistry, ToolsDir
from tests.worker.tools.hosted import children
from tests.worker.tools.running import METADATA, UUID
from worker.tools.entries import Entry, EntryEnding, KeyRequest
from worker.tools.result import ToolResult
from worker.tools.tool_set import ToolSet

PIN_TOOL = """
name = "check_pin"

async def handler(uuid, args):
    pin = await digits("Please enter your PIN.", 4, 10)
    return "accepted" if pin == "2580" else "wrong"
"""


async def run(tool_set: ToolSet, name: str, caller: ScriptedCaller, **arguments: Any) -> ToolResult:
    return await tool_set.run(name, json.dumps(arguments), uuid=UUID, metadata=METADATA, keys=caller)


async def test_tool_gets_the_keys_and_the_model_gets_its_output(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir
) -> None:
    tools_dir.write("pin.py", PIN_TOOL)
    tool_set = await (await open_tool_registry()).tool_set()
    caller = entered("2580")
    with capture_logs() as lines:
        assert await run(tool_set, "check_pin", caller) == ToolResult("accepted", ToolOutcome.OK)
    assert caller.asked == [KeyRequest("Please enter your PIN.", 4, 10.0)]
    assert "2580" not in repr(lines)


async def test_tool_learns_how_the_entry_ended(open_tool_registry: OpenRegistry, tools_dir: ToolsDir) -> None:
    tools_dir.write(
        "number.py",
        """
        name = "number"

        async def handler(uuid, args):
            entry = await digits.entry("Your number, please.", 8, 5)
            return [len(entry.digits), entry.ended_by, repr(entry)]
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    results = [
        json.loads((await run(tool_set, "number", entered(*each))).output)
        for each in (("12345678", EntryEnding.COUNT), ("123", EntryEnding.END_KEY), ("", EntryEnding.TIMEOUT))
    ]
    assert [each[:2] for each in results] == [[8, "count"], [3, "#"], [0, "timeout"]]
    assert "123" not in repr(results)


@pytest.mark.parametrize("ending", [EntryEnding.LOST, EntryEnding.REFUSED])
async def test_tool_is_told_why_there_are_no_keys(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir, ending: EntryEnding
) -> None:
    tools_dir.write(
        "told.py",
        """
        name = "told"

        async def handler(uuid, args):
            try:
                await digits("Your PIN", 4, 10)
            except digits.Lost as error:
                return f"lost: {error}"
            except digits.Refused as error:
                return f"refused: {error}"
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    caller = ScriptedCaller(Entry(ending, message="ask again"))
    assert (await run(tool_set, "told", caller)).output == f"{ending}: ask again"


async def test_wrong_arguments_are_refused_before_the_caller_is_asked(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir
) -> None:
    tools_dir.write(
        "wrong.py",
        """
        name = "wrong"

        async def handler(uuid, args):
            await digits("Your PIN", 65, 10)
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    caller = entered("1")
    assert "count must be a whole number from 1 to 64" in (await run(tool_set, "wrong", caller)).output
    assert caller.asked == []


async def test_exception_with_keys_in_it_does_not_reach_the_model(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir
) -> None:
    tools_dir.write(
        "careless.py",
        """
        name = "careless"

        async def handler(uuid, args):
            return int(await digits("Your PIN", 4, 10))
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    with capture_logs() as lines:
        result = await run(tool_set, "careless", entered("25*0"))
    assert result.output == "The tool careless failed: ValueError"
    assert "25*0" not in repr(lines)


async def test_plain_function_that_returns_the_coroutine_may_ask(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir
) -> None:
    tools_dir.write(
        "plain.py",
        """
        name = "plain"

        async def ask():
            return "accepted" if await digits("", 1, 1) == "5" else "wrong"

        def handler(uuid, args):
            return ask()
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    assert (await run(tool_set, "plain", entered("5"))).output == "accepted"


async def test_two_calls_get_each_their_own_keys(open_tool_registry: OpenRegistry, tools_dir: ToolsDir) -> None:
    tools_dir.write(
        "echo.py",
        """
        name = "echo"

        async def handler(uuid, args):
            return await digits("", 4, 9)
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    numbers = [f"{number:04}" for number in range(20)]
    results = await asyncio.gather(*(run(tool_set, "echo", entered(number)) for number in numbers))
    assert [result.output for result in results] == numbers


async def test_own_time_limit_of_a_tool_ends_the_request(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir
) -> None:
    tools_dir.write(
        "hasty.py",
        """
        import asyncio
        name = "hasty"

        async def handler(uuid, args):
            try:
                await asyncio.wait_for(digits("Your PIN", 4, 10), 0.01)
            except asyncio.TimeoutError:
                return "no PIN"
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    caller = ScriptedCaller()
    assert (await run(tool_set, "hasty", caller)).output == "no PIN"
    await eventually(lambda: caller.left == 1)


async def test_task_that_a_handler_leaves_behind_may_not_ask(
    new_gate: NewGate, open_tool_registry: OpenRegistry, tools_dir: ToolsDir
) -> None:
    tools_dir.write(
        "late.py",
        """
        import asyncio
        name = "late"
        told = asyncio.Queue()
        ended = None

        async def later(gate):
            await gate.wait()
            try:
                await digits("", 4, 10)
            except digits.Refused as error:
                await told.put(str(error))

        async def handler(uuid, args):
            global ended
            if ended is None:
                ended = asyncio.Event()
                asyncio.get_running_loop().task = asyncio.ensure_future(later(ended))
                return "left"
            ended.set()
            return await told.get()
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    caller = entered("1234")
    assert (await run(tool_set, "late", caller)).output == "left"
    assert "only in an async handler" in (await run(tool_set, "late", caller)).output
    assert caller.asked == []


async def test_death_of_the_process_ends_the_request(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir
) -> None:
    tools_dir.write("pin.py", PIN_TOOL)
    tool_set = await (await open_tool_registry()).tool_set()
    caller = ScriptedCaller()
    running = asyncio.create_task(run(tool_set, "check_pin", caller))
    await caller.is_asked.wait()
    for process in children():
        process.kill()
    assert (await running).outcome is ToolOutcome.LOST
    await eventually(lambda: caller.left == 1)
