"""The audio between a call, PCM16 little-endian at 8 kHz, and the Realtime API, in the format of its session.

Each direction of each call has an object of its own: the resamplers remember what came before, and any direction
may be handed half a sample.
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
    """From the caller to the API."""

    @property
    def upsampler(self) -> Upsampler | None:
        """What resamples, where something does; its work can be done ahead, see `resample.prepare`."""

    def encode(self, pcm8k: bytes) -> bytes:
        """PCM16 at 8 kHz, of any length, in the API's format; half a sample waits for the rest of it."""


class Downlink(Protocol):
    """From the API to the caller."""

    def decode(self, data: bytes) -> bytes:
        """The API's audio, of any length, as PCM16 at 8 kHz; what is not a sample yet waits for the rest of it."""

    def flush(self) -> bytes:
        """End a reply: what is still held of it, less than 5 ms; then as new."""

    def reset(self) -> None:
        """Forget a reply that was cancelled."""


@dataclass(frozen=True, slots=True)
class ApiAudio:
    """The audio on the API's side of a call.

    Attributes:
        name: as OPENAI_AUDIO_FORMAT has it.
        bytes_per_ms: of the API's audio.
        uplink: makes the uplink of a call.
        downlink: makes the downlink of a call.
    """

    name: AudioFormat
    bytes_per_ms: int
    uplink: Callable[[], Uplink]
    downlink: Callable[[], Downlink]

    @property
    def session_format(self) -> dict[str, Any]:
        """The `format` of the session object, the same for input and output."""
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
    """Each code is a sample: nothing is ever held."""

    __slots__ = ("_decode",)

    def __init__(self, decode: Callable[[bytes], bytes]) -> None:
        self._decode = decode

    def decode(self, data: bytes) -> bytes:
        return self._decode(data)

    def flush(self) -> bytes:
        return b""

    def reset(self) -> None:
        """There is nothing to forget."""


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
    """The audio of a format.

    Raises:
        ValueError: there is no such format.
    """
    return _API_AUDIO[AudioFormat(name)]
