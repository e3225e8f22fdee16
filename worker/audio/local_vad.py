"""Turn detection on this side (OPENAI_TURN_DETECTION=none): when the caller begins and ends to speak.

WebRTC's voice activity detector (`webrtcvad`) says of every 20 ms whether they are voiced; here that becomes
turns. The detector holds on for up to 140 ms after a sound, and takes the first 80 to 140 ms of a noise that sets
in for voice, until it has learnt it. Tones (dialling, ring-back) are voice to it.

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

# So much of the last WINDOW_MS must be voiced for speech: more than a click, or noise that sets in, ever gives.
VOICED_MS: Final = 160
WINDOW_MS: Final = 180

_HIGHEST_AGGRESSIVENESS: Final = 3


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """The caller has been speaking since `at_ms`. It is noticed VOICED_MS later, or a little more."""

    at_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """The caller spoke until `at_ms`. It is noticed when the silence after it has lasted long enough."""

    at_ms: int


class VadState(enum.Enum):
    """Whether the caller is speaking."""

    SILENCE = "silence"
    SPEECH = "speech"


class LocalVad:
    """Finds the turns of one call. Feed it all of the caller's audio, so that its times are those of the call.

    Args:
        threshold: 0 to 1, how sure it must be; mapped to the library's aggressiveness, 0 to 3.
        silence_ms: the silence that ends a turn, rounded up to whole frames.

    Raises:
        ValueError: a value out of its range.
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
        """Whether the caller is speaking, as far as it has been noticed."""
        return self._state

    @property
    def position_ms(self) -> int:
        """How much audio has been looked at: whole frames."""
        return self._position_ms

    def feed(self, pcm8k: bytes) -> list[SpeechStarted | SpeechStopped]:
        """Look at PCM16 at 8 kHz, of any length; returns what it changes, in order.

        What does not fill a frame waits for the next audio.
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
        """Forget the speech under way, without an event: its turn was ended another way, such as by a key."""
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
            # A click in the silence stops its clock, but does not set it back.
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
