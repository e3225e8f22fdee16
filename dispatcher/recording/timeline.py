"""The sound of one call in time: what the caller said and heard, on one clock, as stretches for a file.

Positions are samples since the recording began. The left channel follows the arrival of the caller's audio, the
right channel follows the playout clock. The left channel is placed in runs of audio without a gap. A run gets the
latest position at which none of its audio ends after its arrival, as seen over its first second. So late packets
and a burst after a stall of the network do not shift a channel. A real gap becomes silence of its true length.

While a recording is paused, the caller's audio is replaced by silence on arrival, and both channels are silenced
by position. While the state is not known (another dispatcher had the call), stretches wait for it up to a bound.
Then they are silent.
"""

from __future__ import annotations

from collections import deque

from common.audio.wav import SAMPLE_BYTES, SAMPLE_RATE_HZ
from dispatcher.recording.stretch import Sound, Span, Stretch

# Audio that arrives later than this begins another run.
GAP_SAMPLES = SAMPLE_RATE_HZ // 10
# Audio ahead of its arrival by more than this is not recorded: no telephone is that fast.
AHEAD_SAMPLES = SAMPLE_RATE_HZ // 5
# A run is placed after this time.
SETTLE_SAMPLES = SAMPLE_RATE_HZ
# A stretch waits this long for late audio of the caller. Audio that is later still is lost to the recording.
HOLD_SAMPLES = 5 * SAMPLE_RATE_HZ
# A stretch waits this long until it is known whether the recording is paused.
UNSURE_SAMPLES = 10 * SAMPLE_RATE_HZ
# Shortest and longest stretch. A killed process loses about one of the shortest.
MIN_STRETCH_SAMPLES = 2 * SAMPLE_RATE_HZ
MAX_STRETCH_SAMPLES = 30 * SAMPLE_RATE_HZ
# Reply audio that AVR Core has and has not played: two minutes are more than a model says at once.
MAX_AHEAD_SAMPLES = 120 * SAMPLE_RATE_HZ
# The playout clock is a float: a difference of so many samples is no gap.
ROUNDING_SAMPLES = 2
# Spans of silence that are not written yet. Beyond this the last two become one.
MAX_SPANS = 64


class _Run:
    """Caller's audio without a gap."""

    def __init__(self, position: int) -> None:
        self.position = position
        self.parts: list[bytes] = []
        self.samples = 0


class Mute:
    """A switch with its history as spans of samples."""

    def __init__(self) -> None:
        self.since: int | None = None
        self._spans: list[Span] = []

    def set(self, is_on: bool, position: int) -> None:
        """Switch at a position; the same state again changes nothing."""
        if is_on and self.since is None:
            self.since = position
        elif not is_on and self.since is not None:
            self.add(self.since, position)
            self.since = None

    def add(self, first: int, end: int) -> None:
        """Add a span."""
        if len(self._spans) >= MAX_SPANS:
            first = min(first, self._spans.pop()[0])
        self._spans.append((first, end))

    def take(self, first: int, end: int) -> tuple[Span, ...]:
        """Return the spans that overlap a stretch, and forget those that end with it."""
        spans = self._spans if self.since is None else [*self._spans, (self.since, end)]
        taken = tuple((max(first, one), min(end, other)) for one, other in spans if one < end and other > first)
        if self._spans:
            self._spans = [span for span in self._spans if span[1] > end]
        return taken


