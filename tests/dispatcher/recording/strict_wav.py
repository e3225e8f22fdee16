"""A reader of WAV files that forgives nothing, as players that map the file are."""

from __future__ import annotations

import io
import struct
import wave
from pathlib import Path

import numpy as np
import numpy.typing as npt


def read_strictly(path: Path) -> npt.NDArray[np.int16]:
    """Return the frames of a stereo recording, shape (n, 2).

    Raises:
        AssertionError: a size in the file is wrong, or its format is not that of a recording.
    """
    return frames_of(path.read_bytes())


def frames_of(content: bytes) -> npt.NDArray[np.int16]:
    """As `read_strictly`, of the bytes of a file."""
    assert len(content) >= 44, "no header"
    riff, riff_bytes, wave_name, fmt, fmt_bytes = struct.unpack_from("<4sI4s4sI", content)
    assert (riff, wave_name, fmt, fmt_bytes) == (b"RIFF", b"WAVE", b"fmt ", 16)
    tag, channels, rate_hz, byte_rate, block, bits = struct.unpack_from("<HHIIHH", content, 20)
    assert (tag, channels, rate_hz, byte_rate, block, bits) == (1, 2, 8000, 32_000, 4, 16)
    name, data_bytes = struct.unpack_from("<4sI", content, 36)
    assert name == b"data"
    assert riff_bytes == 36 + data_bytes, "the sizes of RIFF and data agree"
    assert data_bytes % 4 == 0, "whole frames"
    assert 44 + data_bytes <= len(content), "the file has all that its header counts"
    with wave.open(io.BytesIO(content)) as reader:
        assert reader.getparams()[:4] == (2, 2, 8000, data_bytes // 4)
        pcm = reader.readframes(reader.getnframes())
    assert len(pcm) == data_bytes
    return np.frombuffer(pcm, np.int16).reshape(-1, 2)
