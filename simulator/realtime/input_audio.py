"""The input audio buffer of a session: audio appended and not yet committed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from simulator.realtime.vad import EnergyVad, SpeechStarted, SpeechStopped, VadState

BYTES_PER_MS = 48
"""PCM16 mono at 24 kHz."""

# The end of a turn that is kept, to measure it and to return it to the client.
MAX_TURN_BYTES = 60_000 * BYTES_PER_MS

MAX_RECORDING_BYTES = 600_000 * BYTES_PER_MS

# Silence before speech is discarded in steps of this size: moving bytes on every append would cost more.
_TRIM_STEP_BYTES = 2_000 * BYTES_PER_MS


@dataclass(frozen=True, slots=True)
class Turn:
    """Committed audio.

    Attributes:
        pcm: the last 60 s at most, as PCM16 at 24 kHz.
        audio_ms: length of all the audio.
        speech: the part of `pcm` between its first and its last loud frame.
        speech_ms: length of that part.
    """

    pcm: bytes
    audio_ms: float
    speech: bytes
    speech_ms: int


class InputAudio:
    """Buffers appended audio, detects speech and cuts turns out of it.

    Positions are in bytes since the first sample of the session.

    Attributes:
        keeps_all: whether silence counts as speech and is kept.
    """

    def __init__(self) -> None:
        self.appended_bytes = 0
        self.prefix_ms = 0
        self.trims_silence = False
        self.keeps_all = False
        self._vad = EnergyVad()
        self._buffer = bytearray()
        self._start = 0  # position of what is uncommitted
        self._span: tuple[int, int] | None = None  # speech in it that is over, in ms

    @property
    def appended_ms(self) -> int:
        """Return the length of all audio ever appended."""
        return self.appended_bytes // BYTES_PER_MS

    @property
    def buffered_ms(self) -> float:
        """Return the length of the audio that a commit would take."""
        return (self.appended_bytes - self._start) / BYTES_PER_MS

    def configure(self, *, threshold: float, silence_ms: int, prefix_ms: int, trims_silence: bool) -> None:
        """Change turn detection.

        Args:
            threshold: see `simulator.realtime.vad`.
            silence_ms: see `simulator.realtime.vad`.
            prefix_ms: audio before speech that belongs to the turn.
            trims_silence: whether to discard old silence; False where the client commits.
        """
        self.prefix_ms = prefix_ms
        self.trims_silence = trims_silence
        self._vad.configure(threshold=threshold, silence_ms=silence_ms)

    def append(self, pcm: bytes) -> list[SpeechStarted | SpeechStopped]:
        """Add PCM16 at 24 kHz (whole samples) and return the starts and ends of speech in it."""
        self._buffer += pcm
        self.appended_bytes += len(pcm)
        events = self._vad.feed(np.frombuffer(pcm, dtype="<i2"))
        for event in events:
            if isinstance(event, SpeechStopped):
                first = self._span[0] if self._span else event.speech_start_ms
                self._span = (first, event.speech_end_ms)
        if len(self._buffer) > _TRIM_STEP_BYTES:
            self._trim(speaking=self.keeps_all or self._vad.state is VadState.SPEECH or bool(events))
        return events

    def skip(self, byte_count: int) -> None:
        """Count audio without looking at it."""
        self.appended_bytes += byte_count
        self._start = self.appended_bytes

    def audio_start_ms(self, speech_start_ms: int) -> int:
        """Return the start of the turn whose speech starts there, with padding and without committed audio."""
        return max(speech_start_ms - self.prefix_ms, -(-self._start // BYTES_PER_MS), 0)

    def take(self) -> Turn:
        """Cut out all buffered audio, as a commit does."""
        turn = self._cut(self._start, self.appended_bytes, self._speech_span())
        self._vad.reset()
        return turn

    def take_speech(self, speech: SpeechStopped) -> Turn:
        """Cut out speech that has ended, with its padding and silence.

        Audio before it is discarded, and audio after it stays.
        """
        start = self.audio_start_ms(speech.speech_start_ms) * BYTES_PER_MS
        end = speech.audio_end_ms * BYTES_PER_MS
        return self._cut(start, end, (speech.speech_start_ms, speech.speech_end_ms))

    def clear(self) -> None:
        """Discard uncommitted audio."""
        self._buffer.clear()
        self._start = self.appended_bytes
        self._span = None
        self._vad.reset()

    def _speech_span(self) -> tuple[int, int]:
        if self._vad.state is VadState.SPEECH:
            first = self._span[0] if self._span else self._vad.speech_start_ms
            return first, self._vad.speech_end_ms
        return self._span or (0, 0)

    def _cut(self, start: int, end: int, speech_ms: tuple[int, int]) -> Turn:
        first_ms, last_ms = speech_ms
        pcm = self._slice(start, end)
        speech = self._slice(max(start, first_ms * BYTES_PER_MS), min(end, last_ms * BYTES_PER_MS))
        del self._buffer[: len(self._buffer) - (self.appended_bytes - end)]
        self._start = end
        self._span = None
        return Turn(pcm, (end - start) / BYTES_PER_MS, speech, last_ms - first_ms)

    def _slice(self, start: int, end: int) -> bytes:
        first = self.appended_bytes - len(self._buffer)
        return bytes(self._buffer[max(0, start - first) : max(0, end - first)])

    def _trim(self, *, speaking: bool) -> None:
        if self.trims_silence and not speaking:
            # Speech about to be detected began at most ACTIVATION_MS ago.
            keep_from = (self._vad.speech_start_ms - self.prefix_ms) * BYTES_PER_MS
            keep = self.appended_bytes - keep_from
            self._start = max(self._start, keep_from)
        else:
            keep = MAX_TURN_BYTES
        del self._buffer[: max(0, len(self._buffer) - keep)]


class Recording:
    """All appended audio as received: the last ten minutes of PCM, or the last hour of G.711."""

    def __init__(self) -> None:
        self._data = bytearray()

    def add(self, data: bytes) -> None:
        """Append audio, and discard the oldest above the limit."""
        self._data += data
        if len(self._data) > MAX_RECORDING_BYTES + _TRIM_STEP_BYTES:
            del self._data[: len(self._data) - MAX_RECORDING_BYTES]

    def clear(self) -> None:
        """Discard all audio."""
        self._data.clear()

    @property
    def data(self) -> bytes:
        """Return the audio in the formats of the session's input, in order."""
        return bytes(self._data)
