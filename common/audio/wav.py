"""WAV files as PCM16 little-endian, mono, 8 kHz: the only audio format of AVR Core.

Accepted are integer PCM of 8, 16, 24 or 32 bits, floats of 32 or 64 bits, G.711, and with the extra `[gsm]` GSM
06.10. The number of channels and the sample rate are free. The whole file is at hand, so the conversion can be
simple and good instead of fast.
"""

from __future__ import annotations

import math
import struct
import wave
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from common.audio import g711, gsm
from common.errors import LocalError

SAMPLE_RATE_HZ = 8000
SAMPLE_BYTES = 2

# Over an hour at 8 kHz, or six minutes of 48 kHz stereo: enough for a call.
MAX_WAV_BYTES = 64 * 1024 * 1024
_MIN_RATE_HZ, _MAX_RATE_HZ = 1000, 384_000

# Format tags (mmreg.h).
_EXTENSIBLE = 0xFFFE
_FORMAT_NAMES = {
    0x0001: "PCM",
    0x0002: "ADPCM",
    0x0003: "float",
    0x0006: "G.711 A-law",
    0x0007: "G.711 mu-law",
    0x0055: "MP3",
}

# The filter is a sinc of 48 zero crossings a side under a Kaiser window (beta 9). It falls from 0 to -90 dB within
# 0.12 of its bandwidth (Kaiser's formula). Its edge lies at 0.94 of the lower half rate. At 8 kHz it keeps 0 to
# 3.5 kHz, and blocks all frequencies that would alias.
_ZERO_CROSSINGS = 48
_KAISER_BETA = 9.0
_CUTOFF = 0.94


class WavError(LocalError):
    """A WAV file cannot be read. The message is one line that names the file and the problem."""


@dataclass(frozen=True, slots=True)
class _Format:
    tag: int
    channels: int
    rate_hz: int
    bits: int


def read_wav(path: Path, *, max_bytes: int = MAX_WAV_BYTES) -> bytes:
    """Return the sound of a WAV file as PCM16 LE mono at 8 kHz; several channels are averaged.

    Raises:
        WavError: no such file, not a WAV file, an unknown coding, or larger than
        `max_bytes`.
    """
    try:
        with path.open("rb") as file:
            content = file.read(max_bytes + 1)
    except FileNotFoundError:
        raise WavError(f"{path}: file not found") from None
    except OSError as error:
        raise WavError(f"{path}: cannot be read: {error.strerror}") from None
    if len(content) > max_bytes:
        raise WavError(f"{path}: larger than {max_bytes // 2**20} MiB: shorten it to the part to be played")
    try:
        return decode_wav(content)
    except ValueError as error:
        raise WavError(f"{path}: {error}") from None


def decode_wav(content: bytes) -> bytes:
    """Return the sound of a WAV file's content, as `read_wav` does.

    Raises:
        ValueError: the content cannot be used; the message says why.
    """
    wav_format, data = _parse(content)
    if wav_format.tag == gsm.FORMAT_TAG:
        _check(wav_format)
        mono = gsm.decode_gsm(content)
    else:
        mono = _decode(wav_format, data)
    return to_pcm16(resample(mono, wav_format.rate_hz))


def write_wav(path: Path, pcm: bytes) -> None:
    """Write PCM16 LE mono 8 kHz as a WAV file.

    Raises:
        OSError: the file cannot be written.
    """
    with path.open("wb") as file, wave.open(file, "wb") as writer:
        writer.setnchannels(1)
        writer.setsampwidth(SAMPLE_BYTES)
        writer.setframerate(SAMPLE_RATE_HZ)
        writer.writeframes(pcm)


