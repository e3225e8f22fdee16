"""The sound that a simulated caller made, on the timeline of its call. Without I/O and without a clock."""

from __future__ import annotations

from dataclasses import dataclass, field

from simulator.avr.playout import DEFAULT_RECORD_LIMIT_BYTES, SAMPLE_BYTES, SAMPLE_RATE_HZ

# Frames follow each other at whole samples; a float of seconds may round to a neighbour.
_JOIN_SAMPLES = 2


@dataclass(slots=True)
class Utterance:
    """Speech without a pause between its frames.

    Attributes:
        start_sample: start on the call's timeline.
    """

    start_sample: int
    _pcm: bytearray = field(default_factory=bytearray, repr=False)

    @property
    def pcm(self) -> bytes:
        """Return the sound: PCM16 LE, 8 kHz, mono."""
        return bytes(self._pcm)

    @property
    def end_sample(self) -> int:
        """Return the end on the call's timeline."""
        return self.start_sample + len(self._pcm) // SAMPLE_BYTES

    def append(self, frame: bytes) -> None:
        """Add the next frame."""
        self._pcm += frame


class CallerTrack:
    """Records the frames in which the caller speaks.

    Args:
        started_at_seconds: the clock when the call began, and the timeline with it.
        record_limit_bytes: maximum sound kept; later sound is left out.
    """

    def __init__(self, started_at_seconds: float, *, record_limit_bytes: int = DEFAULT_RECORD_LIMIT_BYTES) -> None:
        self.utterances: list[Utterance] = []
        self._started_at_seconds = started_at_seconds
        self._room_bytes = record_limit_bytes

    def add(self, frame: bytes, due_at_seconds: float) -> None:
        """Add a frame; its sound ends at the time at which it is due to be sent."""
        if len(frame) > self._room_bytes:
            return
        self._room_bytes -= len(frame)
        end = round((due_at_seconds - self._started_at_seconds) * SAMPLE_RATE_HZ)
        start = max(0, end - len(frame) // SAMPLE_BYTES)
        last = self.utterances[-1] if self.utterances else None
        if last is None or start > last.end_sample + _JOIN_SAMPLES:
            last = Utterance(start)
            self.utterances.append(last)
        last.append(frame)

    def pcm(self, samples: int) -> bytes:
        """Return the first samples of the timeline, with silence."""
        track = bytearray(samples * SAMPLE_BYTES)
        for utterance in self.utterances:
            start = utterance.start_sample * SAMPLE_BYTES
            sound = utterance.pcm[: max(0, len(track) - start)]
            track[start : start + len(sound)] = sound
        return bytes(track)
