"""The parent of `serve`: starts dispatchers, workers and the embedded Redis, and holds no call itself.

A child that dies is restarted. A child that hangs is killed first. A child that cannot start because of a wrong
setting ends the whole start. The parent ends last, after its children, in an order that lets running calls end.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

from common.errors import ServiceError, SettingsError
from common.net.ports import ALL_ADDRESSES, outward_address, port_of, reserve_port
from common.observe import log_writer, logs, metrics
from common.runtime.banner import banner
from common.runtime.child import Child
from common.runtime.child_environment import environment_of
from common.runtime.heartbeat import MAX_SILENCE_SECONDS, Watchdog
from common.runtime.process import Process, process_metrics, watch_process
from common.runtime.release import RELEASE
from common.runtime.runtime_folder import runtime_folder
from common.settings.child_settings import ChildSettings
from common.settings.roles import Role
from common.settings.settings import Settings

REDIS_SOCKET: Final = "redis.sock"

MAX_SOCKET_PATH_BYTES: Final = 103
"""The kernel's limit of a socket's path: 103 on macOS and BSD, 107 on Linux (unix(7), `sun_path`)."""

SHORT_FOLDER: Final = Path("/tmp")  # noqa: S108 - the folder that is made there is private
"""The folder for the embedded Redis if the path in TMPDIR is too long."""

KILLED_SECONDS: Final = 1.0
"""Time for the kernel to end a process after SIGKILL."""

CHILD_DRAIN_PART: Final = 0.75
"""A child's share of DRAIN_SECONDS. After that it disconnects its calls, and needs a moment to report that."""

DISPATCHERS_GONE_PART: Final = 0.85
"""Share of DRAIN_SECONDS after which workers are told to end, even if dispatchers have not ended."""

BANNER_SECONDS: Final = 10.0
"""Maximum time after `serving` until the banner is shown, although a process is not ready yet."""

_log = logs.get_logger()


@dataclass(frozen=True, slots=True)
class SupervisorLimits:
    """Times that `serve` gives its children.

    Attributes:
        redis_start_seconds: the embedded Redis may take to start.
        max_silence_seconds: a child's heartbeat may pause, before the child is killed as hung.
    """

    redis_start_seconds: float = 30.0
    max_silence_seconds: float = MAX_SILENCE_SECONDS


DEFAULT_LIMITS: Final = SupervisorLimits()


def command_of(role: Role) -> tuple[str, ...]:
    """Return the command of a child: this Python, without modules from the working directory."""
    return (sys.executable, "-P", "-m", "common.runtime.cli", role.value)


async def run(settings: Settings, process: Process, limits: SupervisorLimits = DEFAULT_LIMITS) -> int:
    """Serve until `process` must stop; return its exit code.

    Raises:
        SettingsError: a port is taken, or there is no temporary folder.
        ServiceError: the embedded Redis does not start.
    """
    with ExitStack() as stack:
        port = stack.enter_context(reserve_port(ALL_ADDRESSES, settings.port, variable="PORT"))
        admin = stack.enter_context(reserve_port(ALL_ADDRESSES, settings.admin_port, variable="ADMIN_PORT"))
        folder = stack.enter_context(runtime_folder())
        metrics_dir = folder / "metrics"
        metrics_dir.mkdir()
        metrics.share(metrics_dir, Role.SERVE)
        supervisor = Supervisor(
            settings,
            process,
            port=port_of(port),
            admin_port=port_of(admin),
            metrics_dir=metrics_dir,
            redis_socket=_redis_socket(folder, stack) if settings.redis_url is None else None,
            limits=limits,
        )
        watch = asyncio.create_task(watch_process(process_metrics(Role.SERVE, None)))
        try:
            return await supervisor.run()
        finally:
            watch.cancel()


def _redis_socket(folder: Path, stack: ExitStack) -> Path:
    """Return the path of the embedded Redis's socket: in `folder`, unless the path would be too long."""
    path = folder / REDIS_SOCKET
    if len(os.fsencode(path)) <= MAX_SOCKET_PATH_BYTES:
        return path
    try:
        return stack.enter_context(runtime_folder(SHORT_FOLDER)) / REDIS_SOCKET
    except SettingsError as error:
        raise SettingsError(
            f"the embedded Redis cannot listen on {path}: the path is longer than {MAX_SOCKET_PATH_BYTES} bytes. "
            f"Set REDIS_URL, or TMPDIR to a shorter path ({error})"
        ) from None


