"""Sound for the traces, made from a few numbers by whole-number arithmetic: the same bytes on every machine."""

from __future__ import annotations

import base64
import functools
from typing import Any, Final

import numpy as np

# A triangle with 18 steps: 444 Hz at 8 kHz, which the detector of speech takes for a voice.
_TRIANGLE: Final = np.array([0, 2, 4, 6, 8, 10, 8, 6, 4, 2, 0, -3, -6, -9, -10, -9, -6, -3], dtype=np.int64)
TONE: Final = "tone"


def tone(samples: int, level: int, start: int = 0) -> dict[str, list[int]]:
    """Return what stands for so many samples of PCM16 in a trace.

    Args:
        samples: how many.
        level: the peak; 0 is silence.
        start: the position of the first one, so that no two pieces are alike.
    """
    return {TONE: [samples, level, start]}


@functools.lru_cache(maxsize=2048)
def _synthesized(samples: int, level: int, start: int) -> bytes:
    if not level:
        return bytes(2 * samples)
    at = np.arange(start, start + samples, dtype=np.int64)
    wave = _TRIANGLE[at % len(_TRIANGLE)] * level // 10 + at * 7919 % 31 - 15
    return wave.clip(-32_768, 32_767).astype("<i2").tobytes()


def pcm(value: dict[str, list[int]]) -> bytes:
    """Return the samples that a `tone` stands for."""
    samples, level, start = value[TONE]
    return _synthesized(samples, level, start)


def with_base64(value: Any) -> Any:
    """Return JSON in which sound is base64, as events and messages have it."""
    if isinstance(value, dict):
        if TONE in value:
            return base64.b64encode(pcm(value)).decode()
        return {name: with_base64(each) for name, each in value.items()}
    if isinstance(value, list):
        return [with_base64(each) for each in value]
    return value
