"""Threads for code that blocks: a bounded number, and none that could hold up the end of the process.

`concurrent.futures` would do neither: a stuck thread takes its place in the pool for ever, unnoticed, and the
interpreter waits for it when it ends.
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
"""As many calls can wait for a blocking tool at the same time. A thread costs some 50 KiB while it waits."""

PLACE_WAIT_SECONDS: Final = 5.0
"""How long a call waits for a thread before it is told that there is none."""

_log: Log = structlog.get_logger()
T = TypeVar("T")


class Threads:
    """Runs functions in daemon threads, at most `limit` at once.

    A thread that does not return keeps its place; when all places are taken, `run` waits `wait_seconds` and gives
    up. The thread itself cannot be ended.
    """

    def __init__(
        self,
        purpose: str,
        *,
        limit: int = MAX_THREADS,
        wait_seconds: float = PLACE_WAIT_SECONDS,
        log: Log = _log,
    ) -> None:
        """Build it; there are no threads before `run`.

        Args:
            purpose: names the threads.
            limit: how many there may be.
            wait_seconds: for one to become free.
            log: is told when none is free.
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
        """How many threads may still be started."""
        return self._limit - len(self._running)

    async def run(self, name: str, function: Callable[[], T]) -> T:
        """Returns what `function` returns. Cancelled, it leaves the thread to itself.

        Args:
            name: of what is run, for the log.
            function: runs in the thread.

        Raises:
            ToolNotRun: no thread became free in time.
            Exception: what `function` raised; RuntimeError for SystemExit, KeyboardInterrupt and StopIteration.
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
                # SystemExit would end the event loop from within a future, and none can carry StopIteration.
                carried = isinstance(error, Exception) and not isinstance(error, StopIteration)
                _call(loop, raised, error if carried else RuntimeError(f"{type(error).__name__} in a thread"))
            else:
                _call(loop, returned, result)

        try:
            threading.Thread(target=work, name=f"{self._purpose}-{number}", daemon=True).start()
        except RuntimeError as error:  # the system has no thread left
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
    with contextlib.suppress(RuntimeError):  # the loop has ended, and whoever waited with it
        loop.call_soon_threadsafe(function, value)