def resample(
    samples: npt.NDArray[np.float64], from_hz: int, to_hz: int = SAMPLE_RATE_HZ
) -> npt.NDArray[np.float64]:
    """Resample a whole recording with a windowed sinc: float64, shape (n,) to (ceil(n * to_hz / from_hz),).

    Output k lies at input position k * down / up, with up/down = to_hz/from_hz in lowest terms. There are only
    `up` different distances to the input samples: one filter for each, applied to every `up`-th output.
    """
    if from_hz == to_hz or not len(samples):
        return samples
    divisor = math.gcd(from_hz, to_hz)
    up, down = to_hz // divisor, from_hz // divisor
    bandwidth = _CUTOFF * min(1.0, to_hz / from_hz)  # of the input's half rate
    half = math.ceil(_ZERO_CROSSINGS / bandwidth)
    # Row p of `windows` holds the 2 * half input samples around position p, from p - half + 1 on.
    padded = np.concatenate((np.zeros(half - 1), samples, np.zeros(half)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, 2 * half)
    resampled = np.empty(-(-len(samples) * up // down))
    for phase in range(min(up, len(resampled))):
        outputs = resampled[phase::up]
        first, remainder = divmod(phase * down, up)
        distance = np.arange(1 - half, half + 1) - remainder / up
        window = np.i0(_KAISER_BETA * np.sqrt(np.maximum(0.0, 1 - (distance / half) ** 2))) / np.i0(_KAISER_BETA)
        taps = bandwidth * np.sinc(bandwidth * distance) * window
        outputs[:] = windows[first::down][: len(outputs)] @ taps
    return resampled


def to_pcm16(samples: npt.NDArray[np.float64]) -> bytes:
    """Convert samples of -1 to 1 to PCM16 LE; louder samples are clipped."""
    return np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2").tobytes()


def _parse(content: bytes) -> tuple[_Format, bytes]:
    """Find the `fmt ` and `data` chunks of a RIFF WAVE file (Microsoft, "New Multimedia Data Types", 1994).

    The standard library's `wave` knows neither floats nor, before Python 3.12, WAVE_FORMAT_EXTENSIBLE, which
    ffmpeg writes for 24 bits.
    """
    if content[:4] != b"RIFF" or content[8:12] != b"WAVE":
        raise ValueError("not a WAV file")
    wav_format: _Format | None = None
    position = 12
    while position + 8 <= len(content):
        name, length = struct.unpack_from("<4sI", content, position)
        # A program that writes into a pipe leaves the length 0xFFFFFFFF: slicing stops at the end of the file.
        chunk = content[position + 8 : position + 8 + length]
        if name == b"fmt ":
            wav_format = _parse_format(chunk)
        elif name == b"data":
            if wav_format is None:
                raise ValueError("not a WAV file: its data comes before its format")
            return wav_format, chunk
        position += 8 + length + length % 2
    raise ValueError("not a WAV file: it has no data")


def _parse_format(chunk: bytes) -> _Format:
    extensible = chunk.startswith(struct.pack("<H", _EXTENSIBLE))
    if len(chunk) < (40 if extensible else 16):
        raise ValueError("not a WAV file: its format is truncated")
    tag, channels, rate_hz, _, _, bits = struct.unpack_from("<HHIIHH", chunk)
    if extensible:
        (tag,) = struct.unpack_from("<H", chunk, 24)  # the sub-format's GUID starts with the plain tag
    return _Format(tag, channels, rate_hz, bits)


def _check(wav_format: _Format) -> None:
    if wav_format.channels < 1 or not _MIN_RATE_HZ <= wav_format.rate_hz <= _MAX_RATE_HZ:
        raise ValueError(f"{wav_format.channels} channels at {wav_format.rate_hz} Hz are not supported")


def _decode(wav_format: _Format, data: bytes) -> npt.NDArray[np.float64]:
    """Return mono samples of -1 to 1, shape (n,); an incomplete last frame is dropped."""
    _check(wav_format)
    frame_bytes = wav_format.bits // 8 * wav_format.channels
    if frame_bytes:
        data = data[: len(data) // frame_bytes * frame_bytes]
    match wav_format.tag, wav_format.bits:
        case (1, 8):
            samples = (np.frombuffer(data, np.uint8) - 128.0) / 128.0
        case (1, 16):
            samples = np.frombuffer(data, "<i2") / 32768.0
        case (1, 24):
            # Into the upper three bytes of 32 bits, which keeps the sign.
            wide = np.zeros((len(data) // 3, 4), np.uint8)
            wide[:, 1:] = np.frombuffer(data, np.uint8).reshape(-1, 3)
            samples = wide.view("<i4").ravel() / 2147483648.0
        case (1, 32):
            samples = np.frombuffer(data, "<i4") / 2147483648.0
        case (3, 32 | 64):
            samples = np.frombuffer(data, f"<f{wav_format.bits // 8}").astype(np.float64)
        case (6, 8):
            samples = np.frombuffer(g711.decode_alaw(data), "<i2") / 32768.0
        case (7, 8):
            samples = np.frombuffer(g711.decode_ulaw(data), "<i2") / 32768.0
        case _:
            name = _FORMAT_NAMES.get(wav_format.tag, f"format {wav_format.tag}")
            raise ValueError(
                f"{name} with {wav_format.bits} bits is not supported: convert it to 16-bit PCM, "
                "such as ffmpeg -i IN.wav -c:a pcm_s16le OUT.wav"
            )
    mono: npt.NDArray[np.float64] = np.nan_to_num(samples).reshape(-1, wav_format.channels).mean(axis=1)
    return mono