class Supervisor:
    """The children of one `serve`."""

    def __init__(
        self,
        settings: Settings,
        process: Process,
        *,
        port: int,
        admin_port: int,
        metrics_dir: Path,
        redis_socket: Path | None,
        limits: SupervisorLimits,
    ) -> None:
        self._settings = settings
        self._limits = limits
        self._process = process
        self._port = port
        self._admin_port = admin_port
        self._metrics_dir = metrics_dir
        self._redis_socket = redis_socket
        measured = metrics.supervisor()
        self._restarts = {Role.WORKER: measured.worker_restarts, Role.DISPATCHER: measured.dispatcher_restarts}
        self._redis_restarts = measured.redis_restarts
        log_writer.count_dropped(metrics.supervisor().log_lines_dropped.inc)
        self._redis: Child | None = None
        self._workers: list[Child] = []
        self._dispatchers: list[Child] = []
        self._serving = False
        self._exit_code = 0
        process.calls = metrics.calls_active

    async def run(self) -> int:
        """Start all children, wait until the process must stop, and stop all children."""
        try:
            redis_url = self._settings.redis_url
            if self._redis_socket is not None:
                redis_url = await self._start_redis(self._redis_socket)
            if redis_url is not None:
                self._start_calls(redis_url)
                await self._serve()
        finally:
            await self._shut_down()
        return self._exit_code

    async def _start_redis(self, path: Path) -> str | None:
        """Return the URL of the embedded Redis; None if the process must stop meanwhile."""
        command = (sys.executable, "-P", "-m", "common.store.embedded_redis", str(path), "--beats")
        environment = environment_of(None, os.environ)
        child = Child(
            "redis",
            command,
            environment,
            ready_variable=None,
            ended=self._redis_ended,
            watchdog=self._watchdog,
        )
        self._redis = child
        child.start()
        start_seconds = self._limits.redis_start_seconds
        if not await self._unless_draining([child], start_seconds):
            if self._process.draining.is_set():
                return None
            raise ServiceError(f"the embedded Redis did not start within {start_seconds:g} s: set REDIS_URL")
        return f"unix://{quote(str(path))}"

    def _start_calls(self, redis_url: str) -> None:
        environment = {
            "DRAIN_SECONDS": str(self._settings.drain_seconds * CHILD_DRAIN_PART),
            "REDIS_URL": redis_url,
            "PORT": str(self._port),
            "ADMIN_PORT": str(self._admin_port),
            "WORKER_PORT": "0",
            "WORKER_ADDRESS": "127.0.0.1",
        }
        if self._redis is None:
            # Each child reads REDIS_URL itself, so that its password can be replaced.
            del environment["REDIS_URL"]
        self._workers = [self._child(Role.WORKER, index, environment) for index in range(self._settings.workers)]
        self._dispatchers = [
            self._child(Role.DISPATCHER, index, environment) for index in range(self._settings.dispatchers)
        ]
        for child in (*self._workers, *self._dispatchers):
            child.start()
            self._process.reloaded.append(child.reload)

    def _child(self, role: Role, index: int, environment: dict[str, str]) -> Child:
        name = f"{role}-{index}"

        def ended(status: int) -> bool:
            metrics.mark_process_dead(name)
            if status == os.EX_CONFIG and not self._serving:
                self._exit_code = os.EX_CONFIG
                self._process.request_stop()
            again = self._start_again(status)
            if again:
                self._restarts[role].inc()
            return again

        child = ChildSettings(index=index, metrics_dir=self._metrics_dir)
        return Child(
            name,
            command_of(role),
            environment_of(role, os.environ, self._settings.tools_env or ()) | environment | child.environment(),
            ready_variable="AVR_STS_READY_FD",
            ended=ended,
            watchdog=self._watchdog,
        )

    def _watchdog(self, now: float) -> Watchdog:
        return Watchdog(now, max_silence_seconds=self._limits.max_silence_seconds)

    def _redis_ended(self, status: int) -> bool:
        again = self._start_again(status)
        if again:
            self._redis_restarts.inc()
        return again

    def _start_again(self, _status: int) -> bool:
        return not self._process.draining.is_set()

    async def _serve(self) -> None:
        if await self._unless_draining(self._dispatchers, None):
            self._serving = True
            _log.info(
                "serving",
                port=self._port,
                admin_port=self._admin_port,
                workers=len(self._workers),
                dispatchers=len(self._dispatchers),
                redis="embedded" if self._redis is not None else "external",
            )
            if sys.stderr is not None and sys.stderr.isatty():
                await self._show_banner()
        await self._process.draining.wait()

    async def _show_banner(self) -> None:
        """Tell a person at the terminal where the service is.

        Wait until everything listens, at most `BANNER_SECONDS`.
        """
        all_ready = asyncio.gather(*(child.ready.wait() for child in (*self._workers, *self._dispatchers)))
        draining = asyncio.ensure_future(self._process.draining.wait())
        waits: set[asyncio.Future[Any]] = {all_ready, draining}
        await asyncio.wait(waits, timeout=BANNER_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        for wait in waits:
            wait.cancel()
        if not self._process.draining.is_set():
            text = banner(
                self._settings,
                host=outward_address(),
                port=self._port,
                admin_port=self._admin_port,
                title=f"avr-sts-openai {RELEASE}",
            )
            sys.stderr.write(text)

    async def _unless_draining(self, children: Sequence[Child], timeout_seconds: float | None) -> bool:
        """Wait for the first ready child; return False if the time is over, or the process must stop."""
        ready = [asyncio.create_task(child.ready.wait()) for child in children]
        draining = asyncio.create_task(self._process.draining.wait())
        done, _ = await asyncio.wait(
            {*ready, draining}, timeout=timeout_seconds, return_when=asyncio.FIRST_COMPLETED
        )
        for task in (*ready, draining):
            task.cancel()
        return bool(done) and draining not in done

    async def _shut_down(self) -> None:
        """End all children by the drain's deadline, or as soon as a second signal comes."""
        if not self._process.draining.is_set():
            self._process.request_stop()
        deadline = self._process.drain_deadline or 0.0
        _log.info("stopping", seconds=self._settings.drain_seconds)

        # 1. Dispatchers accept no new calls; running calls end, or are disconnected.
        await self._stop(self._dispatchers, deadline - self._settings.drain_seconds * (1 - DISPATCHERS_GONE_PART))
        # 2. Workers, which have no dispatchers any more.
        await self._stop(self._workers, deadline)
        # 3. Redis, to which both have written their last updates.
        redis = [] if self._redis is None else [self._redis]
        await self._stop(redis, deadline)
        # 4. Children that are left.
        left = [child for child in (*self._dispatchers, *self._workers, *redis) if child.running]
        for child in left:
            if not self._process.signalled_twice:
                _log.error("process killed", child=child.name)
            child.kill()
        await self._wait_for_end(left, KILLED_SECONDS)
        if left:
            self._exit_code = self._exit_code or 1
        if not self._process.interrupted:  # then the line "interrupted" is enough
            _log.info("stopped", killed=len(left))

    async def _stop(self, children: Sequence[Child], deadline: float) -> None:
        for child in children:
            child.stop()
        gone = asyncio.create_task(self._wait_for_end(children, max(0.0, deadline - time.monotonic())))
        stopping = asyncio.create_task(self._process.stopping.wait())
        await asyncio.wait({gone, stopping}, return_when=asyncio.FIRST_COMPLETED)
        for task in (gone, stopping):
            task.cancel()

    async def _wait_for_end(self, children: Iterable[Child], timeout_seconds: float) -> None:
        waits = [asyncio.create_task(child.wait()) for child in children]
        if waits:
            try:
                await asyncio.wait(waits, timeout=timeout_seconds)
            finally:
                for wait in waits:
                    wait.cancel()
