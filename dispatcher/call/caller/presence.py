"""The presence of a caller: whether the caller's connection exists."""

from __future__ import annotations


class CallerPresence:
    """Presence of one caller.

    Attributes:
        away_since_seconds: time at which the connection was lost; None: it exists.
        reason: how the connection was lost.
        may_return: the call waits for another connection of the caller.
    """

    def __init__(self) -> None:
        self.away_since_seconds: float | None = None
        self.reason = ""
        self.may_return = True

    @property
    def is_away(self) -> bool:
        """Whether the caller's connection is lost."""
        return self.away_since_seconds is not None

    def lost(self, reason: str, now_seconds: float, *, may_return: bool) -> None:
        """Note that the connection is lost."""
        self.away_since_seconds = now_seconds
        self.reason = reason
        self.may_return = may_return

    def back(self) -> None:
        """Note that there is another connection."""
        self.away_since_seconds = None
