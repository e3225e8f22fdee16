"""`make bench`: the cost of the service, in one run and one table. See docs/performance.md."""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import statistics
import sys
import tempfile
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from importlib.metadata import version
from typing import Any

from common.runtime.release import COMPILED
from tests.bench import cells, coordination, mute, outage, pins, records, results, tools
from tests.bench.core import Workload
from tests.bench.reference import reference_us
from tests.bench.results import Latency, Result, Spread
from tests.bench.service import BenchError, Run, running
from tests.bench.traces import collecting

CALLS_PER_SECOND = 50.0
FRAMES_PER_CALL_SECOND = 50
REFERENCE_RUNS = 3
# Length of new calls: long enough for the session to begin, short enough that few are up at once.
SHORT_CALL_SECONDS = 2.0
SHORT_CALLS_SECONDS = 10
PINS_SECONDS = 5.0
BUSY_CPUS = 0.8
INTACT_CALLS = 300
# The capacity of two workers; the surplus has as many calls again.
CAPACITY = 100
# Runs without recordings, and as many with, in turn.
RECORDED_RUNS = 3
RECORDED_CALLS = 100
GROUPINGS = ("auto", 0, 3, 20)
GROUPED_CALLS = (40, 100, 200)
# CPUs used by other processes of the machine. Above this, a figure is not the service's.
MOST_OTHERS = 0.15
COLUMNS = (
    "calls",
    "CPU ms per call-second",
    "x reference",
    "dispatchers + workers",
    "KB/call",
    "in p50/p99 ms",
    "out p50/p99 ms",
    "intact",
    "peers",
    "others",
)


