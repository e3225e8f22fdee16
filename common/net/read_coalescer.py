"""Reading of sockets at intervals while a process has many calls.

A call brings a frame every 20 ms, each call at a moment of its own. With a hundred calls, a loop that reads at
once wakes up about a thousand times a second. Each time it handles one or two frames, with cold caches. The
workers behind it do the same. With an interval of 40 ms the loop wakes up 25 times a second. It then reads two
frames of each call, which travel as one piece of audio: one read, one record, one resampling, and one event for
the API.

The price is latency: audio waits for the end of the interval, half an interval on average. Therefore the interval
follows the load by default (`common/net/adaptive_interval.py`), in dispatchers and in workers. A process with room
reads at once. A number in GROUPING_MS is a fixed interval of dispatchers: twice that number. Workers have none
then, because dispatchers send to them at their intervals.

With either, a process with few calls reads at once. So does one for a moment after a connection is made: a new
call is a dozen messages, each of which waits for the one before.

A process has one event loop and one `READ_COALESCER`. Signals, timers and Redis also wait for the end of the
interval, which is short compared with their timeouts.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from typing import Protocol as Interface

from common.net.adaptive_interval import LEAST_SECONDS, MEASURE_SECONDS, AdaptiveInterval, Reading

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
        self._adaptive: AdaptiveInterval | None = None
        self._read: Callable[[], Reading] | None = None
        self._fixed_seconds = 0.0
        self._has_calls = False
        # Intervals are counted from here, and their length changes only with a new count.
        self._origin_seconds = 0.0
        self._interval_seconds = 0.0
        self._interval = 0  # the number of the latest interval
        self._is_on = False
        self._is_turning = False
        self._turns = 0
        self._read_now_until_seconds = 0.0
        self._will_resume = False

    @property
    def is_on(self) -> bool:
        """Whether the loop reads at intervals now."""
        return self._is_on

    @property
    def wanted_seconds(self) -> float:
        """The interval, apart from the moments after a new connection; 0: sockets are read at once."""
        if not self._has_calls:
            return 0.0
        return self._fixed_seconds if self._adaptive is None else self._adaptive.seconds

    def begin(self, loop: Loop, interval_seconds: float) -> None:
        """Read at fixed intervals while there are enough calls.

        Args:
            loop: of this process.
            interval_seconds: length of an interval; 0: the loop always reads at once. Intervals count from this
                call, so that processes on one machine do not all work at the same moment.
        """
        if interval_seconds > 0:
            self._loop = loop
            self._fixed_seconds = interval_seconds
            self._origin_seconds = self._clock()
            self._watch()

    def adapt(self, loop: Loop, adaptive: AdaptiveInterval, read: Callable[[], Reading]) -> None:
        """Read at intervals that follow the load, while there are enough calls.

        Args:
            loop: of this process.
            adaptive: has the interval for a load.
            read: what the system has counted by now; it is called every `MEASURE_SECONDS`.
        """
        self._loop = loop
        self._adaptive = adaptive
        self._read = read
        self._measure()
        self._watch()

    def read_now(self) -> None:
        """Read at once, or soon, for `READ_NOW_SECONDS`, because a new connection waits for answers."""
        self._read_now_until_seconds = self._clock() + READ_NOW_SECONDS
        if self._is_on:
            self._apply()
            if not self._will_resume:
                assert self._loop is not None
                self._will_resume = True
                self._loop.call_later(READ_NOW_SECONDS, self._resume)

    def _resume(self) -> None:
        """Read at intervals again after `read_now`."""
        assert self._loop is not None
        left_seconds = self._read_now_until_seconds - self._clock()
        if left_seconds > 0:
            self._loop.call_later(left_seconds, self._resume)
        else:
            self._will_resume = False
            self._apply()

    def _watch(self) -> None:
        """Look at whether there are enough calls."""
        assert self._loop is not None
        rate, self.read_bytes = self.read_bytes / WATCH_SECONDS, 0
        self._has_calls = rate >= (END_BYTES_PER_SECOND if self._has_calls else BEGIN_BYTES_PER_SECOND)
        self._apply()
        self._loop.call_later(WATCH_SECONDS, self._watch)

    def _measure(self) -> None:
        """Look at the load."""
        assert self._loop is not None
        assert self._adaptive is not None
        assert self._read is not None
        self._adaptive.measure(self._clock(), self._read())
        self._apply()
        self._loop.call_later(MEASURE_SECONDS, self._measure)

    def _apply(self) -> None:
        """Begin, change or end the intervals."""
        now_seconds = self._clock()
        seconds = self.wanted_seconds
        if now_seconds < self._read_now_until_seconds:
            opening_seconds = 0.0 if self._adaptive is None else self._adaptive.opening_seconds
            # So short an interval costs as much as reading at once.
            seconds = min(seconds, opening_seconds) if opening_seconds >= LEAST_SECONDS else 0.0
        if seconds <= 0:
            self._is_on = False
            return
        if seconds != self._interval_seconds:
            self._count_anew(seconds, now_seconds)
        if not self._is_on:
            self._is_on = True
            self._turns = 0
            self._interval = self._interval_of(now_seconds)
            if not self._is_turning:
                assert self._loop is not None
                self._is_turning = True
                self._loop.call_soon(self._turn)

    def _count_anew(self, seconds: float, now_seconds: float) -> None:
        """Change the length of intervals, beginning with the one that has begun."""
        if self._is_on:
            self._origin_seconds += self._interval * self._interval_seconds
        elif self._adaptive is not None:
            self._origin_seconds = now_seconds
        self._interval_seconds = seconds
        self._interval = 0

    def _turn(self) -> None:
        if not self._is_on:
            self._is_turning = False
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
        if interval <= self._interval:
            interval = self._interval + 1
            self._sleep(max(0.0, interval * self._interval_seconds + self._origin_seconds - now_seconds))
        self._interval = interval

    def _interval_of(self, now_seconds: float) -> int:
        return int((now_seconds - self._origin_seconds) // self._interval_seconds)


READ_COALESCER: Final = ReadCoalescer()
