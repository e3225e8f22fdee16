"""How `serve` knows that a child lives: the child writes lines to a pipe.

It writes `ready` once, when it does its work, and `beat` each second from its event loop. `serve` kills a child
whose lines stop, because a stopped process, or one with a blocked event loop, keeps its share of the port.
"""

from __future__ import annotations

import contextlib
import os
from typing import Final

READY: Final = b"ready\n"
BEAT: Final = b"beat\n"

BEAT_SECONDS: Final = 1.0
"""Between two beats, and between two looks of the watchdog."""

MAX_SILENCE_SECONDS: Final = 10.0
"""Longer than any pause of a child that is well, be it a big tool that is imported or a slow machine."""

MAX_START_SECONDS: Final = 120.0
"""The same until the first line: imports may take long, and a restart would only begin them anew."""

MAX_TICK_SECONDS: Final = 2 * BEAT_SECONDS
"""The most that counts between two looks: in the rest `serve` was stopped itself, and perhaps its children too."""


class Heartbeat:
    """The child's end of the pipe. A write never waits.

    Args:
        descriptor: of the pipe; -1: nobody listens.
    """

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._owes_ready = False
        if descriptor >= 0:
            os.set_inheritable(descriptor, False)
            os.set_blocking(descriptor, False)

    def ready(self) -> None:
        """Say that the child does its work now."""
        self._owes_ready = True
        self.beat()

    def beat(self) -> None:
        """Say that the child lives."""
        if self._descriptor < 0:
            return
        try:
            os.write(self._descriptor, READY if self._owes_ready else BEAT)
            self._owes_ready = False
        except BlockingIOError:
            pass  # `serve` is stopped, and has enough to read when it goes on
        except OSError:
            self.close()  # nobody listens any more

    def close(self) -> None:
        """Say nothing more."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):
                os.close(self._descriptor)
            self._descriptor = -1


class Watchdog:
    """Decides for one process whether it hangs. Times are seconds of a monotonic clock.

    Args:
        now: when the process was started.

    Attributes:
        silent_seconds: since the last line, without the time in which nobody looked.
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
        """Take notice of a line that the process wrote."""
        self.silent_seconds = 0.0
        self._has_begun = True

    def is_hung(self, now: float) -> bool:
        """Return whether the process hangs; to be asked about once in `BEAT_SECONDS`."""
        self.silent_seconds += min(now - self._looked_at, self._max_tick_seconds)
        self._looked_at = now
        return self.silent_seconds > (self._max_silence_seconds if self._has_begun else self._max_start_seconds)
