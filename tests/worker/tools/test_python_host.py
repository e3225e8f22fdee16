"""The process that runs Python tools: what it survives, what it does not, and that nothing is left of it."""

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
from tests.worker.tools.conftest import NewGate
from tests.worker.tools.hosted import (
    GUARD_SECONDS,
    LIMITS,
    Host,
    LoadedTool,
    children,
    dies_with_its_worker,
    ends_in_order,
    ends_while_it_starts,
    is_told_of_two_others,
)
from worker.tools import programs
from worker.tools.environment import ToolEnvironment
from worker.tools.errors import ArgumentsNotChecked, BadTool, InvalidArguments, ToolFailed, ToolLost
from worker.tools.host_process import HostLimits
from worker.tools.printed_lines import MAX_LINES_PER_SECOND
from worker.tools.tool_host import Part

# Each keeps the interpreter to itself: `pause` waits for a signal, the expression takes years.
HOLDERS = {
    "a function in C": "import ctypes; ctypes.PyDLL(None).pause()",
    "a regular expression": "import re; re.match('(a+)+$', 'a' * 60 + 'b')",
}
HOLD = HOLDERS["a function in C"]
# The same, and it says so when it does: at the gate `held`.
HOLD_AND_TELL = (
    "import ctypes, os;"
    " command = f'touch {os.environ[\"AVR_TEST_GATES\"]}/held.reached; exec sleep 1000';"
    " ctypes.PyDLL(None).system(command.encode())"
)


class PythonHost(Host):
    """A host, and tools by the statements of their handlers."""

    async def tool(self, *statements: str, kind: str = "def", before: str = "", name: str = "it") -> LoadedTool:
        lines = [
            before,
            f"name = {name!r}",
            f"{kind} handler(uuid, args):",
            *(f"    {each}" for each in statements),
        ]
        return await self.load_source("\n".join(lines), name)

    async def pid(self) -> int:
        """Of the process that runs now."""
        tool = await self.tool("import os; return os.getpid()", name="pid")
        return int(await tool.call())

    async def schema(self, **schema: Any) -> Part:
        part = self.part("define", schema={"type": "object", **schema})
        await self.load(part, "a schema")
        return part

    async def check(self, schema: Part, **arguments: Any) -> None:
        await self.ask(schema, "arguments", {"op": "check", "args": arguments})


@pytest.fixture
async def host(tmp_path: Path, new_gate: NewGate, limits: HostLimits) -> AsyncIterator[PythonHost]:
    # The gates come first: the environment of the process is that of now.
    host = PythonHost(programs.python([tmp_path], ToolEnvironment.of()), tmp_path, ".py", limits=limits)
    yield host
    await host.stop()


@pytest.fixture
def limits() -> HostLimits:
    return LIMITS


async def test_there_is_no_process_before_the_first_need_and_one_after(host: PythonHost) -> None:
    assert children() == []
    pids = {*await asyncio.gather(*(host.pid() for _ in range(5))), await host.pid()}
    assert [process.pid for process in children()] == list(pids)


async def test_printed_lines_are_logged_and_break_no_protocol(host: PythonHost) -> None:
    tool = await host.tool(
        "import os, subprocess, sys",
        "print('printed')",
        'print(\'{"id": 1, "result": "forged"}\')',
        "os.write(1, b'from the descriptor\\n')",
        "subprocess.run(['echo', 'from a program'])",
        "sys.stderr.write('from stderr\\n')",
        "return 'the result'",
    )
    with capture_logs() as lines:
        assert await tool.call() == "the result"
        await eventually(lambda: len(lines) == 5)
    assert {(line["event"], line["log_level"]) for line in lines} == {("a tool printed", "debug")}
    in_call = [line["text"] for line in lines if (line.get("uuid"), line.get("tool")) == ("a-uuid", "it")]
    assert in_call == ["printed", '{"id": 1, "result": "forged"}', "from stderr"]
    assert [line["text"] for line in lines if "uuid" not in line] == ["from the descriptor", "from a program"]


