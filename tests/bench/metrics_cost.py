"""The cost of the metrics: `python -m tests.bench.metrics_cost [--calls N] [--seconds S]`.

It is their share of a loaded worker's CPU: counts under load (from the metrics themselves), times the cost of one
count, divided by the process's CPU time in the operating system. A scrape of 16 workers is timed as well.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import aiohttp
import psutil
from prometheus_client.parser import text_string_to_metric_families

from common.observe import metrics
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from simulator.terminal import table
from tests.helpers import eventually
from tests.scenarios.processes import KEY, ServiceProcess

SCRAPED_WORKERS = 16
SCRAPES = 30
START_SECONDS = 60.0
COUNTED = 100_000

Counts = dict[str, float]


async def main() -> None:
    """Measure, and print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=50)
    parser.add_argument("--seconds", type=float, default=15.0)
    args = parser.parse_args()
    rows = await _loaded_worker(args.calls, args.seconds)
    rows += await _scrapes()
    sys.stdout.write(table(rows))


async def _loaded_worker(calls: int, seconds: float) -> list[tuple[str, str]]:
    settings = SimulatorSettings(keep_audio=False, listen=False)
    async with RealtimeSimulator(settings) as simulator:
        serve = await _serve(simulator.url, workers=1)
        try:
            line = await serve.line("serving")
            worker = psutil.Process((await serve.line("worker listening"))["pid"])
            url, admin_url = f"ws://127.0.0.1:{line['port']}", f"http://127.0.0.1:{line['admin_port']}"
            load = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "common.runtime.cli", "load", url),
                *("--calls", str(calls), "--seconds", str(seconds + 8)),
                stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.DEVNULL,
            )
            await asyncio.sleep(5)  # all calls are up
            before, cpu_before = await _counts(admin_url), _cpu_seconds(worker)
            await asyncio.sleep(seconds)
            after, cpu_after = await _counts(admin_url), _cpu_seconds(worker)
            await load.wait()
        finally:
            await serve.kill()
    used_seconds = cpu_after - cpu_before
    counted = {name: after[name] - before.get(name, 0) for name in after}
    observed = sum(n for name, n in counted.items() if name.endswith("_count"))
    # Counters rise by more than 1 at a time: an increase of each, ten times a second, is an upper bound.
    increased = 10 * seconds * sum(1 for name, n in counted.items() if name.endswith("_total") and n)
    observe_us, increase_us = _cost_us()
    spent_seconds = (observed * observe_us + increased * increase_us) / 1e6
    return [
        ("calls, seconds", f"{calls}, {seconds:g}"),
        ("worker's CPU", f"{1000 * used_seconds / calls / seconds:.2f} ms per call-second"),
        ("observations", f"{observed / calls / seconds:.2f} per call-second, {observe_us:.1f} µs each"),
        ("increases, at most", f"{increased / calls / seconds:.2f} per call-second, {increase_us:.1f} µs each"),
        ("metrics' part of it", f"{100 * spent_seconds / used_seconds:.2f} %"),
    ]


async def _scrapes() -> list[tuple[str, str]]:
    serve = await _serve("ws://127.0.0.1:9/v1/realtime", workers=SCRAPED_WORKERS)
    try:
        line = await serve.line("serving")
        admin_url = f"http://127.0.0.1:{line['admin_port']}"
        await eventually(lambda: len(serve.events("worker listening")) == SCRAPED_WORKERS, START_SECONDS)
        dispatcher = psutil.Process((await serve.line("dispatcher listening"))["pid"])
        times_ms, lines, cpu = [], 0, _cpu_seconds(dispatcher)
        async with aiohttp.ClientSession() as http:
            for _ in range(SCRAPES):
                began = time.perf_counter()
                async with http.get(f"{admin_url}/metrics") as response:
                    lines = (await response.text()).count("\n")
                times_ms.append(1000 * (time.perf_counter() - began))
        cpu_ms = 1000 * (_cpu_seconds(dispatcher) - cpu) / SCRAPES
    finally:
        await serve.kill()
    median_ms = statistics.median(times_ms)
    return [
        (f"scrape of {SCRAPED_WORKERS} workers", f"median {median_ms:.1f} ms, max {max(times_ms):.1f} ms"),
        ("its CPU", f"{cpu_ms:.1f} ms, {lines} lines"),
    ]


async def _serve(realtime_url: str, *, workers: int) -> ServiceProcess:
    serve = await ServiceProcess.start(
        "serve", PORT=0, ADMIN_PORT=0, WORKERS=workers, OPENAI_API_KEY=KEY, OPENAI_BASE_URL=realtime_url
    )
    await serve.line("serving")
    return serve


async def _counts(admin_url: str) -> Counts:
    """Return the number of observations of each histogram, and the value of each counter, of the worker."""
    async with aiohttp.ClientSession() as http, http.get(f"{admin_url}/metrics") as response:
        text = await response.text()
    return {
        f"{sample.labels} {sample.name}": sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
        if sample.name.endswith(("_count", "_total")) and sample.labels.get("process") != "dispatcher"
    }


def _cpu_seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def _cost_us() -> tuple[float, float]:
    """Measure the cost of a count, in a file that is shared as under `serve`."""
    with tempfile.TemporaryDirectory() as directory:
        metrics.share(Path(directory), "bench")
        worker = metrics.worker()
        tokens = worker.tokens("m").output_audio
        return _time_us(lambda: worker.relay_in.observe(0.0004)), _time_us(tokens.inc)


def _time_us(action: Callable[[], None]) -> float:
    began = time.process_time()
    for _ in range(COUNTED):
        action()
    return 1e6 * (time.process_time() - began) / COUNTED


if __name__ == "__main__":
    asyncio.run(main())
