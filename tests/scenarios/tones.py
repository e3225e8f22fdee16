"""Tones that distinguish calls and measure the quality of an audio path."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

TELEPHONE_RATE_HZ = 8000


def tone(hz: float, seconds: float, *, rate_hz: int = TELEPHONE_RATE_HZ, dbfs: float = -10.0) -> bytes:
    """Return a sine as PCM16 mono."""
    time = np.arange(round(seconds * rate_hz)) / rate_hz
    amplitude = 32767 * 10 ** (dbfs / 20)
    return np.rint(amplitude * np.sin(2 * np.pi * hz * time)).astype("<i2").tobytes()


def loudest(pcm: bytes, *, rate_hz: int = TELEPHONE_RATE_HZ) -> float:
    """Return the frequency of the strongest sine in PCM16 mono, in Hz, accurate to a few hundredths."""
    samples = _samples(pcm)
    size = 1 << (len(samples) * 4 - 1).bit_length()
    spectrum = np.abs(np.fft.rfft(samples * np.hanning(len(samples)), size))
    return float(np.argmax(spectrum) * rate_hz / size)


def signal_to_noise_db(pcm: bytes, *, rate_hz: int = TELEPHONE_RATE_HZ) -> float:
    """Return the ratio of the strongest sine to the rest, in dB.

    The sine's frequency, amplitude and phase are fitted by least squares (Gauss-Newton on the frequency). The
    residual is noise of any origin: a lost or repeated frame, a wrong order, an image.
    """
    samples = _samples(pcm)
    time = (np.arange(len(samples)) - len(samples) / 2) / rate_hz
    hz = loudest(pcm, rate_hz=rate_hz)
    for _ in range(20):
        basis = np.stack([np.sin(2 * np.pi * hz * time), np.cos(2 * np.pi * hz * time)], axis=1)
        (a, b), *_ = np.linalg.lstsq(basis, samples, rcond=None)
        slope = 2 * np.pi * time * (a * basis[:, 1] - b * basis[:, 0])
        solution, *_ = np.linalg.lstsq(np.column_stack([basis, slope]), samples, rcond=None)
        hz += float(solution[2])
    basis = np.stack([np.sin(2 * np.pi * hz * time), np.cos(2 * np.pi * hz * time)], axis=1)
    fitted = basis @ np.linalg.lstsq(basis, samples, rcond=None)[0]
    noise = samples - fitted
    return float(10 * np.log10(np.sum(fitted**2) / np.sum(noise**2)))


def _samples(pcm: bytes) -> NDArray[np.float64]:
    return np.frombuffer(pcm, "<i2").astype(np.float64)
