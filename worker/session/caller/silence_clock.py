"""SILENCE_HANGUP_SECONDS: how long the line of a call has been abandoned."""

from __future__ import annotations


class SilenceClock:
    """Clock of the silence since the caller last spoke or pressed a key.

    The clock is paused while the caller waits: while the agent speaks, an answer is owed, or there is no session.
    Prompts of the agent (`idle_timeout_ms`) do not reset it, so they do not keep an abandoned line open.

    Attributes:
        seconds: the silence so far.
    """

    def __init__(self, now_seconds: float) -> None:
        self.seconds = 0.0
        self._looked_seconds = now_seconds

    def reset(self) -> None:
        """Restart the clock: the caller speaks, or presses a key."""
        self.seconds = 0.0

    def tick(self, now_seconds: float, *, runs: bool) -> None:
        """Look at the clock.

        Args:
            now_seconds: the time.
            runs: the agent does not speak, and owes no answer.
        """
        if runs:
            self.seconds += now_seconds - self._looked_seconds
        self._looked_seconds = now_seconds
