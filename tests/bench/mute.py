"""`make bench BENCH=mute`: what a frame of the caller costs a dispatcher's core, and while a tool collects keys.

The core alone, without sockets. Both kinds of calls take turns in one process, so that the ratio is of one machine
in one moment.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from typing import Final

from common.link import wire
from dispatcher.call.call import Call
from dispatcher.call.states import State
from tests.dispatcher.call_driver import FRAME_BYTES, CallDriver

# A round of 100 s by the calls' clock: within the bound of a collection.
FRAMES: Final = 5_000
ROUNDS: Final = 15
FRAME_SECONDS: Final = 0.02
PLENTY_BYTES: Final = 2**40


@dataclass(frozen=True, slots=True)
class FrameCost:
    """The cost of a frame in the core, as medians of the rounds, in microseconds."""

    heard_us: float
    muted_us: float

    def table(self) -> str:
        """Return the table for people."""
        ratio = self.muted_us / self.heard_us
        return (
            f"a caller's frame in the dispatcher's core: {self.heard_us:.2f} µs;"
            f" while a tool collects keys: {self.muted_us:.2f} µs, {ratio:.2f} times as much"
        )


def measure(frames: int = FRAMES, rounds: int = ROUNDS) -> FrameCost:
    """Measure both kinds in turn."""
    heard, muted = CallDriver().live(PLENTY_BYTES), CallDriver().live(PLENTY_BYTES)
    times: dict[CallDriver, list[float]] = {heard: [], muted: []}
    for number in range(1, rounds + 1):
        muted.record(wire.Collect(number, on=True, seconds=2 * frames * FRAME_SECONDS))
        for driver, measured in times.items():
            measured.append(_round(driver, frames))
            assert driver.state is State.LIVE
            assert driver.call.is_caller_muted is (driver is muted)
    return FrameCost(statistics.median(times[heard]), statistics.median(times[muted]))


def _round(driver: CallDriver, frames: int) -> float:
    """Return the microseconds of a frame."""
    call: Call = driver.call
    frame = bytes(range(1, 161)) * (FRAME_BYTES // 160)
    began_seconds = time.perf_counter()
    for _ in range(frames):
        driver.now += FRAME_SECONDS
        call.audio(frame, driver.now)
        call.actions.clear()
    return (time.perf_counter() - began_seconds) * 1e6 / frames