class Timeline:
    """Recording of one call in time. All times are seconds of one monotonic clock.

    Attributes:
        began_seconds: the time of position 0.
        is_sure: it is known whether the recording is paused.
        taken_samples: end of the stretches that were taken.
        lost_samples: audio that has no place in the recording: too late, or too far ahead.
    """

    def __init__(self) -> None:
        """Make the timeline of a call that has not begun."""
        self.began_seconds = 0.0
        self.is_sure = False
        self.taken_samples = 0
        self.lost_samples = 0
        self._has_begun = False
        self._pauses = Mute()
        self._mutes = Mute()
        self._unsure_end: int | None = None
        self._left: list[_Run] = []
        # The end of the caller's audio that has its place.
        self._cursor = 0
        self._run: _Run | None = None
        self._run_arrived = 0
        self._is_first_run = True
        self._right: deque[Sound] = deque()
        self._right_end = 0

    @property
    def is_paused(self) -> bool:
        """Whether the recording is paused."""
        return self._pauses.since is not None

    def begin(self, now_seconds: float) -> None:
        """Begin at position 0."""
        self.began_seconds = now_seconds
        self._has_begun = True

    # The state

    def decide(self, paused: bool) -> None:
        """Note whether the recording has been paused since its beginning; `pause` since then holds."""
        if self.is_sure:
            return
        self.is_sure = True
        if not paused:
            return
        if self._unsure_end is None:
            self._pauses.since = 0
        else:
            self._pauses.add(0, self._unsure_end)

    def pause(self, paused: bool, now_seconds: float) -> None:
        """Pause the recording, or go on: both channels are silent meanwhile."""
        position = self._position(now_seconds)
        if not self.is_sure and self._unsure_end is None:
            self._unsure_end = position
        self._pauses.set(paused, position)

    def mute_caller(self, muted: bool, now_seconds: float) -> None:
        """Silence the caller's channel, or end that: keys that the caller presses are audible in it."""
        self._mutes.set(muted, self._position(now_seconds))

    # Sound

    def caller(self, pcm: bytes, now_seconds: float) -> None:
        """Take the caller's audio as it arrives: PCM16, whole samples."""
        samples = len(pcm) // SAMPLE_BYTES
        if not samples or not self._has_begun:
            return
        if self._pauses.since is not None or self._mutes.since is not None:
            pcm = bytes(len(pcm))
        arrived = self._position(now_seconds)
        run = self._run
        if run is None:
            late = arrived - samples - self._cursor
            if late <= GAP_SAMPLES and not self._is_first_run:
                if late < -AHEAD_SAMPLES:
                    self.lost_samples += samples
                    return
                self._append(self._cursor, pcm, samples)
                return
            run = self._run = _Run(arrived - samples)
            self._run_arrived = arrived
        run.parts.append(pcm)
        run.samples += samples
        run.position = min(run.position, arrived - run.samples)
        if arrived - self._run_arrived >= SETTLE_SAMPLES:
            self._settle()

    def played(self, pcm: bytes, ends_seconds: float) -> None:
        """Take sound that was handed to AVR Core.

        Args:
            pcm: PCM16.
            ends_seconds: when the playout clock says that it will have been played.
        """
        samples = len(pcm) // SAMPLE_BYTES
        end = self._position(ends_seconds)
        start = end - samples
        if abs(start - self._right_end) <= ROUNDING_SAMPLES:
            start = self._right_end
        skipped = max(self._right_end, self.taken_samples) - start
        if skipped > 0:
            pcm = pcm[skipped * SAMPLE_BYTES :]
            start += skipped
        samples = len(pcm) // SAMPLE_BYTES
        if start + samples - self.taken_samples > MAX_AHEAD_SAMPLES:
            self.lost_samples += samples
        elif samples:
            self._right.append(Sound(start, pcm))
            self._right_end = start + samples

    def interrupted(self, now_seconds: float) -> None:
        """Drop what AVR Core would have played from now on."""
        position = max(self._position(now_seconds), self.taken_samples)
        while self._right and self._right[-1].position >= position:
            self._right.pop()
        if self._right:
            last = self._right.pop()
            self._right.append(Sound(last.position, last.pcm[: (position - last.position) * SAMPLE_BYTES]))
        self._right_end = min(self._right_end, position)

    # Stretches

    def take(self, now_seconds: float, *, is_last: bool = False) -> Stretch | None:
        """Return the next stretch; None while there is none.

        Args:
            now_seconds: when.
            is_last: the call ends now, and nothing waits: take until there is no more.
        """
        if not self._has_begun:
            return None
        now = self._position(now_seconds)
        if self._run is not None and (is_last or now - self._run_arrived >= SETTLE_SAMPLES):
            self._settle()
        first = self.taken_samples
        if is_last:
            end = min(now, first + MAX_STRETCH_SAMPLES)
            if end <= first:
                return None
        else:
            end = max(min(self._cursor, now), now - HOLD_SAMPLES)
            if not self.is_sure:
                end = min(end, now - UNSURE_SAMPLES)
            end = min(end, first + MAX_STRETCH_SAMPLES)
            if end - first < MIN_STRETCH_SAMPLES:
                return None
        silences = self._pauses.take(first, end)
        if not self.is_sure:
            silences = ((first, end),)
        self.taken_samples = end
        self._cursor = max(self._cursor, end)
        return Stretch(
            first,
            end - first,
            self._take_left(end),
            self._take_right(end),
            silences,
            self._mutes.take(first, end),
        )

    def _take_left(self, end: int) -> tuple[Sound, ...]:
        taken: list[Sound] = []
        while self._left and self._left[0].position < end:
            run = self._left.pop(0)
            pcm = b"".join(run.parts)
            kept = end - run.position
            if run.samples > kept:
                rest = _Run(end)
                rest.parts, rest.samples = [pcm[kept * SAMPLE_BYTES :]], run.samples - kept
                self._left.insert(0, rest)
                pcm = pcm[: kept * SAMPLE_BYTES]
            taken.append(Sound(run.position, pcm))
        return tuple(taken)

    def _take_right(self, end: int) -> tuple[Sound, ...]:
        taken: list[Sound] = []
        while self._right and self._right[0].position < end:
            sound = self._right.popleft()
            kept_bytes = (end - sound.position) * SAMPLE_BYTES
            if len(sound.pcm) > kept_bytes:
                self._right.appendleft(Sound(end, sound.pcm[kept_bytes:]))
                sound = Sound(sound.position, sound.pcm[:kept_bytes])
            taken.append(sound)
        return tuple(taken)

    def _settle(self) -> None:
        """Give a run its place."""
        run, self._run = self._run, None
        assert run is not None
        start, cursor = run.position, self._cursor
        is_first, self._is_first_run = self._is_first_run, False
        if start <= cursor + GAP_SAMPLES and not is_first:
            # Late, and caught up since: there is no gap. What came too late for its place is cut off in front.
            late = cursor - start if start < cursor - AHEAD_SAMPLES else 0
            start = cursor
        else:
            late = max(0, cursor - start) if start < cursor - AHEAD_SAMPLES else 0
            start = max(start, cursor)
        pcm = b"".join(run.parts)
        late = min(late, run.samples)
        self.lost_samples += late
        if run.samples > late:
            self._append(start, pcm[late * SAMPLE_BYTES :], run.samples - late)

    def _append(self, position: int, pcm: bytes, samples: int) -> None:
        last = self._left[-1] if self._left else None
        if last is None or last.position + last.samples != position:
            last = _Run(position)
            self._left.append(last)
        last.parts.append(pcm)
        last.samples += samples
        self._cursor = position + samples

    def _position(self, seconds: float) -> int:
        # Rounded; `round` takes five times as long.
        return int((seconds - self.began_seconds) * SAMPLE_RATE_HZ + 0.5)
