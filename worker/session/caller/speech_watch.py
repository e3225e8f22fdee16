"""Watch over speech whose end the Realtime API may never report.

Noisy lines and lost events lead to `input_audio_buffer.speech_started` without `speech_stopped`. The caller gets
no answer until the end. A local detector therefore listens while the API reports speech. If it finds no voice for
some seconds, the turn is ended here. After that, the local detector finds turns until the API reports one.
"""

from __future__ import annotations

from collections import deque
from enum import Enum
from typing import Any, Final

import webrtcvad  # type: ignore[import-untyped]  # the library has no types

from worker.audio.local_vad import FRAME_BYTES, SAMPLE_RATE_HZ, LocalVad, SpeechStarted

# Silence after which the turn is ended, although the API still reports speech.
SILENCE_SECONDS: Final = 3.0
# Maximum delay of the API beyond the silence in its settings.
PATIENCE_SECONDS: Final = 1.0
# Maximum length of a turn, with or without voice.
LONGEST_SECONDS: Final = 300.0
# Maximum timeouts of `semantic_vad` by `eagerness`, from OpenAI's guide "Voice activity detection". `auto` is
# `medium`.
_SEMANTIC_SECONDS: Final = {"low": 8.0, "medium": 4.0, "auto": 4.0, "high": 2.0}
# The detector's most lenient mode, because a turn that ends too early is worse than one that ends late.
# Noise has voiced frames, too: a click of 40 ms every second could keep a turn open. As in `LocalVad`, most frames
# of a window must therefore be voiced.
_AGGRESSIVENESS: Final = 0
_WINDOW_FRAMES: Final = 9
_VOICED_FRAMES: Final = 8


class WatchState(Enum):
    """State of the watch.

    OFF ──API hears speech──▶ SPEECH ──silence, or too long──▶ ALONE ──local detector hears speech──▶ SPEECH
     ▲                          │                               │
     └──────── API hears the end, or another beginning ─────────┘
    """

    OFF = "off"
    SPEECH = "speech"
    ALONE = "alone"


def allowed_silence_seconds(turn_detection: Any) -> float:
    """Return the silence after which the API must have ended a turn, by its `turn_detection`."""
    if not isinstance(turn_detection, dict):
        return SILENCE_SECONDS
    if turn_detection.get("type") == "semantic_vad":
        own_seconds = _SEMANTIC_SECONDS.get(str(turn_detection.get("eagerness")), 4.0)
    else:
        own_seconds = float(turn_detection.get("silence_duration_ms") or 500) / 1000
    return max(SILENCE_SECONDS, own_seconds + PATIENCE_SECONDS)


class SpeechWatch:
    """Watch of one session. It computes nothing while the API reports no speech.

    Attributes:
        state: state of the watch.
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
        """Note that the API reports the beginning of speech."""
        self.state = WatchState.SPEECH
        self._alone = None
        self._rest = b""
        self._began_seconds = self._voice_seconds = now_seconds

    def ended(self) -> None:
        """Note that the API reports the end of speech."""
        self.state = WatchState.OFF
        self._alone = None

    def audio(self, pcm: bytes, now_seconds: float) -> bool:
        """Take the caller's audio (PCM16 at 8 kHz); return whether the local detector alone found new speech."""
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
        """Return whether to end the turn, because the API has not; then the local detector listens alone."""
        if self.state is not WatchState.SPEECH:
            return False
        silent = now_seconds - self._voice_seconds >= self._silence_seconds
        if not silent and now_seconds - self._began_seconds < LONGEST_SECONDS:
            return False
        self.state = WatchState.ALONE
        self._alone = LocalVad()
        return True
