"""Reading of sockets at fixed intervals while a dispatcher has many calls.

A call brings a frame every 20 ms, each call at a moment of its own. With a hundred calls, a loop that reads at
once wakes up about a thousand times a second. Each time it handles one or two frames, with cold caches. The
workers behind it do the same. With an interval of 40 ms the loop wakes up 25 times a second. It then reads two
frames of each call, which travel as one piece of audio: one read, one record, one resampling and one event for the
API.

These figures are for GROUPING_MS=20. With a shorter interval a loop wakes up more often, and still reads many
calls at once.

The price is latency: audio waits for the end of the interval, half an interval on average, once in each direction.
Intervals are therefore off while there are few calls, and for a moment after a connection is made: a new call is a
dozen messages, each of which waits for the one before. Workers have no interval of their own, because dispatchers
send to them at their intervals.

A process has one event loop and one `READ_COALESCER`. Signals, timers and Redis also wait for the end of the
interval, which is short compared with their timeouts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from typing import Protocol as Interface

# A call brings 30 KB a second to a dispatcher, and 20 (G.711) to 50 to a worker. Intervals begin with about ten
# calls and end with half as many; fewer calls cost little CPU and would only wait. The number of wake-ups would be
# a wrong measure: a process that receives at intervals wakes up rarely.
BEGIN_BYTES_PER_SECOND: Final = 300_000
END_BYTES_PER_SECOND: Final = 150_000
WATCH_SECONDS: Final = 0.25
# A new call needs a few round trips until its session opens: 50 ms at most on a busy machine.
READ_NOW_SECONDS: Final = 0.1
# Data leaves the process in the second turn of the loop after its read: a link joins its records in the first
# turn, and the connections write in the second. The loop may sleep only after that.
TURNS: Final = 3


class Loop(Interface):
    """The part of an event loop that a `ReadCoalescer` uses."""

    def call_soon(self, callback: Callable[[], None], /) -> Any:
        """Call back in the next turn."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Any:
        """Call back after `delay` seconds."""


class ReadCoalescer:
    """The intervals of one event loop.

    Attributes:
        read_bytes: bytes read from sockets since the last look at the rate; the readers add to it.
    """

    def __init__(
        self, clock: Callable[[], float] = time.monotonic, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self.read_bytes = 0
        self._clock = clock
        self._sleep = sleep
        self._loop: Loop | None = None
        self._interval_seconds = 0.0
        self._origin_seconds = 0.0
        self._is_on = False
        self._turns = 0
        self._interval = 0  # the number of the latest interval
        self._read_now_until_seconds = 0.0

    @property
    def is_on(self) -> bool:
        """Whether the loop reads at intervals, because there are enough calls."""
        return self._is_on

    def begin(self, loop: Loop, interval_seconds: float) -> None:
        """Watch the load of a loop, and read at intervals when the load is high.

        Args:
            loop: of this process.
            interval_seconds: length of an interval; 0: the loop always reads at once. Intervals count from this
                call, so that processes on one machine do not all work at the same moment.
        """
        if interval_seconds > 0:
            self._loop = loop
            self._interval_seconds = interval_seconds
            self._origin_seconds = self._clock()
            self._watch()

    def read_now(self) -> None:
        """Read at once for `READ_NOW_SECONDS`, because a new connection waits for answers."""
        self._read_now_until_seconds = self._clock() + READ_NOW_SECONDS
        if self._is_on:
            self._is_on = False
            assert self._loop is not None
            self._loop.call_later(READ_NOW_SECONDS, self._resume)

    def _resume(self) -> None:
        """Read at intervals again after `read_now`."""
        assert self._loop is not None
        left_seconds = self._read_now_until_seconds - self._clock()
        if left_seconds > 0:
            self._loop.call_later(left_seconds, self._resume)
        elif not self._is_on:
            self._start()

    def _watch(self) -> None:
        assert self._loop is not None
        rate, self.read_bytes = self.read_bytes / WATCH_SECONDS, 0
        if self._is_on:
            self._is_on = rate >= END_BYTES_PER_SECOND
        elif rate >= BEGIN_BYTES_PER_SECOND and self._clock() >= self._read_now_until_seconds:
            self._start()
        self._loop.call_later(WATCH_SECONDS, self._watch)

    def _start(self) -> None:
        assert self._loop is not None
        self._is_on = True
        self._turns = 0
        self._interval = self._interval_of(self._clock())
        self._loop.call_soon(self._turn)

    def _turn(self) -> None:
        if not self._is_on:
            return
        assert self._loop is not None
        self._turns += 1
        if self._turns == TURNS:
            self._turns = 0
            self._sleep_to_interval_end()
        # While a callback is ready, the loop polls its sockets and does not wait for them.
        self._loop.call_soon(self._turn)

    def _sleep_to_interval_end(self) -> None:
        """Sleep until the next interval, or not at all if it has begun already."""
        now_seconds = self._clock()
        interval = self._interval_of(now_seconds)
        if interval == self._interval:
            interval += 1
            self._sleep(max(0.0, interval * self._interval_seconds + self._origin_seconds - now_seconds))
        self._interval = interval

    def _interval_of(self, now_seconds: float) -> int:
        return int((now_seconds - self._origin_seconds) // self._interval_seconds)


READ_COALESCER: Final = ReadCoalescer()
