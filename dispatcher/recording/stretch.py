"""A stretch of a call's recording: sound with its positions, and its bytes in the file."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

CHANNELS = 2
FRAME_BYTES = 4
"""Of one sample of both channels: PCM16, left and right."""


class Sound(NamedTuple):
    """Sound without a gap.

    Attributes:
        position: of the first sample, in samples since the recording began.
        pcm: PCM16 at 8 kHz, mono.
    """

    position: int
    pcm: bytes


Span = tuple[int, int]
"""First sample, and the sample behind the last one."""


@dataclass(frozen=True, slots=True)
class Stretch:
    """A stretch of a recording; everything between its sounds is silence.

    Attributes:
        position: of its first sample, since the recording began.
        samples: length.
        left: what the caller said, in order, within the stretch.
        right: what the caller heard, likewise.
        silences: spans in which both channels are silent, whatever is in them.
        left_silences: spans in which the caller's channel is silent.
    """

    position: int
    samples: int
    left: tuple[Sound, ...] = ()
    right: tuple[Sound, ...] = ()
    silences: tuple[Span, ...] = ()
    left_silences: tuple[Span, ...] = ()

    @property
    def end(self) -> int:
        """The position behind the last sample."""
        return self.position + self.samples

    def frames(self) -> bytes:
        """Return the stretch as interleaved PCM16."""
        mixed = np.zeros((self.samples, CHANNELS), "<i2")
        for channel, sounds in enumerate((self.left, self.right)):
            for sound in sounds:
                first = sound.position - self.position
                samples = np.frombuffer(sound.pcm, "<i2")
                mixed[first : first + len(samples), channel] = samples
        for first, end in self.silences:
            mixed[max(0, first - self.position) : max(0, end - self.position)] = 0
        for first, end in self.left_silences:
            mixed[max(0, first - self.position) : max(0, end - self.position), 0] = 0
        return mixed.tobytes()
