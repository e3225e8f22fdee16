"""Tools that get stuck, in real worker processes: the calls beside them go on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

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


@dataclass
class Service:
    """A cluster whose model calls the tools of a test."""

    simulator: RealtimeSimulator
    cluster: Cluster
    tools: Path

    async def call(self, **metadata: str) -> SimulatedCall:
        """Place a call that has heard the greeting."""
        call = await place_call(await self.cluster.url(), metadata=metadata)
        await call.wait_for(
            lambda c: any(t.role == "agent" for t in c.transcripts), timeout_seconds=PATIENCE_SECONDS
        )
        return call

    async def run_tool(self, **metadata: str) -> tuple[SimulatedCall, SimulatedSession]:
        """Place a call whose caller says something, so that the model calls the tool."""
        call = await self.call(**metadata)
        session = await self.simulator.wait_for_session(self.simulator.opened)
        await call.say(SPEECH)
        return call, session

    async def begun(self, tool: str) -> None:
        """Wait until a tool runs."""
        await eventually((self.tools / f"{tool}.reached").exists, PATIENCE_SECONDS)

    def runs(self) -> list[str]:
        """Return the call of each run of the tool `stuck`."""
        return (self.tools / "stuck.reached").read_text().split()


Start = Callable[..., Awaitable[Service]]


@pytest.fixture
async def start(real_redis_url: str, tmp_path: Path, simulator: RealtimeSimulator) -> AsyncIterator[Start]:
    """Start a service by the sources of its tools and the instructions of the simulated model."""
    async with AsyncExitStack() as stack:

        async def start(instructions: str, workers: int = 1, **tools: str) -> Service:
            for name, source in tools.items():
                (tmp_path / f"{name}.py").write_text(source)
            settings = {"TOOLS_DIR": tmp_path, "OPENAI_INSTRUCTIONS": instructions}
            cluster = await stack.enter_async_context(Cluster(real_redis_url, simulator.url, **settings))
            await cluster.start(workers=workers)
            return Service(simulator, cluster, tmp_path)

        yield start


async def _output(session: SimulatedSession) -> str:
    await session.wait_for(
        lambda s: any(item.type == "function_call_output" for item in s.items), timeout_seconds=PATIENCE_SECONDS
    )
    return next(item.output or "" for item in session.items if item.type == "function_call_output")


async def test_a_call_begins_while_a_tool_holds_the_interpreter(start: Start) -> None:
    service = await start(_instructions(), stuck=HOLDS_THE_INTERPRETER)
    call, session = await service.run_tool()
    await service.begun("stuck")

    other = await service.call()
    assert "was interrupted" in await _output(session)
    await asyncio.gather(call.hang_up(), other.hang_up())


async def test_a_call_begins_while_arguments_match_a_pattern_without_end(start: Start) -> None:
    service = await start(_instructions(code=MISMATCH), stuck=CATASTROPHIC)
    call, session = await service.run_tool()
    await session.wait_for(lambda s: any(item.type == "function_call" for item in s.items))

    other = await service.call()
    assert "could not be checked" in await _output(session)
    await asyncio.gather(call.hang_up(), other.hang_up())


async def test_an_idempotent_tool_of_another_call_runs_again(start: Start) -> None:
    service = await start(_instructions(name="{from}"), later=ANSWERS_LATER, stuck=HOLDS_THE_INTERPRETER)
    later_call, later = await service.run_tool(**{"from": "later"})
    await service.begun("later")
    stuck_call, stuck = await service.run_tool(**{"from": "stuck"})
    await service.begun("stuck")
    assert await _output(later) == "found at last"
    assert "was interrupted" in await _output(stuck)
    await asyncio.gather(later_call.hang_up(), stuck_call.hang_up())


async def test_a_tool_whose_process_died_twice_is_not_run_again(start: Start) -> None:
    service = await start(_instructions(), stuck=f"idempotent = True\n{HOLDS_THE_INTERPRETER}")
    call, session = await service.run_tool()
    assert "was interrupted" in await _output(session)
    assert service.runs() == [call.uuid] * 2
    await call.hang_up()


async def test_a_call_whose_tool_took_down_two_workers_is_told_so(start: Start) -> None:
    service = await start(_instructions(), workers=3, stuck=KILLS_ITS_WORKER)
    call, _ = await service.run_tool()
    last = await service.simulator.wait_for_session(3)
    assert await _output(last) == "interrupted, outcome unknown"
    assert service.runs() == [call.uuid] * 2
    assert [worker.returncode for worker in service.cluster.workers].count(None) == 1
    await call.hang_up()
