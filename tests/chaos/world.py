"""The real parts of a chaos run: processes, Redis, the Realtime simulator, and their logs."""

from __future__ import annotations

import asyncio
import contextlib
import math
import random
import re
import signal
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import aiohttp
import orjson
import psutil
import redis

from common.store.keys import KEY_PREFIX
from simulator.avr.ami import AmiDouble
from tests.chaos import announcements, script, sockets
from tests.chaos.call_rules import TOOL
from tests.chaos.callers import RECONNECT_SECONDS, Caller
from tests.chaos.disk import Disk
from tests.chaos.facts import Breach, Fault, FaultKind, Frozen, Pin, ToolRun
from tests.chaos.instructions_service import InstructionsService
from tests.chaos.realtime import RealtimeProcess
from tests.chaos.service_logs import ServiceLogs
from tests.redis_process import RealRedis, find_redis_server
from tests.scenarios.processes import KEY, ServiceProcess

WORKER_DRAIN_SECONDS = 8.0
SHORT_DRAIN_SECONDS = 3.0
DISPATCHER_DRAIN_SECONDS = 120.0
TOOL_SECONDS = 0.6
# Indexes of processes, which hold nothing of calls.
_LASTING = re.compile(r"dispatchers|departed|table|loads|left|releases|dispatcher:.+:checks")
# Time that a process may take beyond its drain time.
_END_SECONDS = 4.0
_HTTP_SECONDS = 5.0
# A worker keeps a call this long for an absent caller: CALL_RECONNECT_SECONDS, and 5 s more.
UNSEEN_END_SECONDS = RECONNECT_SECONDS + 5.0


@dataclass(slots=True, eq=False)
class Member:
    """A dispatcher or worker.

    Attributes:
        id: id in Redis.
        port: a dispatcher's PORT, or the port of a worker's links.
        going: whether it was killed, or told to stop.
        stopped: whether SIGSTOP has stopped it.
        drain_seconds: DRAIN_SECONDS of a worker.
        rss_bytes: memory when it was ready.
        ready_seconds: time at which it was ready.
    """

    process: ServiceProcess
    id: str
    port: int
    admin_port: int
    going: bool = False
    stopped: bool = False
    drain_seconds: float = WORKER_DRAIN_SECONDS
    rss_bytes: int = 0
    ready_seconds: float = field(default_factory=time.monotonic)

    @property
    def url(self) -> str:
        """Return the address of a dispatcher for AVR Core."""
        return f"ws://127.0.0.1:{self.port}"

    @property
    def admin_url(self) -> str:
        """Return the address of the admin port."""
        return f"http://127.0.0.1:{self.admin_port}"

    @property
    def is_well(self) -> bool:
        """Tell whether the process works and should continue."""
        return not self.going and not self.stopped and self.process.returncode is None


@dataclass(slots=True)
class RunLog:
    """The faults done and the breaches found so far."""

    faults: list[Fault] = field(default_factory=list)
    breaches: list[Breach] = field(default_factory=list)
    frozen: list[Frozen] = field(default_factory=list)


