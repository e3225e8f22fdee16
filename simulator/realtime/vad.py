"""Voice activity by loudness, on audio time.

Audio is processed in frames of 20 ms, however it was cut when it was appended. So the result depends on the audio
alone.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

SAMPLE_RATE_HZ = 24_000
FRAME_MS = 20
FRAME_SAMPLES = SAMPLE_RATE_HZ * FRAME_MS // 1000

# A click or a single loud frame is not speech.
ACTIVATION_MS = 60

# The real threshold (0 to 1) is a probability of a neural network; here it is a level: 0.5, the default, is
# -45 dBFS, between the noise of a telephone line (about -60) and speech (about -25).
THRESHOLD_FLOOR_DBFS = -65.0
THRESHOLD_RANGE_DB = 40.0


@dataclass(frozen=True, slots=True)
class SpeechStarted:
    """Speech began at `speech_start_ms`, without padding, since the first sample ever appended."""

    speech_start_ms: int


@dataclass(frozen=True, slots=True)
class SpeechStopped:
    """Speech lasted until `speech_end_ms`; the silence that proves it, until `audio_end_ms`."""

    speech_start_ms: int
    speech_end_ms: int
    audio_end_ms: int


class VadState(enum.Enum):
    """The activity of the caller's voice."""

    SILENCE = "silence"
    SPEECH = "speech"


class EnergyVad:
    """Detects speech in PCM16 at 24 kHz by the energy of its frames.

    Args:
        threshold: 0 to 1, see `threshold_dbfs`.
        silence_ms: length of the silence that ends speech.
    """

    def __init__(self, *, threshold: float = 0.5, silence_ms: int = 500) -> None:
        self._frame = 0
        self._rest = np.empty(0, dtype=np.int16)
        self.configure(threshold=threshold, silence_ms=silence_ms)

    def configure(self, *, threshold: float, silence_ms: int) -> None:
        """Change the settings; forget speech in progress, and keep the position."""
        amplitude = 32768 * 10 ** (threshold_dbfs(threshold) / 20)
        self._loud_energy = FRAME_SAMPLES * amplitude**2
        self._silence_frames = max(1, -(-silence_ms // FRAME_MS))
        self.reset()

    def reset(self) -> None:
        """Forget speech in progress."""
        self.state = VadState.SILENCE
        self._loud_frames = 0
        self._start_frame = self._end_frame = self._frame

    @property
    def position_ms(self) -> int:
        """Return the length of the audio processed: whole frames."""
        return self._frame * FRAME_MS

    @property
    def speech_start_ms(self) -> int:
        """Return the start of the speech in progress, or of possible speech; earlier audio is outside any turn."""
        return (
            self._start_frame * FRAME_MS
            if self.state is VadState.SPEECH or self._loud_frames
            else self.position_ms
        )

    @property
    def speech_end_ms(self) -> int:
        """Return the time until which the speech in progress was loud."""
        return self._end_frame * FRAME_MS

    def feed(self, samples: npt.NDArray[np.int16]) -> list[SpeechStarted | SpeechStopped]:
        """Process audio (int16, any length) and return the starts and ends of speech, in order."""
        if self._rest.size:
            samples = np.concatenate((self._rest, samples))
        count = samples.size // FRAME_SAMPLES
        self._rest = samples[count * FRAME_SAMPLES :].copy()
        if not count:
            return []
        frames = samples[: count * FRAME_SAMPLES].reshape(count, FRAME_SAMPLES).astype(np.float32)
        energies = np.einsum("ij,ij->i", frames, frames)
        events: list[SpeechStarted | SpeechStopped] = []
        for energy in energies.tolist():
            self._feed_frame(energy >= self._loud_energy, events)
        return events

    def _feed_frame(self, loud: bool, events: list[SpeechStarted | SpeechStopped]) -> None:
        self._frame += 1
        if self.state is VadState.SILENCE:
            if not loud:
                self._loud_frames = 0
                return
            if not self._loud_frames:
                self._start_frame = self._frame - 1
            self._loud_frames += 1
            self._end_frame = self._frame
            if self._loud_frames * FRAME_MS >= ACTIVATION_MS:
                self.state = VadState.SPEECH
                self._loud_frames = 0
                events.append(SpeechStarted(self._start_frame * FRAME_MS))
        elif loud:
            self._end_frame = self._frame
        elif self._frame - self._end_frame >= self._silence_frames:
            events.append(
                SpeechStopped(self._start_frame * FRAME_MS, self._end_frame * FRAME_MS, self.position_ms)
            )
            self.state = VadState.SILENCE


def threshold_dbfs(threshold: float) -> float:
    """Return the RMS level from which a frame is loud, relative to a full-scale square wave."""
    return THRESHOLD_FLOOR_DBFS + THRESHOLD_RANGE_DB * threshold
