"""Audio on the wire, in the formats of the Realtime API.

The simulator itself works on PCM16 at 24 kHz. G.711 is converted in the plainest way: each sample is repeated
three times, and every third sample is taken back. So audio sent as G.711 returns unchanged, except for µ-law's
negative zero. The simulator's own voices have nothing above 3400 Hz that could fold down.
"""

from __future__ import annotations

import binascii
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from common.audio import g711
from simulator.realtime.errors import invalid_audio

_RATIO: Final = 3


@dataclass(frozen=True, slots=True)
class WireAudio:
    """A format of audio.

    Attributes:
        name: OpenAI's name of the format, for errors.
        bytes_per_ms: bytes in a millisecond of this format.
        sample_bytes: bytes of one sample; audio consists of whole samples.
        decode: converts to PCM16 at 24 kHz.
        encode: converts from PCM16 at 24 kHz.
    """

    name: str
    bytes_per_ms: int
    sample_bytes: int
    decode: Callable[[bytes], bytes]
    encode: Callable[[bytes], bytes]

    def read(self, audio: str, path: str) -> bytes:
        """Decode audio in this format from base64.

        Raises:
            RequestError: the text is not base64, or does not hold whole samples.
        """
        try:
            data = binascii.a2b_base64(audio, strict_mode=True)
        except ValueError as error:
            raise invalid_audio(path, self.name) from error
        if len(data) % self.sample_bytes:
            raise invalid_audio(path, self.name)
        return data


def _unchanged(pcm: bytes) -> bytes:
    return pcm


def _to_24_khz(pcm8k: bytes) -> bytes:
    return np.frombuffer(pcm8k, "<i2").repeat(_RATIO).tobytes()


def _to_8_khz(pcm24k: bytes) -> bytes:
    return np.frombuffer(pcm24k, "<i2")[::_RATIO].tobytes()


PCM: Final = WireAudio("mono PCM16 at 24kHz", 48, 2, _unchanged, _unchanged)
PCMU: Final = WireAudio(
    "mono G.711 u-law at 8kHz",
    8,
    1,
    lambda data: _to_24_khz(g711.decode_ulaw(data)),
    lambda pcm: g711.encode_ulaw(_to_8_khz(pcm)),
)
PCMA: Final = WireAudio(
    "mono G.711 A-law at 8kHz",
    8,
    1,
    lambda data: _to_24_khz(g711.decode_alaw(data)),
    lambda pcm: g711.encode_alaw(_to_8_khz(pcm)),
)

_FORMATS: Final = {"audio/pcm": PCM, "audio/pcmu": PCMU, "audio/pcma": PCMA}


def wire_audio(form: dict[str, Any]) -> WireAudio:
    """Return the format that a session object's `format` names."""
    return _FORMATS[form["type"]]
