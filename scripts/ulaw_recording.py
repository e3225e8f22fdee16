"""Speech of a synthesizer, levelled and written as mu-law."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Final

import numpy as np

from common.audio import g711, wav

PEAK: Final = 10 ** (-3 / 20)
FADE_SECONDS: Final = 0.02
MARGIN_SECONDS: Final = 0.1
"""Silence before and after the speech."""
MULAW_TAG: Final = 7


def levelled(pcm: bytes) -> bytes:
    """Return speech (PCM16, 8 kHz) without DC offset and silence around it, with a peak of -3 dBFS and fades."""
    samples = np.frombuffer(pcm, "<i2") / 32768.0
    samples = samples - samples.mean()
    loud = np.flatnonzero(np.abs(samples) > 0.003)
    samples = samples[loud[0] : loud[-1] + 1]
    fade = round(FADE_SECONDS * wav.SAMPLE_RATE_HZ)
    ramp = np.sin(np.linspace(0, np.pi / 2, fade)) ** 2
    samples[:fade] *= ramp
    samples[-fade:] *= ramp[::-1]
    samples = (samples - samples.mean()) * (PEAK / np.abs(samples).max())
    margin = np.zeros(round(MARGIN_SECONDS * wav.SAMPLE_RATE_HZ))
    return wav.to_pcm16(np.concatenate((margin, samples, margin)))


def write_ulaw(path: Path, pcm: bytes) -> None:
    """Write PCM16, 8 kHz, mono as a WAV file of mu-law."""
    codes = g711.encode_ulaw(pcm)
    rate_hz = wav.SAMPLE_RATE_HZ
    chunks = b"fmt " + struct.pack("<IHHIIHHH", 18, MULAW_TAG, 1, rate_hz, rate_hz, 1, 8, 0)
    chunks += b"fact" + struct.pack("<II", 4, len(codes))
    chunks += b"data" + struct.pack("<I", len(codes)) + codes + b"\0" * (len(codes) % 2)
    path.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)
