"""The check of the session: `session.update` of a call, and the API's answers to it."""

from __future__ import annotations

import dataclasses
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from common.check.finding import Finding, State
from common.settings.roles import Role
from common.settings.settings import Settings
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from worker.check import session
from worker.check.loaded_tools import LoadedTools

KEY = "sk-test-0123456789abcdefghij"
TOOL = """
name = "opening_hours"
description = "Tells when the shop is open"
input_schema = {"type": "object", "properties": {"day": {"type": "string"}}}
async def handler(uuid, args): return "open"
"""


@pytest.fixture
async def simulator() -> AsyncIterator[RealtimeSimulator]:
    async with RealtimeSimulator(SimulatorSettings(api_key=KEY)) as simulator:
        yield simulator


async def look(folder: Path, url: str, *, seconds: float = 10.0, **variables: str) -> list[Finding]:
    given = {"OPENAI_API_KEY": KEY, "OPENAI_BASE_URL": url, "REDIS_URL": "redis://h", "TOOLS_DIR": str(folder)}
    settings = Settings.parse(given | variables, Role.WORKER)
    found = [*await session.check(settings, LoadedTools(settings), seconds).run(seconds)]
    assert KEY not in repr(found)
    return found


async def test_session_of_a_call_is_sent_and_nothing_asked(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TOOL, "utf-8")
    (found,) = await look(tmp_path, simulator.url, OPENAI_VOICE="marin", OPENAI_SPEED="1.2")
    assert (found.state, found.value) == (State.OK, "marin"), found
    assert "3 tools" in found.what
    (held,) = simulator.history
    assert held.session["audio"]["output"]["voice"] == "marin"
    assert held.session["audio"]["output"]["speed"] == 1.2
    assert {tool["name"] for tool in held.session["tools"]} >= {"opening_hours", "avr_hangup"}
    assert held.session["audio"]["input"]["turn_detection"]["create_response"] is False
    assert not held.responses


@pytest.mark.parametrize(
    ("param", "variable"),
    [
        ("session.audio.output.voice", "OPENAI_VOICE"),
        ("session.reasoning.effort", "OPENAI_REASONING_EFFORT"),
        ("session.audio.input.turn_detection.eagerness", "OPENAI_TURN_DETECTION"),
        ("session.something", "OPENAI_SESSION"),
    ],
)
async def test_refused_setting_is_named(
    simulator: RealtimeSimulator, tmp_path: Path, param: str, variable: str
) -> None:
    simulator.faults.refuse_event("session.update", param=param, message="No such value.")
    (found,) = await look(tmp_path, simulator.url)
    assert (found.state, "No such value." in found.what) == (State.FAIL, True)
    assert variable in found.todo


async def test_refused_tool_is_named_and_calls_go_without(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TOOL, "utf-8")
    simulator.faults.refuse_event("session.update", param="session.tools[2].parameters", message="Bad schema.")
    (found,) = await look(tmp_path, simulator.url)
    assert (found.state, found.todo) == (State.WARN, "correct the tool opening_hours")
    assert "calls go without it: Bad schema." in found.what


async def test_values_that_the_api_replaces_are_named(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    simulator.faults.leave_unread(["audio.output.speed"])
    (found,) = await look(tmp_path, simulator.url, OPENAI_SPEED="1.2")
    assert (found.state, "audio.output.speed" in found.what) == (State.WARN, True), found


@pytest.mark.parametrize("in_band", [False, True])
async def test_refused_key_is_left_to_the_other_check(
    simulator: RealtimeSimulator, tmp_path: Path, in_band: bool
) -> None:
    simulator.settings = dataclasses.replace(simulator.settings, bad_key_in_band=in_band, api_key="sk-another")
    (found,) = await look(tmp_path, simulator.url)
    assert found.state is State.SKIPPED, found


async def test_api_that_does_not_answer_is_given_up(simulator: RealtimeSimulator, tmp_path: Path) -> None:
    simulator.faults.ignore("session.update")
    (found,) = await look(tmp_path, simulator.url, seconds=0.5)
    assert (found.state, found.what) == (State.FAIL, "the API did not set up the session within 0.5 s")
