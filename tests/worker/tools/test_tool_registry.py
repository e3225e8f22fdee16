"""The tools of a call. These tests use Python files; test_node_tools covers the differences of JavaScript."""

from __future__ import annotations

import asyncio
from pathlib import Path

import psutil
import pytest
from structlog.testing import capture_logs

from common.observe.tool_outcome import ToolOutcome
from tests.worker.tools.conftest import NewGate, OpenRegistry, ToolsDir
from tests.worker.tools.hosted import children
from tests.worker.tools.running import names, output, run
from worker.tools.files import MAX_FILES
from worker.tools.tool_registry import RegistryLimits, ToolRegistry

MOST_NICE = 19


def tool(name: str, answer: str = "done") -> str:
    return f"name = {name!r}\ndef handler(uuid, args): return {answer!r}\n"


async def test_missing_directory_has_no_tools_and_logs_nothing(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
        assert (await tool_registry.tool_set()).definitions == []
    assert lines == []


async def test_first_tool_file_starts_the_process(tools_dir: ToolsDir, open_tool_registry: OpenRegistry) -> None:
    tools_dir.write("_helper.py", "raise RuntimeError")
    tool_registry = await open_tool_registry()
    await tool_registry.tool_set()
    assert children() == []
    tools_dir.write("a.py", tool("a"))
    assert names(await tool_registry.tool_set()) == ["a"]
    (process,) = children()
    assert process.nice() > psutil.Process().nice() or process.nice() == MOST_NICE


async def test_a_directory_that_cannot_be_read_is_named_once(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.path.touch()
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
        assert (await tool_registry.tool_set()).definitions == []
    (line,) = lines
    assert line["file"] == "tools"
    assert "Not a directory" in line["reason"]


async def test_edits_of_tools_apply_to_new_calls_only(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write("a.py", tool("a", "one"))
    removed = tools_dir.write("b.py", tool("b"))
    tool_registry = await open_tool_registry()
    before = await tool_registry.tool_set()

    tools_dir.write("a.py", tool("a", "two"))
    tools_dir.write("c.py", tool("c"))
    removed.unlink()
    after = await tool_registry.tool_set()

    assert names(before) == ["a", "b"]
    assert await output(before, "a") == "one"
    assert await output(before, "b") == "done"
    assert names(after) == ["a", "c"]
    assert await output(after, "a") == "two"
    assert (await run(after, "b")).outcome is ToolOutcome.UNKNOWN_TOOL


async def test_unchanged_file_is_not_loaded_again(tools_dir: ToolsDir, open_tool_registry: OpenRegistry) -> None:
    tools_dir.write(
        "a.py", "from itertools import count\nname = 'a'\nruns = count(1)\ndef handler(u, a): return next(runs)"
    )
    tools_dir.write("bad.py", "raise ValueError\n")
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
        told = [await output(await tool_registry.tool_set(), "a") for _ in range(3)]
    assert told == ["1", "2", "3"]
    assert [line["event"] for line in lines if "load" in line["event"]] == [
        "a tool file does not load",
        "tools loaded",
    ]


async def test_a_tool_that_was_changed_for_the_api_is_named_once(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write("a.py", tool("a", "one") + "\ninput_schema = {'properties': {'list': {'type': 'array'}}}\n")
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
        tool_set = await tool_registry.tool_set()
    (definition,) = tool_set.definitions
    assert definition["parameters"]["properties"] == {"list": {"type": "array", "items": {}}}
    (line,) = [line for line in lines if line["log_level"] == "warning"]
    assert (line["file"], line["tool"]) == ("a.py", "a")
    assert line["changes"] == "parameters.list: items added to an array"


async def test_edit_that_does_not_load_keeps_the_earlier_version(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.write("a.py", tool("a", "one"))
    tool_registry = await open_tool_registry()
    with capture_logs() as lines:
        tools_dir.write("a.py", "name = 'a'\ndef handler(")
        assert await output(await tool_registry.tool_set(), "a") == "one"
        assert await output(await tool_registry.tool_set(), "a") == "one"
    (line,) = [line for line in lines if line["event"] == "a tool file does not load"]
    assert line["in_use"] == "the version that was loaded before"
    tools_dir.write("a.py", tool("a", "three"))
    assert await output(await tool_registry.tool_set(), "a") == "three"


async def test_second_tool_of_the_same_name_is_refused_and_logged(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    first = tools_dir.write("a.py", tool("same", "first"))
    tools_dir.write("b.py", tool("same", "second"))
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
        assert await output(await tool_registry.tool_set(), "same") == "first"
    (line,) = [line for line in lines if line["event"] == "a tool file is not used"]
    assert line["file"] == "b.py"
    assert "a.py" in line["reason"]
    assert "same" in line["reason"]
    first.unlink()
    assert await output(await tool_registry.tool_set(), "same") == "second"


async def test_files_over_the_limit_are_logged(tools_dir: ToolsDir, open_tool_registry: OpenRegistry) -> None:
    for number in range(MAX_FILES + 3):
        tools_dir.write(f"tool{number:03}.py", tool(f"tool{number}"))
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
    assert len((await tool_registry.tool_set()).definitions) == MAX_FILES
    (line,) = [line for line in lines if line["event"] == "a tool file is not used"]
    assert line["file"] == f"tool{MAX_FILES}.py"
    assert line["reason"].startswith("3 files")


async def test_without_node_each_javascript_file_is_named_once(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    for name in ("a.js", "b.js"):
        tools_dir.write(name, "module.exports = {};")
    tools_dir.write("c.py", tool("c"))
    with capture_logs() as lines:
        tool_registry = await open_tool_registry(node=None)
        assert names(await tool_registry.tool_set()) == ["c"]
    named = [line for line in lines if line["event"] == "a tool file does not load"]
    # Files load side by side.
    assert sorted(line["file"] for line in named) == ["a.js", "b.js"]
    assert {line["reason"] for line in named} == {"it needs node, which is not on the PATH"}


async def test_calls_do_not_wait_for_files_that_load_slowly(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, new_gate: NewGate
) -> None:
    slow = new_gate("slow")
    tools_dir.write("a.py", tool("a", "one"))
    tool_registry = await open_tool_registry()
    tools_dir.write("a.py", f"from tests.worker.tools.gates import gate\ngate('slow').wait()\n{tool('a', 'two')}")
    tool_registry.limits = RegistryLimits(refresh_seconds=0.01)
    assert await output(await tool_registry.tool_set(), "a") == "one"
    tool_registry.limits = RegistryLimits(refresh_seconds=60)
    assert (
        await output(await tool_registry.tool_set(), "a") == "one"
    )  # at once, because an earlier call has waited
    slow.open()
    tool_set = await tool_registry.tool_set()
    while await output(tool_set, "a") != "two":
        tool_set = await tool_registry.tool_set()


async def test_simultaneous_calls_share_one_scan(tools_dir: ToolsDir, open_tool_registry: OpenRegistry) -> None:
    tool_registry = await open_tool_registry()
    tools_dir.write("a.py", tool("a"))
    with capture_logs() as lines:
        tool_sets = await asyncio.gather(*(tool_registry.tool_set() for _ in range(10)))
    assert {tuple(names(tool_set)) for tool_set in tool_sets} == {("a",)}
    assert len(lines) == 1


async def test_stop_ends_runs_with_a_result(
    tools_dir: ToolsDir, open_tool_registry: OpenRegistry, new_gate: NewGate
) -> None:
    stopping = new_gate("stopping")
    tools_dir.write(
        "block.py",
        """
        from tests.worker.tools.gates import gate
        name = "block"

        def handler(uuid, args):
            gate("stopping").wait()
        """,
    )
    tool_registry = await open_tool_registry()
    tool_set = await tool_registry.tool_set()
    running = asyncio.create_task(run(tool_set, "block"))
    await stopping.is_reached()
    await tool_registry.stop()
    result = await running
    assert result.outcome is ToolOutcome.ERROR
    assert "the service is stopping" in result.output
    later = await run(await tool_registry.tool_set(), "block")
    assert "the service is stopping" in later.output


async def test_relative_directory_is_resolved_at_the_start(
    tmp_path: Path, tools_dir: ToolsDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    tools_dir.write("a.py", tool("a"))
    monkeypatch.chdir(tmp_path)
    tool_registry = ToolRegistry([Path("tools")], timeout_seconds=60, node=None)
    monkeypatch.chdir("/")
    await tool_registry.start()
    assert names(await tool_registry.tool_set()) == ["a"]
    await tool_registry.stop()


# AVR_TOOLS_DIR, and tools with the names of built-in tools.


async def test_tools_of_both_folders_are_loaded(
    tools_dir: ToolsDir, avr_tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    avr_tools_dir.write("_shared.py", "ANSWER = 'from avr_tools'\n")
    avr_tools_dir.write("a.py", "from _shared import ANSWER\n" + tool("a").replace("'done'", "ANSWER"))
    tool_registry = await open_tool_registry()
    assert names(await tool_registry.tool_set()) == ["a"]
    tools_dir.write("b.py", tool("b", "from tools"))
    tool_set = await tool_registry.tool_set()
    assert names(tool_set) == ["b", "a"]
    assert [await output(tool_set, name) for name in "ab"] == ["from avr_tools", "from tools"]


async def test_first_folder_wins_and_the_other_file_is_logged(
    tools_dir: ToolsDir, avr_tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    avr_tools_dir.write("a.py", tool("same", "from avr_tools"))
    first = tools_dir.write("a.py", tool("same", "from tools"))
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
        assert await output(await tool_registry.tool_set(), "same") == "from tools"
    (line,) = [line for line in lines if line["event"] == "a tool file is not used"]
    assert line["file"] == "avr_tools/a.py"
    assert line["reason"] == "a.py has a tool of the same name, same; TOOLS_DIR wins over AVR_TOOLS_DIR"
    first.unlink()
    assert await output(await tool_registry.tool_set(), "same") == "from avr_tools"


async def test_unreadable_folder_does_not_affect_the_other(
    tools_dir: ToolsDir, avr_tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    tools_dir.path.touch()
    avr_tools_dir.write("a.py", tool("a"))
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
        assert names(await tool_registry.tool_set()) == ["a"]
        assert names(await tool_registry.tool_set()) == ["a"]
    (line,) = [line for line in lines if line["event"] == "a tool file is not used"]
    assert (line["file"], "Not a directory" in line["reason"]) == ("tools", True)


async def test_a_folder_that_is_named_twice_is_one(tools_dir: ToolsDir, tmp_path: Path) -> None:
    tools_dir.write("a.py", tool("a"))
    (tmp_path / "link").symlink_to(tools_dir.path)
    with capture_logs() as lines:
        tool_registry = ToolRegistry([tools_dir.path, tmp_path / "link"], timeout_seconds=60, node=None)
        await tool_registry.start()
        assert names(await tool_registry.tool_set()) == ["a"]
        await tool_registry.stop()
    assert "a tool file is not used" not in [line["event"] for line in lines]


async def test_the_bound_of_files_counts_both_folders(
    tools_dir: ToolsDir, avr_tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    for number in range(MAX_FILES - 1):
        tools_dir.write(f"tool{number:03}.py", tool(f"tool{number}"))
    for name in "abc":
        avr_tools_dir.write(f"{name}.py", tool(name))
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
    assert names(await tool_registry.tool_set())[-1] == "a"
    (line,) = [line for line in lines if line["event"] == "a tool file is not used"]
    assert (line["file"], line["reason"][:7]) == ("avr_tools/b.py", "2 files")


async def test_files_that_replace_built_in_tools_are_logged_once(
    avr_tools_dir: ToolsDir, open_tool_registry: OpenRegistry
) -> None:
    for name in ("avr_hangup", "avr_transfer"):
        avr_tools_dir.write(f"{name}.py", tool(name))
    with capture_logs() as lines:
        tool_registry = await open_tool_registry()
        for _ in range(2):
            assert names(await tool_registry.tool_set()) == ["avr_hangup", "avr_transfer"]
    (line,) = [line for line in lines if line["log_level"] in ("warning", "error")]
    assert line["event"] == "your files replace built-in tools"
    assert line["tools"] == {
        "avr_hangup": "avr_tools/avr_hangup.py",
        "avr_transfer": "avr_tools/avr_transfer.py",
    }
    assert "TRANSFER_ALLOWED" in line["effect"]
    assert "last words" in line["effect"]
