"""The clock of a tool's run, which stands still while the tool waits for the caller."""

from __future__ import annotations

import asyncio


class RunClock:
    """The time limit of one run.

    Attributes:
        expired: done when the time is over.
    """

    def __init__(self, seconds: float) -> None:
        """Start the clock. Must be called on the event loop of the run."""
        self._loop = asyncio.get_running_loop()
        self.expired: asyncio.Future[None] = self._loop.create_future()
        self._left_seconds = seconds
        self._started_seconds = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._pauses = 0
        self._start()

    def pause(self) -> None:
        """Stop the clock; each pause needs a `go_on`."""
        self._pauses += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
            self._left_seconds -= self._loop.time() - self._started_seconds

    def go_on(self) -> None:
        """Start the clock again after the last pause."""
        self._pauses -= 1
        if not self._pauses and not self.expired.done():
            self._start()

    def stop(self) -> None:
        """End the clock: the run is over."""
        if self._timer is not None:
            self._timer.cancel()
        self.expired.cancel()

    def _start(self) -> None:
        self._started_seconds = self._loop.time()
        self._timer = self._loop.call_later(max(0.0, self._left_seconds), self._expire)

    def _expire(self) -> None:
        self._timer = None
        if not self.expired.done():
            self.expired.set_result(None)
