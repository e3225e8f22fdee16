from __future__ import annotations

import random
from pathlib import Path

from simulator.realtime.settings import Behaviour, with_directives
from tests.chaos import script
from worker.config.instructions import fill

_SCRIPTS = [script.draw(random.Random(seed)) for seed in range(200)]


def test_instructions_give_the_turns_with_tools() -> None:
    with_tool = next(each for each in _SCRIPTS if each.tool_turn < 10 and each.agent_hangs_up)
    text = fill(script.instructions(), uuid="u-1", metadata=with_tool.metadata)
    assert script.uuid_in(text) == "u-1"
    lookup, hang_up = with_directives(Behaviour(), text).tool_calls
    assert (lookup.turn, lookup.name) == (with_tool.tool_turn, "lookup")
    assert lookup.arguments == f'{{"ask":"{with_tool.tool_turn}"}}'
    last = sum(len(turn.speech.turns) for turn in with_tool.turns)
    assert (hang_up.turn, hang_up.name) == (last, "avr_hangup")
    assert lookup.turn < hang_up.turn


def test_calls_are_of_every_kind() -> None:
    assert {len(each.turns) for each in _SCRIPTS} == {2, 3, 4, 5}
    assert {each.agent_hangs_up for each in _SCRIPTS} == {each.abrupt for each in _SCRIPTS} == {True, False}
    assert not any(each.agent_hangs_up and each.abrupt for each in _SCRIPTS)
    turns = [turn for each in _SCRIPTS for turn in each.turns]
    assert {turn.speech.turns for turn in turns} >= {(2,), (5,), (8,)}
    assert any(len(turn.speech.turns) > 1 for turn in turns), "recorded speech"
    assert any(turn.barges_in for turn in turns)
    assert not any(each.turns[0].barges_in for each in _SCRIPTS), "the greeting is heard out"
    assert any(each.tool_turn > len(each.turns) for each in _SCRIPTS), "some need no tool"


def test_other_instructions_have_no_call() -> None:
    assert script.uuid_in("Be kind.") == ""


async def test_tool_records_its_runs(tmp_path: Path) -> None:
    log = tmp_path / "runs.jsonl"
    module: dict[str, object] = {}
    exec(script.tool_source(str(log), 0.0), module)  # noqa: S102 - it is ours
    handler = module["handler"]
    assert callable(handler)
    assert await handler("u-1", {"ask": "2"}) == "the answer to 2"
    assert '"uuid": "u-1", "ask": "2"' in log.read_text("utf-8")