PRINTING = {
    "def": [
        "print('first', args['said'])",
        "barrier.wait()",
        "print('half ', end=''); print('second', args['said'])",
        "logging.getLogger('tool').warning('third\\nfourth')",
        "sys.stdout.write('without an end')",
    ],
    "async def": [
        "print('first', args['said'])",
        "arrived.append(1)",
        "while len(arrived) < 3: await asyncio.sleep(0)",
        "print('half ', end=''); await asyncio.sleep(0)",
        "await asyncio.to_thread(print, 'second', args['said'])",
        "await asyncio.create_task(later('third\\nfourth'))",
        "sys.stdout.write('without an end')",
    ],
}
BEFORE = """
import asyncio, logging, sys, threading
barrier, arrived = threading.Barrier(3), []
logging.basicConfig(format='%(message)s')
async def later(text): print(text)
"""


@pytest.mark.parametrize("kind", PRINTING)
async def test_each_printed_line_names_its_call(host: PythonHost, kind: str) -> None:
    tool = await host.tool(*PRINTING[kind], kind=kind, before=BEFORE)
    with capture_logs() as lines:
        await asyncio.gather(*(tool.call(uuid=f"u-{number}", said=number) for number in range(3)))
        await eventually(lambda: len(lines) == 15)
    for number in range(3):
        assert [line["text"] for line in lines if line["uuid"] == f"u-{number}"] == [
            f"first {number}",
            f"half second {number}",
            "third",
            "fourth",
            "without an end",
        ]
    assert {(line["tool"], line["log_level"]) for line in lines} == {("it", "debug")}


async def test_a_printed_line_is_cut(host: PythonHost) -> None:
    tool = await host.tool("print('x' * 10**6)", "print('y' * 10**6, end='')")
    with capture_logs() as lines:
        await tool.call()
        await eventually(lambda: len(lines) == 2)
    assert [line["text"] for line in lines] == ["x" * 300 + "...", "y" * 300 + "..."]


async def test_lines_before_the_first_call_are_for_everybody(host: PythonHost) -> None:
    tool = await host.tool("return 'done'")
    with capture_logs() as lines:
        await host.tool("return 'done'", before="print('loaded too')", name="other")
        await eventually(lambda: lines)
        await tool.call()
        await host.tool("return 'done'", before="print('later')", name="third")
        await eventually(lambda: len(lines) == 2)
    assert [(line["text"], line["log_level"]) for line in lines] == [("loaded too", "info"), ("later", "debug")]


async def test_standard_input_is_empty(host: PythonHost) -> None:
    assert await (await host.tool("import sys; return len(sys.stdin.read())")).call() == "0"


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize("holder", HOLDERS.values(), ids=HOLDERS)
async def test_a_tool_that_holds_the_interpreter_is_killed(host: PythonHost, holder: str, kind: str) -> None:
    holding = await host.tool(holder, kind=kind, name="holding")
    waiting = await host.tool("import asyncio; await asyncio.Event().wait()", kind="async def", name="waiting")
    before = await host.pid()
    with capture_logs() as lines:
        both = await asyncio.gather(waiting.call(), holding.call(), return_exceptions=True)
    for error in both:
        assert type(error) is ToolLost
        assert "its event loop was stalled for 1 s" in str(error)
        assert "not known" in str(error)
    (line,) = [line for line in lines if line["event"] == "tool host ended"]
    assert line["interrupted"] == ["waiting", "holding"]
    assert await host.pid() != before
    assert not psutil.pid_exists(before)
    assert len(children()) == 1


async def test_a_call_that_a_hung_process_had_not_begun_runs_in_the_next(
    host: PythonHost, new_gate: NewGate
) -> None:
    held = new_gate("held")
    holding = await host.tool(HOLD_AND_TELL, name="holding")
    tool = await host.tool("return 'done'")
    lost = asyncio.create_task(holding.call())
    await held.is_reached()
    assert await tool.call() == "done"
    with pytest.raises(ToolLost):
        await lost


