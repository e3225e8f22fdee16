"""Python files as an operator writes them, through the tool set of a call."""

from __future__ import annotations

import asyncio
import gc
import json
import threading
import tomllib
from pathlib import Path

import pytest
from structlog.testing import capture_logs

from common.observe.tool_outcome import ToolOutcome
from tests.helpers import eventually
from tests.worker.tools.conftest import NewGate, OpenRegistry, ToolsDir
from tests.worker.tools.hosted import OTHERS, OUR_SECRETS, children
from tests.worker.tools.running import METADATA, UUID, names, output, run
from worker.tools.operator_modules import PACKAGES
from worker.tools.tool_registry import RegistryLimits
from worker.tools.tool_set import ToolSet

REPOSITORY = Path(__file__).resolve().parents[3]
CITY = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'


async def test_a_plain_handler_gets_the_uuid_and_the_arguments(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write(
        "weather.py",
        f"""
        name = "get_weather"
        description = "The weather in a city"
        input_schema = {CITY}

        def handler(uuid, args):
            return f"{{uuid}}: sunny in {{args['city']}}"
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    (definition,) = tool_set.definitions
    assert definition["description"] == "The weather in a city"
    assert definition["parameters"] == json.loads(CITY)
    assert await output(tool_set, "get_weather", city="Rome") == f"{UUID}: sunny in Rome"


HANDLERS = {
    "def": "def handler(uuid, args, metadata): return [uuid, args, metadata]",
    "async def": "async def handler(uuid, args, metadata): return [uuid, args, metadata]",
    "default": "def handler(uuid, args, metadata=None): return [uuid, args, metadata]",
    "rest": "def handler(*given): return list(given)",
    "returns a coroutine": """
async def later(*given): return list(given)
def handler(uuid, args, metadata): return later(uuid, args, metadata)
""",
    "object": """
class Handler:
    async def __call__(self, uuid, args, metadata): return [uuid, args, metadata]
handler = Handler()
""",
    "partial": """
import functools
async def answer(prefix, uuid, args, metadata): return [uuid, args, metadata]
handler = functools.partial(answer, "prefix")
""",
}


@pytest.mark.parametrize("handler", HANDLERS.values(), ids=HANDLERS)
async def test_a_third_parameter_gets_the_metadata(
    handler: str, tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write("echo.py", f"name = 'echo'\n{handler}\n")
    tool_set = await (await open_tool_registry()).tool_set()
    assert json.loads(await output(tool_set, "echo", a=1)) == [UUID, {"a": 1}, METADATA]


async def test_handler_may_change_its_arguments(tools_dir: ToolsDir, open_tool_registry: OpenRegistry) -> None:
    tools_dir.write(
        "spoil.py",
        """
        name = "spoil"

        def handler(uuid, args, metadata):
            args.clear()
            metadata.clear()
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    assert await output(tool_set, "spoil", a=1) == "null"
    assert METADATA


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_a_handler_that_blocks_does_not_block_the_event_loop(
    kind: str, tools_dir: ToolsDir, open_tool_registry: OpenRegistry, new_gate: NewGate
) -> None:
    block = new_gate("block")
    tools_dir.write(
        "block.py",
        f"""
        from tests.worker.tools.gates import gate
        name = "block"

        {kind} handler(uuid, args):
            gate("block").wait()
            return "done"
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    running = asyncio.create_task(output(tool_set, "block"))
    await block.is_reached()  # on this event loop, while the handler blocks
    block.open()
    assert await running == "done"


@pytest.mark.parametrize("kind", ["def", "async def"])
async def test_handlers_run_side_by_side(kind: str, tools_dir: ToolsDir, open_tool_registry: OpenRegistry) -> None:
    meet = "barrier.wait(60)" if kind == "def" else "await meet()"
    tools_dir.write(
        "meet.py",
        f"""
        import asyncio, threading
        name = "meet"
        barrier = threading.Barrier(3)
        arrived = []

        async def meet():
            arrived.append(asyncio.Event())
            if len(arrived) == 3:
                for each in arrived: each.set()
            await arrived[-1].wait()

        {kind} handler(uuid, args):
            {meet}
            return "met"
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    assert await asyncio.gather(*(output(tool_set, "meet") for _ in range(3))) == ["met"] * 3


async def test_async_handlers_of_a_file_share_one_loop(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    for name in ("one", "two"):
        tools_dir.write(
            f"{name}.py",
            f"""
            import asyncio
            name = "{name}"

            async def handler(uuid, args):
                return str(id(asyncio.get_running_loop()))
            """,
        )
    tool_set = await (await open_tool_registry()).tool_set()
    loops = {await output(tool_set, name) for name in ("one", "two", "one")}
    assert len(loops) == 1
    assert loops != {str(id(asyncio.get_running_loop()))}


@pytest.mark.parametrize("kind", ["def", "async def"])
@pytest.mark.parametrize(
    ("statement", "error"),
    [
        ("raise ValueError('No Ada here')", "ValueError: No Ada here"),
        ("{}['Ada']", "KeyError: 'Ada'"),
        ("raise SystemExit('Ada')", "SystemExit: Ada"),
        ("raise KeyboardInterrupt", "KeyboardInterrupt"),
        ("raise TimeoutError", "TimeoutError"),
        ("raise __import__('asyncio').CancelledError('Ada')", "CancelledError: Ada"),
        ("raise Unprintable", "Unprintable"),
        ("return object()", "TypeError: Type is not JSON serializable: object"),
        ("raise ValueError('sk-proj-1234567890 on\\n' + 'x' * 9999)", "ValueError: *** on xxx"),
    ],
)
async def test_exception_gives_no_traceback_and_message_is_not_logged(
    kind: str, statement: str, error: str, tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write(
        "fail.py",
        f"""name = "fail"
class Unprintable(Exception):
    def __str__(self): raise RuntimeError
{kind} handler(uuid, args):
    {statement}
""",
    )
    tool_set = await (await open_tool_registry()).tool_set()
    with capture_logs() as lines:
        result = await run(tool_set, "fail")
    assert result.outcome is ToolOutcome.ERROR
    assert result.output.startswith(f"The tool fail failed: {error}")
    assert "\n" not in result.output
    assert "Traceback" not in result.output
    assert len(result.output) < 500
    (line,) = lines
    assert line["event"] == "tool called"
    assert line["outcome"] == "error"
    assert line["error"] in result.output
    if "object()" not in statement:
        assert line["where"] == "fail.py:5"
    assert "Ada" not in str(line)


async def test_the_line_of_an_exception_is_the_innermost_in_the_file(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write(
        "fail.py",
        """\
        import json
        name = "fail"
        def parse(text):
            return json.loads(text)
        def handler(uuid, args):
            return parse("{")
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    with capture_logs() as lines:
        await run(tool_set, "fail")
    assert lines[0]["where"] == "fail.py:4"


async def test_a_coroutine_that_times_out_is_cancelled(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, new_gate: NewGate
) -> None:
    cancelled = new_gate("cancelled")
    tools_dir.write(
        "wait.py",
        """
        import asyncio
        from tests.worker.tools.gates import gate
        name = "wait"

        async def handler(uuid, args):
            try:
                await asyncio.Event().wait()
            finally:
                gate("cancelled").reach()
        """,
    )
    tool_set = await (await open_tool_registry(timeout_seconds=0.2)).tool_set()
    result = await run(tool_set, "wait")
    assert result.outcome is ToolOutcome.TIMEOUT
    assert "did not answer within 0.2 seconds" in result.output
    await cancelled.is_reached()


async def test_timed_out_function_keeps_running(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, new_gate: NewGate
) -> None:
    stuck = new_gate("stuck")
    tools_dir.write(
        "block.py",
        """
        from tests.worker.tools.gates import gate
        name = "block"

        def handler(uuid, args):
            gate("stuck").wait()
        """,
    )
    tools_dir.write("process.py", PROCESS)
    tool_registry = await open_tool_registry(timeout_seconds=1)
    tool_set = await tool_registry.tool_set()
    before = await output(tool_set, "process")
    assert (await run(tool_set, "block")).outcome is ToolOutcome.TIMEOUT
    await stuck.is_reached()
    assert await output(tool_set, "process") == before


PROCESS = """
import os
name = "process"
def handler(uuid, args): return os.getpid()
"""

MODULES = """
import gc, sys
name = "modules"
def handler(uuid, args):
    gc.collect()
    return [each for each in sys.modules if each.startswith("avr_tool_")]
"""


async def modules(tool_set: ToolSet) -> list[str]:
    """Return the modules of tools in the process, without the module of the tool `modules`."""
    found = json.loads(await output(tool_set, "modules"))
    return [each for each in found if not each.endswith("_modules")]


async def test_tool_file_is_a_normal_module(tools_dir: ToolsDir, open_tool_registry: OpenRegistry) -> None:
    tools_dir.write("_shared.py", "GREETING = 'hello'\n")
    tools_dir.write(
        "greet.py",
        """
        from __future__ import annotations
        import dataclasses, sys
        import _shared
        name = "greet"

        @dataclasses.dataclass
        class Greeting:
            text: str

        def handler(uuid, args):
            assert sys.modules[__name__].handler is handler
            return [Greeting(_shared.GREETING), __file__]
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    told = json.loads(await output(tool_set, "greet"))
    assert told == [{"text": "hello"}, str(tools_dir.path / "greet.py")]
    assert not list(tools_dir.path.glob("**/greet*.pyc"))


async def test_helpers_named_as_our_packages_are_the_operators(
    tools_dir: ToolsDir, avr_tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write("common.py", "import worker\nGREETING = worker.HELLO + ' Ada'\n")
    tools_dir.write("worker.py", "HELLO = 'hello'\n")
    avr_tools_dir.write("dispatcher/__init__.py", "from dispatcher.rooms import ROOM\n")
    avr_tools_dir.write("dispatcher/rooms.py", "ROOM = 7\n")
    tools_dir.write(
        "greet.py",
        f"""
        import common, dispatcher, worker
        name = "greet"
        input_schema = {CITY}
        def handler(uuid, args):
            return [common.GREETING, dispatcher.ROOM, args["city"]]
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    assert json.loads(await output(tool_set, "greet", city="Rome")) == ["hello Ada", 7, "Rome"]
    # The process goes on with the service's own modules.
    assert (await run(tool_set, "greet", town="Rome")).outcome is ToolOutcome.INVALID_ARGUMENTS


async def test_helpers_that_fail_as_our_packages_cost_no_tool(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    for package in ("common", "dispatcher", "simulator", "worker"):
        tools_dir.write(f"{package}.py", "raise SystemExit('not the service')\n")
    tools_dir.write("a.py", "name = 'a'\ndef handler(uuid, args): return 'one'\n")
    tool_set = await (await open_tool_registry()).tool_set()
    assert await output(tool_set, "a") == "one"


def test_every_package_of_ours_makes_room_for_the_operators() -> None:
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text("utf-8"))
    included = project["tool"]["setuptools"]["packages"]["find"]["include"]
    assert {each.removesuffix("*") for each in included} == PACKAGES


async def test_unused_versions_are_forgotten(tools_dir: ToolsDir, open_tool_registry: OpenRegistry) -> None:
    tools_dir.write("modules.py", MODULES)
    tools_dir.write("a.py", "name = 'a'\ndef handler(uuid, args): return 'one'\n")
    tool_registry = await open_tool_registry()
    held = await tool_registry.tool_set()
    tools_dir.write("a.py", "name = 'a'\ndef handler(uuid, args): return 'two'\n")
    new = await tool_registry.tool_set()
    assert len(await modules(new)) == 2
    assert [await output(tool_set, "a") for tool_set in (held, new)] == ["one", "two"]
    del held
    gc.collect()
    assert len(await modules(new)) == 1


BAD = {
    "syntax": ("name = 'bad'\ndef handler(:\n", "SyntaxError: invalid syntax (bad.py:2)"),
    "raises": ("name = 'bad'\nraise RuntimeError('no licence')\n", "RuntimeError: no licence (bad.py:2)"),
    "import": (
        "\nimport not_there_at_all\n",
        "ModuleNotFoundError: No module named 'not_there_at_all' (bad.py:2)",
    ),
    "exit": ("import sys\nsys.exit(3)\n", "SystemExit: 3 (bad.py:2)"),
    "interrupt": ("raise KeyboardInterrupt\n", "KeyboardInterrupt (bad.py:1)"),
    "empty": ("", "name is missing"),
    "no handler": ("name = 'bad'\n", "handler is missing"),
    "handler is no function": ("name = 'bad'\nhandler = 7\n", "handler is missing"),
    "too few parameters": ("name = 'bad'\ndef handler(uuid): ...\n", "handler(uuid) cannot be called"),
    "too many parameters": ("name = 'bad'\ndef handler(a, b, c, d): ...\n", "cannot be called"),
    "schema": ("name = 'bad'\ninput_schema = []\ndef handler(u, a): ...\n", "input_schema is []"),
    "name": ("name = 'bad name'\ndef handler(u, a): ...\n", "name is 'bad name'"),
    "not text": ("\0", "null bytes"),
}


@pytest.mark.parametrize(("source", "reason"), BAD.values(), ids=BAD)
async def test_bad_file_is_named_in_one_line_and_others_work(
    source: str, reason: str, tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write("modules.py", MODULES)
    tools_dir.write("bad.py", source)
    tools_dir.write("good.py", "name = 'good'\ndef handler(uuid, args): return 'done'\n")
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
        tool_set = await tool_registry.tool_set()
    (line,) = [line for line in lines if line["event"] == "a tool file does not load"]
    assert line["file"] == "bad.py"
    assert reason in line["reason"]
    assert "\n" not in line["reason"]
    assert names(tool_set) == ["good", "modules"]
    assert await output(tool_set, "good") == "done"
    assert len(await modules(tool_set)) == 1


async def test_blocked_import_affects_only_its_file(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, new_gate: NewGate
) -> None:
    blocked = new_gate("import")
    tools_dir.write("bad.py", "from tests.worker.tools.gates import gate\ngate('import').wait()\n")
    tools_dir.write("good.py", "name = 'good'\ndef handler(uuid, args): return 'done'\n")
    with capture_logs() as lines:
        tool_registry = await open_tool_registry(limits=RegistryLimits(load_seconds=0.5))
    (line,) = [line for line in lines if line["event"] == "a tool file does not load"]
    assert (line["file"], line["reason"]) == ("bad.py", "its import has not ended after 0.5 s")
    assert names(await tool_registry.tool_set()) == ["good"]
    assert blocked.was_reached


async def test_stopped_registry_leaves_no_thread_or_process(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    before = threading.active_count()
    for kind in ("def", "async def"):
        tools_dir.write(f"{kind[0]}.py", f"name = '{kind[0]}'\n{kind} handler(uuid, args): return 'done'\n")
    tool_registry = await open_tool_registry()
    tool_set = await tool_registry.tool_set()
    assert [await output(tool_set, name) for name in "da"] == ["done", "done"]
    await tool_registry.stop()
    assert children() == []
    await eventually(lambda: threading.active_count() <= before)


async def test_environment_is_passed_on_without_secrets(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*OUR_SECRETS, *OTHERS):
        monkeypatch.setenv(name, "value")
    tools_dir.write("names.py", "import os\nname = 'names'\ndef handler(uuid, args): return list(os.environ)\n")
    tool_set = await (await open_tool_registry()).tool_set()
    seen = json.loads(await output(tool_set, "names"))
    assert set(OTHERS) <= set(seen)
    assert "PATH" in seen
    assert not set(OUR_SECRETS) & set(seen)


READS = {
    "get": "os.environ.get('REDIS_URL')",
    "getenv": "os.getenv('REDIS_URL')",
    "in": "'REDIS_URL' in os.environ or None",
    "from": "environ.get('REDIS_URL')",
    "a program": "subprocess.getoutput('printenv REDIS_URL') or os.getenv('REDIS_URL')",
}


@pytest.mark.parametrize("read", READS.values(), ids=READS)
async def test_first_read_of_a_withheld_variable_is_logged(
    read: str, tools_dir: ToolsDir, open_tool_registry: OpenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:pass@host")
    monkeypatch.delenv("STS_TOKEN", raising=False)
    tools_dir.write(
        "read.py",
        f"""
        import os, subprocess
        from os import environ
        name = "read"

        def handler(uuid, args):
            return [os.getenv("STS_TOKEN"), {read}]
        """,
    )
    tool_set = await (await open_tool_registry()).tool_set()
    with capture_logs() as lines:
        for _ in range(2):
            assert json.loads(await output(tool_set, "read")) == [None, None]
    (line,) = [line for line in lines if line["log_level"] == "warning"]
    assert line["event"] == "a tool read a variable that is withheld from tools"
    assert (line["variable"], line["hint"]) == ("REDIS_URL", "TOOLS_ENV=REDIS_URL lets tools see it")


async def test_variable_set_by_a_tool_is_not_withheld(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:pass@host")
    tools_dir.write(
        "own.py",
        """
        import os
        name = "own"
        os.environ["REDIS_URL"] = "redis://elsewhere"
        def handler(uuid, args): return os.environ["REDIS_URL"]
        """,
    )
    with capture_logs() as lines:
        tool_set = await (await open_tool_registry()).tool_set()
        assert await output(tool_set, "own") == "redis://elsewhere"
    assert not [line for line in lines if line["log_level"] == "warning"]


async def test_granted_variable_is_visible(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", "redis://:pass@host")
    monkeypatch.setenv("ADMIN_TOKEN", "0123456789abcdef")
    tools_dir.write(
        "a.py",
        "import os\nname = 'a'\ndef handler(u, a): return [os.getenv('REDIS_URL'), os.getenv('ADMIN_TOKEN')]",
    )
    tool_set = await (await open_tool_registry(granted=["REDIS_URL"])).tool_set()
    assert json.loads(await output(tool_set, "a")) == ["redis://:pass@host", None]
