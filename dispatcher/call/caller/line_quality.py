"""The quality of a caller's audio as it comes from AVR Core: gaps, jitter and level.

Times are those at which the socket was read. Frames that were read together count as one packet. A stall of this
process looks like one of the network; `event_loop_lag_seconds` tells them apart.
"""

from __future__ import annotations

import math
import struct
from typing import Final

from dispatcher.avr.protocol import FRAME_BYTES, SAMPLE_RATE_HZ
from dispatcher.call.action_queue import ActionQueue
from dispatcher.call.actions import Metric

GAP_SECONDS: Final = 0.1
"""A longer time between two packets is a gap. AVR Core sends a frame every 20 ms, also in silence."""

JITTER_GAIN: Final = 1 / 16
"""Gain of the estimate of the jitter (RFC 3550, section 6.4.1)."""

SAMPLE_SECONDS: Final = 1.0
"""Interval between two frames whose level is measured."""

LOOKS_OF_A_REPORT: Final = 5
"""Number of such intervals after which jitter and level are reported."""

SILENCE_DBFS: Final = -96.0
"""Level of digital silence, below that of the lowest bit."""

_BYTES_PER_SECOND: Final = 2.0 * SAMPLE_RATE_HZ
_FULL_SCALE: Final = 32768.0
# No packet has come yet on this connection.
_NEVER: Final = -1.0


class LineQuality:
    """The quality of one caller's audio.

    Gap: more than 100 ms from one packet to the next, counted with that whole time.
    Jitter: the time from one packet to the next, less the length of the packet's audio. The difference is smoothed
    over 16 packets as in RFC 3550. The end of a packet's audio counts as the packet's timestamp.
    Level: the mean power of one frame a second while the caller speaks, in dB of full scale. A square wave of full
    scale has 0 dBFS, a sine -3 dBFS (as dBov in ITU-T G.100.1).

    Attributes:
        is_speaking: the worker says that the caller speaks.
    """

    def __init__(self, out: ActionQueue) -> None:
        """Make the quality of a line on which nothing has come.

        Args:
            out: takes the measurements.
        """
        self.is_speaking = False
        self._out = out
        self._arrived_seconds: float = _NEVER
        self._jitter_seconds: float = 0.0
        self._look_seconds: float = 0.0
        self._looks = 0
        self._powers: list[float] = []

    def restart(self) -> None:
        """Begin again, because the caller has another connection."""
        self._arrived_seconds = _NEVER
        self._jitter_seconds = 0.0

    def audio(self, pcm: bytes, now_seconds: float) -> None:
        """Measure a packet: PCM16 at 8 kHz, whole samples, not empty.

        This runs for each frame of each caller, so rare work is elsewhere.
        """
        arrived_seconds = self._arrived_seconds
        self._arrived_seconds = now_seconds
        if arrived_seconds < 0.0:
            self._look_seconds = now_seconds + SAMPLE_SECONDS
            return
        interval_seconds = now_seconds - arrived_seconds
        difference = interval_seconds - len(pcm) / _BYTES_PER_SECOND
        if difference < 0.0:
            difference = -difference
        self._jitter_seconds += (difference - self._jitter_seconds) * JITTER_GAIN
        if interval_seconds > GAP_SECONDS:
            self._out.report(Metric.CALLER_GAP_SECONDS, interval_seconds)
        if now_seconds >= self._look_seconds:
            self._look(pcm, now_seconds)

    def _look(self, pcm: bytes, now_seconds: float) -> None:
        self._look_seconds = now_seconds + SAMPLE_SECONDS
        if self.is_speaking:
            self._powers.append(_power(pcm[-FRAME_BYTES:]))
        self._looks += 1
        if self._looks < LOOKS_OF_A_REPORT:
            return
        self._looks = 0
        self._out.report(Metric.CALLER_JITTER_SECONDS, self._jitter_seconds)
        if self._powers:
            power = sum(self._powers) / len(self._powers)
            self._powers.clear()
            self._out.report(Metric.CALLER_LEVEL_DBFS, 10 * math.log10(power) if power else SILENCE_DBFS)


def _power(pcm: bytes) -> float:
    """Return the mean power of samples, as a part of that of full scale."""
    samples = struct.unpack(f"<{len(pcm) // 2}h", pcm)
    # In C, unlike a sum of squares.
    root = math.hypot(*samples) / _FULL_SCALE
    return root * root / len(samples)
