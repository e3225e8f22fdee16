"""Draw a recording against what its caller said and heard: `python -m tests.scenarios.recording_picture FILE.svg`.

The call is one of real processes: the caller interrupts an answer, and a worker is killed.
"""

from __future__ import annotations

import asyncio
import itertools
import signal
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path

import numpy as np

from simulator.avr.core import SimulatedCall, place_call
from simulator.realtime.server import RealtimeSimulator
from simulator.realtime.settings import SimulatorSettings
from tests.helpers import eventually
from tests.redis_process import RealRedis, find_redis_server
from tests.scenarios.processes import PATIENCE_SECONDS, Cluster
from tests.scenarios.recordings import RATE_HZ, Ear, Samples, matches, read, recorded_of
from tests.scenarios.test_recovery import process_of
from tests.scenarios.tones import tone

WIDTH, ROW_HEIGHT, MARGIN_LEFT, MARGIN_TOP, MARGIN_BOTTOM = 1200, 90, 130, 60, 60
SETTINGS = SimulatorSettings(greeting_words=3, words=14, word_ms=300, first_audio_seconds=0.1)
COLOURS = ("#1f6f8b", "#1f6f8b", "#9c4a1a", "#9c4a1a")


@dataclass(frozen=True, slots=True)
class Mark:
    """An event on the caller's clock."""

    at_seconds: float
    text: str


@dataclass(frozen=True, slots=True)
class Picture:
    """What is drawn: rows of sound on one clock, with marks."""

    rows: tuple[tuple[str, Samples], ...]
    marks: tuple[Mark, ...]
    note: str

    @property
    def seconds(self) -> float:
        """Length of the longest row."""
        return max(len(samples) for _, samples in self.rows) / RATE_HZ

    def svg(self) -> str:
        """Return the picture."""
        height = MARGIN_TOP + ROW_HEIGHT * len(self.rows) + MARGIN_BOTTOM
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif"'
            ' font-size="13">',
            f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
            *self._scale(height),
        ]
        for number, (name, samples) in enumerate(self.rows):
            middle = MARGIN_TOP + ROW_HEIGHT * number + ROW_HEIGHT / 2
            parts.append(f'<text x="10" y="{middle + 4:.0f}">{escape(name)}</text>')
            parts.append(f'<path d="{self._outline(samples, middle)}" fill="{COLOURS[number % 4]}"/>')
        parts += self._marked(height)
        parts.append(f'<text x="10" y="{height - 12}" fill="#555555">{escape(self.note)}</text>')
        return "\n".join([*parts, "</svg>", ""])

    def _x(self, seconds: float) -> float:
        return MARGIN_LEFT + (WIDTH - MARGIN_LEFT - 20) * seconds / self.seconds

    def _scale(self, height: int) -> Iterator[str]:
        bottom = height - MARGIN_BOTTOM
        for second in range(0, int(self.seconds) + 1, 2):
            x = self._x(second)
            yield f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{MARGIN_TOP}" y2="{bottom}" stroke="#e4e4e4"/>'
            yield f'<text x="{x:.1f}" y="{bottom + 16}" text-anchor="middle" fill="#555555">{second} s</text>'

    def _marked(self, height: int) -> Iterator[str]:
        for number, mark in enumerate(self.marks):
            x, y = self._x(mark.at_seconds), 18 + 16 * (number % 3)
            yield (
                f'<line x1="{x:.1f}" x2="{x:.1f}" y1="{y + 4}" y2="{height - MARGIN_BOTTOM}" stroke="#b00020"'
                ' stroke-dasharray="4 3"/>'
            )
            yield f'<text x="{x + 4:.1f}" y="{y}" fill="#b00020">{escape(mark.text)}</text>'

    def _outline(self, samples: Samples, middle: float) -> str:
        """Return the peaks of each column of the picture, as the outline of a shape."""
        columns = WIDTH - MARGIN_LEFT - 20
        edges = np.linspace(0, self.seconds * RATE_HZ, columns + 1).astype(int)
        peaks = [_peak(samples[first:end]) for first, end in itertools.pairwise(edges)]
        points = [(MARGIN_LEFT + column, peak * ROW_HEIGHT * 0.45) for column, peak in enumerate(peaks)]
        above = (f"{x} {middle - peak:.1f}" for x, peak in points)
        below = (f"{x} {middle + peak + 0.6:.1f}" for x, peak in reversed(points))
        return "M" + "L".join((*above, *below)) + "Z"


def _peak(samples: Samples) -> float:
    return float(np.abs(samples.astype(np.int32)).max()) / 32_768 if len(samples) else 0.0


async def _call(simulator: RealtimeSimulator, redis_url: str, folder: Path) -> Picture:
    """Place the call, and return its picture."""
    async with Cluster(redis_url, simulator.url, RECORDINGS_DIR=folder) as cluster:
        await cluster.start(workers=2)
        call = await place_call(await cluster.url(), reconnect_seconds=PATIENCE_SECONDS)
        ear = Ear(call)
        await call.wait_for(lambda c: c.transcripts, timeout_seconds=PATIENCE_SECONDS)
        await _turn(call, ear, 500)
        await _turn(call, ear, 700)
        killed = Mark(call.report().seconds, "worker is killed")
        (await process_of(cluster, call)).signal(signal.SIGKILL)
        await simulator.wait_for_session(2, timeout_seconds=PATIENCE_SECONDS)
        await _turn(call, ear, 900)
        await call.hang_up()
        heard = ear.heard_samples()
        (path,) = await recorded_of(folder)
        await eventually(lambda: len(read(path)) >= len(heard) - RATE_HZ // 4)
        recorded = read(path)
    interrupted = (Mark(each.at_seconds, "interruption") for each in call.interruptions)
    said = ear.said_samples(len(recorded))
    rows = (
        ("caller said", said),
        ("recorded, left", recorded[:, 0]),
        ("caller heard", heard),
        ("recorded, right", recorded[:, 1]),
    )
    found = [*matches(said, recorded[:, 0]), *matches(heard[: len(recorded)], recorded[:, 1])]
    shift_ms = 1000 * max(abs(each.shift_seconds) for each in found)
    note = (
        f"{len(found)} sounds compared sample by sample, without the last 0.1 s of each: "
        f"{sum(each.different for each in found)} samples differ; "
        f"the recording is at most {shift_ms:.1f} ms beside the caller's clock"
    )
    return Picture(rows, tuple(_in_order([killed, *interrupted])), note)


async def _turn(call: SimulatedCall, ear: Ear, hz: float) -> None:
    heard_ms = call.heard_ms
    await ear.say(tone(hz, 0.8))
    await call.wait_for(lambda c: c.heard_ms >= heard_ms + 2000, timeout_seconds=PATIENCE_SECONDS)


def _in_order(marks: Iterable[Mark]) -> list[Mark]:
    return sorted(marks, key=lambda mark: mark.at_seconds)


async def _main(target: Path) -> None:
    executable = find_redis_server()
    if executable is None:
        raise SystemExit("redis-server is missing")
    server = RealRedis(executable)
    try:
        with tempfile.TemporaryDirectory() as folder:
            async with RealtimeSimulator(SETTINGS) as simulator:
                picture = await _call(simulator, server.url, Path(folder))
    finally:
        server.close()
    await asyncio.to_thread(target.write_text, picture.svg(), "utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    asyncio.run(_main(Path(sys.argv[1])))
