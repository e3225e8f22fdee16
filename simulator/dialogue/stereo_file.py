"""A stereo WAV file: the caller left, the agent right."""

from __future__ import annotations

import wave
from pathlib import Path

import numpy as np

from common.audio.wav import SAMPLE_BYTES, SAMPLE_RATE_HZ


def write_stereo(path: Path, left: bytes, right: bytes) -> None:
    """Write two channels of PCM16 LE, 8 kHz; the shorter one is filled with silence.

    Raises:
        OSError: the file cannot be written.
    """
    length = max(len(left), len(right))
    channels = [np.frombuffer(pcm.ljust(length, b"\0"), "<i2") for pcm in (left, right)]
    with path.open("wb") as file, wave.open(file, "wb") as writer:
        writer.setnchannels(2)
        writer.setsampwidth(SAMPLE_BYTES)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(np.stack(channels, axis=1).tobytes())
