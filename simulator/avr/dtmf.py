"""The sound of telephone keys, as in-band DTMF of ITU-T Q.23."""

from __future__ import annotations

from typing import Final

import numpy as np

from simulator.avr.playout import SAMPLE_RATE_HZ

LOW_HZ: Final = (697, 770, 852, 941)
HIGH_HZ: Final = (1209, 1336, 1477, 1633)
TONE_SECONDS: Final = 0.1
PAUSE_SECONDS: Final = 0.1

_ROWS: Final = ("123A", "456B", "789C", "*0#D")
FREQUENCIES_HZ: Final = {
    digit: (low, high)
    for low, row in zip(LOW_HZ, _ROWS, strict=True)
    for high, digit in zip(HIGH_HZ, row, strict=True)
}


def tone(digit: str, seconds: float = TONE_SECONDS) -> bytes:
    """Return the tone of a key as PCM16 mono at 8 kHz, at -9 dBm0 for each of its two frequencies."""
    time = np.arange(round(seconds * SAMPLE_RATE_HZ)) / SAMPLE_RATE_HZ
    low, high = FREQUENCIES_HZ[digit]
    wave = np.sin(2 * np.pi * low * time) + np.sin(2 * np.pi * high * time)
    return np.rint(32767 * 10 ** (-12 / 20) * wave).astype("<i2").tobytes()


def key(digit: str) -> bytes:
    """Return the tone of a key and the pause behind it."""
    return tone(digit) + bytes(2 * round(PAUSE_SECONDS * SAMPLE_RATE_HZ))
