"""Streaming resampling between 8 kHz (the telephone) and 24 kHz (the Realtime API).

Input and output are PCM16 little-endian mono; the ratio is exactly 1:3. One linear-phase low-pass FIR at 24 kHz
serves both directions. It removes images when the rate goes up, and aliases when the rate goes down. The module
`tests/worker/audio/test_resample.py` has the measurements.

All arithmetic is exact until the one rounding to int16. Samples are integers, taps are multiples of
2**-TAP_FRACTION_BITS, and every partial sum fits the 53 bits of a float64. So the sizes of the input chunks do not
change the output bits. Neither does the order of additions in the matrix product.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, Final

import numpy as np
from numpy.typing import NDArray

LOW_RATE_HZ: Final = 8_000
HIGH_RATE_HZ: Final = 24_000
RATIO: Final = HIGH_RATE_HZ // LOW_RATE_HZ

PASSBAND_HZ: Final = 3_400.0
STOPBAND_HZ: Final = 4_600.0  # the image of PASSBAND_HZ in an 8 kHz signal
STOPBAND_WEIGHT: Final = 300.0  # gives -99 dB, below the rounding noise of int16 (-98 dB); ripple 0.06 dB
TAP_COUNT: Final = 31 * RATIO
TAP_FRACTION_BITS: Final = 24

# Group delay: output sample k is the input at this time before sample k. On the way down, an output sample is made
# of three input samples. It has the time of the first one, and already includes the other two.
UP_DELAY_SECONDS: Final = (TAP_COUNT - 1) / 2 / HIGH_RATE_HZ
DOWN_DELAY_SECONDS: Final = UP_DELAY_SECONDS - (RATIO - 1) / HIGH_RATE_HZ

# A chunk is filtered in blocks of this many steps. Each block is a row of one matrix product. 16 was the fastest
# of 8 to 40 for 20 ms frames and longer chunks: smaller blocks repeat more history, larger blocks multiply more
# zeros.
BLOCK_STEPS: Final = 16

# Maximum number of calls in one matrix product. With 40 ms of each call, its data fits the processor's L2 cache.
BATCH_CALLS: Final = 16

SAMPLE_BYTES: Final = 2
_PCM16: Final = np.dtype("<i2")
# Arrays instead of floats, because numpy would convert floats for every frame, which costs as much as a rint().
_LOWEST: Final = np.array(-32_768.0)
_HIGHEST: Final = np.array(32_767.0)


def design_taps() -> NDArray[np.float64]:
    """Design a low-pass FIR with gain 1: (TAP_COUNT,) float64, symmetric, multiples of 2**-TAP_FRACTION_BITS.

    The design is weighted least squares over samples of the amplitude A(w) = a[0] + sum of a[k] cos(k w). The band
    between PASSBAND_HZ and STOPBAND_HZ is unconstrained. Source: C. S. Burrus, "Least Squared Error Design of FIR
    Filters", "Discrete Frequency Samples of Error" (cnx.org m16892). A Kaiser window would need 117 taps and 0.5
    ms more delay for 87 dB.
    """
    passband = np.linspace(0.0, PASSBAND_HZ, 100)
    stopband = np.linspace(STOPBAND_HZ, HIGH_RATE_HZ / 2, 200)
    wanted = np.concatenate((np.ones_like(passband), np.zeros_like(stopband)))
    weight = np.where(wanted == 1.0, 1.0, STOPBAND_WEIGHT)
    omega = 2 * np.pi * np.concatenate((passband, stopband)) / HIGH_RATE_HZ
    cosines = np.cos(np.outer(omega, np.arange(TAP_COUNT // 2 + 1)))
    a = np.linalg.lstsq(cosines * weight[:, None], wanted * weight, rcond=None)[0]
    taps = np.concatenate((a[:0:-1] / 2, a[:1], a[1:] / 2))
    scale = 2.0**TAP_FRACTION_BITS
    return np.asarray(np.rint(taps * scale) / scale, dtype=np.float64)


@dataclass(frozen=True, slots=True)
class _Plan:
    """The constants of one direction, shared by all calls. A step is the least input: 1 sample up, 3 down."""

    matrix: NDArray[np.float64]  # (input samples of a block with history, output samples of a block)
    step_bytes: int
    step_output_bytes: int
    history_bytes: int  # the input that a step needs before its own samples

    def row_bytes(self, blocks: int) -> int:
        """Return the size of this many blocks and of the history before the first block."""
        return self.history_bytes + blocks * BLOCK_STEPS * self.step_bytes

    @classmethod
    def from_step(cls, step: NDArray[np.float64], samples_in: int) -> "_Plan":
        """Build a plan for blocks from the matrix of one step: (input samples with history, output samples)."""
        looks_at, gives = step.shape
        history = looks_at - samples_in
        matrix = np.zeros((history + BLOCK_STEPS * samples_in, BLOCK_STEPS * gives))
        for i in range(BLOCK_STEPS):
            matrix[i * samples_in : i * samples_in + looks_at, i * gives : (i + 1) * gives] = step
        return cls(matrix, samples_in * SAMPLE_BYTES, gives * SAMPLE_BYTES, history * SAMPLE_BYTES)


TAPS: Final = design_taps()
# Up: output 3n + p is RATIO * sum of TAPS[p + 3k] x[n - k]; rows run from the oldest sample to the newest.
_UP: Final = _Plan.from_step(RATIO * TAPS.reshape(-1, RATIO)[::-1], samples_in=1)
# Down: output n is the sum of TAPS[k] x[3n + 2 - k].
_DOWN: Final = _Plan.from_step(TAPS[::-1, None], samples_in=RATIO)


class _Resampler:
    """The resampler of one direction of one call. Its whole state is less than 200 bytes of input."""

    __slots__ = ("_held", "_prepared")
    _plan: ClassVar[_Plan]

    def __init__(self) -> None:
        self._held = bytes(self._plan.history_bytes)
        self._prepared: tuple[bytes, bytes] | None = None  # a chunk, and the output of `process` for it

    def process(self, pcm: bytes | bytearray | memoryview) -> bytes:
        """Resample a chunk of PCM16 of any length.

        An incomplete step (an odd byte; on the way down, one or two samples) is buffered until the next chunk.
        Values beyond int16 are clipped.
        """
        plan = self._plan
        pending = self._held + pcm
        if self._prepared is not None:
            (chunk, output), self._prepared = self._prepared, None
            if chunk == pcm:
                self._held = pending[len(chunk) :]
                return output
        steps = (len(pending) - plan.history_bytes) // plan.step_bytes
        blocks = -(-steps // BLOCK_STEPS)
        self._held = pending[steps * plan.step_bytes :]
        output = _filtered(plan, pending.ljust(plan.row_bytes(blocks), b"\0"), 1, blocks)
        return output[: steps * plan.step_output_bytes]

    def flush(self) -> bytes:
        """End the stream: return the rest of the filter's response, 3.75 ms, and reset.

        An odd byte is dropped. An incomplete step is filled up with silence.
        """
        self._held = self._held[: len(self._held) // SAMPLE_BYTES * SAMPLE_BYTES]
        tail = self.process(bytes(self._plan.history_bytes + self._plan.step_bytes - SAMPLE_BYTES))
        self.reset()
        return tail

    def reset(self) -> None:
        """Drop the state, as after a cancelled reply. The next chunk then follows silence."""
        self._held = bytes(self._plan.history_bytes)
        self._prepared = None


class Upsampler(_Resampler):
    """A resampler from 8 kHz to 24 kHz: three output samples per input sample, delayed by UP_DELAY_SECONDS."""

    __slots__ = ()
    _plan = _UP


class Downsampler(_Resampler):
    """A resampler from 24 kHz to 8 kHz: one output sample per three inputs, delayed by DOWN_DELAY_SECONDS."""

    __slots__ = ()
    _plan = _DOWN


def prepare(work: Sequence[tuple[Upsampler, bytes]]) -> None:
    """Resample chunks of many calls in one matrix product, which costs less than half of separate products.

    The next `process` of each resampler returns the prepared output, with the same bits, if its chunk is the same.
    For any other chunk, and for chunks of unequal length, `process` does the work itself.

    Args:
        work: resamplers, each once, and the next PCM16 chunk of each.
    """
    by_size: dict[int, list[tuple[Upsampler, bytes]]] = {}
    for resampler, pcm in work:
        if pcm and len(resampler._held) == _UP.history_bytes and len(pcm) % _UP.step_bytes == 0:
            by_size.setdefault(len(pcm), []).append((resampler, pcm))
    for size, alike in by_size.items():
        for first in range(0, len(alike), BATCH_CALLS):
            _prepare(alike[first : first + BATCH_CALLS], size)


def _prepare(alike: list[tuple[Upsampler, bytes]], size: int) -> None:
    plan, steps = _UP, size // _UP.step_bytes
    blocks = -(-steps // BLOCK_STEPS)
    padding = bytes(plan.row_bytes(blocks) - plan.history_bytes - size)
    rows = b"".join([part for resampler, pcm in alike for part in (resampler._held, pcm, padding)])
    output = _filtered(plan, rows, len(alike), blocks)
    step, wanted = len(output) // len(alike), steps * plan.step_output_bytes
    for start, (resampler, pcm) in zip(range(0, len(output), step), alike, strict=True):
        resampler._prepared = (pcm, output[start : start + wanted])


def _filtered(plan: _Plan, rows: bytes, count: int, blocks: int) -> bytes:
    """Filter `count` rows of PCM16, each of a history and `blocks` blocks."""
    looks_at = len(plan.matrix)
    # The blocks overlap by the history. The windows are a view of the bytes; astype() copies them into a matrix.
    strides = (plan.row_bytes(blocks), BLOCK_STEPS * plan.step_bytes, SAMPLE_BYTES)
    windows = np.ndarray((count, blocks, looks_at), _PCM16, rows, 0, strides)
    samples: NDArray[np.float64] = windows.astype(np.float64).reshape(-1, looks_at).dot(plan.matrix)
    np.rint(samples, out=samples)
    samples.clip(_LOWEST, _HIGHEST, out=samples)
    return samples.astype(_PCM16).tobytes()
