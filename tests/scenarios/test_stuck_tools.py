"""Tools that get stuck, in real worker processes: the calls beside them go on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson

from simulator.avr_core import SimulatedCall, place_call
from simulator.realtime_api import RealtimeSimulator
from simulator.simulated_session import SimulatedSession
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster
from tests.scenarios.tones import tone

SPEECH = tone(700, 0.8)

# `pause` waits for a signal. Called like this, the thread keeps the interpreter meanwhile.
HOLDS_THE_INTERPRETER = """
import ctypes, pathlib
name = "stuck"

def handler(uuid, args):
    pathlib.Path(__file__).with_suffix(".reached").touch()
    ctypes.PyDLL(None).pause()
"""

# Twice as many steps for each letter more.
CATASTROPHIC = """
name = "stuck"
input_schema = {"type": "object", "properties": {"code": {"type": "string", "pattern": "^(a+)+$"}}}

def handler(uuid, args):
    return "run all the same"
"""
MISMATCH = "a" * 60 + "b"


def _instructions(**arguments: object) -> str:
    tool_calls = [{"turn": 1, "name": "stuck", "arguments": orjson.dumps(arguments).decode()}]
    return f"simulator: {orjson.dumps({'greeting_words': 1, 'words': 1, 'tool_calls': tool_calls}).decode()}"


async def _agent_has_spoken(call: SimulatedCall) -> None:
    await call.wait_for(lambda c: any(t.role == "agent" for t in c.transcripts), timeout_seconds=PATIENCE_SECONDS)


async def _output(session: SimulatedSession) -> str:
    await session.wait_for(
        lambda s: any(item.type == "function_call_output" for item in s.items), timeout_seconds=PATIENCE_SECONDS
    )
    return next(item.output or "" for item in session.items if item.type == "function_call_output")


async def test_a_call_begins_while_a_tool_holds_the_interpreter(real_redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(HOLDS_THE_INTERPRETER)
    settings: dict[str, Any] = {"TOOLS_DIR": tmp_path, "OPENAI_INSTRUCTIONS": _instructions()}
    async with RealtimeSimulator() as simulator, Cluster(real_redis_url, simulator.url, **settings) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        session = await simulator.wait_for_session()
        await _agent_has_spoken(call)
        await call.say(SPEECH)
        await eventually((tmp_path / "stuck.reached").exists, PATIENCE_SECONDS)

        other = await place_call(await cluster.url())
        await _agent_has_spoken(other)
        assert "was interrupted" in await _output(session)
        await asyncio.gather(call.hang_up(), other.hang_up())


async def test_a_call_begins_while_arguments_match_a_pattern_without_end(
    real_redis_url: str, tmp_path: Path
) -> None:
    (tmp_path / "stuck.py").write_text(CATASTROPHIC)
    settings: dict[str, Any] = {"TOOLS_DIR": tmp_path, "OPENAI_INSTRUCTIONS": _instructions(code=MISMATCH)}
    async with RealtimeSimulator() as simulator, Cluster(real_redis_url, simulator.url, **settings) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        session = await simulator.wait_for_session()
        await _agent_has_spoken(call)
        await call.say(SPEECH)
        await session.wait_for(lambda s: any(item.type == "function_call" for item in s.items))

        other = await place_call(await cluster.url())
        await _agent_has_spoken(other)
        assert "could not be checked" in await _output(session)
        await asyncio.gather(call.hang_up(), other.hang_up())
