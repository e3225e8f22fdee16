"""Tools that run beside a call, which may move to another session meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from common.observe import metrics
from tests.helpers import eventually
from worker.tools.definition import Definition
from worker.tools.errors import ToolLost
from worker.tools.key_requests import KeyRequests, RunCaller
from worker.tools.running_tools import MAX_KEPT_OUTPUTS, MAX_RUNNING_TOOLS, RunningTools
from worker.tools.tool_set import ToolSet


class Gated:
    """A tool that waits for the test, and answers with the id of its call."""

    def __init__(self) -> None:
        self.definition = Definition.parse("gated", "", None, None)
        self.gate = asyncio.Event()
        self.metadata: Mapping[str, str] = {}

    async def check(self, arguments: dict[str, Any]) -> None:
        """Accept all arguments."""

    async def call(
        self, uuid: str, arguments: dict[str, Any], metadata: Mapping[str, str], caller: RunCaller
    ) -> str:
        self.metadata = metadata
        await self.gate.wait()
        return f"of {uuid}"


class Run:
    """The span of one call of a tool."""

    def __init__(self, call_id: str) -> None:
        self.traceparent = f"span of {call_id}"
        self.end: tuple[str, str] | None = None

    def ended(self, name: str, began_seconds: float, outcome: str) -> None:
        assert self.end is None, "a span ends once"
        self.end = (name, outcome)


class Trace:
    """The spans of tools."""

    def __init__(self) -> None:
        self.runs: list[Run] = []

    def tool_began(self, call_id: str) -> Run:
        self.runs.append(Run(call_id))
        return self.runs[-1]


class Session:
    """The running tools of one session, and their outputs."""

    def __init__(self, traceparent: str = "", trace: Trace | None = None) -> None:
        self.outputs: list[tuple[str, str, bool]] = []
        self.ended: list[tuple[str, str]] = []
        self.tools = RunningTools(
            *("call", {"from": "100"}, metrics.worker()),
            done=lambda *output: self.outputs.append(output),
            ended=lambda _, name, __, outcome: self.ended.append((name, outcome)),
            traceparent=traceparent,
            trace=trace,
            keys=KeyRequests(lambda *_: False, lambda _: None),
        )


@pytest.fixture
async def gated() -> Gated:
    return Gated()


@pytest.fixture
async def tool_set(gated: Gated) -> ToolSet:
    return ToolSet([gated], timeout_seconds=60, stopped=asyncio.get_running_loop().create_future())


async def test_finished_tool_is_not_listed_as_running(gated: Gated, tool_set: ToolSet) -> None:
    session = Session()
    assert session.tools.start(tool_set, "call_1", "gated", "{}") is None
    assert list(session.tools.tasks) == ["call_1"]
    gated.gate.set()
    await eventually(lambda: session.outputs)
    assert session.outputs == [("call_1", "of call", False)]
    assert not session.tools.tasks
    assert gated.metadata == {"from": "100"}


async def test_traced_tool_gets_the_context_of_its_span(gated: Gated, tool_set: ToolSet) -> None:
    trace = Trace()
    session = Session("of the call", trace)
    session.tools.start(tool_set, "call_1", "gated", "{}")
    session.tools.start(tool_set, "call_2", "Anna", "{}")
    gated.gate.set()
    await eventually(lambda: len(session.outputs) == 2)
    assert gated.metadata == {"from": "100", "traceparent": "span of call_1"}
    assert [run.end for run in trace.runs] == [("gated", "completed"), ("other", "refused")]


async def test_tool_of_an_untraced_session_gets_the_call_s_context(gated: Gated, tool_set: ToolSet) -> None:
    session = Session("of the call")
    gated.gate.set()
    session.tools.start(tool_set, "call_1", "gated", "{}")
    await eventually(lambda: session.outputs)
    assert gated.metadata == {"from": "100", "traceparent": "of the call"}


async def test_span_of_a_cancelled_tool_ends(gated: Gated, tool_set: ToolSet) -> None:
    trace = Trace()
    session = Session(trace=trace)
    session.tools.start(tool_set, "call_1", "gated", "{}")
    await eventually(lambda: gated.metadata)
    session.tools.cancel()
    await eventually(lambda: trace.runs[0].end == ("gated", "cancelled"))


async def test_tool_over_the_limit_is_not_run(gated: Gated, tool_set: ToolSet) -> None:
    session = Session()
    for number in range(MAX_RUNNING_TOOLS):
        assert session.tools.start(tool_set, f"call_{number}", "gated", "{}") is None
    assert (
        session.tools.start(tool_set, "call_x", "gated", "{}")
        == "not run: 16 tools of this call are running already"
    )
    gated.gate.set()
    await eventually(lambda: len(session.outputs) == MAX_RUNNING_TOOLS)
    assert session.tools.start(tool_set, "call_x", "gated", "{}") is None
    await eventually(lambda: session.outputs[-1][0] == "call_x")


async def test_output_goes_to_the_session_that_has_the_call(gated: Gated, tool_set: ToolSet) -> None:
    first, second, third = Session(), Session(), Session()
    first.tools.start(tool_set, "call_1", "gated", "{}")
    assert first.tools.hand_over(second.tools) == ["call_1"]
    second.tools.start(tool_set, "call_2", "gated", "{}")
    assert sorted(second.tools.hand_over(third.tools)) == ["call_1", "call_2"]
    assert not first.tools.tasks
    assert not second.tools.tasks
    gated.gate.set()
    await eventually(lambda: len(third.outputs) == 2)
    assert not first.outputs
    assert not second.outputs
    assert not third.tools.tasks


async def test_kept_output_goes_to_the_next_session(gated: Gated, tool_set: ToolSet) -> None:
    first, second, third = Session(), Session(), Session()
    gated.gate.set()
    first.tools.start(tool_set, "call_1", "gated", "{}")
    await eventually(lambda: first.outputs)
    assert first.tools.hand_over(second.tools) == []
    assert second.outputs == [("call_1", "of call", False)]
    assert first.tools.is_empty
    # The second session may be lost before the model has the output.
    second.tools.hand_over(third.tools)
    assert third.outputs == [("call_1", "of call", False)]


async def test_kept_outputs_are_bounded(gated: Gated, tool_set: ToolSet) -> None:
    first, second = Session(), Session()
    gated.gate.set()
    for number in range(MAX_KEPT_OUTPUTS + 3):
        first.tools.start(tool_set, f"call_{number}", "gated", "{}")
        await eventually(lambda: not first.tools.tasks)
    first.tools.hand_over(second.tools)
    assert [call_id for call_id, *_ in second.outputs] == [f"call_{n + 3}" for n in range(MAX_KEPT_OUTPUTS)]


async def test_a_cancelled_tool_is_not_handed_over(tool_set: ToolSet) -> None:
    first, second = Session(), Session()
    first.tools.start(tool_set, "call_1", "gated", "{}")
    (task,) = first.tools.tasks.values()
    await asyncio.sleep(0)  # it begins
    first.tools.cancel()
    assert first.tools.hand_over(second.tools) == []
    await asyncio.wait([task])
    assert second.tools.is_empty


async def test_cancel_ends_all_running_tools(tool_set: ToolSet) -> None:
    session = Session()
    session.tools.start(tool_set, "call_1", "gated", "{}")
    (task,) = session.tools.tasks.values()
    await asyncio.sleep(0)  # it begins
    session.tools.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
    assert not session.outputs


async def test_invented_tool_name_is_counted_as_other(tool_set: ToolSet) -> None:
    session = Session()
    session.tools.start(tool_set, "call_1", "of_nobody", "{}")
    await eventually(lambda: session.outputs)
    assert "of_nobody" not in metrics.render()[0].decode()


class Lost(Gated):
    """A tool that is interrupted the first time and answers the second time."""

    def __init__(self) -> None:
        super().__init__()
        self.runs = 0
        self.gate.set()

    async def call(
        self, uuid: str, arguments: dict[str, Any], metadata: Mapping[str, str], caller: RunCaller
    ) -> str:
        self.runs += 1
        if self.runs == 1:
            raise ToolLost("It was interrupted.")
        return await super().call(uuid, arguments, metadata, caller)


async def test_interrupted_tool_is_reported_as_lost() -> None:
    session, next_one = Session(), Session()
    tool_set = ToolSet([Lost()], timeout_seconds=60, stopped=asyncio.get_running_loop().create_future())
    session.tools.start(tool_set, "call_1", "gated", "{}")
    await eventually(lambda: session.outputs)
    told = ("call_1", "The tool gated failed. It was interrupted.", True)
    assert session.outputs == [told]
    session.tools.hand_over(next_one.tools)
    assert next_one.outputs == [told]


async def test_new_run_replaces_an_interrupted_run() -> None:
    session, next_one = Session(), Session()
    tool_set = ToolSet([Lost()], timeout_seconds=60, stopped=asyncio.get_running_loop().create_future())
    for runs in (1, 2):
        session.tools.start(tool_set, "call_1", "gated", "{}")
        await eventually(lambda: not session.tools.tasks)
        assert len(session.outputs) == runs
    session.tools.hand_over(next_one.tools)
    assert next_one.outputs == [("call_1", "of call", False)]
