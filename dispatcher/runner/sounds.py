"""Announcements of the settings: recordings are read, and the built-in filler is made."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np

from common.audio.wav import SAMPLE_RATE_HZ, WavError, to_pcm16
from common.errors import SettingsError
from common.settings import extensions
from common.settings.recordings import BUILTIN, NONE, problem_of, read_recording
from common.settings.settings import Settings
from dispatcher.avr.protocol import FRAME_BYTES
from dispatcher.call.announcements import Announcements

APOLOGY = Path(__file__).with_name("recordings") / "fallback.wav"

# The built-in filler: two soft tones, a fifth apart, then a pause. They stay below -30 dBFS, softer than speech.
_TONES_HZ = (392.0, 587.3)
_TONE_SECONDS = 0.6
_LOOP_SECONDS = 3.0
_TONE_PEAK = 10 ** (-32 / 20)


def load(settings: Settings) -> Announcements:
    """Read the recordings that the settings name.

    Raises:
        SettingsError: a file cannot be read any more.
    """
    extension, context = "", ""
    if settings.fallback_extension is not None:
        extension, context = extensions.split(settings.fallback_extension, settings.transfer_context)
    return Announcements(
        _sentence(settings.fallback_wav),
        extension,
        context,
        _filler(settings.filler_wav),
        settings.filler_after_ms / 1000,
    )


def _sentence(chosen: str) -> bytes:
    pcm = b"" if chosen == NONE else _read("FALLBACK_WAV", chosen, APOLOGY)
    return pcm + bytes(-len(pcm) % FRAME_BYTES)


def _filler(chosen: str) -> bytes:
    if chosen == NONE:
        return b""
    pcm = soft_tones() if chosen == BUILTIN else _read("FILLER_WAV", chosen, Path())
    return pcm if len(pcm) >= FRAME_BYTES else pcm.ljust(FRAME_BYTES, b"\0")


def _read(variable: str, chosen: str, builtin: Path) -> bytes:
    try:
        return read_recording(builtin if chosen == BUILTIN else Path(chosen))
    except WavError as error:
        raise SettingsError(problem_of(variable, chosen) or str(error)) from error


@functools.cache
def soft_tones() -> bytes:
    """Return the built-in filler: PCM16 at 8 kHz that begins and ends in silence."""
    loop = np.zeros(round(_LOOP_SECONDS * SAMPLE_RATE_HZ))
    length = round(_TONE_SECONDS * SAMPLE_RATE_HZ)
    times = np.arange(length) / SAMPLE_RATE_HZ
    for number, tone_hz in enumerate(_TONES_HZ):
        first = number * length // 2
        loop[first : first + length] += _TONE_PEAK * np.hanning(length) * np.sin(2 * np.pi * tone_hz * times)
    return to_pcm16(loop)
