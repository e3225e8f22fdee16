"""The service as its operator runs it, between a simulated AVR Core and a Realtime API, and what it uses.

`serve` with default settings and a real Redis; the simulated ends are processes of their own.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import sys
import time
from collections.abc import AsyncIterator, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psutil

from tests.bench.core import Workload
from tests.bench.model import NAME
from tests.redis_process import RealRedis, find_redis_server
from tests.scenarios.processes import ServiceProcess

_REPOSITORY = Path(__file__).resolve().parents[2]
# Of localhost alone, and in nobody's trust store but that of these runs.
CERTIFICATE = _REPOSITORY / "tests" / "worker" / "realtime" / "self_signed.pem"
# Children that are only now starting are no part of it yet.
SETTLE_SECONDS = 1.0


class BenchError(Exception):
    """The benchmark could not be run; one line for people."""


class Peer:
    """A simulated end, as a process that reports when its stdin ends."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process
        self.process = psutil.Process(process.pid)

    @classmethod
    async def start(cls, module: str, *arguments: str, order: bytes = b"") -> Peer:
        """Start `python -m module`."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            module,
            *arguments,
            cwd=_REPOSITORY,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            limit=2**30,
        )
        assert process.stdin is not None
        process.stdin.write(order)
        return cls(process)

    async def line(self) -> str:
        """The next line that it writes."""
        assert self._process.stdout is not None
        line = await self._process.stdout.readline()
        if not line:
            raise BenchError("a simulated end of the benchmark has died")
        return line.decode().strip()

    async def report(self) -> Any:
        """End it, and return what it saw."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        text = await self._process.stdout.read()
        await self._process.wait()
        return orjson.loads(text)

    async def kill(self) -> None:
        """End it, whatever it does."""
        if self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()


@dataclass(slots=True)
class Use:
    """What processes of one kind take.

    Attributes:
        cpu_seconds: since they started, children included.
        rss_bytes: resident, of all.
        uss_bytes: theirs alone: what would be free without them.
    """

    cpu_seconds: float = 0.0
    rss_bytes: int = 0
    uss_bytes: int = 0

    def __add__(self, other: Use) -> Use:
        return Use(
            self.cpu_seconds + other.cpu_seconds,
            self.rss_bytes + other.rss_bytes,
            self.uss_bytes + other.uss_bytes,
        )

    @classmethod
    def of(cls, process: psutil.Process, *, memory: bool = False) -> Use:
        """Of a process and all that descend from it."""
        total = cls()
        for each in (process, *process.children(recursive=True)):
            times = each.cpu_times()
            total.cpu_seconds += times.user + times.system
            if memory:
                full = each.memory_full_info()
                total.rss_bytes += full.rss
                total.uss_bytes += full.uss
        return total


@dataclass(slots=True)
class Window:
    """What was used between two moments, in CPU seconds; `others`: by all that has nothing to do with it."""

    seconds: float
    dispatchers: float
    workers: float
    busiest: float
    parent: float
    core: float
    model: float
    others: float


@dataclass(slots=True)
class Run:
    """One run of so many calls.

    Attributes:
        surplus: calls on top of these, that there was no room for.
        windows: CPU, piece by piece.
        idle, busy: memory of (dispatchers, workers) before there was a call, and with all of them.
        workers: processes.
        began_seconds, ended_seconds: of what was measured.
        core: what AVR Core saw.
        model: what the API saw.
    """

    calls: int
    surplus: int = 0
    windows: list[Window] = field(default_factory=list)
    idle: tuple[Use, Use] = field(default_factory=lambda: (Use(), Use()))
    busy: tuple[Use, Use] = field(default_factory=lambda: (Use(), Use()))
    workers: int = 0
    began_seconds: float = 0.0
    ended_seconds: float = 0.0
    core: dict[str, Any] = field(default_factory=dict)
    model: list[dict[str, Any]] = field(default_factory=list)


