"""Filler: a soft sound that plays while an answer is owed."""

from __future__ import annotations

from dispatcher.avr.protocol import FRAME_BYTES, FRAME_SAMPLES, SAMPLE_RATE_HZ

# Maximum filler that is sent ahead of the playout clock, and so may delay a reply.
AHEAD_SECONDS = 0.06
STEP_SECONDS = FRAME_SAMPLES / SAMPLE_RATE_HZ
# Maximum time in which a worker that has restored a session reports whether an answer is owed.
LAPSE_SECONDS = 1.0


class Filler:
    """Filler of one call.

    Attributes:
        is_on: there is a sound to play.
    """

    def __init__(self, sound: bytes, after_seconds: float) -> None:
        self.is_on = bool(sound)
        # Each frame is one slice, also the one across the end of the loop.
        self._loop = sound + sound[:FRAME_BYTES]
        self._length = len(sound)
        self._position = 0
        self._after_seconds = after_seconds
        self._since_seconds: float | None = None
        self._until_seconds: float | None = None

    @property
    def is_owed(self) -> bool:
        """Whether an answer is owed, as far as is known."""
        return self._since_seconds is not None

    def owed(self, now_seconds: float) -> None:
        """Note that an answer is owed, since now or longer."""
        self._until_seconds = None
        if self._since_seconds is None:
            self._since_seconds = now_seconds

    def settled(self) -> None:
        """Note that no answer is owed."""
        self._since_seconds = None

    def lapses(self, now_seconds: float) -> None:
        """Note that no answer is owed, unless the worker reports one within LAPSE_SECONDS."""
        if self._since_seconds is not None:
            self._until_seconds = now_seconds + LAPSE_SECONDS

    def is_due(self, quiet_since_seconds: float, now_seconds: float) -> bool:
        """Return whether filler must play now.

        Args:
            quiet_since_seconds: time at which the last reply was heard to its end.
            now_seconds: the time.
        """
        if self._until_seconds is not None and now_seconds >= self._until_seconds:
            self._since_seconds = self._until_seconds = None
        if self._since_seconds is None:
            return False
        return now_seconds - max(self._since_seconds, quiet_since_seconds) >= self._after_seconds

    def stop(self) -> None:
        """Stop the filler; the next filler begins at the start of the sound."""
        self._position = 0

    def take(self, ahead_seconds: float) -> bytes:
        """Return the next whole frames.

        Args:
            ahead_seconds: sent audio that the playout clock has not reached.
        """
        # Half a sample is added, because the clock's seconds are not exact.
        frames = int((AHEAD_SECONDS - ahead_seconds) / STEP_SECONDS + 0.5 / FRAME_SAMPLES)
        taken = b""
        for _ in range(frames):
            taken += self._loop[self._position : self._position + FRAME_BYTES]
            self._position = (self._position + FRAME_BYTES) % self._length
        return taken
