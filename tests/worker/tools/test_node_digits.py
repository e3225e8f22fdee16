"""Tools in JavaScript that ask the caller for keys, in their own process."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from common.observe.tool_outcome import ToolOutcome
from tests.helpers import eventually
from tests.worker.tools.callers import ScriptedCaller, entered
from tests.worker.tools.conftest import OpenRegistry, ToolsDir
from tests.worker.tools.hosted import children
from tests.worker.tools.test_digits import run
from worker.tools.entries import Entry, EntryEnding, KeyRequest
from worker.tools.result import ToolResult

pytestmark = pytest.mark.system

PIN_TOOL = """
module.exports = {
  name: "check_pin",
  handler: async (uuid, args) => {
    const pin = await digits("Please enter your PIN.", 4, 10);
    return pin === "2580" ? "accepted" : "wrong";
  },
};
"""


async def test_tool_gets_the_keys_and_the_model_gets_its_output(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir, node: str
) -> None:
    tools_dir.write("pin.js", PIN_TOOL)
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    caller = entered("2580")
    with capture_logs() as lines:
        assert await run(tool_set, "check_pin", caller) == ToolResult("accepted", ToolOutcome.OK)
    assert caller.asked == [KeyRequest("Please enter your PIN.", 4, 10.0)]
    assert "2580" not in repr(lines)


async def test_es_module_has_the_function_too(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir, node: str
) -> None:
    tools_dir.write(
        "number.mjs",
        """
        export default {
          name: "number",
          handler: async (uuid, args) => {
            const { digits: number, endedBy } = await digits.entry("Your number", 8, 5);
            return [number.length, endedBy];
          },
        };
        """,
    )
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    assert (await run(tool_set, "number", entered("123", EntryEnding.END_KEY))).output == '[3,"#"]'
    assert (await run(tool_set, "number", entered("", EntryEnding.TIMEOUT))).output == '[0,"timeout"]'


@pytest.mark.parametrize("ending", [EntryEnding.LOST, EntryEnding.REFUSED])
async def test_tool_is_told_why_there_are_no_keys(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir, node: str, ending: EntryEnding
) -> None:
    tools_dir.write(
        "told.js",
        """
        exports.name = "told";
        exports.handler = async () => {
          try {
            await digits("Your PIN", 4, 10);
          } catch (error) {
            const kind = error instanceof digits.Lost ? "lost" : error instanceof digits.Refused ? "refused" : "";
            return `${kind}: ${error.message} (${error.name})`;
          }
        };
        """,
    )
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    caller = ScriptedCaller(Entry(ending, message="ask again"))
    name = {"lost": "DigitsLost", "refused": "DigitsRefused"}[ending.value]
    assert (await run(tool_set, "told", caller)).output == f"{ending}: ask again ({name})"


WRONG = ["", "undefined, 4, 10", "'', 65, 10", "'', NaN, 10", "'', 4, 1n", "{}, 4, 1"]


@pytest.mark.parametrize("arguments", WRONG)
async def test_wrong_arguments_are_refused(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir, node: str, arguments: str
) -> None:
    tools_dir.write("wrong.js", f'exports.name = "wrong"; exports.handler = () => digits({arguments});')
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    caller = entered("1")
    assert (await run(tool_set, "wrong", caller)).outcome is ToolOutcome.ERROR
    assert caller.asked == []
    assert len(children()) == 2  # the processes of both languages have survived that


async def test_exception_with_keys_in_it_does_not_reach_the_model(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir, node: str
) -> None:
    tools_dir.write(
        "careless.js",
        'exports.name = "careless"; exports.handler = async () => BigInt(await digits("Your PIN", 4, 10));',
    )
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    with capture_logs() as lines:
        result = await run(tool_set, "careless", entered("25*0"))
    assert result.output == "The tool careless failed: SyntaxError"
    assert "25*0" not in repr(lines)


async def test_death_of_the_process_ends_the_request(
    open_tool_registry: OpenRegistry, tools_dir: ToolsDir, node: str
) -> None:
    tools_dir.write("pin.js", PIN_TOOL)
    tool_set = await (await open_tool_registry(node=node)).tool_set()
    caller = ScriptedCaller()
    running = asyncio.create_task(run(tool_set, "check_pin", caller))
    await caller.is_asked.wait()
    for process in children():
        process.kill()
    assert (await running).outcome is ToolOutcome.LOST
    await eventually(lambda: caller.left == 1)
