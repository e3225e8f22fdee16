"""Recordings that a dispatcher plays without a worker: FALLBACK_WAV and FILLER_WAV.

All processes import the settings, but few read a recording. So the functions import the reader, which imports
numpy.
"""

# ruff: noqa: PLC0415 - imports inside functions, for the reason above

from __future__ import annotations

from pathlib import Path
from typing import Final

NONE: Final = "none"
BUILTIN: Final = "builtin"
MAX_SECONDS: Final = 20


def read_recording(path: Path) -> bytes:
    """Read a recording as PCM16 at 8 kHz.

    Raises:
        WavError: the file cannot be read, has no sound, or lasts longer than `MAX_SECONDS`.
    """
    from common.audio.wav import SAMPLE_BYTES, SAMPLE_RATE_HZ, WavError, read_wav

    pcm = read_wav(path)
    if not pcm:
        raise WavError(f"{path}: it has no sound")
    seconds = len(pcm) / SAMPLE_BYTES / SAMPLE_RATE_HZ
    if seconds > MAX_SECONDS:
        raise WavError(f"{path}: it lasts {seconds:.1f} s")
    return pcm


def problem_of(variable: str, chosen: str) -> str | None:
    """Return a line about a recording that cannot be played; None if it can."""
    if chosen in (NONE, BUILTIN):
        return None
    from common.audio.wav import WavError

    path = Path(chosen)
    try:
        read_recording(path)
    except WavError as error:
        reason = str(error).removeprefix(f"{path}: ")
        allowed = f"a WAV file (PCM or G.711) of at most {MAX_SECONDS} s, {BUILTIN} or {NONE}"
        return f"{variable}={chosen!r} must be {allowed}: {reason}"
    return None
