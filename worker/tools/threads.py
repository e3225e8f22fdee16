"""Run blocking code in a bounded number of threads that do not delay the end of the process.

`concurrent.futures` does not fit. A stuck thread would occupy a place in its pool for ever without a log line. And
the interpreter waits for the pool's threads when the process ends.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Final, TypeVar

import structlog

from worker.tools.child_log import Log
from worker.tools.errors import ToolNotRun

MAX_THREADS: Final = 64
"""Maximum number of calls that wait for a blocking tool at the same time. A waiting thread costs some 50 KiB."""

PLACE_WAIT_SECONDS: Final = 5.0
"""Maximum time that a call waits for a free thread before the call fails."""

_log: Log = structlog.get_logger()
T = TypeVar("T")


class Threads:
    """A set of at most `limit` daemon threads that run functions.

    A function that does not return keeps its thread, because a thread cannot be ended. When no thread is free,
    `run` waits `wait_seconds` and then raises ToolNotRun.
    """

    def __init__(
        self,
        purpose: str,
        *,
        limit: int = MAX_THREADS,
        wait_seconds: float = PLACE_WAIT_SECONDS,
        log: Log = _log,
    ) -> None:
        """Begin without threads; `run` starts them.

        Args:
            purpose: a prefix for the names of the threads.
            limit: maximum number of threads.
            wait_seconds: maximum time to wait for a free thread.
            log: gets a line when no thread is free.
        """
        self._log = log
        self._purpose = purpose
        self._limit = limit
        self._wait_seconds = wait_seconds
        self._places = asyncio.Semaphore(limit)
        self._running: dict[int, tuple[str, float]] = {}
        self._next = 0
        self._exhausted = False

    @property
    def free(self) -> int:
        """Number of threads that may still be started."""
        return self._limit - len(self._running)

    async def run(self, name: str, function: Callable[[], T]) -> T:
        """Run a function in a thread and return its result. A cancellation does not end the thread.

        Args:
            name: names the function in the log.
            function: runs in the thread.

        Raises:
            ToolNotRun: no thread became free in time.
            Exception: the exception of `function`; RuntimeError for SystemExit, KeyboardInterrupt, StopIteration.
        """
        await self._take_place()
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        number, self._next = self._next, self._next + 1
        self._running[number] = (name, time.monotonic())

        def returned(result: T) -> None:
            self._give_back(number)
            if not future.done():
                future.set_result(result)

        def raised(error: BaseException) -> None:
            self._give_back(number)
            if not future.done():
                future.set_exception(error)

        def work() -> None:
            try:
                result = function()
            except BaseException as error:
                # A future that carries SystemExit would end the event loop, and no future can carry StopIteration.
                carried = isinstance(error, Exception) and not isinstance(error, StopIteration)
                _call(loop, raised, error if carried else RuntimeError(f"{type(error).__name__} in a thread"))
            else:
                _call(loop, returned, result)

        try:
            threading.Thread(target=work, name=f"{self._purpose}-{number}", daemon=True).start()
        except RuntimeError as error:  # the system's limit of threads is reached
            self._give_back(number)
            raise ToolNotRun(f"It was not started: {error}.") from None
        return await future

    async def _take_place(self) -> None:
        if not self._places.locked():
            self._exhausted = False
        elif not self._exhausted:
            self._exhausted = True
            longest_seconds = time.monotonic() - min(started for _, started in self._running.values())
            self._log.error(
                "no thread is free",
                purpose=self._purpose,
                threads=self._limit,
                running=dict(Counter(name for name, _ in self._running.values()).most_common(5)),
                longest_seconds=round(longest_seconds, 1),
            )
        try:
            async with asyncio.timeout(self._wait_seconds):
                await self._places.acquire()
        except TimeoutError:
            raise ToolNotRun(
                f"It was not started: all {self._limit} threads are busy with calls that have not ended."
            ) from None

    def _give_back(self, number: int) -> None:
        del self._running[number]
        self._places.release()


def _call(loop: asyncio.AbstractEventLoop, function: Callable[[T], None], value: T) -> None:
    with contextlib.suppress(RuntimeError):  # the loop has ended, and so has the caller of `run`
        loop.call_soon_threadsafe(function, value)
