"""Convert audio between a call (PCM16 little-endian at 8 kHz) and the Realtime API (the format of its session).

Each direction of each call needs a separate object, because resamplers keep earlier samples. The input of either
direction may also end in the middle of a sample.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, Protocol

from common.audio import g711
from common.settings.session_values import AudioFormat
from worker.audio.resample import Downsampler, Upsampler
from worker.config.session_update import FORMATS

PCM16_BYTES: Final = 2


class Uplink(Protocol):
    """The converter of audio from the caller to the API."""

    @property
    def upsampler(self) -> Upsampler | None:
        """The resampler, or None for a format at 8 kHz. `resample.prepare` can do its work ahead."""

    def encode(self, pcm8k: bytes) -> bytes:
        """Convert PCM16 at 8 kHz, of any length, to the API's format. An incomplete sample is buffered."""


class Downlink(Protocol):
    """The converter of audio from the API to the caller."""

    def decode(self, data: bytes) -> bytes:
        """Convert the API's audio, of any length, to PCM16 at 8 kHz. An incomplete sample is buffered."""

    def flush(self) -> bytes:
        """End a reply: return the buffered audio, less than 5 ms, and reset."""

    def reset(self) -> None:
        """Drop the buffered audio of a cancelled reply."""


@dataclass(frozen=True, slots=True)
class ApiAudio:
    """The audio format on the API's side of a call.

    Attributes:
        name: the value of OPENAI_AUDIO_FORMAT.
        bytes_per_ms: bytes of the API's audio per millisecond.
        uplink: creates the uplink of a call.
        downlink: creates the downlink of a call.
    """

    name: AudioFormat
    bytes_per_ms: int
    uplink: Callable[[], Uplink]
    downlink: Callable[[], Downlink]

    @property
    def session_format(self) -> dict[str, Any]:
        """The `format` field of the session object, the same for input and output."""
        return dict(FORMATS[self.name])


class _PcmUplink:
    __slots__ = ("upsampler",)

    def __init__(self) -> None:
        self.upsampler = Upsampler()

    def encode(self, pcm8k: bytes) -> bytes:
        return self.upsampler.process(pcm8k)


class _G711Uplink:
    __slots__ = ("_encode", "_half", "upsampler")

    def __init__(self, encode: Callable[[bytes], bytes]) -> None:
        self.upsampler: Upsampler | None = None
        self._encode = encode
        self._half = b""

    def encode(self, pcm8k: bytes) -> bytes:
        pending = self._half + pcm8k
        whole = len(pending) // PCM16_BYTES * PCM16_BYTES
        self._half = pending[whole:]
        return self._encode(pending[:whole])


class _PcmDownlink:
    __slots__ = ("_downsampler",)

    def __init__(self) -> None:
        self._downsampler = Downsampler()

    def decode(self, data: bytes) -> bytes:
        return self._downsampler.process(data)

    def flush(self) -> bytes:
        return self._downsampler.flush()

    def reset(self) -> None:
        self._downsampler.reset()


class _G711Downlink:
    """The downlink of G.711. One byte is one sample, so this class buffers nothing."""

    __slots__ = ("_decode",)

    def __init__(self, decode: Callable[[bytes], bytes]) -> None:
        self._decode = decode

    def decode(self, data: bytes) -> bytes:
        return self._decode(data)

    def flush(self) -> bytes:
        return b""

    def reset(self) -> None:
        """Do nothing, because nothing is buffered."""


_API_AUDIO: Final = {
    AudioFormat.PCM: ApiAudio(AudioFormat.PCM, 48, _PcmUplink, _PcmDownlink),
    AudioFormat.PCMU: ApiAudio(
        AudioFormat.PCMU, 8, lambda: _G711Uplink(g711.encode_ulaw), lambda: _G711Downlink(g711.decode_ulaw)
    ),
    AudioFormat.PCMA: ApiAudio(
        AudioFormat.PCMA, 8, lambda: _G711Uplink(g711.encode_alaw), lambda: _G711Downlink(g711.decode_alaw)
    ),
}


def for_format(name: AudioFormat | str) -> ApiAudio:
    """Return the audio format of this name.

    Raises:
        ValueError: there is no such format.
    """
    return _API_AUDIO[AudioFormat(name)]
