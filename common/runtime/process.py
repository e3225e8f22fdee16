"""The life of every process of the service: one event loop, and an end in two steps.

The first SIGTERM, SIGINT or SIGQUIT sets `draining`: no new calls, and `main` returns when the running calls have
ended. A second signal, or the end of `DRAIN_SECONDS`, sets `stopping`: `main` returns at once, within
`STOP_SECONDS`. SIGHUP reloads secrets, or drains if the terminal was closed. SIGUSR1 and SIGUSR2 are logged and
ignored. Signal handlers only set flags.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import gc
import resource
import signal
import time
from collections.abc import Awaitable, Callable
from typing import Final

import uvloop
from prometheus_client import Gauge, Histogram

from common.errors import ServiceError
from common.net.adaptive_interval import AdaptiveInterval
from common.net.read_coalescer import READ_COALESCER
from common.observe import log_writer, logs, metrics, redaction
from common.observe.metrics import ProcessMetrics
from common.observe.status_line import StatusLine
from common.runtime import signals
from common.runtime.core_load import CoreLoad
from common.runtime.drain_progress import show_drain
from common.runtime.heartbeat import HEARTBEAT_SECONDS, Heartbeat
from common.runtime.process_exit import INTERRUPTED, exit_now
from common.runtime.release import COMPILED, RELEASE
from common.runtime.reload import Reload
from common.runtime.signals import Terminal
from common.settings.child_settings import ChildSettings
from common.settings.roles import Role
from common.settings.secret_store import Secrets
from common.settings.settings import Settings

STOP_SECONDS: Final = 2.0
"""Time within which `main` must return once `stopping` is set; then it is cancelled."""

LAG_SAMPLE_SECONDS: Final = 1.0

GROUPING_SAMPLE_SECONDS: Final = 1.0

PROCESS_SAMPLE_SECONDS: Final = 5.0
"""Interval at which memory, CPU and open files are read: less than that of Prometheus."""

TERMINAL_SECONDS: Final = 1.0
"""Time after SIGHUP until the terminal is checked again."""

OPEN_FILES: Final = 65_536
"""The wanted limit of open files, if the system allows it."""

_log = logs.get_logger()


class Process:
    """The life of one process, as seen by its `main`.

    Attributes:
        name: for logs, such as `dispatcher` or `worker-3`.
        secrets: the current secrets of this process.
        reloaded: called after secrets were reloaded.
        child: the settings from `serve`; None if the process was started by itself.
        draining: set by the first signal.
        stopping: set by a second one, or `drain_seconds` after the first one.
        drain_deadline: on the clock of `time.monotonic`; None before `draining`.
        signalled_twice: whether a second signal set `stopping`, and not the end of `drain_seconds`.
        interrupted: whether that signal was Ctrl-C (SIGINT).
        calls: counts the running calls, from any thread; None: their number is not known.
        heartbeat: tells `serve`, if there is one, that this process lives.
    """

    def __init__(
        self, name: str, *, drain_seconds: float, secrets: Secrets, child: ChildSettings | None = None
    ) -> None:
        self.name = name
        self.secrets = secrets
        self.reloaded: list[Callable[[], None]] = []
        self.child = child
        self.draining = asyncio.Event()
        self.stopping = asyncio.Event()
        self.drain_deadline: float | None = None
        self.signalled_twice = False
        self.interrupted = False
        self.calls: Callable[[], int | None] = lambda: None
        self._drain_seconds = drain_seconds
        self.heartbeat = Heartbeat(-1 if child is None else child.ready_fd)
        self._is_ready = False

    def request_stop(self) -> None:
        """React to a signal: the first call drains, the second one stops."""
        if self.draining.is_set():
            self.signalled_twice = self.signalled_twice or not self.stopping.is_set()
            self.stopping.set()
            return
        self.draining.set()
        self.drain_deadline = time.monotonic() + self._drain_seconds
        asyncio.get_running_loop().call_later(self._drain_seconds, self.stopping.set)

    def interrupt(self) -> None:
        """React to Ctrl-C: the first one drains; the second one stops, and decides the exit code."""
        if self.draining.is_set() and not self.stopping.is_set():
            self.interrupted = True
            _log.warning("interrupted")
        self.request_stop()

    def ready(self) -> None:
        """Report that this process does its work now: all is imported and created. Further calls do nothing.

        Existing objects are excluded from garbage collection, and `serve`, if there is one, is told.
        """
        if self._is_ready:
            return
        self._is_ready = True
        # Most objects are modules, classes and code, which are never garbage. The collector would examine all of
        # them every two thousand calls or so. That takes 40 ms and more, during which no call's audio moves.
        gc.collect()
        gc.freeze()
        self.heartbeat.ready()


Main = Callable[[Settings, Process], Awaitable[int]]


def run_process(main: Main, settings: Settings, role: Role) -> int:
    """Run `main` under uvloop to its end, and return the process's exit code: `main`'s, or 1 if it crashed.

    The process must end by `exit_now`. The loop stays open, because closing it waits for the resolver's threads.

    Raises:
        ServiceError: `main` could not start, or could not continue.
    """
    child = ChildSettings.load()
    name = role.value if child is None else f"{role}-{child.index}"
    known = Secrets(settings)
    redaction.know("settings", known.seen)
    signals.hold()
    log_writer.install()
    logs.configure(name, level=settings.log_level, line_format=settings.log_format)
    _allow_many_files()
    if child is None:
        for notice in settings.notices:
            _log.warning(notice)
    else:
        metrics.share(child.metrics_dir, name)
    process = Process(name, drain_seconds=settings.drain_seconds, secrets=known, child=child)
    process.reloaded.append(lambda: redaction.know("settings", known.seen))
    runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
    return runner.run(_run_main(main, settings, role, process))


def _allow_many_files() -> None:
    """Raise the limit of open files: each connection is one, and a shell's limit is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def watch_event_loop(lag: Histogram, *, sample_seconds: float = LAG_SAMPLE_SECONDS) -> None:
    """Measure, once a second and until cancelled, how late the event loop runs scheduled calls."""
    while True:
        due = time.monotonic() + sample_seconds
        await asyncio.sleep(sample_seconds)
        lag.observe(max(0.0, time.monotonic() - due))


