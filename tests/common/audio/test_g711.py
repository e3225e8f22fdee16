"""G.711 against the decision values of the Recommendation's tables, and against `audioop` where there is one."""

from __future__ import annotations

import bisect
import itertools
import sys
import warnings
from typing import Any

import numpy as np
import pytest

from common.audio.g711 import decode_alaw, decode_ulaw, encode_alaw, encode_ulaw

_SAMPLES = range(-32768, 32768)
_ALL_PCM = np.arange(-32768, 32768).astype("<i2").tobytes()
_ALL_CODES = bytes(range(256))

# G.711 (11/88), tables 1a and 2a, from the smallest values up: number of intervals, and their size. The full scale
# of A-law is 4096, that of µ-law 8159, whose first interval is half as wide, as it lies on both sides of zero.
_ALAW_SEGMENTS = ((32, 2), (16, 4), (16, 8), (16, 16), (16, 32), (16, 64), (16, 128))
_ULAW_SEGMENTS = ((1, 1), (15, 2), (16, 4), (16, 8), (16, 16), (16, 32), (16, 64), (16, 128), (16, 256))


def _decision_values(segments: tuple[tuple[int, int], ...]) -> list[int]:
    """x1 to x129: where the 128 intervals begin, and where the last ends."""
    sizes = itertools.chain.from_iterable(itertools.repeat(size, count) for count, size in segments)
    return list(itertools.accumulate(sizes, initial=0))


_ALAW_DECISIONS = _decision_values(_ALAW_SEGMENTS)
_ULAW_DECISIONS = _decision_values(_ULAW_SEGMENTS)


def _interval(magnitude: int, decisions: list[int]) -> int:
    return min(127, bisect.bisect_right(decisions, magnitude) - 1)


def _ulaw(sample: int) -> int:
    """Table 2a: positive values have 1 as their first bit, and the codes go down as the values go up."""
    magnitude = (~sample if sample < 0 else sample) >> 2
    return (0x7F if sample < 0 else 0xFF) - _interval(magnitude, _ULAW_DECISIONS)


def _alaw(sample: int) -> int:
    """Table 1a: positive values have 1 as their first bit; note 2: the even bits are inverted."""
    magnitude = (~sample if sample < 0 else sample) >> 3
    return ((0x00 if sample < 0 else 0x80) + _interval(magnitude, _ALAW_DECISIONS)) ^ 0x55


def _ulaw_value(code: int) -> int:
    """Table 2a, column 8: y0 = 0, y(n) = (x(n) + x(n+1)) / 2. In units of int16."""
    interval = (0x7F if code < 0x80 else 0xFF) - code
    middle = 0 if interval == 0 else 2 * (_ULAW_DECISIONS[interval] + _ULAW_DECISIONS[interval + 1])
    return -middle if code < 0x80 else middle


def _alaw_value(code: int) -> int:
    """Table 1a, column 8: y(n) = (x(n-1) + x(n)) / 2. In units of int16."""
    positive, interval = divmod(code ^ 0x55, 0x80)
    middle = 4 * (_ALAW_DECISIONS[interval] + _ALAW_DECISIONS[interval + 1])
    return middle if positive else -middle


def _values(pcm: bytes) -> list[int]:
    values: list[int] = np.frombuffer(pcm, "<i2").tolist()
    return values


def test_the_tables_of_the_recommendation_are_typed_in_right() -> None:
    assert len(_ALAW_DECISIONS) == len(_ULAW_DECISIONS) == 129
    assert _ALAW_DECISIONS[::16] == [0, 32, 64, 128, 256, 512, 1024, 2048, 4096]
    assert _ULAW_DECISIONS[::16] == [0, 31, 95, 223, 479, 991, 2015, 4063, 8159]


def test_every_sample_becomes_the_ulaw_code_of_its_interval() -> None:
    assert encode_ulaw(_ALL_PCM) == bytes(_ulaw(sample) for sample in _SAMPLES)


def test_every_sample_becomes_the_alaw_code_of_its_interval() -> None:
    assert encode_alaw(_ALL_PCM) == bytes(_alaw(sample) for sample in _SAMPLES)


