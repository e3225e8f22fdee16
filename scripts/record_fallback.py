"""Record the built-in apology (`FALLBACK_WAV=builtin`): `python scripts/record_fallback.py`.

It needs Debian's `espeak-ng`, which no other part of the project uses. The sentence is resampled to 8 kHz. Its DC
offset and the silence around it are removed. It gets a peak of -3 dBFS and fades, and is written as mu-law.
"""

from __future__ import annotations

import struct
import subprocess
import tempfile
from pathlib import Path

import numpy as np

from common.audio import g711, wav

TEXT = (
    "We are sorry. There is a technical problem, and we cannot take your call right now. Please try again later."
)
TARGET = Path(__file__).resolve().parents[1] / "dispatcher" / "runner" / "recordings" / "fallback.wav"
# Words a minute: slow enough for a telephone, and fast enough for less than 8 s in all.
ESPEAK = ("espeak-ng", "-v", "en-us", "-s", "168", "-p", "45", "-g", "2")
PEAK = 10 ** (-3 / 20)
FADE_SECONDS = 0.02
MARGIN_SECONDS = 0.1
"""Silence before and after the sentence."""
MULAW_TAG = 7


def main() -> None:
    """Record, convert and write the file."""
    with tempfile.TemporaryDirectory() as folder:
        spoken = Path(folder) / "spoken.wav"
        subprocess.run([*ESPEAK, "-w", str(spoken), TEXT], check=True)  # noqa: S603 - a command of our own
        samples = np.frombuffer(wav.read_wav(spoken), "<i2") / 32768.0
    samples = samples - samples.mean()
    loud = np.flatnonzero(np.abs(samples) > 0.003)
    samples = samples[loud[0] : loud[-1] + 1]
    fade = round(FADE_SECONDS * wav.SAMPLE_RATE_HZ)
    ramp = np.sin(np.linspace(0, np.pi / 2, fade)) ** 2
    samples[:fade] *= ramp
    samples[-fade:] *= ramp[::-1]
    samples = (samples - samples.mean()) * (PEAK / np.abs(samples).max())
    margin = np.zeros(round(MARGIN_SECONDS * wav.SAMPLE_RATE_HZ))
    codes = g711.encode_ulaw(wav.to_pcm16(np.concatenate((margin, samples, margin))))
    rate_hz = wav.SAMPLE_RATE_HZ
    chunks = b"fmt " + struct.pack("<IHHIIHHH", 18, MULAW_TAG, 1, rate_hz, rate_hz, 1, 8, 0)
    chunks += b"fact" + struct.pack("<II", 4, len(codes))
    chunks += b"data" + struct.pack("<I", len(codes)) + codes + b"\0" * (len(codes) % 2)
    TARGET.write_bytes(b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks)


if __name__ == "__main__":
    main()
