from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest
from structlog.testing import capture_logs

from common.observe.tool_outcome import ToolOutcome
from tests.helpers import eventually
from tests.worker.tools.callers import ScriptedCaller, entered
from tests.worker.tools.running import METADATA, UUID, names, run
from worker.tools.definition import Definition
from worker.tools.errors import ArgumentsNotChecked, InvalidArguments, ToolFailed, ToolLost, ToolNotRun
from worker.tools.key_requests import RunCaller
from worker.tools.result import MAX_OUTPUT_BYTES, ToolResult
from worker.tools.tool_set import ToolSet


class Scripted:
    """A tool that answers or raises, and records its arguments; the check of its arguments may raise too."""

    def __init__(
        self, answer: str | BaseException, name: str = "it", *, wrong: Exception | None = None, **said: Any
    ) -> None:
        self.definition = Definition.parse(name, "", None, said.get("idempotent"))
        self._wrong = wrong
        self.given: list[object] = []
        self.begun = asyncio.Event()
        self._answer = answer

    async def check(self, arguments: dict[str, Any]) -> None:
        if self._wrong is not None:
            raise self._wrong

    async def call(
        self, uuid: str, arguments: dict[str, Any], metadata: Mapping[str, str], caller: RunCaller
    ) -> str:
        self.given = [uuid, arguments, metadata]
        self.begun.set()
        if isinstance(self._answer, BaseException):
            raise self._answer
        if not self._answer:
            await asyncio.Event().wait()
        return self._answer


def box(*tools: Scripted, timeout_seconds: float = 60) -> ToolSet:
    stopped = asyncio.get_running_loop().create_future()
    return ToolSet(tools, timeout_seconds=timeout_seconds, stopped=stopped)


async def test_tool_gets_the_arguments_and_the_model_gets_the_result() -> None:
    tool = Scripted("sunny")
    assert await run(box(tool), "it", city="Rome") == ToolResult("sunny", ToolOutcome.OK)
    assert tool.given == [UUID, {"city": "Rome"}, METADATA]


async def test_definitions_come_in_the_order_of_the_tools() -> None:
    assert names(box(Scripted("", "b"), Scripted("", "a"))) == ["b", "a"]


async def test_only_a_declared_tool_is_idempotent() -> None:
    tool_set = box(Scripted("", "a"), Scripted("", "b", idempotent=True))
    assert [tool_set.is_idempotent(name) for name in "abc"] == [False, True, False]


async def test_unknown_tool_is_answered_with_the_known_names() -> None:
    result = await run(box(Scripted("", "a"), Scripted("", "b")), "c")
    assert result == ToolResult("There is no tool of this name. The tools are: a, b.", ToolOutcome.UNKNOWN_TOOL)


async def test_wrong_arguments_are_explained_and_the_tool_is_not_run() -> None:
    tool = Scripted("sunny", wrong=InvalidArguments('$.city: "Ada\'s street" is too long', "type"))
    with capture_logs() as lines:
        result = await run(box(tool), "it", city="Ada's street")
    assert result == ToolResult('$.city: "Ada\'s street" is too long', ToolOutcome.INVALID_ARGUMENTS)
    assert tool.given == []
    assert lines[0]["keywords"] == ("type",)
    assert "Ada" not in str(lines)


async def test_arguments_that_are_not_json_are_explained() -> None:
    result = await box(Scripted("sunny")).run("it", "{'city': 1}", uuid=UUID, metadata={})
    assert result.outcome is ToolOutcome.INVALID_ARGUMENTS
    assert "not valid JSON" in result.output


async def test_unresolvable_schema_fails_only_its_tool() -> None:
    tool = Scripted("sunny", wrong=ToolFailed("Unresolvable", "nowhere", ""))
    with capture_logs() as lines:
        result = await run(box(tool), "it", city="Rome")
    assert result == ToolResult("The tool it cannot be used: its input_schema is wrong.", ToolOutcome.ERROR)
    assert lines[0]["error"] == "input_schema: Unresolvable"
    assert tool.given == []


async def test_tool_is_not_run_when_its_check_raises() -> None:
    tool = Scripted("sunny", wrong=RuntimeError("a bug of ours"))
    assert await run(box(tool), "it", city="Rome") == ToolResult("The tool it failed.", ToolOutcome.ERROR)
    assert tool.given == []


async def test_unchecked_arguments_do_not_reach_the_tool() -> None:
    tool = Scripted("sunny", wrong=ArgumentsNotChecked("the check did not end within 0.5 s"))
    with capture_logs() as lines:
        result = await run(box(tool), "it", city="Rome")
    assert result.outcome is ToolOutcome.ERROR
    assert "was not run: its arguments could not be checked" in result.output
    assert lines[0]["error"] == "arguments not checked: the check did not end within 0.5 s"
    assert tool.given == []


