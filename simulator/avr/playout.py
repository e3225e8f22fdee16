"""AVR Core's playout buffer on an explicit clock, without I/O: the audio that a caller really hears.

AVR Core takes reply audio as fast as it arrives and plays it in order at 8 kHz. It empties its buffer on an
`interruption`. So the heard audio is a timeline of *segments* (audio played without a pause) with silence
between them. All counts are samples of PCM16 mono at 8 kHz, so that sums are exact.
"""

from __future__ import annotations

import enum
import itertools
from dataclasses import dataclass, replace

SAMPLE_RATE_HZ = 8000
SAMPLE_BYTES = 2
SAMPLES_PER_MS = SAMPLE_RATE_HZ // 1000

# 64 MiB is 70 minutes of audio: longer than a Realtime session. Later audio is played, but not kept.
DEFAULT_RECORD_LIMIT_BYTES = 64 * 1024 * 1024


class SegmentEnd(enum.Enum):
    """The reason of a segment's end."""

    PLAYING = "playing"
    """The segment has not ended."""
    EMPTY = "empty"
    """All received audio was played: a reply ended, or more of it arrived too late."""
    INTERRUPTED = "interrupted"
    """An `interruption` emptied the buffer."""
    CALL_ENDED = "call ended"
    """The call ended before the buffer was empty."""


@dataclass(frozen=True, slots=True)
class Segment:
    """Audio played without a pause.

    Attributes:
        start_sample: start on the caller's timeline, in samples since the call began.
        first_sample: index of its first sample among all received samples (in order of arrival).
        received_samples: number of samples received.
        played_samples: number of samples heard; the others were dropped, or are still queued.
        end: reason of its end.
    """

    start_sample: int
    first_sample: int
    received_samples: int
    played_samples: int
    end: SegmentEnd

    @property
    def end_sample(self) -> int:
        """Return the end on the caller's timeline, or the current position."""
        return self.start_sample + self.played_samples

    @property
    def unplayed_samples(self) -> int:
        """Return the samples received and not heard: dropped if the segment has ended, otherwise queued."""
        return self.received_samples - self.played_samples


