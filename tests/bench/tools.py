"""`make bench BENCH=tools`: how late a worker's event loop is while a tool is stuck, with calls beside.

A dispatcher and a worker with a real Redis and the Realtime simulator. The agent speaks in all calls. In one more
call the model calls a tool whose arguments have to match a pattern that takes years, or that keeps the interpreter
to itself.
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
# Each stuck for half a second: the bound of a check.
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
    """A process that writes down how late its event loop is."""

    module = "tests.bench.sampled_worker"


@dataclass(frozen=True, slots=True)
class Lag:
    """How late an event loop was, in milliseconds."""

    samples: int
    p50_ms: float
    p99_ms: float
    most_ms: float

    @classmethod
    def of(cls, late_seconds: Sequence[float]) -> Self:
        """From samples."""
        ordered = sorted(late_seconds)

        def at(share: float) -> float:
            return 1000 * ordered[max(0, math.ceil(share * len(ordered)) - 1)] if ordered else 0.0

        return cls(len(ordered), at(0.5), at(0.99), at(1.0))


@dataclass(frozen=True, slots=True)
class Lags:
    """One run: the worker's event loop by what a tool did meanwhile."""

    calls: int
    by_tool: dict[str, Lag]

    def table(self) -> str:
        """Return it as text, for people."""
        rows = [("", "seconds", "p50 ms", "p99 ms", "most ms")]
        for name, lag in self.by_tool.items():
            seconds = lag.samples * sampled_worker.SAMPLE_SECONDS
            rows.append((name, f"{seconds:.0f}", f"{lag.p50_ms:.1f}", f"{lag.p99_ms:.1f}", f"{lag.most_ms:.1f}"))
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        lines = ["  ".join(map(str.rjust, row, widths)) for row in rows]
        return "\n".join((f"stuck tools: how late a worker's event loop is, {self.calls} calls beside", *lines))


async def measure(calls: int = CALLS, *, patterns: int = PATTERNS, seconds: float = NOTHING_SECONDS) -> Lags:
    """Run it once.

    Args:
        calls: beside.
        patterns: how often arguments are checked without an end.
        seconds: that are measured without a tool.

    Raises:
        BenchError: there is no Redis.
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
    """Return when each began and ended."""
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
    """Have the model call a tool, and wait until it is told what came of it."""
    call = await place_call(url, metadata={"from": name}, uuid=f"{name}-{number}")
    await _is_spoken_to(call)
    await call.say(_SPEECH)
    await worker.line("tool called", uuid=f"{name}-{number}")
    await call.hang_up()
