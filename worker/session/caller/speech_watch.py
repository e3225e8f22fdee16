"""Watches over speech that the Realtime API has heard begin, and may never hear end.

`input_audio_buffer.speech_started` without `speech_stopped` is reported of noisy lines and of lost events. Until
the end, nothing is answered. So our own detector listens, too, as long as the API says that the caller speaks: if
it hears no voice for a while, the turn is ended from this side. Should the API then stay as it is, our detector
finds the caller's further turns until the API reports one.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any, Final

import webrtcvad  # type: ignore[import-untyped]  # the library has no types

from worker.audio.local_vad import FRAME_BYTES, SAMPLE_RATE_HZ, LocalVad, SpeechStarted

# The caller is silent for so long while the API says that the caller speaks: the turn is over.
SILENCE_SECONDS: Final = 3.0
# The API waits so much longer at most than its settings say.
PATIENCE_SECONDS: Final = 1.0
# The longest turn, voiced or not.
LONGEST_SECONDS: Final = 300.0
# `semantic_vad` waits so long for a caller who thinks (OpenAI's guide "Voice activity detection": the maximum
# timeouts of `low`, `medium` and `high`; `auto` is `medium`).
_SEMANTIC_SECONDS: Final = {"low": 8.0, "medium": 4.0, "auto": 4.0, "high": 2.0}
# The detector's most lenient mode: a turn that is ended too early is worse than one that is ended late. So many
# of the last frames must be voiced as in `LocalVad`, because noise has voiced ones, too: a click of 40 ms every
# second would keep a turn open, because the detector holds on after a sound.
_AGGRESSIVENESS: Final = 0
_WINDOW_FRAMES: Final = 9
_VOICED_FRAMES: Final = 8


class WatchState(Enum):
    """What the watch listens for.

    OFF ──API hears speech──▶ SPEECH ──silence, or too long──▶ ALONE ──our detector hears speech──▶ SPEECH
     ▲                          │                               │
     └──────── API hears the end, or another beginning ─────────┘
    """

    OFF = "off"
    SPEECH = "speech"
    ALONE = "alone"


def allowed_silence_seconds(turn_detection: Any) -> float:
    """How long the API may wait in silence with these settings of `turn_detection`."""
    if not isinstance(turn_detection, dict):
        return SILENCE_SECONDS
    if turn_detection.get("type") == "semantic_vad":
        own_seconds = _SEMANTIC_SECONDS.get(str(turn_detection.get("eagerness")), 4.0)
    else:
        own_seconds = float(turn_detection.get("silence_duration_ms") or 500) / 1000
    return max(SILENCE_SECONDS, own_seconds + PATIENCE_SECONDS)


class SpeechWatch:
    """The watch of one session. Nothing is computed while the API hears no speech.

    Attributes:
        state: what it listens for.
    """

    def __init__(self, silence_seconds: float) -> None:
        """Build it; `silence_seconds`: see `allowed_silence_seconds`."""
        self.state = WatchState.OFF
        self._silence_seconds = silence_seconds
        self._vad = webrtcvad.Vad(_AGGRESSIVENESS)
        self._alone: LocalVad | None = None
        self._rest = b""
        self._window: deque[bool] = deque(maxlen=_WINDOW_FRAMES)
        self._began_seconds = 0.0
        self._voice_seconds = 0.0

    def began(self, now_seconds: float) -> None:
        """The API hears the caller speak."""
        self.state = WatchState.SPEECH
        self._alone = None
        self._rest = b""
        self._began_seconds = self._voice_seconds = now_seconds

    def ended(self) -> None:
        """The API has heard the end of the speech."""
        self.state = WatchState.OFF
        self._alone = None

    def audio(self, pcm: bytes, now_seconds: float) -> bool:
        """The caller's audio (PCM16 at 8 kHz); True if our detector, left alone, hears speech begin."""
        if self.state is WatchState.ALONE:
            assert self._alone is not None
            if not any(isinstance(event, SpeechStarted) for event in self._alone.feed(pcm)):
                return False
            self.began(now_seconds)
            return True
        pending = self._rest + pcm
        whole = len(pending) // FRAME_BYTES * FRAME_BYTES
        for start in range(0, whole, FRAME_BYTES):
            self._window.append(self._vad.is_speech(pending[start : start + FRAME_BYTES], SAMPLE_RATE_HZ))
            if self._window.count(True) >= _VOICED_FRAMES:
                self._voice_seconds = now_seconds
        self._rest = pending[whole:]
        return False

    def is_overdue(self, now_seconds: float) -> bool:
        """Whether the speech is over, and the API has not noticed; then our detector is on its own."""
        if self.state is not WatchState.SPEECH:
            return False
        silent = now_seconds - self._voice_seconds >= self._silence_seconds
        if not silent and now_seconds - self._began_seconds < LONGEST_SECONDS:
            return False
        self.state = WatchState.ALONE
        self._alone = LocalVad()
        return True
