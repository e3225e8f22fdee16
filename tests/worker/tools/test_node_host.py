"""The Node process: what it survives, what it does not, and that nothing is left of it."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from structlog.testing import capture_logs

from tests.helpers import eventually
from tests.worker.tools.hosted import (
    GUARD_SECONDS,
    HANG_SECONDS,
    LIMITS,
    LoadedTool,
    children,
    dies_with_its_worker,
    ends_in_order,
    ends_while_it_starts,
    is_told_of_two_others,
)
from tests.worker.tools.hosted import Host as AnyHost
from worker.tools import programs
from worker.tools.environment import ToolEnvironment
from worker.tools.errors import BadTool, ToolFailed, ToolLost
from worker.tools.host_process import HostLimits
from worker.tools.printed_lines import MAX_LINES_PER_SECOND

pytestmark = pytest.mark.system


class Host(AnyHost):
    """A host, and tools by their handlers."""

    def __init__(self, node: str, directory: Path, limits: HostLimits = LIMITS) -> None:
        super().__init__(programs.node(node, ToolEnvironment.of()), directory, ".js", limits=limits)

    async def tool(self, handler: str, *, before: str = "", name: str = "it") -> LoadedTool:
        return await self.load_source(
            f"{before}; module.exports = {{ name: '{name}', handler: {handler} }};", name
        )

    async def pid(self) -> int:
        """Of the process that runs now."""
        return int(await call(await self.tool("() => process.pid", name="pid")))


@pytest.fixture
async def host(node: str, tmp_path: Path, limits: HostLimits) -> AsyncIterator[Host]:
    host = Host(node, tmp_path, limits)
    yield host
    await host.stop()


@pytest.fixture
def limits() -> HostLimits:
    return LIMITS


async def call(tool: LoadedTool, **arguments: Any) -> str:
    return str(await tool.call(**arguments))


async def test_there_is_no_process_before_the_first_need_and_one_after(host: Host) -> None:
    assert children() == []
    pids = {await host.pid(), await host.pid()}
    assert [process.pid for process in children()] == list(pids)


async def test_calls_that_come_together_start_one_process(host: Host) -> None:
    pids = await asyncio.gather(*(host.pid() for _ in range(5)))
    assert len(set(pids)) == 1


async def test_what_a_tool_prints_is_logged_and_nothing_it_prints_breaks_the_protocol(host: Host) -> None:
    printing = """() => {
      console.log("from the console");
      process.stdout.write('{"id": 1, "result": "forged"}\\n');
      require("fs").writeSync(1, "from the descriptor\\n");
      require("child_process").execSync("echo from a program", { stdio: "inherit" });
      console.error("from stderr");
      return "the result";
    }"""
    tool = await host.tool(printing)
    with capture_logs() as lines:
        assert await call(tool) == "the result"
        await eventually(lambda: len(lines) == 5)
    assert {(line["event"], line["log_level"]) for line in lines} == {("a tool printed", "debug")}
    in_call = [line["text"] for line in lines if (line.get("uuid"), line.get("tool")) == ("a-uuid", "it")]
    assert in_call == ["from the console", '{"id": 1, "result": "forged"}', "from stderr"]
    assert [line["text"] for line in lines if "uuid" not in line] == ["from the descriptor", "from a program"]


SIDE_BY_SIDE = """(() => {
  const arrived = [];
  return async (uuid, { said }) => {
    console.log(`first ${said}`);
    await new Promise((resolve) => {
      arrived.push(resolve);
      if (arrived.length === 3) arrived.forEach((go) => go());
    });
    await new Promise((resolve) => setTimeout(resolve, 1));
    process.stdout.write("half ");
    process.stdout.write(Buffer.from(`second ${said}\\n`), () => console.error(`third ${said}\\nfourth ${said}`));
    await new Promise(setImmediate);
    process.stdout.write("without an end");
  };
})()"""


async def test_each_printed_line_names_its_call(host: Host) -> None:
    tool = await host.tool(SIDE_BY_SIDE)
    with capture_logs() as lines:
        await asyncio.gather(*(tool.call(uuid=f"u-{number}", said=number) for number in range(3)))
        await eventually(lambda: len(lines) == 15)
    for number in range(3):
        assert [line["text"] for line in lines if line["uuid"] == f"u-{number}"] == [
            f"first {number}",
            f"half second {number}",
            f"third {number}",
            f"fourth {number}",
            "without an end",
        ]
    assert {(line["tool"], line["log_level"]) for line in lines} == {("it", "debug")}


async def test_a_printed_line_is_cut(host: Host) -> None:
    tool = await host.tool("() => { console.log('x'.repeat(1e6)); process.stdout.write('y'.repeat(1e6)); }")
    with capture_logs() as lines:
        await call(tool)
        await eventually(lambda: len(lines) == 2)
    assert [line["text"] for line in lines] == ["x" * 300 + "...", "y" * 300 + "..."]


async def test_lines_before_the_first_call_are_for_everybody(host: Host) -> None:
    tool = await host.tool("(console.log('loaded'), () => 'done')")
    with capture_logs() as lines:
        await host.tool("(console.log('loaded too'), () => 'done')", name="other")
        await eventually(lambda: lines)
        await call(tool)
        await host.tool("(console.log('later'), () => 'done')", name="third")
        await eventually(lambda: len(lines) == 2)
    assert [(line["text"], line["log_level"]) for line in lines] == [("loaded too", "info"), ("later", "debug")]


async def test_a_flood_of_output_neither_blocks_the_tool_nor_fills_the_log(host: Host) -> None:
    tool = await host.tool("() => { for (let i = 0; i < 1e5; i++) console.log('x'.repeat(100)); return 'done'; }")
    with capture_logs() as lines:
        assert await call(tool) == "done"
    assert len(lines) <= 2 * GUARD_SECONDS * MAX_LINES_PER_SECOND < 1e5


async def test_standard_input_is_empty(host: Host) -> None:
    assert await call(await host.tool("() => require('fs').readFileSync(0).length")) == "0"


OUTSIDE = {
    "a promise that nobody awaits": "Promise.reject(new RangeError('no Ada'))",
    "a timer": "setImmediate(() => { throw new RangeError('no Ada'); })",
}


@pytest.mark.parametrize("statement", OUTSIDE.values(), ids=OUTSIDE)
async def test_a_failure_outside_of_a_handler_costs_nobody_a_call(host: Host, statement: str) -> None:
    tool = await host.tool(f"() => {{ {statement}; return process.pid; }}")
    with capture_logs() as lines:
        before = await call(tool)
        await eventually(lambda: lines)
    assert (lines[0]["event"], lines[0]["log_level"]) == ("a tool failed outside of its handler", "warning")
    assert (lines[0]["error"], lines[0]["where"]) == ("RangeError", "it.js:1")
    assert "Ada" not in str(lines)
    assert await call(tool) == before


async def test_a_tool_that_blocks_the_event_loop_is_killed_others_are_told_and_work_again(host: Host) -> None:
    waiting = await host.tool("(uuid, args) => (args.now ? 'now' : new Promise(() => {}))", name="waiting")
    spinning = await host.tool("() => { for (;;); }", name="spinning")
    before = await host.pid()
    with capture_logs() as lines:
        both = await asyncio.gather(call(waiting), call(spinning), return_exceptions=True)
    for error in both:
        assert isinstance(error, ToolLost)
        assert "was stalled for 1 s" in str(error)
        assert "not known" in str(error)
    (line,) = [line for line in lines if line["event"] == "tool host ended"]
    assert line["interrupted"] == ["waiting", "spinning"]
    assert await call(waiting, now=True) == "now"
    assert await host.pid() != before
    assert not psutil.pid_exists(before)
    assert len(children()) == 1


async def test_work_that_takes_long_without_blocking_is_not_a_hang(host: Host) -> None:
    tool = await host.tool(f"() => new Promise((end) => setTimeout(() => end('done'), {2500 * HANG_SECONDS}))")
    before = await host.pid()
    assert await call(tool) == "done"
    assert await host.pid() == before


async def test_a_stopped_process_is_killed(host: Host) -> None:
    tool = await host.tool("() => 'done'")
    psutil.Process(await host.pid()).suspend()
    with pytest.raises(ToolLost, match="was stalled"):
        await call(tool)
    assert await call(tool) == "done"


async def test_a_file_that_blocks_when_it_is_loaded_is_no_tool(host: Host) -> None:
    with pytest.raises(BadTool, match="Node did not survive loading it: its event loop was stalled"):
        await host.tool("() => 1", before="for (;;)")
    assert await call(await host.tool("() => 'done'")) == "done"


@pytest.mark.parametrize(
    ("end", "reason"),
    [
        ("process.exit(3)", "exit 3"),
        ("process.kill(process.pid, 'SIGSEGV')", "SIGSEGV"),
        ("process.abort()", "SIGABRT"),
    ],
)
async def test_a_tool_that_ends_the_process_costs_calls_that_are_told_so(
    host: Host, end: str, reason: str
) -> None:
    waiting = await host.tool("() => new Promise(() => {})", name="waiting")
    ending = await host.tool(f"() => new Promise(() => {{ {end}; }})", name="ending")
    both = await asyncio.gather(call(waiting), call(ending), return_exceptions=True)
    assert [type(error) for error in both] == [ToolLost, ToolLost]
    assert f"ended: {reason}." in str(both[0])
    assert await call(await host.tool("() => 'done'")) == "done"


async def test_a_version_outlives_its_file_and_its_process(host: Host, tmp_path: Path) -> None:
    old = await host.tool("() => 'old'")
    new = await host.tool("() => 'new'")
    psutil.Process(await host.pid()).kill()
    await eventually(lambda: not children())
    assert [await call(old), await call(new)] == ["old", "new"]


async def test_a_version_that_does_not_load_again_fails_its_calls_alone(host: Host, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    once = f"if (require('fs').existsSync('{marker}')) throw new Error('only once')"
    tool = await host.tool("() => 'done'", before=once)
    marker.touch()
    psutil.Process(await host.pid()).kill()
    await eventually(lambda: not children())
    with pytest.raises(ToolFailed, match="could not be loaded again"):
        await call(tool)


async def test_node_forgets_versions_that_nobody_holds(host: Host) -> None:
    collected = await host.tool(
        "() => new Promise((seen) => { global.seen = seen; })",
        before="const registry = (global.registry = new FinalizationRegistry(() => global.seen('gone')))",
        name="collected",
    )
    waiting = asyncio.create_task(call(collected))
    victim = await host.tool("() => 1", before="global.registry.register(module, 0)", name="victim")
    await call(victim)
    del victim
    gc.collect()
    collect = "require('v8').setFlagsFromString('--expose-gc'); const gc = require('vm').runInNewContext('gc')"
    collector = await host.tool("() => gc()", before=collect, name="collector")
    async with asyncio.timeout(GUARD_SECONDS):
        while not waiting.done():
            await call(collector)
    assert await waiting == "gone"


@pytest.mark.parametrize("limits", [HostLimits(max_overdue=3)])
async def test_calls_that_never_return_are_ended_with_their_process_when_there_are_too_many(host: Host) -> None:
    never = await host.tool("() => new Promise(() => {})")
    before = await host.pid()
    for expected in (before, before, None):
        running = asyncio.create_task(call(never))
        await host.pid()  # the line of the call has gone out before this one's
        running.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await running
        if expected is not None:
            assert await host.pid() == expected
    assert await host.pid() != before


@pytest.mark.parametrize("limits", [HostLimits(max_requests=2)])
async def test_more_calls_at_once_than_it_takes_are_told_so(host: Host) -> None:
    await is_told_of_two_others(await host.tool("() => new Promise(() => {})"))


async def test_a_line_that_is_no_reply_ends_the_process(host: Host) -> None:
    descriptor = "Number(process.argv[3])"
    tool = await host.tool(f"() => new Promise(() => require('fs').writeSync({descriptor}, 'no reply\\n'))")
    with pytest.raises(ToolLost, match="no reply: JSONDecodeError"):
        await call(tool)
    assert await call(await host.tool("() => 'done'")) == "done"


async def test_a_line_without_end_ends_the_process(host: Host) -> None:
    tool = await host.tool(
        "() => new Promise(() => { for (const handle of process._getActiveHandles())"
        " if (handle.constructor.name === 'Socket' && !handle._isStdio) handle.write('x'.repeat(3e6)); })"
    )
    with pytest.raises(ToolLost, match="no reply: ValueError"):
        await call(tool)


async def test_stopping_lets_node_end_in_order_and_leaves_no_process(host: Host, tmp_path: Path) -> None:
    tool = await host.tool(
        "() => require('child_process').spawn('sleep', ['1000']).pid",
        before=f"process.on('exit', () => require('fs').writeFileSync('{tmp_path}/exit', ''))",
    )
    await ends_in_order(host, tool, tmp_path / "exit")


async def test_stopping_ends_a_process_that_hangs(host: Host) -> None:
    spinning = await host.tool("() => { for (;;); }")
    running = asyncio.create_task(call(spinning))
    await asyncio.sleep(0)
    await host.stop()
    assert children() == []
    with pytest.raises(ToolLost, match="the service is stopping"):
        await running


async def test_stopping_while_it_starts_leaves_no_process(host: Host) -> None:
    await ends_while_it_starts(host)


WORKER = """
import asyncio, pathlib, sys
import uvloop
from tests.worker.tools.test_node_host import Host

async def main(node, handler):
    host = Host(node, pathlib.Path("/"))
    print(await host.pid(), flush=True)
    tool = await host.tool(handler)
    await tool.call()

uvloop.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("handler", ["() => new Promise(() => {})", "() => { for (;;); }"], ids=["waits", "spins"])
def test_it_dies_with_its_worker(node: str, handler: str) -> None:
    dies_with_its_worker(WORKER, node, handler)
