"""SILENCE_HANGUP_SECONDS: how long the line of a call has been abandoned."""

from __future__ import annotations


class SilenceClock:
    """Adds up the silence since the caller was last heard of.

    Only the caller's speech and keys set it back. It stands while the agent speaks, while an answer is owed, and
    while there is no session: then the caller waits for us. So prompts of the agent's own (`idle_timeout_ms`) do
    not keep an abandoned line open.

    Attributes:
        seconds: the silence so far.
    """

    def __init__(self, now_seconds: float) -> None:
        self.seconds = 0.0
        self._looked_seconds = now_seconds

    def reset(self) -> None:
        """The caller speaks, or presses a key."""
        self.seconds = 0.0

    def tick(self, now_seconds: float, *, runs: bool) -> None:
        """Look at the clock.

        Args:
            now_seconds: the time.
            runs: nothing is to be heard, and nothing is owed.
        """
        if runs:
            self.seconds += now_seconds - self._looked_seconds
        self._looked_seconds = now_seconds
