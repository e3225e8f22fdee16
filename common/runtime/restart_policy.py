"""The delay before a dead process is restarted: none, unless processes keep dying early."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from common.runtime.backoff import Backoff

HEALTHY_SECONDS: Final = 5.0
"""Minimum life of a healthy process: its end has another cause than the end of the process before it."""

FIRST_DELAY_SECONDS: Final = 0.25
MAX_DELAY_SECONDS: Final = 10.0
_BACKOFF: Final = Backoff(FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS)


@dataclass(slots=True)
class RestartPolicy:
    """Decides for one slot. Times are seconds of a clock that does not go back.

    Attributes:
        short_lives: number of processes in a row that died before they were healthy.
    """

    short_lives: int = 0
    _started_at: float = 0.0

    def started(self, now: float) -> None:
        """Note the start of a process."""
        self._started_at = now

    def ended(self, now: float) -> float:
        """Note the end of the process; return the seconds until the next start."""
        if now - self._started_at >= HEALTHY_SECONDS:
            self.short_lives = 0
            return 0.0
        self.short_lives += 1
        return _BACKOFF.delay_seconds(self.short_lives)