def begin_grouping(loop: asyncio.AbstractEventLoop, role: Role, grouping_ms: int | str) -> None:
    """Read sockets at intervals, as GROUPING_MS has it."""
    if isinstance(grouping_ms, str):
        core = CoreLoad()
        READ_COALESCER.adapt(loop, AdaptiveInterval(core.limit_cores), core.read)
    elif role is Role.DISPATCHER:
        # A frame comes at any time within an interval, and waits half of it on average.
        READ_COALESCER.begin(loop, 2 * grouping_ms / 1000)


async def watch_grouping(interval: Gauge) -> None:
    """Show the interval at which sockets are read, once a second and until cancelled."""
    while True:
        interval.set(READ_COALESCER.wanted_seconds)
        await asyncio.sleep(GROUPING_SAMPLE_SECONDS)


async def watch_process(measured: ProcessMetrics) -> None:
    """Renew the metrics of this process until cancelled.

    A thread does it, because the list of open files may be long.
    """
    while True:
        await asyncio.to_thread(measured.sample)
        await asyncio.sleep(PROCESS_SAMPLE_SECONDS)


def process_metrics(role: Role, child: ChildSettings | None) -> ProcessMetrics:
    """Create the metrics of this process; `metrics.share` must have been called, if it is."""
    slot = "" if child is None else str(child.index)
    return ProcessMetrics(role.value, slot, release=RELEASE, compiled=COMPILED)


async def send_heartbeats(heartbeat: Heartbeat) -> None:
    """Show `serve` until cancelled that this event loop runs."""
    while True:
        heartbeat.beat()
        await asyncio.sleep(HEARTBEAT_SECONDS)


async def _show_drain(process: Process) -> None:
    """Show the progress of the drain, once it begins, if stderr is a terminal."""
    await process.draining.wait()
    assert process.drain_deadline is not None
    await show_drain(StatusLine(), process.drain_deadline, process.calls)


async def _cancel_the_rest() -> None:
    """Cancel the tasks that `main` left behind, and let them clean up."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=STOP_SECONDS)


def _handle_signals(loop: asyncio.AbstractEventLoop, process: Process, reload: Reload) -> None:
    terminal = Terminal()

    def drain_without_terminal() -> None:
        # A shell sends SIGHUP to its jobs, too: a second SIGHUP must not end the drain early.
        if terminal.was_closed and not process.draining.is_set():
            _log.info("terminal closed", effect="draining")
            process.request_stop()

    def hung_up() -> None:
        drain_without_terminal()
        if not process.draining.is_set():
            reload.ask()
            # The kernel may send the signal before it removes the terminal.
            loop.call_later(TERMINAL_SECONDS, drain_without_terminal)

    for number in (signal.SIGTERM, signal.SIGQUIT):
        loop.add_signal_handler(number, process.request_stop)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    for number in signals.IGNORED:
        loop.add_signal_handler(number, functools.partial(_log.warning, "signal ignored", signal=number.name))
    signals.release()


async def _run_main(main: Main, settings: Settings, role: Role, process: Process) -> int:
    loop = asyncio.get_running_loop()
    reload = Reload(role, process.secrets, process.reloaded)
    _handle_signals(loop, process, reload)
    if process.child is None:
        loop.add_signal_handler(signal.SIGINT, process.interrupt)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent handles Ctrl-C
    stopping: asyncio.Task[object] = asyncio.create_task(process.stopping.wait())
    background = [
        stopping,
        asyncio.create_task(send_heartbeats(process.heartbeat)),
        asyncio.create_task(reload.run()),
    ]
    if process.child is None:
        background.append(asyncio.create_task(_show_drain(process)))
    if role is not Role.SERVE:
        measured = metrics.dispatcher() if role is Role.DISPATCHER else metrics.worker()
        log_writer.count_dropped(measured.log_lines_dropped.inc)
        background += [
            asyncio.create_task(watch_event_loop(measured.event_loop_lag)),
            asyncio.create_task(watch_grouping(measured.grouping_interval)),
            asyncio.create_task(watch_process(process_metrics(role, process.child))),
        ]
        begin_grouping(loop, role, settings.grouping_ms)
    running = asyncio.ensure_future(main(settings, process))
    try:
        await asyncio.wait({running, stopping}, return_when=asyncio.FIRST_COMPLETED)
        await asyncio.wait({running}, timeout=STOP_SECONDS)
        if running.done():
            code = running.result()
            return INTERRUPTED if process.interrupted else code
    except ServiceError:
        raise
    except Exception:
        _log.exception("crashed")
        return 1
    finally:
        for task in background:
            task.cancel()
        if running.done():
            await _cancel_the_rest()
    _log.error("did not stop in time", seconds=STOP_SECONDS)
    running.cancel()
    await asyncio.wait({running}, timeout=STOP_SECONDS)
    if not running.done():
        exit_now(1)  # the runner would wait for `main` without a limit
    return 1
