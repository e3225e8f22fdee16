"""When a process that died is started again: at once, unless it keeps dying at once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

HEALTHY_SECONDS: Final = 5.0
"""A process that lived this long was well: what ended it is not what ended the one before."""

FIRST_DELAY_SECONDS: Final = 0.25
MAX_DELAY_SECONDS: Final = 10.0


@dataclass(slots=True)
class RestartPolicy:
    """Decides for one slot. Times are seconds of any clock that does not go back.

    Attributes:
        short_lives: how many processes in a row died before they were healthy.
    """

    short_lives: int = 0
    _started_at: float = 0.0

    def started(self, now: float) -> None:
        """A process was started."""
        self._started_at = now

    def ended(self, now: float) -> float:
        """The process ended; returns how many seconds later the next one is to be started."""
        if now - self._started_at >= HEALTHY_SECONDS:
            self.short_lives = 0
            return 0.0
        self.short_lives += 1
        delay: float = FIRST_DELAY_SECONDS * 2.0 ** min(self.short_lives - 1, 30)
        return min(delay, MAX_DELAY_SECONDS)
