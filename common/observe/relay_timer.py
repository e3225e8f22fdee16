"""How long a frame spends inside this process."""

from __future__ import annotations

import asyncio
import time

from prometheus_client import Histogram

# To time a frame costs a good part of what it costs to relay one, so one a second of each call is timed.
TIMED_EVERY_FRAMES = 50


class RelayTimer:
    """Times some of one call's frames in one direction."""

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram
        self._frames = 0

    def frame(self, received_seconds: float) -> None:
        """A frame was read from its socket at this time (monotonic), and is being handled now."""
        self._frames += 1
        if self._frames % TIMED_EVERY_FRAMES == 0:
            loop = asyncio.get_running_loop()
            # Handling it, which comes next, schedules a flush of the link, and that one a flush of the socket, at
            # the end of the next turn but one: in the turn after that the frame has left.
            loop.call_soon(loop.call_soon, loop.call_soon, self._observe, received_seconds)

    def _observe(self, received_seconds: float) -> None:
        self._histogram.observe(time.monotonic() - received_seconds)