class World:
    """The service under test.

    Args:
        rollover_seconds: SESSION_ROLLOVER_SECONDS of the workers.

    Attributes:
        urls: addresses of the dispatchers that take new calls.
        callers: callers with a call, by uuid.
        strangers: uuids of calls of hostile cores.
        disk: disk with the temporary files of all processes.
        redis_lock: held by a fault of Redis, or by one that needs Redis.
        is_over: whether no more faults begin.
        redis_left_seconds: start of the fault that keeps Redis away now; None: Redis runs.
        redis_back_seconds: end of the last fault of Redis.
        redis_whole_seconds: earlier spans in which Redis ran.
    """

    def __init__(self, *, rollover_seconds: float = 3300.0) -> None:
        self.run_log = RunLog()
        self.workers: list[Member] = []
        self.dispatchers: list[Member] = []
        self.urls: list[str] = []
        self.callers: dict[str, Caller] = {}
        self.strangers: set[str] = set()
        self.redis_lock = asyncio.Lock()
        self.is_over = False
        self.redis_left_seconds: float | None = None
        self.redis_back_seconds = -math.inf
        self.redis_whole_seconds: list[tuple[float, float]] = []
        self.ami = AmiDouble()
        self.rollover_seconds = rollover_seconds
        self._directory = tempfile.TemporaryDirectory(prefix="chaos-")
        self._tool_log_read = 0
        self._tool_runs: dict[str, list[ToolRun]] = defaultdict(list)
        self._children = 0
        self._records = Path(self._directory.name) / "records"
        self._records.mkdir()
        self._tool_log = Path(self._directory.name) / "runs.jsonl"
        self._gone: list[Member] = []
        self._gone_at: dict[str, float] = {}
        self._ended_at: dict[str, float] = {}
        self._ending: set[asyncio.Task[None]] = set()
        self._stack = contextlib.AsyncExitStack()
        self.disk = Disk(Path(self._directory.name) / "disk")
        self._stack.callback(self.disk.close)
        self._logs = ServiceLogs()
        self._dispatchers_started = 0
        self._told_of_death: set[ServiceProcess] = set()

    async def __aenter__(self) -> Self:
        executable = find_redis_server()
        if executable is None:
            raise RuntimeError("redis-server is missing: neither on PATH nor in the virtual environment")
        self.redis = await asyncio.to_thread(RealRedis, executable)
        self._stack.callback(self.redis.close)
        self.realtime = await RealtimeProcess.start()
        self._stack.push_async_callback(self.realtime.stop)
        await self._stack.enter_async_context(self.ami)
        instructions = await self._stack.enter_async_context(InstructionsService())
        self._http = await self._stack.enter_async_context(
            aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=_HTTP_SECONDS))
        )
        tools = Path(self._directory.name) / "tools"
        tools.mkdir()
        source = script.tool_source(str(self._tool_log), TOOL_SECONDS)
        (tools / f"{TOOL}.py").write_text(source, encoding="utf-8")
        fallback, self._filler = announcements.write(Path(self._directory.name))
        self._settings: dict[str, object] = {
            "REDIS_URL": self.redis.url,
            "OPENAI_API_KEY": KEY,
            "OPENAI_BASE_URL": self.realtime.url,
            "OPENAI_URL_INSTRUCTIONS": instructions.url,
            "AMI_URL": self.ami.url,
            "TOOLS_DIR": tools,
            "WORKER_ADDRESS": "127.0.0.1",
            "WORKER_PORT": 0,
            "PORT": 0,
            "ADMIN_PORT": 0,
            "CALL_RECONNECT_SECONDS": round(RECONNECT_SECONDS),
            "SESSION_ROLLOVER_SECONDS": round(self.rollover_seconds),
            "FALLBACK_WAV": fallback,
            "CALL_RECORDS_DIR": self._records,
            "CALL_RECORDS_TEXT": "true",
            "TMPDIR": self.disk.path,
        }
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._ending:
            task.cancel()
        await asyncio.gather(*self._ending, return_exceptions=True)
        for member in self.members:
            if member.process.returncode is None:
                member.process.signal(signal.SIGCONT)
        await asyncio.gather(*(member.process.kill() for member in self.members))
        await self._stack.aclose()
        self._directory.cleanup()

    # Processes

    @property
    def members(self) -> list[Member]:
        """Return all processes of the service that were ever started."""
        return [*self.workers, *self.dispatchers, *self._gone]

    async def start(self, *, workers: int, dispatchers: int) -> None:
        """Start the service, and return when each dispatcher has a link to each worker."""
        await asyncio.gather(*(self.add_worker() for _ in range(workers)))
        await asyncio.gather(*(self.add_dispatcher() for _ in range(dispatchers)))
        for dispatcher in self.dispatchers:
            for worker in self.workers:
                await dispatcher.process.line("link up", worker=worker.id)

    async def add_worker(self) -> Member:
        """Start one more worker."""
        child = self._child_settings()
        # Every second worker waits for a quiet moment for less time than a reply takes.
        drain_seconds = WORKER_DRAIN_SECONDS if self._children % 2 else SHORT_DRAIN_SECONDS
        settings = self._settings | child | {"DRAIN_SECONDS": drain_seconds}
        process = await ServiceProcess.start("worker", **settings)
        line = await process.line("worker listening")
        port = int(line["address"].rpartition(":")[2])
        member = Member(process, line["worker"], port, line["admin_port"] or 0, drain_seconds=drain_seconds)
        member.rss_bytes = _rss_bytes(process.pid)
        self.workers.append(member)
        return member

    async def add_dispatcher(self) -> Member:
        """Start one more dispatcher, which takes new calls as soon as it can. One of three plays filler."""
        self._dispatchers_started += 1
        filler = self._filler if self._dispatchers_started % 3 == 0 else "none"
        # Every second dispatcher runs as under `serve`, and closes calls that outlast its drain.
        child = self._child_settings() if self._dispatchers_started % 2 else {}
        settings = {**self._settings, **child, "DRAIN_SECONDS": DISPATCHER_DRAIN_SECONDS, "FILLER_WAV": filler}
        process = await ServiceProcess.start("dispatcher", **settings)
        line = await process.line("dispatcher listening")
        member = Member(process, line["dispatcher"], line["port"], line["admin_port"])
        member.rss_bytes = _rss_bytes(process.pid)
        await process.line("link up")
        self.dispatchers.append(member)
        self.urls.append(member.url)
        return member

    def _child_settings(self) -> dict[str, object]:
        """Return the settings that `serve` gives a child: the folder of metrics files that all processes read."""
        self._children += 1
        directory = self.disk.path / f"metrics-{self._children}"
        directory.mkdir()
        return {"AVR_STS_INDEX": self._children, "AVR_STS_METRICS_DIR": directory}

    async def replace_dead(self) -> None:
        """Start a process for each that ended without a command, as an orchestrator does."""
        self.look_for_deaths()
        for members, add in ((self.workers, self.add_worker), (self.dispatchers, self.add_dispatcher)):
            for member in [each for each in members if each.process.returncode is not None]:
                self._let_go(member)
                self._gone_at[member.id] = time.monotonic()
                await add()

    async def kill(self, member: Member) -> None:
        """Send SIGKILL."""
        self._let_go(member)
        await member.process.kill()
        self._gone_at[member.id] = time.monotonic()

    async def tell_to_stop(self, member: Member, *, drain_seconds: float) -> None:
        """Send SIGTERM; expect an end with 0 within `drain_seconds`, and do not wait for it."""
        self._let_go(member)
        member.process.signal(signal.SIGTERM)
        task = asyncio.create_task(self._await_end(member, drain_seconds))
        self._ending.add(task)
        task.add_done_callback(self._ending.discard)

    async def stopped(self) -> None:
        """Wait until all processes that were told to stop have ended."""
        await asyncio.gather(*self._ending)

    async def is_alive(self, member: Member, timeout_seconds: float) -> bool:
        """Probe a process as an orchestrator does, and tell whether `GET /livez` was answered in time."""
        timeout = aiohttp.ClientTimeout(total=timeout_seconds)
        try:
            async with self._http.get(f"{member.admin_url}/livez", timeout=timeout) as response:
                return response.status == 200
        except (aiohttp.ClientError, TimeoutError):
            return False

    def look_for_deaths(self) -> None:
        """Note processes that ended without a command."""
        for member in (*self.workers, *self.dispatchers):
            code = member.process.returncode
            if code is not None and not member.going and member.process not in self._told_of_death:
                self._told_of_death.add(member.process)
                what = (
                    f"{member.process.name} {member.id} ended by itself with {code}: {member.process.raw[-2000:]}"
                )
                self.run_log.breaches.append(Breach("process", what, time.monotonic()))

    async def _await_end(self, member: Member, drain_seconds: float) -> None:
        began_seconds = time.monotonic()
        try:
            code = await member.process.ended(drain_seconds + _END_SECONDS)
        except TimeoutError:
            what = (
                f"{member.process.name} {member.id} has not ended {drain_seconds + _END_SECONDS:g} s after SIGTERM"
            )
        else:
            self._gone_at[member.id] = time.monotonic()
            if code == 0:
                return
            what = f"{member.process.name} {member.id} ended with {code} after SIGTERM"
        self.run_log.breaches.append(Breach("exit", what, began_seconds))

    def _let_go(self, member: Member) -> None:
        if member.going:
            return
        member.going = True
        for group in (self.workers, self.dispatchers):
            if member in group:
                group.remove(member)
        self._gone.append(member)
        if member.url in self.urls:
            self.urls.remove(member.url)

    # Holders of calls

    def up(self) -> dict[str, Caller]:
        """Return callers whose call is placed and has not ended."""
        return {uuid: caller for uuid, caller in self.callers.items() if caller.is_up}

    def over(self, caller: Caller) -> None:
        """End a call. While its dispatcher hangs, the worker is not told of the end."""
        self.callers.pop(caller.uuid, None)
        self._ended_at[caller.uuid] = time.monotonic()
        if any(fault.kind is FaultKind.HANG_DISPATCHER for fault in caller.facts.faults):
            self._ended_at[caller.uuid] += UNSEEN_END_SECONDS

    def ended_since(self, since_seconds: float) -> frozenset[str]:
        """Return calls that ended after this time."""
        return frozenset(uuid for uuid, at_seconds in self._ended_at.items() if at_seconds >= since_seconds)

    def gone_before(self, before_seconds: float) -> frozenset[str]:
        """Return workers and dispatchers that ended before this time."""
        return frozenset(id_ for id_, at_seconds in self._gone_at.items() if at_seconds < before_seconds)

    @property
    def is_moving(self) -> bool:
        """Tell whether a worker that was told to stop is still running."""
        return any(member.process.name == "worker" and member.process.returncode is None for member in self._gone)

    def calls_at(self, dispatcher: Member) -> frozenset[str]:
        """Return calls whose caller is connected to this dispatcher."""
        return frozenset(
            uuid
            for uuid, caller in self.callers.items()
            if caller.call is not None and caller.call.url == dispatcher.url
        )

    async def calls_on(self, worker: Member) -> frozenset[str]:
        """Return calls whose session this worker's process holds, as the simulator sees it."""
        peers = await asyncio.to_thread(sockets.peers_of, worker.process.pid, self.realtime.port)
        return frozenset(uuid for uuid, session in await self.live() if session["peer"] in peers)

    async def hold(self, worker: Member) -> tuple[Frozen, frozenset[str]]:
        """Stop a worker's process, and return what is stopped, and the calls that it holds.

        Both are exact: a process that ran on could open a session after it was looked at. Whoever kills or wakes
        it sets the end.
        """
        worker.stopped = True
        frozen = Frozen(time.monotonic(), math.inf)
        worker.process.signal(signal.SIGSTOP)
        # Not in a thread: these may all be busy, and this is read in milliseconds.
        frozen.peers = sockets.peers_of(worker.process.pid, self.realtime.port)
        self.run_log.frozen.append(frozen)
        return frozen, frozenset(uuid for uuid, session in await self.live() if session["peer"] in frozen.peers)

    async def live(self) -> list[tuple[str, dict[str, Any]]]:
        """Return open Realtime sessions, with the call of each."""
        sessions = []
        for session in await self.realtime.live():
            uuid = script.uuid_in(session["instructions"])
            if uuid in self.callers:
                sessions.append((uuid, session))
        return sessions

    async def session(self, rng: random.Random) -> tuple[str, dict[str, Any]] | None:
        """Choose a session that may answer, with its call; None: there is none."""
        live = [(uuid, session) for uuid, session in await self.live() if session["may_answer"]]
        return rng.choice(live) if live else None

    def hit(self, fault: Fault) -> None:
        """Note a fault in the calls that it hits."""
        self.run_log.faults.append(fault)
        for uuid in fault.calls:
            if (caller := self.callers.get(uuid)) is not None:
                caller.hit(fault)

    def hits_newcomers(self, fault: Fault) -> None:
        """Note a fault that has ended in the calls that began meanwhile."""
        new = frozenset(self.callers) - fault.calls
        fault.calls |= new
        for uuid in new:
            self.callers[uuid].hit(fault)

    # Logs and reports

    async def admin(self, path: str) -> list[dict[str, Any]] | None:
        """Return a dispatcher's answer to `GET /calls` or `/workers`; None while no dispatcher answers."""
        for dispatcher in self.dispatchers:
            if not dispatcher.is_well:
                continue
            try:
                async with self._http.get(f"{dispatcher.admin_url}{path}") as response:
                    if response.status == 200:
                        found: list[dict[str, Any]] = orjson.loads(await response.read())
                        return found
            except (aiohttp.ClientError, TimeoutError):
                continue
        return None

    def lines_of(self, uuid: str) -> list[tuple[str, dict[str, Any]]]:
        """Return all log lines of a call, in order of time: (process, line)."""
        self.read_logs()
        return self._logs.of(uuid)

    def read_logs(self) -> None:
        """Read new log lines."""
        self.run_log.breaches += self._logs.read(member.process for member in self.members)

    def pins_of(self, uuid: str) -> list[Pin]:
        """Return the workers that a call was assigned to, in order of time."""
        return [
            Pin(line["worker"], line["epoch"]) for _, line in self.lines_of(uuid) if line["event"] == "call pinned"
        ]

    def restorations_of(self, uuid: str) -> list[float]:
        """Return the times at which a dispatcher had to restore a call after the loss of its session."""
        lines = (line for _, line in self.lines_of(uuid) if line["event"] == "another session is needed")
        # Log lines have the time of day.
        behind_seconds = time.time() - time.monotonic()
        return [
            datetime.fromisoformat(line["timestamp"]).timestamp() - behind_seconds
            for line in lines
            if line["purpose"] == "recover"
        ]

    def forget(self, uuid: str) -> None:
        """Drop the log lines of a call that was judged."""
        self._logs.forget(uuid)

    def tool_runs_of(self, uuid: str) -> list[ToolRun]:
        """Return all runs of the tool for a call."""
        if self._tool_log.exists():
            with self._tool_log.open("rb") as log:
                log.seek(self._tool_log_read)
                new = log.read()
            whole = new[: new.rfind(b"\n") + 1]
            self._tool_log_read += len(whole)
            for line in whole.splitlines():
                run = ToolRun(**orjson.loads(line))
                self._tool_runs[run.uuid].append(run)
        return self._tool_runs.get(uuid, [])

    def redis_keys(self) -> list[str]:
        """Return all keys in Redis, without those that remember for a while that a record was delivered.

        When the last process has left, indexes of processes without a call end by themselves (docs/adr/0014).
        """
        with redis.Redis.from_url(self.redis.url, decode_responses=True) as client:
            return sorted(
                key
                for key in client.scan_iter("*")
                if not key.startswith(f"{KEY_PREFIX}records:")
                and not (_LASTING.fullmatch(key.removeprefix(KEY_PREFIX)) and client.pttl(key) > 0)
            )

    def records(self) -> list[dict[str, Any]]:
        """Return the call records that the processes have written."""
        lines = [line for path in sorted(self._records.iterdir()) for line in path.read_bytes().splitlines()]
        return [orjson.loads(line) for line in lines if line.endswith(b"}")]

    def flush_redis(self) -> None:
        """Send FLUSHALL."""
        with redis.Redis.from_url(self.redis.url) as client:
            client.flushall()

    def grown_bytes(self) -> dict[str, int]:
        """Return the growth in memory of each living process since it was ready."""
        living = [member for member in (*self.workers, *self.dispatchers) if member.process.returncode is None]
        return {
            f"{member.process.name} {member.process.pid}": _rss_bytes(member.process.pid) - member.rss_bytes
            for member in living
        }


def _rss_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
