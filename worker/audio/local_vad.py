"""Local turn detection (OPENAI_TURN_DETECTION=none): find the start and the end of the caller's speech.

WebRTC's voice activity detector (`webrtcvad`) classifies each frame of 20 ms as voiced or unvoiced. This module
turns these classes into turns. The detector reports voice for up to 140 ms after a sound. It also reports voice
for the first 80 to 140 ms of a new noise, and for tones (dialling, ring-back). The tests of this module contain
such sounds.

Times are audio time: milliseconds of audio since the first sample.
"""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Final

import webrtcvad  # type: ignore[import-untyped]  # the library has no types

SAMPLE_RATE_HZ: Final = 8_000
FRAME_MS: Final = 20
FRAME_BYTES: Final = 2 * SAMPLE_RATE_HZ * FRAME_MS // 1000

DEFAULT_THRESHOLD: Final = 0.5
DEFAULT_SILENCE_MS: Final = 500

# Speech starts when VOICED_MS of the last WINDOW_MS are voiced. A click or the start of a noise gives less.
VOICED_MS: Final = 160
WINDOW_MS: Final = 180

_HIGHEST_AGGRESSIVENESS: Final = 3


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The start of the caller's speech, at `at_ms`. The detection takes VOICED_MS or a little more."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The end of the caller's speech, at `at_ms`. The detection takes the configured silence."""

    at_ms: int


class VadState(enum.Enum):
    """The state of the caller: silent or speaking."""

    SILENCE = "silence"
    SPEECH = "speech"


class LocalVad:
    """The turn detector of one call. It needs all of the caller's audio, so that its times are those of the call.

    Args:
        threshold: the required certainty, 0 to 1; mapped to the library's aggressiveness, 0 to 3.
        silence_ms: the silence that ends a turn, rounded up to whole frames.

    Raises:
        ValueError: a value is out of range.
    """

    def __init__(self, *, threshold: float = DEFAULT_THRESHOLD, silence_ms: int = DEFAULT_SILENCE_MS) -> None:
        if not 0 <= threshold <= 1:
            raise ValueError(f"threshold is {threshold}: it must be from 0 to 1")
        if silence_ms < 0:
            raise ValueError(f"silence_ms is {silence_ms}: it must not be negative")
        levels = _HIGHEST_AGGRESSIVENESS + 1
        self._vad = webrtcvad.Vad(min(int(threshold * levels), _HIGHEST_AGGRESSIVENESS))
        self._silence_ms = max(silence_ms, FRAME_MS)
        self._rest = b""
        self._position_ms = 0
        self._window: deque[bool] = deque(maxlen=WINDOW_MS // FRAME_MS)
        self._state = VadState.SILENCE
        self._last_voiced_ms = 0
        self._unvoiced_ms = 0

    @property
    def state(self) -> VadState:
        """The detected state of the caller."""
        return self._state

    @property
    def position_ms(self) -> int:
        """Length of the examined audio, in whole frames."""
        return self._position_ms

    def feed(self, pcm8k: bytes) -> list[SpeechStarted | SpeechStopped]:
        """Examine PCM16 at 8 kHz, of any length, and return the detected starts and ends in order.

        An incomplete frame is buffered until the next audio.
        """
        events: list[SpeechStarted | SpeechStopped] = []
        pending = self._rest + pcm8k
        whole = len(pending) // FRAME_BYTES * FRAME_BYTES
        for start in range(0, whole, FRAME_BYTES):
            voiced = self._vad.is_speech(pending[start : start + FRAME_BYTES], SAMPLE_RATE_HZ)
            event = self._look_at(voiced)
            if event is not None:
                events.append(event)
        self._rest = pending[whole:]
        return events

    def reset(self) -> None:
        """Drop the current speech without an event, because another cause, such as a key, ended the turn."""
        self._window.clear()
        self._state = VadState.SILENCE

    def _look_at(self, voiced: bool) -> SpeechStarted | SpeechStopped | None:
        self._position_ms += FRAME_MS
        self._window.append(voiced)
        speaks = self._window.count(True) * FRAME_MS >= VOICED_MS
        if self._state is VadState.SILENCE:
            return self._start() if speaks else None
        if speaks and voiced:
            self._last_voiced_ms = self._position_ms
            self._unvoiced_ms = 0
        elif not voiced:
            # A click in the silence pauses the count of unvoiced frames, but does not reset it.
            self._unvoiced_ms += FRAME_MS
        return self._stop() if self._unvoiced_ms >= self._silence_ms else None

    def _start(self) -> SpeechStarted:
        self._state = VadState.SPEECH
        self._last_voiced_ms = self._position_ms
        self._unvoiced_ms = 0
        first = self._window.index(True)
        return SpeechStarted(self._position_ms - (len(self._window) - first) * FRAME_MS)

    def _stop(self) -> SpeechStopped:
        self.reset()
        return SpeechStopped(self._last_voiced_ms)