async def test_a_tool_that_holds_the_interpreter_past_its_time_out_is_killed(
    host: PythonHost, new_gate: NewGate
) -> None:
    held = new_gate("held")
    holding = await host.tool(HOLD_AND_TELL)
    calling = asyncio.create_task(holding.call())
    await held.is_reached()
    calling.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await calling
    await eventually(lambda: not children(), GUARD_SECONDS)


async def test_a_file_that_holds_the_interpreter_when_it_is_loaded_is_no_tool(host: PythonHost) -> None:
    good, bad = await asyncio.gather(
        host.tool("return 'done'", name="good"), host.tool("pass", before=HOLD, name="bad"), return_exceptions=True
    )
    assert isinstance(bad, BadTool)
    assert "Python did not survive loading it: its event loop was stalled" in str(bad)
    assert isinstance(good, LoadedTool)
    assert await good.call() == "done"


async def test_a_stopped_process_is_killed(host: PythonHost) -> None:
    tool = await host.tool("return 'done'")
    psutil.Process(await host.pid()).suspend()
    assert await tool.call() == "done"


@pytest.mark.parametrize(
    ("end", "reason"),
    [("os._exit(3)", "exit 3"), ("os.kill(os.getpid(), 11)", "SIGSEGV"), ("os.abort()", "SIGABRT")],
)
async def test_a_tool_that_ends_the_process_costs_calls_that_are_told_so(
    host: PythonHost, end: str, reason: str
) -> None:
    waiting = await host.tool("import asyncio; await asyncio.Event().wait()", kind="async def", name="waiting")
    ending = await host.tool(f"import os; {end}", name="ending")
    both = await asyncio.gather(waiting.call(), ending.call(), return_exceptions=True)
    assert [type(error) for error in both] == [ToolLost, ToolLost]
    assert f"ended: {reason}." in str(both[0])
    assert await (await host.tool("return 'done'")).call() == "done"


async def test_a_version_outlives_its_file_and_its_process(host: PythonHost) -> None:
    old, new = await host.tool("return 'old'"), await host.tool("return 'new'")
    psutil.Process(await host.pid()).kill()
    await eventually(lambda: not children())
    told = await asyncio.gather(old.call(), new.call(), old.call())
    assert list(told) == ["old", "new", "old"]


async def test_a_version_that_does_not_load_again_fails_its_calls_alone(host: PythonHost, tmp_path: Path) -> None:
    marker = tmp_path / "marker"
    once = f"import pathlib\nif pathlib.Path({str(marker)!r}).exists(): raise ValueError"
    tool = await host.tool("return 'done'", before=once)
    marker.touch()
    psutil.Process(await host.pid()).kill()
    await eventually(lambda: not children())
    with pytest.raises(ToolFailed, match="could not be loaded again"):
        await tool.call()


async def test_a_version_that_nobody_holds_is_forgotten(host: PythonHost) -> None:
    victim = await host.tool("return 'done'", name="victim")
    count = await host.tool(
        "import gc, sys; gc.collect(); return [n for n in sys.modules if n.endswith('_victim')]", name="count"
    )
    assert "victim" in await count.call()
    del victim
    gc.collect()
    assert await count.call() == "[]"


async def test_arguments_are_checked_there(host: PythonHost) -> None:
    schema = await host.schema(properties={"city": {"type": "string"}}, required=["city"])
    await host.check(schema, city="Rome")
    with pytest.raises(InvalidArguments, match="'city' is a required property") as wrong:
        await host.check(schema, town="Rome")
    assert wrong.value.keywords == ("required",)


async def test_a_schema_survives_its_process(host: PythonHost) -> None:
    schema = await host.schema(required=["city"])
    psutil.Process(await host.pid()).kill()
    await eventually(lambda: not children())
    with pytest.raises(InvalidArguments):
        await host.check(schema)