def test_every_ulaw_code_becomes_the_middle_of_its_interval() -> None:
    assert _values(decode_ulaw(_ALL_CODES)) == [_ulaw_value(code) for code in range(256)]


def test_every_alaw_code_becomes_the_middle_of_its_interval() -> None:
    assert _values(decode_alaw(_ALL_CODES)) == [_alaw_value(code) for code in range(256)]


@pytest.mark.parametrize(
    ("sample", "ulaw", "alaw"),
    [
        (0, 0xFF, 0xD5),
        (-1, 0x7F, 0x55),
        (32767, 0x80, 0xAA),
        (-32768, 0x00, 0x2A),
        # The decision values x2 of 14 and of 13 bits, and one step of the input before them.
        (4, 0xFE, 0xD5),
        (3, 0xFF, 0xD5),
        (16, 0xFD, 0xD4),
        (15, 0xFD, 0xD5),
    ],
)
def test_known_codes(sample: int, ulaw: int, alaw: int) -> None:
    pcm = sample.to_bytes(2, "little", signed=True)
    assert encode_ulaw(pcm) == bytes([ulaw])
    assert encode_alaw(pcm) == bytes([alaw])


def test_silence_is_the_idle_code_of_the_line() -> None:
    assert encode_ulaw(bytes(320)) == b"\xff" * 160
    assert encode_alaw(bytes(320)) == b"\xd5" * 160
    assert decode_ulaw(b"\xff" * 160) == bytes(320)


def test_decoded_samples_encode_to_the_same_codes() -> None:
    assert encode_alaw(decode_alaw(_ALL_CODES)) == _ALL_CODES
    # µ-law has two codes for zero; PCM has one.
    assert encode_ulaw(decode_ulaw(_ALL_CODES)) == _ALL_CODES.replace(b"\x7f", b"\xff")


def test_nothing_is_farther_off_than_half_of_its_interval() -> None:
    samples = np.array(_SAMPLES)
    for encode, decode, unit, widths in (
        (encode_ulaw, decode_ulaw, 4, np.diff(_ULAW_DECISIONS)),
        (encode_alaw, decode_alaw, 8, np.diff(_ALAW_DECISIONS)),
    ):
        decisions = np.concatenate(([0], np.cumsum(widths))) * unit
        interval = np.minimum(127, np.searchsorted(decisions, np.abs(samples), side="right") - 1)
        error = np.abs(np.frombuffer(decode(encode(_ALL_PCM)), "<i2") - samples)
        allowed = np.maximum(unit * widths[interval] / 2, unit)
        # µ-law ends at 8159 of 8192: what lies above is clipped.
        assert np.all((error <= allowed) | (np.abs(samples) > decisions[-1]))


def test_nothing_becomes_nothing() -> None:
    assert encode_ulaw(b"") == decode_ulaw(b"") == encode_alaw(b"") == decode_alaw(b"") == b""


@pytest.mark.parametrize("encode", [encode_ulaw, encode_alaw])
def test_half_a_sample_is_refused(encode: Any) -> None:
    with pytest.raises(ValueError, match="multiple"):
        encode(b"\x01\x02\x03")


@pytest.fixture
def audioop() -> Any:
    if sys.version_info >= (3, 13):
        pytest.skip("Python has no audioop since 3.13")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("audioop")


def test_alaw_and_decoding_agree_with_audioop(audioop: Any) -> None:
    assert encode_alaw(_ALL_PCM) == audioop.lin2alaw(_ALL_PCM, 2)
    assert decode_alaw(_ALL_CODES) == audioop.alaw2lin(_ALL_CODES, 2)
    assert decode_ulaw(_ALL_CODES) == audioop.ulaw2lin(_ALL_CODES, 2)


def test_ulaw_agrees_with_audioop_but_rounds_negative_samples(audioop: Any) -> None:
    """It cuts to 14 bits towards minus infinity and then takes the two's complement: one step of 14 bits lower."""
    theirs = audioop.lin2ulaw(_ALL_PCM, 2)
    ours = encode_ulaw(_ALL_PCM)
    zero = 32768
    assert ours[zero:] == theirs[zero:]
    assert ours[: zero - 4] == theirs[4:zero]
    assert ours[zero - 4 : zero] == b"\x7f" * 4
