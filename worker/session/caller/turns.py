"""Positions of the caller's turns, and the position up to which all turns have a transcript.

The API counts milliseconds of the audio in its session. The dispatcher counts samples of the call. The two differ
by the position at which the session began, and by dropped audio.
"""

from __future__ import annotations

from collections import deque

from worker.audio.resample import LOW_RATE_HZ

# Maximum turns without a transcript. More occur only if the API's transcription has stopped working.
MAX_OPEN_TURNS = 64
# Maximum wait for a turn's transcript.
TEXT_SECONDS = 5.0
# Maximum runs of audio without a gap. The API reports a turn's end within seconds, so the last runs suffice.
MAX_RUNS = 16
_SAMPLES_PER_MS = LOW_RATE_HZ // 1000


class CallerTurns:
    """Positions of one session's turns, in samples at 8 kHz."""

    def __init__(self) -> None:
        self._appended_samples = 0
        self._next_position = -1
        # (samples appended before the run, the call's position at which it begins)
        self._runs: deque[tuple[int, int]] = deque(maxlen=MAX_RUNS)
        self._starts: dict[str, int] = {}
        self._ends: dict[str, int] = {}
        self._stored: set[str] = set()
        self._text_until_seconds: dict[str, float] = {}

    @property
    def appended_ms(self) -> float:
        """Return the length of the audio that the session has received."""
        return self._appended_samples / _SAMPLES_PER_MS

    def appended(self, position_samples: int, samples: int) -> None:
        """Count audio that was sent to the session from this position of the call."""
        if position_samples != self._next_position:
            self._runs.append((self._appended_samples, position_samples))
        self._next_position = position_samples + samples
        self._appended_samples += samples

    @property
    def any_open(self) -> bool:
        """Whether a turn has ended and has no transcript."""
        return bool(self._ends)

    def started(self, item_id: str, audio_start_ms: float) -> None:
        """Note the start of a turn, in milliseconds of the session's audio."""
        position = self._position(audio_start_ms)
        if position is not None:
            self._starts = {item_id: position}

    def awaits_text(self, now_seconds: float) -> bool:
        """Return whether the transcript of a turn is still expected."""
        return any(
            now_seconds < until_seconds
            for item_id, until_seconds in self._text_until_seconds.items()
            if item_id not in self._stored
        )

    def text_failed(self, item_id: str) -> None:
        """Expect no transcript of a turn. Its audio stays unfinished, for the next session."""
        self._text_until_seconds.pop(item_id, None)

    def stopped(self, item_id: str, audio_end_ms: float, now_seconds: float = 0.0) -> tuple[int, int] | None:
        """Note the end of a turn, in milliseconds of the session's audio; return its span in the call."""
        end = self._position(audio_end_ms)
        if end is None:
            return None
        start = self._starts.pop(item_id, None)
        if start is None:
            start = next(reversed(self._ends.values()), 0)
        self._ends[item_id] = end
        self._text_until_seconds[item_id] = now_seconds + TEXT_SECONDS
        if len(self._ends) > MAX_OPEN_TURNS:
            del self._ends[next(iter(self._ends))]
            self._text_until_seconds = {
                each: seconds for each, seconds in self._text_until_seconds.items() if each in self._ends
            }
        return min(start, end), end

    def _position(self, audio_ms: float) -> int | None:
        samples = max(0, min(int(audio_ms * _SAMPLES_PER_MS), self._appended_samples))
        # A position at the beginning of a gap belongs to the run before the gap.
        runs = [run for run in self._runs if run[0] < samples] or list(self._runs)[:1]
        if not runs:
            return None
        before, position = runs[-1]
        return position + samples - before

    def text_stored(self, item_id: str) -> tuple[str, int] | None:
        """Note that the dispatcher has the transcript of a turn.

        Returns:
            the last turn up to which all turns have a transcript, and its end; None: it is the same as before.
        """
        self._stored.add(item_id)
        finished = None
        while self._ends and (first := next(iter(self._ends))) in self._stored:
            finished = first, self._ends.pop(first)
            self._text_until_seconds.pop(first, None)
            self._stored.discard(first)
        self._stored &= self._ends.keys()
        return finished