class PlayoutBuffer:
    """The caller's side of one call, driven by `now_seconds` of any monotonic clock.

    Args:
        started_at_seconds: the clock when the call began, and the timeline with it.
        record_limit_bytes: maximum received audio kept. Later audio is timed and counted alike, but it is missing
            in `received_pcm`, and silence in `heard`.

    Every method raises ValueError if the clock goes back.
    """

    def __init__(self, started_at_seconds: float, *, record_limit_bytes: int = DEFAULT_RECORD_LIMIT_BYTES) -> None:
        self.started_at_seconds = started_at_seconds
        self.received_samples = 0
        self._record_limit_bytes = record_limit_bytes
        self._recorded = bytearray()
        self._over: list[Segment] = []
        self._current: Segment | None = None
        self._latest_sample = 0
        self._ended_at_sample: int | None = None

    def add(self, pcm: bytes, now_seconds: float) -> None:
        """Queue received audio after the queued audio.

        Raises:
            ValueError: `pcm` is not whole samples, or the call has ended.
        """
        if len(pcm) % SAMPLE_BYTES:
            raise ValueError(f"{len(pcm)} bytes are not whole 16-bit samples")
        now = self._advance(now_seconds)
        samples = len(pcm) // SAMPLE_BYTES
        if not samples:
            return
        if self._current is None:
            self._current = Segment(now, self.received_samples, samples, 0, SegmentEnd.PLAYING)
        else:
            received = self._current.received_samples + samples
            self._current = replace(self._current, received_samples=received)
        self.received_samples += samples
        room_bytes = max(0, self._record_limit_bytes - len(self._recorded))
        self._recorded += pcm[:room_bytes]

    def clear(self, now_seconds: float) -> int:
        """Empty the buffer, as an `interruption` does, and return the number of dropped samples."""
        return self._finish_current(self._advance(now_seconds), SegmentEnd.INTERRUPTED)

    def end(self, now_seconds: float) -> int:
        """End the call and the timeline, and return the number of samples that are never heard."""
        now = self._advance(now_seconds)
        dropped = self._finish_current(now, SegmentEnd.CALL_ENDED)
        self._ended_at_sample = now
        return dropped

    @property
    def received_pcm(self) -> bytes:
        """Return all received audio in order of arrival, heard or not (up to the record limit)."""
        return bytes(self._recorded)

    def received_since(self, first_sample: int) -> bytes:
        """Return audio received from this sample on (up to the record limit)."""
        return bytes(self._recorded[first_sample * SAMPLE_BYTES :])

    def segments(self, now_seconds: float) -> tuple[Segment, ...]:
        """Return the segments played until now, in order, without a change of state."""
        now = self._sample_at(now_seconds)
        current = () if self._current is None else (_played_until(self._current, now),)
        return (*self._over, *current)

    def heard(self, now_seconds: float) -> bytes:
        """Return the timeline from the call's start until now (or its end), with silence."""
        now = self._sample_at(now_seconds)
        timeline = bytearray(now * SAMPLE_BYTES)
        for segment in self.segments(now_seconds):
            first = segment.first_sample * SAMPLE_BYTES
            played = self._recorded[first : first + segment.played_samples * SAMPLE_BYTES]
            start = segment.start_sample * SAMPLE_BYTES
            timeline[start : start + len(played)] = played
        return bytes(timeline)

    def heard_samples(self, now_seconds: float, first_sample: int = 0, end_sample: int | None = None) -> int:
        """Count the heard samples among those received as number `first_sample` to `end_sample` (excluded)."""
        end_sample = self.received_samples if end_sample is None else end_sample
        heard = 0
        for segment in self.segments(now_seconds):
            first = max(first_sample, segment.first_sample)
            end = min(end_sample, segment.first_sample + segment.played_samples)
            heard += max(0, end - first)
        return heard

    def heard_ms(self, now_seconds: float) -> float:
        """Return milliseconds of received audio that were heard, without silence: a multiple of 1/8 ms."""
        return self.heard_samples(now_seconds) / SAMPLES_PER_MS

    def queued_ms(self, now_seconds: float) -> float:
        """Return milliseconds received and still to be played."""
        now = self._sample_at(now_seconds)
        if self._current is None:
            return 0.0
        return _played_until(self._current, now).unplayed_samples / SAMPLES_PER_MS

    def silent_ms(self, now_seconds: float) -> float:
        """Return milliseconds since audio was last played: 0 during playout."""
        now = self._sample_at(now_seconds)
        latest = self._current or (self._over[-1] if self._over else None)
        if latest is None:
            return now / SAMPLES_PER_MS
        return (now - _played_until(latest, now).end_sample) / SAMPLES_PER_MS

    def gaps_ms(self, now_seconds: float, *, shorter_than_ms: float) -> tuple[float, ...]:
        """Return pauses in which the buffer ran empty and was filled again within `shorter_than_ms`.

        AVR messages do not mark the end of a reply. Only the length separates a late frame from the pause between
        two replies. Pauses after an interruption are not gaps.
        """
        segments = self.segments(now_seconds)
        pauses = (
            (after.start_sample - before.end_sample) / SAMPLES_PER_MS
            for before, after in itertools.pairwise(segments)
            if before.end is SegmentEnd.EMPTY
        )
        return tuple(pause for pause in pauses if pause < shorter_than_ms)

    def _sample_at(self, now_seconds: float) -> int:
        sample = round((now_seconds - self.started_at_seconds) * SAMPLE_RATE_HZ)
        if sample < self._latest_sample:
            raise ValueError(f"the clock went back by {self._latest_sample - sample} samples")
        return sample if self._ended_at_sample is None else self._ended_at_sample

    def _advance(self, now_seconds: float) -> int:
        """Move the clock, end a segment that has run empty meanwhile, and return the sample of now."""
        if self._ended_at_sample is not None:
            raise ValueError("the call has ended: nothing more is played")
        now = self._latest_sample = self._sample_at(now_seconds)
        # Audio that arrives on the very sample at which earlier audio ends is gapless: `<`, not `<=`.
        current = self._current
        if current is not None and current.start_sample + current.received_samples < now:
            self._finish_current(now, SegmentEnd.EMPTY)
        return now

    def _finish_current(self, now: int, end: SegmentEnd) -> int:
        if self._current is None:
            return 0
        segment = _played_until(self._current, now)
        if segment.unplayed_samples:
            segment = replace(segment, end=end)
        self._over.append(segment)
        self._current = None
        return segment.unplayed_samples


def _played_until(segment: Segment, now: int) -> Segment:
    if segment.end is not SegmentEnd.PLAYING:
        return segment
    played = max(0, min(segment.received_samples, now - segment.start_sample))
    end = SegmentEnd.EMPTY if played == segment.received_samples else SegmentEnd.PLAYING
    return replace(segment, played_samples=played, end=end)
