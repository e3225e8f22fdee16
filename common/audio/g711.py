"""G.711: µ-law and A-law at 8 kHz, one octet for each sample, by table.

PCM is int16 little-endian, of which µ-law uses the upper 14 bits and A-law the upper 13. Values in between are
rounded as in ITU-T's reference software (G.191, `g711.c`). A negative sample is represented by its one's
complement, so that -1 is the negative zero. A sample on a decision value belongs to the interval above it.
Python's `audioop` agrees in A-law; in µ-law it puts negative samples one 14-bit step lower.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

_PCM16: Final = np.dtype("<i2")
_PCM16_BITS: Final = np.dtype("<u2")

_SIGN: Final = 0x80
_LARGEST_ULAW: Final = 0x1FFF
# With a bias of 33 (of 14 bits) every µ-law segment ends at a power of two (G.711, table 2a: 31, 95, 223 ...
# 8159).
_ULAW_BIAS: Final = 33
_EVEN_BITS: Final = 0x55


def encode_ulaw(pcm: bytes) -> bytes:
    """Encode PCM16 as µ-law.

    Raises:
        ValueError: an odd number of bytes.
    """
    return _ULAW_OF_PCM.take(np.frombuffer(pcm, _PCM16_BITS)).tobytes()


def decode_ulaw(codes: bytes) -> bytes:
    """Decode µ-law to PCM16: multiples of 4, up to 32124."""
    return _PCM_OF_ULAW.take(np.frombuffer(codes, np.uint8)).tobytes()


def encode_alaw(pcm: bytes) -> bytes:
    """Encode PCM16 as A-law.

    Raises:
        ValueError: an odd number of bytes.
    """
    return _ALAW_OF_PCM.take(np.frombuffer(pcm, _PCM16_BITS)).tobytes()


def decode_alaw(codes: bytes) -> bytes:
    """Decode A-law to PCM16: odd multiples of 8, up to 32256. There is no zero."""
    return _PCM_OF_ALAW.take(np.frombuffer(codes, np.uint8)).tobytes()


def _magnitudes() -> tuple[NDArray[np.int32], NDArray[np.bool_]]:
    """Return (65536,) one's complement magnitudes and (65536,) signs of all int16, in the order of their bits."""
    samples = np.arange(1 << 16, dtype=np.uint16).astype(np.int16).astype(np.int32)
    return np.where(samples < 0, ~samples, samples), samples >= 0


def _ulaw_of_pcm() -> NDArray[np.uint8]:
    """Return (65536,) the code of each int16.

    Segment and interval are exponent and mantissa; all bits are inverted.
    """
    magnitude, positive = _magnitudes()
    biased = np.minimum((magnitude >> 2) + _ULAW_BIAS, _LARGEST_ULAW)
    segment = _bit_length(biased) - 6
    code = (segment << 4) | ((biased >> (segment + 1)) & 0x0F)
    codes: NDArray[np.int32] = ~np.where(positive, code, code | _SIGN)
    return codes.astype(np.uint8)


def _pcm_of_ulaw() -> NDArray[np.int16]:
    """Return (256,) the middle of each code's interval."""
    bits = ~np.arange(256, dtype=np.int32) & 0xFF
    segment, interval = (bits >> 4) & 0x07, bits & 0x0F
    magnitude = ((2 * interval + _ULAW_BIAS) << segment) - _ULAW_BIAS
    values: NDArray[np.int32] = 4 * np.where(bits & _SIGN, -magnitude, magnitude)
    return values.astype(_PCM16)


def _alaw_of_pcm() -> NDArray[np.uint8]:
    """Return (65536,) the code of each int16.

    The first two segments have equal steps; every other bit is inverted.
    """
    magnitude, positive = _magnitudes()
    steps = magnitude >> 4
    segment = np.maximum(_bit_length(steps) - 4, 0)
    code = (segment << 4) | ((steps >> np.maximum(segment - 1, 0)) & 0x0F)
    codes: NDArray[np.int32] = np.where(positive, code | _SIGN, code) ^ _EVEN_BITS
    return codes.astype(np.uint8)


def _pcm_of_alaw() -> NDArray[np.int16]:
    """Return (256,) the middle of each code's interval."""
    bits = np.arange(256, dtype=np.int32) ^ _EVEN_BITS
    segment, interval = (bits >> 4) & 0x07, bits & 0x0F
    half_steps = 2 * interval + np.where(segment > 0, 33, 1)
    magnitude = (8 * half_steps) << np.maximum(segment - 1, 0)
    values: NDArray[np.int32] = np.where(bits & _SIGN, magnitude, -magnitude)
    return values.astype(_PCM16)


def _bit_length(values: NDArray[np.int32]) -> NDArray[np.int32]:
    """Return `int.bit_length` of each value."""
    return np.frexp(values)[1].astype(np.int32)


_ULAW_OF_PCM: Final = _ulaw_of_pcm()
_PCM_OF_ULAW: Final = _pcm_of_ulaw()
_ALAW_OF_PCM: Final = _alaw_of_pcm()
_PCM_OF_ALAW: Final = _pcm_of_alaw()
