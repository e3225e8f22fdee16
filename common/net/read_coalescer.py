"""Many calls in step: with enough of them up, a dispatcher's event loop looks at its sockets by a beat.

Each call has a frame every 20 ms at a moment of its own. With a hundred calls, a loop that answers at once
wakes up some thousand times a second, for a frame or two each time, and finds its caches cold; and so do the
workers behind it. By a beat of 40 ms it wakes up 25 times and takes all that has come since: of each call two
frames, which go on as one piece of audio, through one read, one record, one resampling and one event for the API.

These figures are those of GROUPING_MS=20. With a shorter beat a loop wakes up more often, and still takes many
calls at once.

What it costs is time: audio waits for the next beat, half of one on average, once each way. So there is no beat
while there are few calls, and none for a moment when a connection is made: a new call is a dozen messages, each
of which waits for the one before. Workers have no beat: what they have to do comes by that of the dispatchers.

A process has one event loop and one `READ_COALESCER`. Signals, timers and Redis wait for the interval as well,
which is short against all of their times.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any, Final
from typing import Protocol as Interface

# A call brings 30 KB a second to a dispatcher, and 20 (G.711) to 50 to a worker: some ten calls begin it, and
# half as many end it. Below that all calls together cost little, and would only wait. To count wake-ups would
# not do: who is sent to by a beat has few of them.
BEGIN_BYTES_PER_SECOND: Final = 300_000
END_BYTES_PER_SECOND: Final = 150_000
WATCH_SECONDS: Final = 0.25
# From a connection to the session of its call it takes a few round trips; 50 ms at the most, on a busy machine.
READ_NOW_SECONDS: Final = 0.1
# What was read leaves in the second turn of the loop after that: a link joins its records in the first, and the
# connections write in the next. Only then there is time to rest.
TURNS: Final = 3


class Loop(Interface):
    """What it needs of an event loop."""

    def call_soon(self, callback: Callable[[], None], /) -> Any:
        """In the next turn."""

    def call_later(self, delay: float, callback: Callable[[], None], /) -> Any:
        """After so many seconds."""


class ReadCoalescer:
    """The beat of one event loop.

    Attributes:
        read_bytes: what came from sockets since that was looked at last; who reads counts.
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
        self._interval = 0  # the number of the last
        self._hurry_until_seconds = 0.0

    @property
    def is_on(self) -> bool:
        """Whether there are so many calls that the loop goes by the beat."""
        return self._is_on

    def begin(self, loop: Loop, interval_seconds: float) -> None:
        """Watch over a loop.

        Args:
            loop: of this process.
            beat_seconds: from one beat to the next; 0: there is none. Beats count from now, so that processes
                which share a machine do not all work at the same moment.
        """
        if interval_seconds > 0:
            self._loop = loop
            self._interval_seconds = interval_seconds
            self._origin_seconds = self._clock()
            self._watch()

    def read_now(self) -> None:
        """Somebody has just come, and will be waiting for answers."""
        self._hurry_until_seconds = self._clock() + READ_NOW_SECONDS
        if self._is_on:
            self._is_on = False
            assert self._loop is not None
            self._loop.call_later(READ_NOW_SECONDS, self._go_on)

    def _go_on(self) -> None:
        """The beat was off for somebody who came."""
        assert self._loop is not None
        left_seconds = self._hurry_until_seconds - self._clock()
        if left_seconds > 0:
            self._loop.call_later(left_seconds, self._go_on)
        elif not self._is_on:
            self._start()

    def _watch(self) -> None:
        assert self._loop is not None
        rate, self.read_bytes = self.read_bytes / WATCH_SECONDS, 0
        if self._is_on:
            self._is_on = rate >= END_BYTES_PER_SECOND
        elif rate >= BEGIN_BYTES_PER_SECOND and self._clock() >= self._hurry_until_seconds:
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
            self._rest()
        # While there is something to call, the loop does not wait for its sockets but only looks at them.
        self._loop.call_soon(self._turn)

    def _rest(self) -> None:
        """Until the next beat; one that has come meanwhile is gone on with at once."""
        now_seconds = self._clock()
        beat = self._interval_of(now_seconds)
        if beat == self._interval:
            beat += 1
            self._sleep(max(0.0, beat * self._interval_seconds + self._origin_seconds - now_seconds))
        self._interval = beat

    def _interval_of(self, now_seconds: float) -> int:
        return int((now_seconds - self._origin_seconds) // self._interval_seconds)


READ_COALESCER: Final = ReadCoalescer()
