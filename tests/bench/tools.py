"""`make bench BENCH=tools`: the delay of a worker's event loop while a tool is stuck, beside other calls.

A dispatcher and a worker run with a real Redis and the Realtime simulator. The agent speaks in all calls. In one
more call the model calls a tool. Its arguments match a pattern that takes years, or the tool holds the
interpreter.
"""

from __future__ import annotations

import asyncio
import math
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import orjson

from simulator.avr.core import SimulatedCall, place_call
from tests.bench import sampled_worker
from tests.bench.service import redis
from tests.chaos.realtime import RealtimeProcess
from tests.scenarios.processes import Cluster, ServiceProcess
from tests.scenarios.tones import tone

CALLS = 20
NOTHING_SECONDS = 15.0
# Each tool is stuck for half a second: the bound of a check.
PATTERNS = 8

_SPEECH = tone(700, 0.8)
_TOOLS: Final = {
    "pattern": """
name = "pattern"
input_schema = {"type": "object", "properties": {"code": {"type": "string", "pattern": "^(a+)+$"}}}
def handler(uuid, args): ...
""",
    "interpreter": """
import re
name = "interpreter"
def handler(uuid, args): re.match("(a+)+$", args["code"])
""",
}
_TOOL_CALL: Final = {
    "turn": 1,
    "name": "{from}",
    "arguments": orjson.dumps({"code": "a" * 60 + "b"}).decode(),
}
_DIRECTIVE: Final = {"greeting_words": 400, "words": 1, "tool_calls": [_TOOL_CALL]}
_INSTRUCTIONS: Final = f"simulator: {orjson.dumps(_DIRECTIVE).decode()}"


class SampledProcess(ServiceProcess):
    """A process that records the delay of its event loop."""

    module = "tests.bench.sampled_worker"


@dataclass(frozen=True, slots=True)
class Lag:
    """The delay of an event loop, in milliseconds."""

    samples: int
    p50_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, late_seconds: Sequence[float]) -> Self:
        """Return the delay from samples."""
        ordered = sorted(late_seconds)

        def at(share: float) -> float:
            return 1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0

        return cls(len(ordered), at(0.5), at(0.99), at(1.0))


@dataclass(frozen=True, slots=True)
class Lags:
    """One run: the delay of the worker's event loop, by the tool's behaviour."""

    calls: int
    by_tool: dict[str, Lag]

    def table(self) -> str:
        """Return the table for people."""
        rows = [("", "seconds", "p50 ms", "p99 ms", "most ms")]
        for name, lag in self.by_tool.items():
            seconds = lag.samples * sampled_worker.SAMPLE_SECONDS
            rows.append((name, f"{seconds:.0f}", f"{lag.p50_ms:.1f}", f"{lag.p99_ms:.1f}", f"{lag.most_ms:.1f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        return "\n".join((f"stuck tools: delay of a worker's event loop, beside {self.calls} calls", *lines))


async def measure(calls: int = CALLS, *, patterns: int = PATTERNS, seconds: float = NOTHING_SECONDS) -> Lags:
    """Run it once.

    Args:
        calls: number of calls beside the tool.
        patterns: number of endless checks of arguments.
        seconds: time measured without a tool.

    Raises:
        BenchError: no Redis is installed.
    """
    simulator = await RealtimeProcess.start()
    try:
        async with redis() as server:
            with tempfile.TemporaryDirectory() as folder:
                cluster = _cluster(server.url, simulator.url, Path(folder))
                async with cluster:
                    times = await _measure(cluster, calls, patterns, seconds)
                samples = sampled_worker.samples(Path(folder))
    finally:
        await simulator.stop()
    return Lags(
        calls,
        {
            name: Lag.of([late for at, late in samples if at >= began and at - late <= ended])
            for name, (began, ended) in times.items()
        },
    )


def _cluster(redis_url: str, realtime_url: str, folder: Path) -> Cluster:
    for name, source in _TOOLS.items():
        (folder / f"{name}.py").write_text(source)
    settings = {
        "TOOLS_DIR": folder,
        "OPENAI_INSTRUCTIONS": _INSTRUCTIONS,
        sampled_worker.FOLDER: folder,
    }
    return Cluster(redis_url, realtime_url, **settings)


async def _measure(cluster: Cluster, calls: int, patterns: int, seconds: float) -> dict[str, tuple[float, float]]:
    """Return the begin and the end of each part."""
    worker = await cluster.add_worker(SampledProcess)
    await cluster.add_dispatcher()
    url = await cluster.url()
    beside = [await place_call(url, metadata={"from": "nobody"}) for _ in range(calls)]
    await asyncio.gather(*(_is_spoken_to(call) for call in beside))
    times: dict[str, tuple[float, float]] = {}
    began = time.monotonic()
    await asyncio.sleep(seconds)
    times["no tool"] = began, time.monotonic()

    began = time.monotonic()
    for number in range(patterns):
        await _call_tool(url, worker, "pattern", number)
    times["a pattern without an end"] = began, time.monotonic()

    began = time.monotonic()
    await _call_tool(url, worker, "interpreter", 0)
    times["holds the interpreter"] = began, time.monotonic()
    await asyncio.gather(*(call.hang_up() for call in beside))
    return times


async def _is_spoken_to(call: SimulatedCall) -> None:
    await call.wait_for(lambda c: c.received_pcm, timeout_seconds=30)


async def _call_tool(url: str, worker: ServiceProcess, name: str, number: int) -> None:
    """Let the model call a tool, and wait for its result."""
    call = await place_call(url, metadata={"from": name}, uuid=f"{name}-{number}")
    await _is_spoken_to(call)
    await call.say(_SPEECH)
    await worker.line("tool called", uuid=f"{name}-{number}")
    await call.hang_up()