class Service:
    """A running `serve`, and the API that it talks to."""

    def __init__(self, process: ServiceProcess, model: Peer, port: int, audio_format: str) -> None:
        self.port = port
        self.audio_format = audio_format
        self.model = model
        self._parent = psutil.Process(process.pid)
        children = self._parent.children()
        self.dispatchers = [child for child in children if "dispatcher" in child.cmdline()]
        self.workers = [child for child in children if "worker" in child.cmdline()]

    def memory(self) -> tuple[Use, Use]:
        """Memory of (dispatchers, workers)."""
        return (
            sum((Use.of(each, memory=True) for each in self.dispatchers), Use()),
            sum((Use.of(each, memory=True) for each in self.workers), Use()),
        )

    def _cpu(self, core: Peer) -> tuple[float, dict[str, list[float]]]:
        groups: dict[str, Iterable[psutil.Process]] = {
            "dispatchers": self.dispatchers,
            "workers": self.workers,
            "core": [core.process],
            "model": [self.model.process],
        }
        used = {name: [Use.of(each).cpu_seconds for each in group] for name, group in groups.items()}
        parent = self._parent.cpu_times()
        used["parent"] = [parent.user + parent.system]
        machine = psutil.cpu_times()
        used["machine"] = [machine.user + machine.nice + machine.system + machine.irq + machine.softirq]
        return time.monotonic(), used

    async def run(self, orders: Workload, *, warm_up_seconds: float, windows: int, window_seconds: float) -> Run:
        """Place calls and measure; the service can be used once, as the API reports at its end."""
        run = Run(orders.calls, orders.surplus, workers=len(self.workers))
        run.idle = self.memory()
        core = await Peer.start("tests.bench.core", order=orjson.dumps(orders) + b"\n")
        try:
            await core.line()
            await asyncio.sleep(warm_up_seconds)
            run.began_seconds, before = self._cpu(core)
            at = run.began_seconds
            for _ in range(windows):
                await asyncio.sleep(window_seconds)
                now, after = self._cpu(core)
                used = {
                    name: [new - old for new, old in zip(after[name], before[name], strict=True)] for name in after
                }
                sums = {name: sum(each) for name, each in used.items()}
                ours = sum(sums.values()) - sums["machine"]
                run.windows.append(
                    Window(
                        now - at,
                        sums["dispatchers"],
                        sums["workers"],
                        max(*used["dispatchers"], *used["workers"]),
                        sums["parent"],
                        sums["core"],
                        sums["model"],
                        max(0.0, sums["machine"] - ours),
                    )
                )
                at, before = now, after
            run.ended_seconds = at
            run.busy = self.memory()
            run.core = await core.report()
            await asyncio.sleep(SETTLE_SECONDS)
            run.model = await self.model.report()
        finally:
            await core.kill()
        return run


@contextlib.asynccontextmanager
async def redis() -> AsyncIterator[RealRedis]:
    """A real Redis of our own."""
    executable = find_redis_server()
    if executable is None:
        raise BenchError("redis-server is missing: install Redis")
    server = RealRedis(executable)
    try:
        yield server
    finally:
        server.close()


@contextlib.asynccontextmanager
async def running(*, audio_format: str = "pcm", tls: bool = False, **settings: object) -> AsyncIterator[Service]:
    """`serve`, a Redis and an API, until the end of the block."""
    arguments = [audio_format, *([str(CERTIFICATE)] if tls else [])]
    model = await Peer.start("tests.bench.model", *arguments)
    try:
        model_port = int(await model.line())
        if tls:
            settings["SSL_CERT_FILE"] = CERTIFICATE
        async with redis() as server:
            process = await ServiceProcess.start(
                "serve",
                REDIS_URL=server.url,
                PORT=0,
                ADMIN_PORT=0,
                OPENAI_API_KEY="the-simulator-takes-any",
                OPENAI_BASE_URL=f"{'wss' if tls else 'ws'}://localhost:{model_port}/v1/realtime",
                OPENAI_INSTRUCTIONS=NAME + "{from}",
                OPENAI_AUDIO_FORMAT=audio_format,
                FALLBACK_WAV="none",  # a refusal is timed
                **{"WORKERS": os.cpu_count() or 1} | settings,
            )
            try:
                listening = await process.line("dispatcher listening")
                await process.line("serving")
                await asyncio.sleep(SETTLE_SECONDS)
                yield Service(process, model, int(listening["port"]), audio_format)
            finally:
                await process.stop()
    finally:
        await model.kill()
