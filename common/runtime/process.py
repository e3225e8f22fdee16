"""What every process of the service does: one event loop, and an end in two steps.

The first SIGTERM, SIGINT or SIGQUIT sets `draining`: no new calls, and `main` returns when the running ones have
ended. A second signal, or the end of `DRAIN_SECONDS`, sets `stopping`: `main` returns at once, within
`STOP_SECONDS`. SIGHUP has secrets read again, or drains if the terminal was closed. SIGUSR1 and SIGUSR2 are logged
and ignored. Signal handlers only set flags.
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
from prometheus_client import Histogram

from common.errors import ServiceError
from common.net.read_coalescer import READ_COALESCER
from common.observe import log_writer, logs, metrics, redaction
from common.runtime import signals
from common.runtime.heartbeat import BEAT_SECONDS, Heartbeat
from common.runtime.process_exit import INTERRUPTED, exit_now
from common.runtime.reload import Reload
from common.runtime.signals import Terminal
from common.settings.child_settings import ChildSettings
from common.settings.roles import Role
from common.settings.secret_store import Secrets
from common.settings.settings import Settings

STOP_SECONDS: Final = 2.0
"""How long `main` may take to return once `stopping` is set; then it is cancelled."""

LAG_SAMPLE_SECONDS: Final = 1.0

TERMINAL_SECONDS: Final = 1.0
"""After SIGHUP, when the terminal is looked for once more."""

OPEN_FILES: Final = 65_536
"""As far as the system lets a process have so many."""

_log = logs.get_logger()


class Process:
    """The life of one process, as far as its `main` sees it.

    Attributes:
        name: for logs, such as `dispatcher` or `worker-3`.
        secrets: of this process, as they are now.
        reloaded: called after secrets were read again.
        child: what `serve` told this process; None if it was started by itself.
        draining: set by the first signal.
        stopping: set by a second one, or when `drain_seconds` have passed since the first.
        drain_deadline: on the clock of `time.monotonic`; None before `draining`.
        told_twice: whether a second signal set `stopping`, and not the end of `drain_seconds`.
        interrupted: whether that signal was Ctrl-C (SIGINT).
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
        self.told_twice = False
        self.interrupted = False
        self._drain_seconds = drain_seconds
        self.heartbeat = Heartbeat(-1 if child is None else child.ready_fd)
        self._is_ready = False

    def request_stop(self) -> None:
        """What a signal does: the first call drains, the second stops."""
        if self.draining.is_set():
            self.told_twice = self.told_twice or not self.stopping.is_set()
            self.stopping.set()
            return
        self.draining.set()
        self.drain_deadline = time.monotonic() + self._drain_seconds
        asyncio.get_running_loop().call_later(self._drain_seconds, self.stopping.set)

    def interrupt(self) -> None:
        """Do what Ctrl-C asks for: the first one drains, the second one stops and decides the exit code."""
        if self.draining.is_set() and not self.stopping.is_set():
            self.interrupted = True
            _log.warning("interrupted")
        self.request_stop()

    def ready(self) -> None:
        """Says that this process does its work now: all is imported and made; calling it again does nothing.

        What there is by now stays to the end, and `serve`, if there is one, is told.
        """
        if self._is_ready:
            return
        self._is_ready = True
        # Modules, classes and code are most of what there is, and never garbage. The collector looks through
        # all of it every two thousand calls or so, which takes 40 ms and more, and no call's audio moves then.
        gc.collect()
        gc.freeze()
        self.heartbeat.ready()


Main = Callable[[Settings, Process], Awaitable[int]]


def run_process(main: Main, settings: Settings, role: Role) -> int:
    """Runs `main` under uvloop to its end, and returns the process's exit code: `main`'s, or 1 if it crashed.

    The process must end by `exit_now`. The loop stays open, because closing it waits for the resolver's threads.

    Raises:
        ServiceError: `main` could not start, or go on.
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
    return runner.run(_live(main, settings, role, process))


def _allow_many_files() -> None:
    """Raises the limit of open files: each connection is one, and a shell's limit is often 1024."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = OPEN_FILES if hard == resource.RLIM_INFINITY else min(OPEN_FILES, hard)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


async def watch_event_loop(lag: Histogram) -> None:
    """Measures, once a second and for ever, how late the event loop runs what is due."""
    while True:
        due = time.monotonic() + LAG_SAMPLE_SECONDS
        await asyncio.sleep(LAG_SAMPLE_SECONDS)
        lag.observe(max(0.0, time.monotonic() - due))


async def beat(heartbeat: Heartbeat) -> None:
    """Show `serve` for ever that this event loop runs."""
    while True:
        heartbeat.beat()
        await asyncio.sleep(BEAT_SECONDS)


async def _cancel_the_rest() -> None:
    """Let the tasks that `main` left behind clean up."""
    rest = asyncio.all_tasks() - {asyncio.current_task()}
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=STOP_SECONDS)


def _handle_signals(loop: asyncio.AbstractEventLoop, process: Process, reload: Reload) -> None:
    terminal = Terminal()

    def drain_without_terminal() -> None:
        # A shell tells its jobs of the end, too: a second SIGHUP must not cut the drain short.
        if terminal.was_closed and not process.draining.is_set():
            _log.info("terminal closed", effect="draining")
            process.request_stop()

    def hung_up() -> None:
        drain_without_terminal()
        if not process.draining.is_set():
            reload.ask()
            # The kernel may send the signal first, and take the terminal away then.
            loop.call_later(TERMINAL_SECONDS, drain_without_terminal)

    for number in (signal.SIGTERM, signal.SIGQUIT):
        loop.add_signal_handler(number, process.request_stop)
    loop.add_signal_handler(signal.SIGHUP, hung_up)
    for number in signals.IGNORED:
        loop.add_signal_handler(number, functools.partial(_log.warning, "signal ignored", signal=number.name))
    signals.release()


async def _live(main: Main, settings: Settings, role: Role, process: Process) -> int:
    loop = asyncio.get_running_loop()
    reload = Reload(role, process.secrets, process.reloaded)
    _handle_signals(loop, process, reload)
    if process.child is None:
        loop.add_signal_handler(signal.SIGINT, process.interrupt)
    else:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's affair
    stopping: asyncio.Task[object] = asyncio.create_task(process.stopping.wait())
    background = [
        stopping,
        asyncio.create_task(beat(process.heartbeat)),
        asyncio.create_task(reload.run()),
    ]
    if role is not Role.SERVE:
        measured = metrics.dispatcher() if role is Role.DISPATCHER else metrics.worker()
        log_writer.count_dropped(measured.log_lines_dropped.inc)
        background.append(asyncio.create_task(watch_event_loop(measured.event_loop_lag)))
        if role is Role.DISPATCHER:
            # Frames come at any time between two beats: they wait half of one on average.
            READ_COALESCER.begin(loop, 2 * settings.grouping_ms / 1000)
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
        exit_now(1)  # the runner would wait for it without end
    return 1