@dataclass(slots=True)
class Bench:
    """One run of the benchmarks, with its rows."""

    windows: int
    window_seconds: float
    warm_up_seconds: float
    references_us: list[float] = field(default_factory=list)
    rows: list[tuple[str, Result, float]] = field(default_factory=list)  # with the median reference
    notes: list[tuple[str, str]] = field(default_factory=list)
    tables: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    busy_machine: list[str] = field(default_factory=list)

    def refer(self) -> None:
        """Measure the reference before and after each part, because a machine's speed changes."""
        self.references_us += [reference_us() for _ in range(REFERENCE_RUNS)]

    async def calls(self, name: str, calls: int, *, audio_format: str = "pcm", **settings: Any) -> Result:
        """Run this many calls at once, and add a row."""
        sys.stderr.write(f"bench: {name}, {calls} calls\n")
        async with running(audio_format=audio_format, WORKER_MAX_CALLS=max(200, calls), **settings) as service:
            orders = Workload(service.port, calls, CALLS_PER_SECOND, 0.0, audio_format)
            run = await service.run(
                orders,
                warm_up_seconds=self.warm_up_seconds,
                windows=self.windows,
                window_seconds=self.window_seconds,
            )
        return self._add(name, run)

    def _add(self, name: str, run: Run) -> Result:
        result = results.of(run)
        self.problems += [f"{name}, {run.calls} calls: {problem}" for problem in result.problems[:5]]
        if result.others > MOST_OTHERS:
            self.busy_machine.append(f"{name}, {run.calls} calls")
        self.refer()
        self.rows.append((name, result, statistics.median(self.references_us[-2 * REFERENCE_RUNS :])))
        return result

    # The parts

    async def cpu(self) -> None:
        """Run calls over plain WebSocket at 24 kHz with default settings."""
        for calls in (50, 100, 200):
            await self.calls("plain", calls)

    async def g711(self) -> None:
        """Run calls without resampling."""
        await self.calls("pcmu", 100, audio_format="pcmu")

    async def tls(self) -> None:
        """Run calls with TLS to the API, as in service."""
        await self.calls("TLS to the API", 100, tls=True)

    async def dispatchers(self) -> None:
        """Run calls on two processes that share the port."""
        await self.calls("2 dispatchers", 100, DISPATCHERS=2)

    async def intact(self) -> None:
        """Run many calls, and check that all their audio arrives."""
        await self.calls("plain", INTACT_CALLS)

    async def latency(self) -> None:
        """Run calls without grouping: few, and enough for dispatcher and workers to use most of a CPU together."""
        await self.calls("at once", 50, GROUPING_MS=0)
        result = await self.calls("at once", 100, GROUPING_MS=0)
        calls = int(1000 * BUSY_CPUS / result.cpu_ms.median)
        await self.calls(f"at once, {BUSY_CPUS:.0%} of a CPU", calls, GROUPING_MS=0)

    async def grouping(self) -> None:
        """Run few and many calls with each kind of grouping, in turn."""
        for calls in GROUPED_CALLS:
            for grouping in GROUPINGS:
                await self.calls(f"GROUPING_MS={grouping}", calls, GROUPING_MS=grouping)

    async def overload(self) -> None:
        """Measure how a full service serves its calls while as many again, at 50 a second, are refused."""
        await self.full(CAPACITY)
        crowded = await self.full(CAPACITY, surplus=CAPACITY)
        refusal = crowded.refusal
        if refusal is not None:
            self.notes += [
                (
                    "refusals",
                    f"{CAPACITY} calls above the {CAPACITY} that fit, {CALLS_PER_SECOND:.0f} a second; one window",
                ),
                (
                    "  init to 1013",
                    f"p50 {refusal.p50_ms:.1f} ms, p99 {refusal.p99_ms:.1f} ms, most {refusal.most_ms:.1f} ms",
                ),
            ]

    async def full(self, calls: int, *, surplus: int = 0, window_seconds: float | None = None) -> Result:
        """Run as many calls as the service takes, and measure while the surplus comes, unless told how long."""
        name = "twice the capacity" if surplus else "the capacity"
        sys.stderr.write(f"bench: {name}, {calls} calls\n")
        workers = 2
        async with running(WORKERS=workers, WORKER_MAX_CALLS=calls // workers) as service:
            run = await service.run(
                Workload(service.port, calls, CALLS_PER_SECOND, 0.0, "pcm", surplus, self.warm_up_seconds),
                warm_up_seconds=self.warm_up_seconds,
                windows=1,
                window_seconds=window_seconds or calls / CALLS_PER_SECOND,
            )
        return self._add(name, run)

    async def recordings(self) -> None:
        """Measure what recordings cost the dispatcher: runs without and with them in turn."""
        off, on = [], []
        with tempfile.TemporaryDirectory(prefix="bench-recordings-") as folder:
            for _ in range(RECORDED_RUNS):
                off.append((await self.calls("not recorded", RECORDED_CALLS)).dispatchers_ms)
                on.append((await self.calls("recorded", RECORDED_CALLS, RECORDINGS_DIR=folder)).dispatchers_ms)
        before, after = statistics.median(off), statistics.median(on)
        self.notes += [
            (
                "recordings",
                f"dispatcher: {before:.2f} ms per call-second without, {after:.2f} with: x {after / before:.3f}",
            ),
            ("  calls per core", f"{1000 / before:.0f} without, {1000 / after:.0f} with; the dispatcher alone"),
        ]

    async def new(self) -> None:
        """Measure how fast a call gets its session, while 50 a second come."""
        sys.stderr.write("bench: new calls\n")
        async with running() as service:
            calls = int(CALLS_PER_SECOND * SHORT_CALLS_SECONDS)
            run = await service.run(
                Workload(service.port, calls, CALLS_PER_SECOND, SHORT_CALL_SECONDS, "pcm"),
                warm_up_seconds=SHORT_CALL_SECONDS + 1,
                windows=1,
                window_seconds=0.1,
            )
        configured = {session["call"]: session["configured_seconds"] for session in run.model}
        began = [call for call in run.core["calls"] if call["call"] in configured]
        first, last = (choose(call["init_seconds"] for call in began) for choose in (min, max))
        latency = Latency.of([configured[call["call"]] - call["init_seconds"] for call in began])
        assert latency is not None
        self.notes += [
            ("new calls", f"{len(began)} of {calls}, {(len(began) - 1) / (last - first):.0f} a second"),
            (
                "  init to session.update",
                f"p50 {latency.p50_ms:.1f} ms, p99 {latency.p99_ms:.1f} ms, most {latency.most_ms:.1f} ms",
            ),
        ]
        self.refer()

    async def pins(self) -> None:
        """Measure Redis alone."""
        sys.stderr.write("bench: pins\n")
        made = await pins.measure(PINS_SECONDS)
        self.notes.append(
            (
                "pins, real Redis",
                f"{made.per_second:.0f} a second from {os.cpu_count()} dispatchers;"
                f" {made.redis_us:.0f} µs of Redis each: {1e6 / made.redis_us:.0f} a second at most",
            )
        )

    async def outage(self) -> None:
        """Measure an API outage of a minute with 200 calls, and how soon they are served afterwards."""
        sys.stderr.write("bench: outage\n")
        self.tables.append((await outage.measure()).table())

    async def tools(self) -> None:
        """Measure the delay of a worker's event loop while a tool is stuck, beside 20 calls."""
        sys.stderr.write("bench: tools\n")
        self.tables.append((await tools.measure()).table())

    async def mute(self) -> None:
        """Measure a caller's frame in the dispatcher's core, also while a tool collects keys."""
        self.tables.append(mute.measure().table())

    async def records(self) -> None:
        """Measure the records of ended calls, off and with all sinks on."""
        sys.stderr.write("bench: records\n")
        self.tables.append((await records.measure()).table())

    async def coordination(self) -> None:
        """Measure Redis and the holders of calls, for 10,000 calls and for 1,000 workers."""
        for size in (coordination.Size(), coordination.MANY_WORKERS):
            sys.stderr.write(f"bench: coordination, {size.workers} workers\n")
            self.tables.append((await coordination.measure(size)).table())

    async def cells(self) -> None:
        """Simulate 100,000 calls in cells, and measure the fullest one."""
        sys.stderr.write("bench: cells\n")
        self.tables.append((await cells.measure()).table())

    async def traces(self) -> None:
        """Run calls without and with traces, of which a collector in another process gets all spans."""
        off = await self.calls("traces off", 50)
        async with collecting() as (endpoint, spans):
            on = await self.calls("traces on", 50, OTEL_EXPORTER_OTLP_ENDPOINT=endpoint)
        ratio = on.cpu_ms.median / off.cpu_ms.median
        self.notes.append(("traces", f"{ratio:.3f} times the CPU of calls without; {spans[0]} spans"))

    # The table

    def table(self) -> str:
        """Return the whole table, for people."""
        lines = [
            f"machine     {_machine()}",
            f"versions    {_versions()}",
            f"reference   {_spread(Spread.of(self.references_us), 1)} µs a unit, {len(self.references_us)} runs",
            f"method      {self.windows} windows of {self.window_seconds:g} s; median (lowest to highest)",
        ]
        if self.rows:
            cells = [("", *COLUMNS), *(_cells(*row) for row in self.rows)]
            widths = [max(len(row[column]) for row in cells) for column in range(len(cells[0]))]
            lines.append("")
            lines += ["  ".join(map(str.ljust, row, widths)).rstrip() for row in cells]
            worker = self.rows[0][1]
            lines += [
                "",
                f"idle worker {worker.idle_worker_mb:.0f} MB resident,"
                f" {worker.idle_worker_own_mb:.0f} MB of it unshared",
            ]
        if self.notes:
            width = max(len(name) for name, _ in self.notes)
            lines.append("")
            lines += [f"{name:<{width}}  {value}" for name, value in self.notes]
        for table in self.tables:
            lines += ["", table]
        if self.busy_machine:
            lines += ["", f"other processes used this machine; measure again: {'; '.join(self.busy_machine)}"]
        if self.problems:
            lines += ["", "problems", *(f"  {problem}" for problem in self.problems)]
        return "\n".join(lines) + "\n"


def _cells(name: str, result: Result, reference_us: float) -> tuple[str, ...]:
    ratio = result.cpu_ms.median * 1000 / FRAMES_PER_CALL_SECOND / reference_us
    return (
        name,
        str(result.calls),
        _spread(result.cpu_ms, 2),
        f"{ratio:.2f}",
        f"{result.dispatchers_ms:.2f} + {result.workers_ms:.2f} ({result.dispatchers_share:.0%})",
        f"{result.call_kb:.0f}",
        _latency(result.into),
        _latency(result.out),
        str(result.intact),
        f"{result.peers_ms:.2f}",
        f"{result.others:.0%}",
    )


def _spread(spread: Spread, digits: int) -> str:
    return f"{spread.median:.{digits}f} ({spread.lowest:.{digits}f} to {spread.highest:.{digits}f})"


def _latency(latency: Latency | None) -> str:
    return "none" if latency is None else f"{latency.p50_ms:.2f} / {latency.p99_ms:.2f}"


def _machine() -> str:
    model = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo") as lines:  # noqa: PTH123 - not a file of this project
            model = next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{model}, {os.cpu_count()} CPUs, {platform.system()} {platform.release()}"


def _versions() -> str:
    packages = ", ".join(f"{name} {version(name)}" for name in ("uvloop", "websockets", "numpy", "orjson"))
    built = "compiled" if COMPILED else "from its sources"
    return f"{platform.python_implementation()} {platform.python_version()}, {packages}; the call path {built}"


PARTS: dict[str, Callable[[Bench], Awaitable[None]]] = {
    "cpu": Bench.cpu,
    "latency": Bench.latency,
    "grouping": Bench.grouping,
    "g711": Bench.g711,
    "tls": Bench.tls,
    "dispatchers": Bench.dispatchers,
    "intact": Bench.intact,
    "overload": Bench.overload,
    "recordings": Bench.recordings,
    "new": Bench.new,
    "pins": Bench.pins,
    "outage": Bench.outage,
    "tools": Bench.tools,
    "traces": Bench.traces,
    "mute": Bench.mute,
    "records": Bench.records,
    "coordination": Bench.coordination,
    "cells": Bench.cells,
}


async def _run(bench: Bench, parts: list[str]) -> int:
    bench.refer()
    for part in parts:
        await PARTS[part](bench)
    sys.stdout.write(bench.table())
    return 1 if bench.problems else 0


def main() -> int:
    """Run the requested parts; return 0 only if all audio has arrived."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument("parts", nargs="*", default=list(PARTS), help=f"parts of {', '.join(PARTS)}; default: all")
    parser.add_argument(
        "--windows", type=int, default=5, help="number of windows in each run (default %(default)s)"
    )
    parser.add_argument("--seconds", type=float, default=3.0, help="length of a window (default %(default)s)")
    parser.add_argument("--warm-up", type=float, default=4.0, help="time before the first (default %(default)s s)")
    options = parser.parse_args()
    if unknown := set(options.parts) - PARTS.keys():
        parser.error(f"no such part: {', '.join(sorted(unknown))}; there are {', '.join(PARTS)}")
    try:
        return asyncio.run(_run(Bench(options.windows, options.seconds, options.warm_up), options.parts))
    except BenchError as error:
        sys.stderr.write(f"bench: {error}\n")
        return 2
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
