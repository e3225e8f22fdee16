"""A slot of `serve`: one child process that is restarted when it dies, and killed when it hangs.

A child runs in a session of its own, so that Ctrl-C reaches the parent alone. The kernel kills the child when the
parent dies by any cause (also `kill -9`), even a stopped child.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import os
import signal
import sys
import time
from asyncio.subprocess import DEVNULL
from collections.abc import Callable, Mapping, Sequence
from typing import Final

from common.observe import logs
from common.runtime.heartbeat import HEARTBEAT_SECONDS, READY, Watchdog
from common.runtime.restart_policy import RestartPolicy

MAX_LINE_BYTES: Final = 1024

_PR_SET_PDEATHSIG: Final = 1  # prctl(2)

_log = logs.get_logger()


class Child:
    """Keeps one process running from `start` until `stop` or `kill`.

    Args:
        name: of the slot, for logs and metrics, such as `worker-0`.
        command: program and arguments; may be changed for the next start.
        environment: of the process, complete except for `ready_variable`.
        ready_variable: names the file descriptor to which the process writes its `Heartbeat`; None: stdout is
            used.
        ended: called with the exit status (negative: the signal) each time the process has ended by itself.
            Returns whether to restart it.
        watchdog: created for each process with the time of its start.

    Attributes:
        ready: set while a process of this slot is ready.
    """

    def __init__(
        self,
        name: str,
        command: Sequence[str],
        environment: Mapping[str, str],
        *,
        ready_variable: str | None,
        ended: Callable[[int], bool],
        watchdog: Callable[[float], Watchdog] = Watchdog,
    ) -> None:
        self.name = name
        self.command = tuple(command)
        self.ready = asyncio.Event()
        self._environment = dict(environment)
        self._ready_variable = ready_variable
        self._ended = ended
        self._watchdog = watchdog
        self._policy = RestartPolicy()
        self._process: asyncio.subprocess.Process | None = None
        self._end_signal: signal.Signals | None = None
        self._is_to_reload = False
        self._end = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Start the process, and keep it running."""
        self._task = asyncio.create_task(self._keep_running())

    def reload(self) -> None:
        """Ask the process to reload its secrets (SIGHUP), once it is ready: an earlier signal could end it."""
        self._is_to_reload = not self.ready.is_set()
        if self.ready.is_set():
            self._send(signal.SIGHUP)

    def stop(self) -> None:
        """Ask the process to end (SIGTERM), and start no other."""
        self._end_by(signal.SIGTERM)

    def kill(self) -> None:
        """Kill the process (SIGKILL), and start no other."""
        self._end_by(signal.SIGKILL)

    async def wait(self) -> None:
        """Return when the process has ended and no other will be started."""
        if self._task is not None:
            await asyncio.wait({self._task})

    @property
    def running(self) -> bool:
        """Whether there is a process, or one will be started."""
        return self._task is not None and not self._task.done()

    @property
    def pid(self) -> int | None:
        """The id of the current process."""
        return None if self._process is None else self._process.pid

    def _end_by(self, end_signal: signal.Signals) -> None:
        self._end_signal = end_signal
        self._end.set()
        self._send(end_signal)

    def _send(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                self._process.send_signal(number)

    async def _keep_running(self) -> None:
        while not self._end.is_set():
            self._policy.started(time.monotonic())
            status = await self._run_once()
            if self._end.is_set():
                return
            again = self._ended(status)
            delay_seconds = self._policy.ended(time.monotonic())
            _log.warning(
                "process ended",
                child=self.name,
                status=_status_name(status),
                restart_seconds=delay_seconds if again else None,
            )
            if not again:
                return
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), delay_seconds)

    async def _run_once(self) -> int:
        """Run one process from its start to its exit status."""
        read_fd, write_fd = os.pipe()
        environment = self._environment
        if self._ready_variable is not None:
            environment = environment | {self._ready_variable: str(write_fd)}
        try:
            process = await asyncio.create_subprocess_exec(
                *self.command,
                env=environment,
                stdin=DEVNULL,
                stdout=write_fd if self._ready_variable is None else None,
                pass_fds=(write_fd,),
                start_new_session=True,
                preexec_fn=die_with(os.getpid()),
            )
        except OSError as error:
            _log.error("process cannot be started", child=self.name, error=str(error))
            os.close(read_fd)
            return os.EX_OSERR
        finally:
            os.close(write_fd)
        self._process = process
        _log.debug("process started", child=self.name, child_pid=process.pid)
        if self._end_signal is not None:  # `stop` or `kill` was called meanwhile
            self._send(self._end_signal)
        watchdog = self._watchdog(time.monotonic())
        tasks = [
            asyncio.create_task(self._listen(read_fd, watchdog)),
            asyncio.create_task(self._kill_if_hung(watchdog)),
        ]
        try:
            return await process.wait()
        finally:
            self._process = None
            self.ready.clear()
            for task in tasks:
                task.cancel()

    async def _kill_if_hung(self, watchdog: Watchdog) -> None:
        """Watch the process until it ends or hangs, also while it drains."""
        while not watchdog.is_hung(time.monotonic()):  # noqa: ASYNC110 - the watchdog needs a look each second
            await asyncio.sleep(HEARTBEAT_SECONDS)
        _log.error("process hung", child=self.name, silent_seconds=round(watchdog.silent_seconds, 1))
        self._send(signal.SIGKILL)

    async def _listen(self, read_fd: int, watchdog: Watchdog) -> None:
        reader = asyncio.StreamReader(limit=MAX_LINE_BYTES)
        pipe = os.fdopen(read_fd, "rb", buffering=0)
        transport, _ = await asyncio.get_running_loop().connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        try:
            while line := await reader.readline():
                watchdog.heard()
                if line == READY:
                    self.ready.set()
                    if self._is_to_reload:
                        self.reload()
        except ValueError:  # such a line is not a heartbeat, and the watchdog will kill the process
            _log.error("heartbeat line too long", child=self.name)
        finally:
            transport.close()


def die_with(parent_pid: int) -> Callable[[], None]:
    """Return the function that a child runs between fork and exec, so that it can never outlive its parent.

    The parent's other threads write its log lines; the function takes none of the locks that they may hold.
    """
    if sys.platform != "linux":
        return lambda: None
    prctl = ctypes.CDLL(None).prctl

    def before_exec() -> None:
        prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != parent_pid:  # the parent died before the call of prctl
            os._exit(1)

    return before_exec


def _status_name(status: int) -> str:
    if status >= 0:
        return f"exit {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"
