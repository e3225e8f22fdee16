"""Tools that get stuck, in real worker processes: the calls beside them go on."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import orjson

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.simulated_session import SimulatedSession
from tests.helpers import eventually
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster
from tests.scenarios.tones import tone

SPEECH = tone(700, 0.8)

# Called like this, the function keeps the interpreter until it returns.
HOLDS_THE_INTERPRETER = """
import ctypes, pathlib
name = "stuck"
reached = pathlib.Path(__file__).with_suffix(".reached")

def handler(uuid, args):
    ctypes.PyDLL(None).system(f"echo {uuid} >> '{reached}'; exec sleep 1000".encode())
"""

KILLS_ITS_WORKER = """
import os, pathlib
name = "stuck"
idempotent = True
reached = pathlib.Path(__file__).with_suffix(".reached")

def handler(uuid, args):
    with reached.open("a") as file:
        file.write(f"{uuid}\\n")
    os.kill(os.getppid(), 9)
"""

# Twice as many steps for each letter more.
CATASTROPHIC = """
name = "stuck"
input_schema = {"type": "object", "properties": {"code": {"type": "string", "pattern": "^(a+)+$"}}}

def handler(uuid, args):
    return "run all the same"
"""
MISMATCH = "a" * 60 + "b"


# Waits for ever, until its process is killed; the second run answers.
ANSWERS_LATER = """
import asyncio, pathlib
name = "later"
idempotent = True
reached = pathlib.Path(__file__).with_suffix(".reached")

async def handler(uuid, args):
    if reached.exists():
        return "found at last"
    reached.touch()
    await asyncio.Event().wait()
"""


def _instructions(*, name: str = "stuck", **arguments: object) -> str:
    tool_calls = [{"turn": 1, "name": name, "arguments": orjson.dumps(arguments).decode()}]
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


async def test_call_begins_during_an_endless_check_of_arguments(real_redis_url: str, tmp_path: Path) -> None:
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


async def test_an_idempotent_tool_of_another_call_runs_again(real_redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(HOLDS_THE_INTERPRETER)
    (tmp_path / "later.py").write_text(ANSWERS_LATER)
    settings: dict[str, Any] = {"TOOLS_DIR": tmp_path, "OPENAI_INSTRUCTIONS": _instructions(name="{from}")}
    async with RealtimeSimulator() as simulator, Cluster(real_redis_url, simulator.url, **settings) as cluster:
        await cluster.start(workers=1)
        calls, sessions = [], []
        for number, name in enumerate(("later", "stuck"), start=1):
            calls.append(await place_call(await cluster.url(), metadata={"from": name}))
            sessions.append(await simulator.wait_for_session(number))
            await _agent_has_spoken(calls[-1])
            await calls[-1].say(SPEECH)
            await eventually((tmp_path / f"{name}.reached").exists, PATIENCE_SECONDS)
        assert await _output(sessions[0]) == "found at last"
        assert "was interrupted" in await _output(sessions[1])
        await asyncio.gather(*(call.hang_up() for call in calls))


async def test_a_tool_whose_process_died_twice_is_not_run_again(real_redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(f"idempotent = True\n{HOLDS_THE_INTERPRETER}")
    settings: dict[str, Any] = {"TOOLS_DIR": tmp_path, "OPENAI_INSTRUCTIONS": _instructions()}
    async with RealtimeSimulator() as simulator, Cluster(real_redis_url, simulator.url, **settings) as cluster:
        await cluster.start(workers=1)
        call = await place_call(await cluster.url())
        session = await simulator.wait_for_session()
        await _agent_has_spoken(call)
        await call.say(SPEECH)
        assert "was interrupted" in await _output(session)
        assert (tmp_path / "stuck.reached").read_text().split() == [call.uuid] * 2
        await call.hang_up()


async def test_a_call_whose_tool_took_down_two_workers_is_told_so(real_redis_url: str, tmp_path: Path) -> None:
    (tmp_path / "stuck.py").write_text(KILLS_ITS_WORKER)
    settings: dict[str, Any] = {"TOOLS_DIR": tmp_path, "OPENAI_INSTRUCTIONS": _instructions()}
    async with RealtimeSimulator() as simulator, Cluster(real_redis_url, simulator.url, **settings) as cluster:
        await cluster.start(workers=3)
        call = await place_call(await cluster.url())
        await simulator.wait_for_session()
        await _agent_has_spoken(call)
        await call.say(SPEECH)
        last = await simulator.wait_for_session(3)
        assert await _output(last) == "interrupted, outcome unknown"
        assert (tmp_path / "stuck.reached").read_text().split() == [call.uuid] * 2
        assert [worker.returncode for worker in cluster.workers].count(None) == 1
        await call.hang_up()
