"""WAV files with GSM 06.10, which Asterisk calls `WAV49`: decoded by libsndfile, if it is installed."""

from __future__ import annotations

import io
from typing import Final

import numpy as np
import numpy.typing as npt

FORMAT_TAG: Final = 0x0031
"""The coding's number in a WAV file (mmreg.h)."""

_MISSING: Final = (
    "GSM needs libsndfile: pip install 'avr-sts-openai[gsm]', "
    "or convert the file: ffmpeg -i IN.wav -ar 8000 -ac 1 -c:a pcm_s16le OUT.wav"
)


def decode_gsm(content: bytes) -> npt.NDArray[np.float64]:
    """Return the mono samples of a whole WAV file, -1 to 1, shape (n,).

    Raises:
        ValueError: libsndfile is missing, or refuses the file.
    """
    try:
        import soundfile  # noqa: PLC0415 - an optional package
    except (ImportError, OSError):  # OSError: the package without its library
        raise ValueError(_MISSING) from None
    try:
        samples, _ = soundfile.read(io.BytesIO(content), dtype="float64", always_2d=True)
    except RuntimeError as error:
        raise ValueError(f"its GSM cannot be decoded: {error}") from None
    mono: npt.NDArray[np.float64] = samples.mean(axis=1)
    return mono
