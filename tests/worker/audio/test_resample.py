"""Measure the resampler with tones, compare it with a plain convolution, and test chunks of every size.

`python -m tests.worker.audio.test_resample` prints these tables. The tones have -10 dBFS. Noise is everything
beside the tone: images, aliases and rounding, including the rounding of the tone itself (88 dB alone).

                 up, dB           down, dB   round trip, dB
    Hz    gain    SNR    image    gain    SNR    gain    SNR
   300  +0.003   86.1   -107.5  +0.003   87.1  +0.006   85.5
   610  -0.002   85.2   -114.1  -0.002   86.8  -0.004   84.1
   920  -0.000   86.0   -106.8  -0.000   88.0  -0.000   87.0
  1230  +0.002   85.0   -109.5  +0.002   87.0  +0.005   84.4
  1540  -0.004   85.5   -125.7  -0.004   86.9  -0.009   84.6
  1850  +0.005   85.7   -105.9  +0.005   87.6  +0.010   84.7
  2160  -0.004   84.9   -109.4  -0.004   86.5  -0.009   83.3
  2470  +0.001   85.2   -108.0  +0.001   86.9  +0.003   84.1
  2780  +0.005   85.3   -108.8  +0.005   86.7  +0.009   84.6
  3090  -0.014   85.1   -103.6  -0.014   86.8  -0.028   84.6
  3400  -0.035   86.3   -101.8  -0.035   85.6  -0.070   86.2

            worst SNR, dB   ripple, dB   group delay, ms
up                   83.1        0.057   1.9166 to 1.9167
down                 84.8        0.057   1.8333 to 1.8334
round trip           81.7        0.115   3.7499 to 3.7501

    Hz    comes out of the way down at, dB
  4600    -100.7
  5330    -113.1
  6060    -114.6
  6790    -116.2
  7520    -104.5
  8250    -115.3
  8980    -111.7
  9710    -110.3
 10440    -130.2
 11170    -120.9
 11900    -135.5
 worst     -93.6

A tone with a short period repeats its rounding errors. These collect on harmonics, on images, or on the tone.
"""

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from worker.audio.resample import (
    DOWN_DELAY_SECONDS,
    HIGH_RATE_HZ,
    LOW_RATE_HZ,
    RATIO,
    TAP_FRACTION_BITS,
    TAPS,
    UP_DELAY_SECONDS,
    Downsampler,
    Upsampler,
    prepare,
)

Floats = NDArray[np.float64]

LIMIT_DB = 80.0
RIPPLE_LIMIT_DB = 0.5
DELAY_LIMIT_SECONDS = 0.0025
FULL_SCALE = 32_767
AMPLITUDE = FULL_SCALE * 10 ** (-10 / 20)
PHASE_RADIANS = 0.3
TONES_HZ = range(300, 3_401, 100)
INTERFERERS_HZ = range(4_600, 12_000, 100)
EITHER = pytest.mark.parametrize("direction", [Upsampler, Downsampler])


@dataclass(frozen=True, slots=True)
class Path:
    """A sequence of resamplers through which audio passes."""

    resamplers: tuple[type[Upsampler | Downsampler], ...]
    rate_in_hz: int
    rate_out_hz: int
    delay_seconds: float

    def run(self, samples: Floats) -> Floats:
        pcm = samples.astype("<i2").tobytes()
        for resampler in self.resamplers:
            pcm = resampler().process(pcm)
        return decoded(pcm)


UP = Path((Upsampler,), LOW_RATE_HZ, HIGH_RATE_HZ, UP_DELAY_SECONDS)
DOWN = Path((Downsampler,), HIGH_RATE_HZ, LOW_RATE_HZ, DOWN_DELAY_SECONDS)
ROUND_TRIP = Path((Upsampler, Downsampler), LOW_RATE_HZ, LOW_RATE_HZ, UP_DELAY_SECONDS + DOWN_DELAY_SECONDS)
PATHS = {"up": UP, "down": DOWN, "round trip": ROUND_TRIP}
EVERY_PATH = pytest.mark.parametrize("path", PATHS.values(), ids=PATHS.keys())