@pytest.mark.parametrize("reference", ["http://127.0.0.1:1/schema", "#/$defs/nowhere", "#/properties/city"])
async def test_a_schema_that_leads_nowhere_fails_its_checks_alone(host: PythonHost, reference: str) -> None:
    schema = await host.schema(properties={"city": {"$ref": reference}})
    with pytest.raises(ToolFailed):
        await host.check(schema, city="Rome")


async def test_a_check_without_an_end_costs_no_process_and_no_other_call(host: PythonHost) -> None:
    endless = await host.schema(properties={"code": {"pattern": "^(a+)+$"}})
    tool = await host.tool("return 'done'")
    before = await host.pid()
    results = await asyncio.gather(
        *(host.check(endless, code="a" * 60 + "b") for _ in range(4)), tool.call(), return_exceptions=True
    )
    assert [type(each) for each in results] == [ArgumentsNotChecked] * 4 + [str]
    assert await host.pid() == before


async def test_a_failure_outside_of_a_handler_costs_nobody_a_call(host: PythonHost) -> None:
    fail = "import threading\ndef fail(): raise RangeError('no Ada')\nclass RangeError(Exception): pass"
    tool = await host.tool("threading.Thread(target=fail).start()", "return 'done'", before=fail)
    with capture_logs() as lines:
        assert await tool.call() == "done"
        await eventually(lambda: lines)
    assert [(line["event"], line["error"]) for line in lines] == [("a tool's thread failed", "RangeError")]
    assert "Ada" not in str(lines)


async def test_a_flood_of_lines_does_not_fill_the_log(host: PythonHost) -> None:
    begin = "async def fail(): raise ValueError"
    tool = await host.tool(
        "for _ in range(10_000): asyncio.get_running_loop().call_soon(lambda: 1 / 0)",
        "await asyncio.sleep(0)",
        "return 'done'",
        kind="async def",
        before=f"import asyncio\n{begin}",
    )
    with capture_logs() as lines:
        assert await tool.call() == "done"
    assert 0 < len(lines) <= 2 * GUARD_SECONDS * MAX_LINES_PER_SECOND < 10_000


@pytest.mark.parametrize("limits", [HostLimits(max_requests=2)])
async def test_more_calls_at_once_than_it_takes_are_told_so(host: PythonHost) -> None:
    tool = await host.tool("import asyncio; await asyncio.Event().wait()", kind="async def")
    await is_told_of_two_others(tool)


async def test_stopping_lets_python_end_in_order_and_leaves_no_process(host: PythonHost, tmp_path: Path) -> None:
    tool = await host.tool(
        "return subprocess.Popen(['sleep', '1000']).pid",
        before=f"import atexit, os, subprocess\natexit.register(lambda: os.mkdir('{tmp_path}/exit'))",
    )
    await ends_in_order(host, tool, tmp_path / "exit")


async def test_stopping_ends_a_process_that_hangs(host: PythonHost, new_gate: NewGate) -> None:
    held = new_gate("held")
    holding = await host.tool(HOLD_AND_TELL)
    running = asyncio.create_task(holding.call())
    await held.is_reached()
    await host.stop()
    assert children() == []
    with pytest.raises(ToolLost, match="the service is stopping"):
        await running


async def test_stopping_while_it_starts_leaves_no_process(host: PythonHost) -> None:
    await ends_while_it_starts(host)


WORKER = """
import asyncio, pathlib, sys
import uvloop
from tests.worker.tools.test_python_host import PythonHost
from worker.tools import programs
from worker.tools.environment import ToolEnvironment
from worker.tools.host_process import HostLimits

async def main(statement):
    folder, limits = pathlib.Path("/"), HostLimits(hang_seconds=60)
    host = PythonHost(programs.python([folder], ToolEnvironment.of()), folder, ".py", limits=limits)
    print(await host.pid(), flush=True)
    await (await host.tool(statement)).call()

uvloop.run(main(*sys.argv[1:]))
"""


@pytest.mark.parametrize("statement", ["import time; time.sleep(1000)", HOLD], ids=["waits", "holds"])
def test_it_dies_with_its_worker(statement: str) -> None:
    dies_with_its_worker(WORKER, statement)
