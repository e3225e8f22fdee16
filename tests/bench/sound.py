"""The audio of a benchmark's callers and model, and the audio expected at the other end of the service.

Calls differ in their audio and in the voice that answers them. So audio that is lost, doubled, broken or led to
another call is noticed. All of it is made before the clocks run.
"""

from __future__ import annotations

import binascii
import functools
from dataclasses import dataclass

import numpy as np

from dispatcher.avr import protocol
from worker.audio.audio_format import for_format

FRAME_SECONDS = 0.02
FRAMES_PER_SECOND = 50
# A caller repeats one second of noise; each call begins at another frame of it.
LOOP_FRAMES = FRAMES_PER_SECOND
VOICES = 8

# A reply is like the simulator's: 8 words of 400 ms in deltas of 100 ms, sent 5 times faster than real time.
REPLY_MS = 3200
DELTA_MS = 100
DELTAS = REPLY_MS // DELTA_MS
FRAMES_PER_DELTA = DELTA_MS // 20

# One of 10 frames is timed, and the first frame of each delta.
TIMED_EVERY_FRAMES = 10

LEVEL = 3000


@functools.cache
def _caller_frames() -> tuple[bytes, ...]:
    noise = np.random.default_rng(1).normal(0.0, LEVEL, (LOOP_FRAMES, protocol.FRAME_SAMPLES))
    return tuple(frame.astype("<i2").tobytes() for frame in noise)


def first_frame(call: int) -> int:
    """Return the frame of the loop at which a call begins."""
    return call * 7 % LOOP_FRAMES


def caller_frames(call: int) -> list[bytes]:
    """Return the loop of a call: PCM16 at 8 kHz, 20 ms each."""
    frames, first = _caller_frames(), first_frame(call)
    return [*frames[first:], *frames[:first]]


@dataclass(frozen=True, slots=True)
class Appended:
    """The audio that the API must get of a caller: a beginning, and then the same second without end."""

    frame_bytes: int
    beginning: bytes
    loop: bytes

    def matches(self, position: int, data: bytes) -> bool:
        """Tell whether this data follows after this many bytes, up to one loop."""
        length = len(self.beginning)
        if position < length:
            head = self.beginning[position : position + len(data)]
            rest = data[len(head) :]
            return data.startswith(head) and (not rest or self.matches(length, rest))
        start = (position - length) % len(self.loop)
        expected = self.loop[start : start + len(data)]
        rest = data[len(expected) :]
        return data.startswith(expected) and (not rest or self.matches(length, rest))


@functools.cache
def _appended(audio_format: str, first: int) -> Appended:
    frames = _caller_frames()
    loop = b"".join((*frames[first:], *frames[:first]))
    uplink = for_format(audio_format).uplink()
    beginning, steady = uplink.encode(loop), uplink.encode(loop)
    return Appended(len(beginning) // LOOP_FRAMES, beginning, steady)


def appended(audio_format: str, call: int) -> Appended:
    """Return the audio that the API must get of this call."""
    return _appended(audio_format, first_frame(call))


@functools.cache
def deltas(audio_format: str, voice: int) -> tuple[bytes, ...]:
    """Return the audio of a voice's replies, as the `delta` of each event: base64."""
    api = for_format(audio_format)
    size = DELTA_MS * api.bytes_per_ms
    random = np.random.default_rng(100 + voice)
    if audio_format == "pcm":
        sound = random.normal(0.0, LEVEL, DELTAS * size // 2).astype("<i2").tobytes()
    else:
        sound = random.bytes(DELTAS * size)
    pieces = (sound[start : start + size] for start in range(0, len(sound), size))
    return tuple(binascii.b2a_base64(piece, newline=False) for piece in pieces)


@functools.cache
def heard(audio_format: str, voice: int) -> tuple[bytes, ...]:
    """Return the messages that AVR Core must get of each reply of a voice."""
    downlink = for_format(audio_format).downlink()
    pcm = b"".join(downlink.decode(binascii.a2b_base64(delta)) for delta in deltas(audio_format, voice))
    pcm += downlink.flush()
    frames = (pcm[start : start + protocol.FRAME_BYTES] for start in range(0, len(pcm), protocol.FRAME_BYTES))
    return tuple(protocol.audio(frame.ljust(protocol.FRAME_BYTES, b"\0")) for frame in frames)