def decoded(pcm: bytes) -> Floats:
    return np.frombuffer(pcm, "<i2", len(pcm) // 2).astype(np.float64)


def tone(hz: float, rate_hz: int, amplitude: float = AMPLITUDE) -> Floats:
    """Return half a second of a tone, rounded to integers."""
    seconds = np.arange(rate_hz // 2) / rate_hz
    return np.rint(amplitude * np.sin(2 * np.pi * hz * seconds + PHASE_RADIANS))


def fitted(samples: Floats, rate_hz: int, *tones_hz: float) -> tuple[NDArray[np.complex128], Floats]:
    """Fit each tone by least squares over the steady part; return amplitudes and phases, and the residual."""
    settled = rate_hz // 100
    seconds = np.arange(settled, len(samples)) / rate_hz
    waves = [f(2 * np.pi * hz * seconds) for hz in tones_hz for f in (np.sin, np.cos)]
    basis = np.stack(waves, axis=1)
    fit = np.linalg.lstsq(basis, samples[settled:], rcond=None)[0]
    return fit[0::2] + 1j * fit[1::2], samples[settled:] - basis @ fit


def decibels(amplitude_ratio: float | np.floating) -> float:
    return 20 * float(np.log10(amplitude_ratio))


def signal_to_noise_db(path: Path, hz: float) -> float:
    (amplitude,), noise = fitted(path.run(tone(hz, path.rate_in_hz)), path.rate_out_hz, hz)
    return decibels(abs(amplitude) / np.sqrt(2 * np.mean(noise**2)))


def gain_db(path: Path, hz: float) -> float:
    (amplitude,), _ = fitted(path.run(tone(hz, path.rate_in_hz)), path.rate_out_hz, hz)
    return decibels(abs(amplitude) / AMPLITUDE)


def strongest_image_db(hz: float) -> float:
    """Return the strongest image relative to the tone. The fit resolves levels well below one step of int16."""
    images = [multiple * LOW_RATE_HZ + side * hz for multiple, side in ((1, -1), (1, 1), (2, -1))]
    amplitudes, _ = fitted(UP.run(tone(hz, LOW_RATE_HZ)), HIGH_RATE_HZ, hz, *images)
    return max(decibels(abs(image) / abs(amplitudes[0])) for image in amplitudes[1:])


def alias_db(hz: float) -> float:
    """Return the output level of a tone above the telephone's band, relative to the tone.

    The input also has a tone within the band. Without it, the alias would vanish in the rounding.
    """
    beside_hz = 1_037.0
    alias_hz = abs(hz - LOW_RATE_HZ * round(hz / LOW_RATE_HZ))
    output = DOWN.run(tone(hz, HIGH_RATE_HZ) + tone(beside_hz, HIGH_RATE_HZ))
    (_, alias), _ = fitted(output, LOW_RATE_HZ, beside_hz, alias_hz)
    return decibels(abs(alias) / AMPLITUDE)


def convolved(direction: type[Upsampler | Downsampler], samples: Floats) -> Floats:
    """Return the plain convolution of the whole signal, neither rounded nor clipped."""
    if direction is Upsampler:
        stuffed = np.zeros(RATIO * len(samples))
        stuffed[::RATIO] = RATIO * samples
        return np.convolve(stuffed, TAPS)[: len(stuffed)]
    return np.convolve(samples, TAPS)[: len(samples)][RATIO - 1 :: RATIO]


def expected(direction: type[Upsampler | Downsampler], pcm: bytes) -> bytes:
    if len(pcm) < 2:
        return b""
    return np.clip(np.rint(convolved(direction, decoded(pcm))), -32_768, 32_767).astype("<i2").tobytes()


@st.composite
def chunks(draw: st.DrawFn) -> list[bytes]:
    """Return full-scale noise in chunks of 0 to 700 bytes, of even and odd sizes."""
    sizes = draw(st.lists(st.integers(0, 700), min_size=1, max_size=12))
    noise = np.random.default_rng(draw(st.integers(0, 2**32)))
    return [noise.bytes(size) for size in sizes]


@EVERY_PATH
@pytest.mark.parametrize("hz", TONES_HZ)
def test_signal_to_noise_of_each_tone_is_80_db(path: Path, hz: int) -> None:
    assert signal_to_noise_db(path, hz) >= LIMIT_DB


@pytest.mark.parametrize("hz", TONES_HZ)
def test_every_image_of_a_tone_is_80_db_below_it(hz: int) -> None:
    assert strongest_image_db(hz) <= -LIMIT_DB


@pytest.mark.parametrize("hz", INTERFERERS_HZ)
def test_aliases_are_80_db_below_their_tone(hz: int) -> None:
    assert alias_db(hz) <= -LIMIT_DB
    loud = tone(hz, HIGH_RATE_HZ, FULL_SCALE)
    settled = DOWN.run(loud)[LOW_RATE_HZ // 100 :]
    assert np.mean(settled**2) <= np.mean(loud**2) * 10 ** (-LIMIT_DB / 10)


@EVERY_PATH
def test_the_gain_is_1_and_flat_up_to_3400_hz(path: Path) -> None:
    gains = [gain_db(path, hz) for hz in range(20, 3_401, 20)]
    assert max(gains) - min(gains) <= RIPPLE_LIMIT_DB
    assert max(map(abs, gains)) <= RIPPLE_LIMIT_DB


def group_delays_seconds(path: Path) -> Iterator[float]:
    """Return group delays from the phases of neighbouring tones. 100 Hz apart, they show delays of up to ±5 ms."""
    for low_hz, high_hz in pairwise(TONES_HZ):
        phases = []
        for hz in (low_hz, high_hz):
            (amplitude,), _ = fitted(path.run(tone(hz, path.rate_in_hz)), path.rate_out_hz, hz)
            phases.append(np.angle(amplitude))
        turn = (phases[0] - phases[1] + np.pi) % (2 * np.pi) - np.pi
        yield float(turn / (2 * np.pi * (high_hz - low_hz)))


@EVERY_PATH
def test_group_delay_is_the_stated_one_at_every_frequency(path: Path) -> None:
    assert list(group_delays_seconds(path)) == pytest.approx([path.delay_seconds] * (len(TONES_HZ) - 1), abs=1e-6)


def test_the_delay_is_at_most_2_5_ms_each_way() -> None:
    assert max(*group_delays_seconds(UP), *group_delays_seconds(DOWN)) <= DELAY_LIMIT_SECONDS


@EITHER
def test_full_scale_input_clips_and_never_wraps(direction: type[Upsampler | Downsampler]) -> None:
    square = np.where(np.arange(2_400) // 24 % 2, FULL_SCALE, -FULL_SCALE - 1).astype(np.float64)
    exact = convolved(direction, square)
    too_high, too_low = exact > 32_767, exact < -32_768
    assert too_high.any()
    assert too_low.any()
    output = decoded(direction().process(square.astype("<i2").tobytes()))
    assert set(output[too_high]) == {32_767}
    assert set(output[too_low]) == {-32_768}


@EITHER
@given(chunks=chunks())
@settings(deadline=None)
def test_output_bits_equal_one_convolution_for_any_chunks(
    direction: type[Upsampler | Downsampler], chunks: list[bytes]
) -> None:
    resampler = direction()
    assert b"".join(map(resampler.process, chunks)) == expected(direction, b"".join(chunks))


@given(
    rounds=st.lists(
        st.lists(
            st.tuples(
                st.integers(0, 40),  # the number of the call
                st.sampled_from((0, 1, 2, 320, 640, 641, 1_000)),  # the number of bytes of its chunk
                st.sampled_from(("prepared", "alone", "another chunk", "after a reset")),
            ),
            min_size=1,
            max_size=40,
            unique_by=lambda each: each[0],
        ),
        max_size=4,
    )
)
@settings(deadline=None)
def test_prepared_output_has_the_same_bits(
    rounds: list[list[tuple[int, int, str]]],
) -> None:
    together = [Upsampler() for _ in range(41)]
    alone = [Upsampler() for _ in range(41)]
    noise = np.random.default_rng(1)
    for calls in rounds:
        given_bytes = {call: noise.bytes(size) for call, size, _ in calls}
        prepare([(together[call], given_bytes[call]) for call, _, how in calls if how != "alone"])
        for call, size, how in calls:
            pcm = given_bytes[call]
            if how == "another chunk":
                pcm = noise.bytes(size)
            elif how == "after a reset":
                together[call].reset()
                alone[call].reset()
            assert together[call].process(pcm) == alone[call].process(pcm)


@EITHER
@given(chunks=chunks())
@settings(deadline=None)
def test_only_incomplete_steps_are_buffered(direction: type[Upsampler | Downsampler], chunks: list[bytes]) -> None:
    resampler = direction()
    bytes_in = samples_out = 0
    for chunk in chunks:
        bytes_in += len(chunk)
        samples_out += len(resampler.process(chunk)) // 2
        samples_in = bytes_in // 2
        assert samples_out == (samples_in * RATIO if direction is Upsampler else samples_in // RATIO)


@EITHER
@pytest.mark.parametrize("kind", [bytes, bytearray, memoryview])
def test_process_accepts_any_bytes_like_object(
    direction: type[Upsampler | Downsampler], kind: type[bytes | bytearray | memoryview]
) -> None:
    pcm = np.random.default_rng(1).bytes(961)
    assert direction().process(kind(pcm)) == expected(direction, pcm)


@EITHER
@pytest.mark.parametrize("size_bytes", [0, 2, 4, 6, 7, 320, 333, 960, 96_001])
def test_flush_returns_the_tail_and_resets(direction: type[Upsampler | Downsampler], size_bytes: int) -> None:
    pcm = np.random.default_rng(2).bytes(size_bytes)
    resampler = direction()
    output = resampler.process(pcm) + resampler.flush()
    in_silence = expected(direction, pcm[: size_bytes // 2 * 2] + bytes(6_000))
    high_rate_tail = len(TAPS) - RATIO
    samples_in, samples_out = size_bytes // 2, len(output) // 2
    if direction is Upsampler:
        assert samples_out == samples_in * RATIO + high_rate_tail
    else:
        assert samples_out == -(-(samples_in + high_rate_tail) // RATIO)
    assert output == in_silence[: len(output)]
    assert not any(in_silence[len(output) :])
    assert resampler.process(pcm) == direction().process(pcm)


@EITHER
def test_reset_drops_the_state(direction: type[Upsampler | Downsampler]) -> None:
    pcm = np.random.default_rng(3).bytes(961)
    resampler = direction()
    resampler.process(pcm)
    resampler.reset()
    assert resampler.process(pcm) == direction().process(pcm)


@EITHER
def test_resamplers_of_two_calls_are_independent(direction: type[Upsampler | Downsampler]) -> None:
    noise = np.random.default_rng(4)
    streams = [[noise.bytes(321) for _ in range(5)] for _ in range(3)]
    resamplers = [direction() for _ in streams]
    outputs = [b""] * len(streams)
    for turn in range(5):
        for call, resampler in enumerate(resamplers):
            outputs[call] += resampler.process(streams[call][turn])
    assert outputs == [expected(direction, b"".join(stream)) for stream in streams]


def test_partial_sums_are_exact_in_float64() -> None:
    scaled = TAPS * 2.0**TAP_FRACTION_BITS
    assert np.array_equal(scaled, np.rint(scaled))
    assert 32_768 * RATIO * np.abs(scaled).sum() < 2**53


def test_the_taps_are_symmetric_so_the_phase_is_linear() -> None:
    assert np.array_equal(TAPS, TAPS[::-1])


def tables() -> Iterator[str]:
    yield "                 up, dB           down, dB   round trip, dB"
    yield "    Hz    gain    SNR    image    gain    SNR    gain    SNR"
    for hz in range(300, 3_401, 310):
        cells = [f"{hz:6}"]
        for path in PATHS.values():
            cells.append(f"{gain_db(path, hz):+8.3f}{signal_to_noise_db(path, hz):7.1f}")
            if path is UP:
                cells.append(f"{strongest_image_db(hz):9.1f}")
        yield "".join(cells)
    yield ""
    yield "            worst SNR, dB   ripple, dB   group delay, ms"
    for name, path in PATHS.items():
        worst = min(signal_to_noise_db(path, hz) for hz in range(300, 3_401, 10))
        gains = [gain_db(path, hz) for hz in range(20, 3_401, 20)]
        delays = [1_000 * seconds for seconds in group_delays_seconds(path)]
        cells = [f"{name:10}", f"{worst:15.1f}", f"{max(gains) - min(gains):13.3f}"]
        yield "".join([*cells, f"   {min(delays):.4f} to {max(delays):.4f}"])
    yield ""
    yield "    Hz    comes out of the way down at, dB"
    for hz in range(4_600, 12_000, 730):
        yield f"{hz:6}{alias_db(hz):10.1f}"
    yield f" worst{max(map(alias_db, INTERFERERS_HZ)):10.1f}"


if __name__ == "__main__":
    sys.stdout.write("\n".join(tables()) + "\n")
