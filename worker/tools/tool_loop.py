"""An event loop of their own for handlers that are `async`.

Not the loop that answers requests, so that a handler that blocks (a careless `requests.get` in an `async def`)
cannot delay other requests; and one loop for all, so that clients and pools which a file keeps between calls work.
A loop that is blocked is replaced: what has not begun on it begins on the next, what has goes on when it can.
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
"""A loop that does not begin what it is given within this time is blocked."""

MAX_BLOCKED_LOOPS: Final = 4
"""How many loops may be replaced; then none is, until one of them runs again."""

STOP_SECONDS: Final = 0.5

Function = Callable[[], Coroutine[Any, Any, Any]]

_log: Log = structlog.get_logger()


class ToolLoop:
    """Runs coroutines in a thread with an event loop, which is started on first need."""

    def __init__(self, *, blocked_seconds: float = BLOCKED_SECONDS, log: Log = _log) -> None:
        """Build it.

        Args:
            blocked_seconds: in which a loop must begin what it is given.
            log: is told what goes wrong outside of handlers.
        """
        self._log = log
        self._blocked_seconds = blocked_seconds
        self._current: _LoopThread | None = None
        self._blocked: list[_LoopThread] = []

    @property
    def blocked_loops(self) -> int:
        """How many loops were replaced and have not ended yet."""
        self._blocked = [thread for thread in self._blocked if not thread.ended.done()]
        return len(self._blocked)

    async def run(self, name: str, function: Function) -> Any:
        """Returns what the coroutine returns. Cancelled, it cancels it.

        Args:
            name: of what is run, for the log.
            function: makes the coroutine, which must catch what it raises, cancellation included.

        Raises:
            ToolNotRun: the loop is blocked, and so was the one that replaced it.
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
        """Cancels what runs and ends the threads; one that is blocked is left to itself."""
        threads = [*self._blocked, *([self._current] if self._current else [])]
        self._current = None
        self._blocked = []
        for thread in threads:
            thread.stop()
        if threads:
            await asyncio.wait([thread.ended for thread in threads], timeout=STOP_SECONDS)

    async def _begins(self, job: _Job) -> bool:
        # Twice half the time: after a pause of the whole process, the first half is over at once.
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
    """A coroutine on its way through a `_LoopThread`; the futures belong to the loop that waits for it."""

    def __init__(self, name: str, function: Function) -> None:
        home = asyncio.get_running_loop()
        self.name = name
        self.function = function
        self.begun: asyncio.Future[None] = home.create_future()
        self.result: asyncio.Future[Any] = home.create_future()
        self.task: asyncio.Task[Any] | None = None
        self._claim = threading.Lock()

    def claim(self) -> bool:
        """True for the first who asks: the thread, which then runs it, or the waiter, who then gives it up."""
        return self._claim.acquire(blocking=False)


class _LoopThread:
    """A thread with an event loop. Methods without underscore are for the loop that built it."""

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
        """Names of what has begun and not ended."""
        return sorted(job.name for job in self._jobs.copy())

    def begin(self, job: _Job) -> None:
        """Runs a job, unless its waiter gives it up first."""
        self._call(self._begin, job)

    def cancel(self, job: _Job) -> None:
        """Cancels a job, begun or not."""
        if not job.claim():
            self._call(lambda: job.task and job.task.cancel())

    def retire(self) -> None:
        """Ends when the jobs that have begun have ended."""
        self._call(self._retire)

    def stop(self) -> None:
        """Ends now."""
        self._call(self._loop.stop)

    def _call(self, function: Callable[..., object], *arguments: object) -> None:
        with contextlib.suppress(RuntimeError):  # it has ended
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
        """Whether it ended in order: a background task that raises SystemExit throws it out of the loop."""
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
        if not task.cancelled():  # it is if it was before its first step: nobody waits for it any more
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
