"""A detector of DTMF tones: Goertzel's algorithm for the eight frequencies of ITU-T Q.23."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from simulator.avr.dtmf import FREQUENCIES_HZ, HIGH_HZ, LOW_HZ

WINDOW_SECONDS = 0.02
# Amplitude that counts as a tone: 60 dB below full scale, far below anything that an ear or a model could use.
LEAST_AMPLITUDE = 33.0
# Share of the window's energy that the two frequencies of a key have.
LEAST_SHARE = 0.5


def keys_in(pcm: bytes, *, rate_hz: int = 8000) -> str:
    """Return the keys whose tones are in PCM16 mono, in order; a tone in several windows counts once."""
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    size = round(WINDOW_SECONDS * rate_hz)
    found, before = "", ""
    for start in range(0, len(samples) - size + 1, size // 2):
        key = _key_in(samples[start : start + size], rate_hz)
        if key and key != before:
            found += key
        before = key
    return found


def _key_in(window: NDArray[np.float64], rate_hz: int) -> str:
    low, low_power = max(((hz, _power(window, hz, rate_hz)) for hz in LOW_HZ), key=lambda each: each[1])
    high, high_power = max(((hz, _power(window, hz, rate_hz)) for hz in HIGH_HZ), key=lambda each: each[1])
    amplitude = 2 * np.sqrt(min(low_power, high_power)) / len(window)
    total = float(np.sum(window**2)) * len(window) / 2
    if amplitude < LEAST_AMPLITUDE or (low_power + high_power) < LEAST_SHARE * total:
        return ""
    return next(key for key, each in FREQUENCIES_HZ.items() if each == (low, high))


def _power(window: NDArray[np.float64], hz: float, rate_hz: int) -> float:
    """Return the power at one frequency, by Goertzel's recurrence."""
    coefficient = 2 * np.cos(2 * np.pi * hz / rate_hz)
    before = last = 0.0
    for sample in window:
        before, last = last, sample + coefficient * last - before
    return float(before**2 + last**2 - coefficient * before * last)