async def test_tool_over_its_time_limit_is_cancelled() -> None:
    result = await run(box(Scripted(""), timeout_seconds=0.01), "it")
    assert result.outcome is ToolOutcome.TIMEOUT
    assert result.output.startswith("The tool it did not answer within 0.01 seconds.")


@pytest.mark.parametrize(
    ("error", "outcome", "told"),
    [
        (ToolFailed("ValueError", "wrong", "a.py:1"), ToolOutcome.ERROR, "The tool it failed: ValueError: wrong"),
        (
            ToolNotRun("It was not started: why."),
            ToolOutcome.ERROR,
            "The tool it failed. It was not started: why.",
        ),
        (ToolLost("It was interrupted."), ToolOutcome.LOST, "The tool it failed. It was interrupted."),
        (TimeoutError("of its own"), ToolOutcome.ERROR, "The tool it failed."),
        (RuntimeError("a bug of ours"), ToolOutcome.ERROR, "The tool it failed."),
        (asyncio.CancelledError(), ToolOutcome.ERROR, "The tool it was interrupted."),
    ],
    ids=repr,
)
async def test_errors_become_results(error: BaseException, outcome: ToolOutcome, told: str) -> None:
    assert await run(box(Scripted(error)), "it") == ToolResult(told, outcome)


async def test_the_result_is_bounded() -> None:
    names_of_many = [Scripted("", f"{number:03}{'x' * 60}") for number in range(1000)]
    result = await run(box(*names_of_many), "it")
    assert len(result.output.encode()) <= MAX_OUTPUT_BYTES


async def test_each_run_logs_one_line_without_the_callers_words() -> None:
    with capture_logs() as lines:
        await run(box(Scripted("Ada lives in Rome")), "it", city="Rome")
        await run(box(Scripted(ToolFailed("ValueError", "no Ada", "a.py:1"))), "it", city="Rome")
        await run(box(), "Ada")
    assert [(line["log_level"], line["outcome"]) for line in lines] == [
        ("info", "ok"),
        ("warning", "error"),
        ("warning", "unknown_tool"),
    ]
    assert lines[1]["error"] == "ValueError"
    assert lines[1]["where"] == "a.py:1"
    assert {line["uuid"] for line in lines} == {UUID}
    assert "Ada" not in str(lines)
    assert "Rome" not in str(lines)


async def test_a_cancelled_run_cancels_the_tool() -> None:
    tool = Scripted("")
    running = asyncio.create_task(run(box(tool), "it"))
    await tool.begun.wait()
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    others = asyncio.all_tasks() - {asyncio.current_task()}
    if others:
        await asyncio.wait(others, timeout=60)
    assert asyncio.all_tasks() == {asyncio.current_task()}


class Asking(Scripted):
    """A tool that asks the caller for keys, and then does what it is told to."""

    async def call(
        self, uuid: str, arguments: dict[str, Any], metadata: Mapping[str, str], caller: RunCaller
    ) -> str:
        entry = await caller.digits("Your PIN", 4, 10)
        if isinstance(self._answer, ToolFailed):
            raise ToolFailed("ValueError", f"invalid literal: {entry.digits}", "pin.py:3")
        return entry.ending


async def test_exception_of_a_run_that_knows_keys_is_told_by_its_type() -> None:
    tool = Asking(ToolFailed("ValueError", "", ""))
    with capture_logs() as lines:
        result = await box(tool).run("it", "{}", uuid=UUID, metadata={}, keys=entered("2580"))
    assert result.output == "The tool it failed: ValueError"
    assert "2580" not in repr(lines)


async def test_time_limit_does_not_run_while_the_caller_is_asked() -> None:
    caller = ScriptedCaller()
    running = asyncio.create_task(
        box(Asking("x"), timeout_seconds=0.05).run("it", "{}", uuid=UUID, metadata={}, keys=caller)
    )
    await caller.is_asked.wait()
    slow = await box(Scripted(""), timeout_seconds=0.1).run("it", "{}", uuid=UUID, metadata={})
    assert slow.outcome is ToolOutcome.TIMEOUT
    assert not running.done()
    running.cancel()
    await asyncio.wait([running])
    # The tool that is cancelled does not wait for the caller any more.
    await eventually(lambda: caller.left == 1)


async def test_tool_that_stops_waits_for_no_keys() -> None:
    caller = ScriptedCaller()
    stopped: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    tool_set = ToolSet([Asking("x")], timeout_seconds=60, stopped=stopped)
    running = asyncio.create_task(tool_set.run("it", "{}", uuid=UUID, metadata={}, keys=caller))
    await caller.is_asked.wait()
    stopped.set_result(None)
    assert (await running).outcome is ToolOutcome.ERROR
    await eventually(lambda: caller.left == 1)
