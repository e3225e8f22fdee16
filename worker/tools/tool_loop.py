"""A separate event loop for `async` handlers.

Requests are answered on another loop. So a blocking handler (a careless `requests.get` in an `async def`) does not
delay other requests. All handlers share one loop, because a file may keep clients and pools between
calls. A blocked loop is replaced. Handlers that have not begun move to the new loop; begun handlers stay on the
old one.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Coroutine
from typing import Any, Final

import structlog

from worker.tools.child_log import Log
from worker.tools.errors import ToolNotRun

BLOCKED_SECONDS: Final = 2.0
"""A loop that does not begin a job within this time counts as blocked."""

MAX_BLOCKED_LOOPS: Final = 4
"""Maximum number of blocked loops. At the maximum, no loop is replaced until one of these has ended."""

STOP_SECONDS: Final = 0.5

Function = Callable[[], Coroutine[Any, Any, Any]]

_log: Log = structlog.get_logger()


class ToolLoop:
    """A thread with an event loop that runs coroutines. The first coroutine starts the thread."""

    def __init__(self, *, blocked_seconds: float = BLOCKED_SECONDS, log: Log = _log) -> None:
        """Begin without a thread; `run` starts one.

        Args:
            blocked_seconds: maximum time within which a loop must begin a job.
            log: gets a line for each failure outside of handlers.
        """
        self._log = log
        self._blocked_seconds = blocked_seconds
        self._current: _LoopThread | None = None
        self._blocked: list[_LoopThread] = []

    @property
    def blocked_loops(self) -> int:
        """Number of replaced loops that have not ended yet."""
        self._blocked = [thread for thread in self._blocked if not thread.ended.done()]
        return len(self._blocked)

    async def run(self, name: str, function: Function) -> Any:
        """Run a coroutine and return its result. Cancelling this also cancels the coroutine.

        Args:
            name: names the coroutine in the log.
            function: creates the coroutine, which must catch all its exceptions, cancellation included.

        Raises:
            ToolNotRun: the loop and the loop that replaced it are both blocked.
        """
        for _ in range(2):
            thread = self._thread()
            job = _Job(name, function)
            thread.begin(job)
            try:
                if await self._begins(job) or not job.claim():
                    return await job.result
            except asyncio.CancelledError:
                thread.cancel(job)
                raise
            self._replace(thread, name)
        raise ToolNotRun("It was not started: another tool blocks the event loop of the tools.")

    async def stop(self) -> None:
        """Cancel all coroutines and end the threads, except blocked threads, which cannot be ended."""
        threads = [*self._blocked, *([self._current] if self._current else [])]
        self._current = None
        self._blocked = []
        for thread in threads:
            thread.stop()
        if threads:
            await asyncio.wait([thread.ended for thread in threads], timeout=STOP_SECONDS)

    async def _begins(self, job: _Job) -> bool:
        # Wait in two halves: after a pause of the whole process, the first half times out at once.
        for _ in range(2):
            done, _ = await asyncio.wait([job.begun], timeout=self._blocked_seconds / 2)
            if done:
                return True
        return False

    def _thread(self) -> _LoopThread:
        if self._current is None:
            self._current = _LoopThread(self._log)
        return self._current

    def _replace(self, thread: _LoopThread, waiting: str) -> None:
        if self._current is not thread:
            return
        self._log.error("a tool blocks the event loop of the tools", running=thread.running, waiting=waiting)
        if self.blocked_loops >= MAX_BLOCKED_LOOPS:
            raise ToolNotRun(f"It was not started: tools block all {MAX_BLOCKED_LOOPS + 1} event loops.")
        thread.retire()
        self._blocked.append(thread)
        self._current = None


class _Job:
    """A coroutine to run on a `_LoopThread`. The futures belong to the loop that waits for the coroutine."""

    def __init__(self, name: str, function: Function) -> None:
        home = asyncio.get_running_loop()
        self.name = name
        self.function = function
        self.begun: asyncio.Future[None] = home.create_future()
        self.result: asyncio.Future[Any] = home.create_future()
        self.task: asyncio.Task[Any] | None = None
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """Return True only once: to the thread, which then runs the job, or to the waiter, which then drops it."""
        return self._claim.acquire(blocking=False)


class _LoopThread:
    """A thread with an event loop. Public methods must be called on the loop that built the thread."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._home = asyncio.get_running_loop()
        self.ended: asyncio.Future[None] = self._home.create_future()
        self._loop = asyncio.new_event_loop()
        self._loop.set_exception_handler(self._background_error)
        self._jobs: set[_Job] = set()
        self._retired = False
        threading.Thread(target=self._live, name="tool-loop", daemon=True).start()

    @property
    def running(self) -> list[str]:
        """Names of the running jobs."""
        return sorted(job.name for job in self._jobs.copy())

    def begin(self, job: _Job) -> None:
        """Run a job, unless its waiter claims it first."""
        self._call(self._begin, job)

    def cancel(self, job: _Job) -> None:
        """Cancel a job, whether it has begun or not."""
        if not job.claim():
            self._call(lambda: job.task and job.task.cancel())

    def retire(self) -> None:
        """End the thread once all its begun jobs have ended."""
        self._call(self._retire)

    def stop(self) -> None:
        """End the thread now."""
        self._call(self._loop.stop)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # the loop has ended
            self._loop.call_soon_threadsafe(function, *arguments)

    # In the thread

    def _live(self) -> None:
        asyncio.set_event_loop(self._loop)
        while not self._run(self._loop.run_forever):
            pass
        for task in asyncio.all_tasks(self._loop):
            task.cancel()
        self._run(lambda: self._loop.run_until_complete(self._end()))
        self._loop.close()
        self._tell(self.ended, None)

    def _run(self, function: Callable[[], object]) -> bool:
        """Run the loop; return False if an exception ended it, such as SystemExit of a background task."""
        try:
            function()
        except BaseException as error:
            self._log.error("a tool ended its event loop", error=type(error).__name__)
            return False
        return True

    async def _end(self) -> None:
        others = asyncio.all_tasks() - {asyncio.current_task()}
        if others:
            await asyncio.wait(others, timeout=STOP_SECONDS)
        await self._loop.shutdown_asyncgens()

    def _begin(self, job: _Job) -> None:
        if not job.claim():
            return
        job.task = self._loop.create_task(job.function(), name=job.name)
        self._jobs.add(job)
        job.task.add_done_callback(lambda task: self._done(job, task))
        self._tell(job.begun, None)

    def _done(self, job: _Job, task: asyncio.Task[Any]) -> None:
        self._jobs.discard(job)
        if not task.cancelled():  # a task cancelled before its first step has no waiter any more
            self._tell(job.result, task.result())
        self._retire_if_idle()

    def _retire(self) -> None:
        self._retired = True
        self._retire_if_idle()

    def _retire_if_idle(self) -> None:
        if self._retired and not self._jobs:
            self._loop.stop()

    def _background_error(self, _: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        error = context.get("exception")
        self._log.warning("a tool's background task failed", error=None if error is None else type(error).__name__)

    def _tell(self, future: asyncio.Future[Any], result: object) -> None:
        def set_result() -> None:
            if not future.done():
                future.set_result(result)

        with contextlib.suppress(RuntimeError):  # the loop that waited has ended
            self._home.call_soon_threadsafe(set_result)
