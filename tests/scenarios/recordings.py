"""Compare a recording with what the simulated AVR Core's caller said and heard, sample by sample."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from simulator.avr.core import SimulatedCall
from tests.dispatcher.recording.strict_wav import read_strictly
from tests.helpers import eventually

RATE_HZ = 8000
# The recording begins when `init` arrives and the caller's clock when it was sent; frames take time on their way.
# On a machine with nothing else to do this is 2 ms; under a loaded one a frame may wait longer for its turn.
TOLERANCE_SECONDS = 0.25

# Where a reply is interrupted, the two clocks differ by the time of the message, so the last samples may.
EDGE_SECONDS = 0.1

Samples = NDArray[np.int16]


@dataclass(frozen=True, slots=True)
class Match:
    """Sound that was said or heard, and where the recording has it.

    Attributes:
        at_seconds: on the caller's clock.
        seconds: length.
        shift_seconds: how much later the recording has it.
        different: samples that differ, apart from those at the end (`EDGE_SECONDS`).
    """

    at_seconds: float
    seconds: float
    shift_seconds: float
    different: int


class Ear:
    """What one caller said and heard, on the caller's clock."""

    def __init__(self, call: SimulatedCall) -> None:
        self._call = call
        self._began_seconds = call.playout.started_at_seconds
        self.said: list[tuple[float, bytes]] = []

    async def say(self, pcm: bytes) -> None:
        """Say something, and note when: the first of its frames is the next that is sent."""
        sent = self._call.record.frames_sent
        await self._call.wait_for(lambda call: call.record.frames_sent > sent)
        frames = self._call.record.frames_sent + self._call.record.frames_lost
        self.said.append((frames * 0.02, pcm))
        await self._call.say(pcm)

    def said_samples(self, samples: int) -> Samples:
        """Return what the caller said, as long as a recording."""
        timeline = np.zeros(samples, np.int16)
        for at_seconds, pcm in self.said:
            first = round(at_seconds * RATE_HZ)
            sound = np.frombuffer(pcm, np.int16)[: max(0, samples - first)]
            timeline[first : first + len(sound)] = sound
        return timeline

    def heard_samples(self) -> Samples:
        """Return what the caller heard until now, or until the end of the call."""
        return np.frombuffer(self._call.playout.heard(time.monotonic()), np.int16)


def matches(expected: Samples, recorded: Samples) -> list[Match]:
    """Return for each sound in `expected` where `recorded` has it; sounds are divided by 200 ms of silence.

    The shift of a sound is that with the fewest differing samples, within the tolerance.
    """
    return [_match(expected, recorded, first, end) for first, end in sounds(expected)]


def sounds(samples: Samples, gap_samples: int = RATE_HZ // 5) -> list[tuple[int, int]]:
    """Return the spans of sound."""
    loud = np.flatnonzero(samples)
    if not len(loud):
        return []
    breaks = np.flatnonzero(np.diff(loud) > gap_samples)
    firsts = [loud[0], *loud[breaks + 1]]
    ends = [*loud[breaks], loud[-1]]
    return [(int(first), int(end) + 1) for first, end in zip(firsts, ends, strict=True)]


def _match(expected: Samples, recorded: Samples, first: int, end: int) -> Match:
    sound = expected[first:end]
    reach = round(TOLERANCE_SECONDS * RATE_HZ)
    padded = np.concatenate((np.zeros(reach, np.int16), recorded, np.zeros(reach + end, np.int16)))
    # A shift is right if all samples are; so the differences of a part find it, and all of them judge it.
    probe = sound[: RATE_HZ // 4]
    window = padded[first : first + 2 * reach + len(probe)]
    views = np.lib.stride_tricks.sliding_window_view(window, len(probe))
    shift = int(np.argmin((views != probe).sum(axis=1)))
    there = padded[first + shift : first + shift + len(sound)]
    different = int((there != sound)[: -round(EDGE_SECONDS * RATE_HZ)].sum())
    return Match(first / RATE_HZ, len(sound) / RATE_HZ, (shift - reach) / RATE_HZ, different)


async def recorded_of(folder: Path, number: int = 1) -> list[Path]:
    """Wait for so many recordings in a folder, and return them in order of their begin."""

    def found() -> list[Path]:
        return sorted(folder.glob("*.wav"), key=lambda path: path.name)

    await eventually(lambda: len(found()) >= number)
    return found()


def read(path: Path) -> Samples:
    """Return a recording, shape (n, 2)."""
    return read_strictly(path)
