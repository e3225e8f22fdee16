"""The heartbeat of a child: lines on a pipe by which `serve` knows that the child lives.

A child writes `ready` once, when it does its work, and `beat` each second from its event loop. `serve` kills a
child whose lines stop. A stopped process, or one with a blocked event loop, would keep its share of the port.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

READY: Final = b"ready\n"
BEAT: Final = b"beat\n"

HEARTBEAT_SECONDS: Final = 1.0
"""Time between two beats, and between two looks of the watchdog."""

MAX_SILENCE_SECONDS: Final = 10.0
"""Maximum silence: longer than any pause of a healthy child, such as a large import on a slow machine."""

MAX_START_SECONDS: Final = 120.0
"""Maximum time until the first line: imports may be slow, and a restart would only begin them again."""

MAX_TICK_SECONDS: Final = 2 * HEARTBEAT_SECONDS
"""Maximum silence that counts between two looks: beyond it `serve` was stopped, and perhaps its children."""


class Heartbeat:
    """The child's end of the pipe. A write never waits.

    Args:
        descriptor: of the pipe; -1: there is no supervisor.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._owes_ready = False
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    def ready(self) -> None:
        """Write that the child does its work now."""
        self._owes_ready = True
        self.beat()

    def beat(self) -> None:
        """Write that the child lives."""
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, READY if self._owes_ready else BEAT)
            self._owes_ready = False
        except BlockingIOError:
            pass  # `serve` is stopped, and has enough lines to read when it continues
        except OSError:
            self.close()  # the reader is gone

    def close(self) -> None:
        """Write nothing any more."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


class Watchdog:
    """Decides whether one process hangs. Times are seconds of a monotonic clock.

    Args:
        now: time of the process's start.

    Attributes:
        silent_seconds: time since the last line, without the time in which there was no look.
    """

    def __init__(
        self,
        now: float,
        *,
        max_silence_seconds: float = MAX_SILENCE_SECONDS,
        max_start_seconds: float = MAX_START_SECONDS,
        max_tick_seconds: float = MAX_TICK_SECONDS,
    ) -> None:
        self.silent_seconds = 0.0
        self._has_begun = False
        self._looked_at = now
        self._max_silence_seconds = max_silence_seconds
        self._max_start_seconds = max_start_seconds
        self._max_tick_seconds = max_tick_seconds

    def heard(self) -> None:
        """Note that the process has written a line."""
        self.silent_seconds = 0.0
        self._has_begun = True

    def is_hung(self, now: float) -> bool:
        """Return whether the process hangs; must be called about once in `HEARTBEAT_SECONDS`."""
        self.silent_seconds += min(now - self._looked_at, self._max_tick_seconds)
        self._looked_at = now
        return self.silent_seconds > (self._max_silence_seconds if self._has_begun else self._max_start_seconds)
