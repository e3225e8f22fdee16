"""Audio on the wire: what clients send and get, in the formats that the Realtime API has.

Inside, the simulator works on PCM16 at 24 kHz. G.711 is taken there and back by the plainest means: each sample
three times, every third sample. So what was sent as G.711 comes back as it was (but for µ-law's negative zero),
and the simulator's own voices have nothing above 3400 Hz that could fold down.
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
        name: for errors, as OpenAI writes it.
        bytes_per_ms: of audio in this format.
        sample_bytes: audio is whole samples.
        decode: to PCM16 at 24 kHz.
        encode: from PCM16 at 24 kHz.
    """

    name: str
    bytes_per_ms: int
    sample_bytes: int
    decode: Callable[[bytes], bytes]
    encode: Callable[[bytes], bytes]

    def read(self, audio: str, path: str) -> bytes:
        """Audio in this format from base64.

        Raises:
            RequestError: it is not base64, or not whole samples.
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
    """The format that a session object's `format` names."""
    return _FORMATS[form["type"]]
