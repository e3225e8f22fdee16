"""The time that a frame spends inside this process."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Histogram

# Timing a frame costs a large part of relaying one, so one frame a second of each call is timed.
TIMED_EVERY_FRAMES = 50


class RelayTimer:
    """Measures some of one call's frames in one direction."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._frames = 0

    def frame(self, received_seconds: float) -> None:
        """Time a frame that is handled now, if it is its turn.

        Args:
            received_seconds: when the frame was read from its socket (monotonic).
        """
        self._frames += 1
        if self._frames % TIMED_EVERY_FRAMES == 0:
            loop = asyncio.get_running_loop()
            # The frame's handling, which follows, schedules a flush of the link for the next turn. That flush
            # schedules a flush of the socket for the second turn. The frame has left in the third turn.
            loop.call_soon(loop.call_soon, loop.call_soon, self._observe, received_seconds)

    def _observe(self, received_seconds: float) -> None:
        self._histogram.observe(time.monotonic() - received_seconds)
