"""The caller's turns: where in the call each one ended, and up to where all of them are text.

The API counts milliseconds of the audio that was appended to its session; the dispatcher counts samples of the
call. The two differ by where in the call the session began, and by what was dropped on the way.
"""

from __future__ import annotations

from collections import deque

from worker.resample import LOW_RATE_HZ

# Turns whose text has not come. More are only left behind where transcription fails for good.
MAX_OPEN_TURNS = 64
# Runs of audio without a gap. A turn's end is heard within seconds, so only the last few are ever looked at.
MAX_RUNS = 16
_SAMPLES_PER_MS = LOW_RATE_HZ // 1000


class CallerTurns:
    """Keeps the positions of one session's turns, in samples at 8 kHz."""

    def __init__(self) -> None:
        self._appended_samples = 0
        self._next_position = -1
        # (samples appended before the run, the call's position at which it begins)
        self._runs: deque[tuple[int, int]] = deque(maxlen=MAX_RUNS)
        self._ends: dict[str, int] = {}
        self._stored: set[str] = set()

    @property
    def appended_ms(self) -> float:
        """How much audio the session has got."""
        return self._appended_samples / _SAMPLES_PER_MS

    def appended(self, position_samples: int, samples: int) -> None:
        """Caller's audio from this position of the call went into the session."""
        if position_samples != self._next_position:
            self._runs.append((self._appended_samples, position_samples))
        self._next_position = position_samples + samples
        self._appended_samples += samples

    def stopped(self, item_id: str, audio_end_ms: float) -> None:
        """The API has heard the end of a turn at this time of its own."""
        end = max(0, min(int(audio_end_ms * _SAMPLES_PER_MS), self._appended_samples))
        # An end where a gap begins is before the gap.
        runs = [run for run in self._runs if run[0] < end] or list(self._runs)[:1]
        if not runs:
            return
        before, position = runs[-1]
        self._ends[item_id] = position + end - before
        if len(self._ends) > MAX_OPEN_TURNS:
            del self._ends[next(iter(self._ends))]

    def text_stored(self, item_id: str) -> tuple[str, int] | None:
        """A turn is text now; returns the last turn up to which all are, and its end, if that has moved."""
        self._stored.add(item_id)
        finished = None
        while self._ends and (first := next(iter(self._ends))) in self._stored:
            finished = first, self._ends.pop(first)
            self._stored.discard(first)
        self._stored &= self._ends.keys()
        return finished
