"""The timeline of a call as a picture: SVG, legible on light and dark backgrounds."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Final

import numpy as np

from simulator.avr.playout import SAMPLE_RATE_HZ
from simulator.dialogue.timeline import Spoken, Timeline, told_seconds

WIDTH: Final = 1120
LEFT: Final = 84
RIGHT: Final = 20
AXIS: Final = 64
LANE: Final = 56
"""Height of a lane of sound."""
BAR: Final = 44
WAITS: Final = 34
"""Height of the lane of waits, between the two voices."""
TOOLS: Final = 40
TEXT_ROW: Final = 22
CHARACTERS: Final = 104
"""Of a row of text."""
CHARACTER: Final = 6.6
COLUMNS_PER_SECOND: Final = 25
"""Steps of the drawn loudness."""

_STYLE: Final = """
:root { color-scheme: light dark }
.ground { fill: #ffffff } .text { fill: #0f172a } .dim { fill: #526077 } .grid { stroke: #e2e8f0 }
.lane { fill: #f5f7fa } .caller { fill: #2563eb } .agent { fill: #0f766e } .tool { fill: #b45309 }
.soft-caller { fill: #dbe6fd } .soft-agent { fill: #d3ece9 }
.cut { fill: #fee2e2; stroke: #b91c1c; stroke-dasharray: 4 3 }
.cut-text { fill: #b91c1c } .wait { stroke: #526077; stroke-width: 1.5; fill: none } .on { fill: #ffffff }
@media (prefers-color-scheme: dark) {
.ground { fill: #0f172a } .text { fill: #f1f5f9 } .dim { fill: #a3b1c6 } .grid { stroke: #2b384d }
.lane { fill: #172136 } .caller { fill: #7aa7ff } .agent { fill: #4fd1c0 } .tool { fill: #f5b452 }
.soft-caller { fill: #1f325c } .soft-agent { fill: #143f44 } .cut { fill: #40202a; stroke: #fb8a8a }
.cut-text { fill: #fb8a8a } .wait { stroke: #a3b1c6 } .on { fill: #0f172a }
}
"""


def draw(timeline: Timeline, *, caller_pcm: bytes, agent_pcm: bytes) -> str:
    """Return the picture.

    Args:
        timeline: what happened.
        caller_pcm: sound of the caller since the call began: PCM16 LE, 8 kHz, mono.
        agent_pcm: sound that the caller heard, likewise.
    """
    return _Picture(timeline, caller_pcm, agent_pcm).svg()


class _Picture:
    def __init__(self, timeline: Timeline, caller_pcm: bytes, agent_pcm: bytes) -> None:
        self._timeline = timeline
        self._sound = {"caller": _loudness(caller_pcm), "agent": _loudness(agent_pcm)}
        self._scale: float = (WIDTH - LEFT - RIGHT) / max(1.0, timeline.seconds)
        self._y = {"caller": AXIS, "agent": AXIS + LANE + WAITS}
        self._tools_y = self._y["agent"] + LANE + 8

    def svg(self) -> str:
        tools_height = TOOLS if self._timeline.tools else 0
        list_y = self._tools_y + tools_height + 26
        rows = [row for number, spoken in enumerate(self._timeline.spoken, 1) for row in _rows(number, spoken)]
        height = list_y + TEXT_ROW * len(rows) + 8
        parts = [
            f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" '
            f'viewBox="0 0 {WIDTH} {height}" font-family="system-ui, sans-serif" font-size="12">',
            f"<title>{escape(self._title())}</title>",
            f"<style>{_STYLE}</style>",
            f'<rect class="ground" width="{WIDTH}" height="{height}"/>',
            f'<text class="text" x="16" y="26" font-size="15" font-weight="600">{escape(self._title())}</text>',
            *self._axis(self._tools_y + tools_height),
            *self._lanes(),
            *self._spoken(),
            *self._waits(),
            *self._tools(),
        ]
        for index, row in enumerate(rows):
            parts.append(f'<g transform="translate(0 {list_y + TEXT_ROW * index})">{row}</g>')
        return "\n".join([*parts, "</svg>"]) + "\n"

    def _title(self) -> str:
        waits = sorted({f"{wait.seconds:.1f}" for wait in self._timeline.waits[1:]}, key=float)
        told = f", answers after {' to '.join(dict.fromkeys((waits[0], waits[-1])))} s" if waits else ""
        return f"{self._timeline.name}: {self._timeline.seconds:.1f} s{told}"

    def _x(self, seconds: float) -> float:
        return LEFT + seconds * self._scale

    def _axis(self, bottom: float) -> Iterator[str]:
        step = next((each for each in (1, 2, 5, 10, 30, 60) if self._scale * each >= 40), 300)
        for second in range(0, int(self._timeline.seconds) + 1, step):
            x = self._x(second)
            yield f'<path class="grid" d="M{x:.1f} {AXIS - 6}V{bottom:.0f}"/>'
            yield f'<text class="dim" x="{x:.1f}" y="{AXIS - 12}" text-anchor="middle">{second} s</text>'

    def _lanes(self) -> Iterator[str]:
        for role, top_y in self._y.items():
            y = float(top_y)
            width = self._timeline.seconds * self._scale
            top = y + (LANE - BAR) / 2
            yield f'<rect class="lane" x="{LEFT}" y="{top:.1f}" width="{width:.1f}" height="{BAR}" rx="4"/>'
            yield f'<text class="{role}" x="16" y="{y + LANE / 2 + 4:.1f}" font-weight="600">{role}</text>'
        if self._timeline.tools:
            y = self._tools_y + TOOLS / 2
            yield f'<text class="tool" x="16" y="{y:.1f}" font-weight="600">tools</text>'

    def _spoken(self) -> Iterator[str]:
        for number, spoken in enumerate(self._timeline.spoken, 1):
            y = self._y[spoken.role] + (LANE - BAR) / 2
            x, end = self._x(spoken.start_seconds), self._x(spoken.end_seconds)
            told = f"{spoken.role}, {spoken.start_seconds:.2f} to {spoken.end_seconds:.2f} s: {spoken.text}"
            yield (
                f'<g data-kind="spoken" data-role="{spoken.role}" data-start="{spoken.start_seconds:.3f}" '
                f'data-end="{spoken.end_seconds:.3f}"><title>{escape(told)}</title>'
            )
            if spoken.cut_seconds:
                # What was not heard begins where the interruption ended the line.
                later = [each.start_seconds for each in self._timeline.spoken[number:] if each.role == spoken.role]
                free = self._x(min([*later, self._timeline.seconds])) - end
                width = min(spoken.cut_seconds * self._scale, free)
                yield f'<rect class="cut" data-seconds="{spoken.cut_seconds:.3f}" x="{end:.1f}" y="{y:.1f}" '
                yield f'width="{width:.1f}" height="{BAR}" rx="4"/>'
                yield f'<text class="cut-text" x="{end + 8:.1f}" y="{y + BAR / 2 + 4:.1f}">not heard: '
                yield f"{spoken.cut_seconds:.1f} s</text>"
            width = max(3.0, end - x)
            yield f'<rect class="soft-{spoken.role}" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" '
            yield f'height="{BAR}" rx="4"/>'
            yield from self._wave(spoken, y)
            yield f'<circle class="{spoken.role}" cx="{x + 10:.1f}" cy="{y + 2:.1f}" r="9"/>'
            yield f'<text class="on" x="{x + 10:.1f}" y="{y + 6:.1f}" text-anchor="middle" font-weight="700" '
            yield f'font-size="11">{number}</text></g>'

    def _wave(self, spoken: Spoken, y: float) -> Iterator[str]:
        levels = self._sound[spoken.role]
        first = round(spoken.start_seconds * COLUMNS_PER_SECOND)
        last = min(len(levels), round(spoken.end_seconds * COLUMNS_PER_SECOND))
        if spoken.pressed or last - first < 2:
            return
        middle, half = y + BAR / 2 + 3, BAR / 2 - 6
        points = [
            (self._x((column + 0.5) / COLUMNS_PER_SECOND), levels[column] * half) for column in range(first, last)
        ]
        above = " ".join(f"{x:.1f},{middle - level:.1f}" for x, level in points)
        below = " ".join(f"{x:.1f},{middle + level:.1f}" for x, level in reversed(points))
        yield f'<polygon class="{spoken.role}" points="{above} {below}"/>'

    def _waits(self) -> Iterator[str]:
        top = self._y["caller"] + LANE - 2
        bottom = self._y["agent"] + 2
        for wait in self._timeline.waits:
            x, end = self._x(wait.start_seconds), self._x(wait.end_seconds)
            middle = (top + bottom) / 2
            yield (
                f'<g data-kind="wait" data-start="{wait.start_seconds:.3f}" data-end="{wait.end_seconds:.3f}">'
                f'<path class="wait" d="M{x:.1f} {top}V{middle}H{end:.1f}V{bottom}"/>'
            )
            anchor, at = ("end", x - 5) if x > LEFT + 60 else ("start", end + 5)
            yield f'<text class="text" x="{at:.1f}" y="{middle + 4:.1f}" text-anchor="{anchor}">'
            yield f"{wait.seconds:.2f} s</text></g>"

    def _tools(self) -> Iterator[str]:
        free = 0.0
        for tool in self._timeline.tools:
            x, width = self._x(tool.start_seconds), max(3.0, (tool.end_seconds - tool.start_seconds) * self._scale)
            y = self._tools_y + 2
            told = f"{tool.name}: {tool.outcome}, {told_seconds(tool.end_seconds - tool.start_seconds)}"
            label = min(max(x, free), WIDTH - RIGHT - CHARACTER * len(told))
            free = label + CHARACTER * len(told) + 10
            yield (
                f'<g data-kind="tool" data-name="{escape(tool.name)}" data-start="{tool.start_seconds:.3f}" '
                f'data-end="{tool.end_seconds:.3f}">'
                f'<rect class="tool" x="{x:.1f}" y="{y:.1f}" width="{width:.1f}" height="10" rx="3"/>'
                f'<text class="text" x="{label:.1f}" y="{y + 27:.1f}">{escape(told)}</text></g>'
            )


def _loudness(pcm: bytes) -> list[float]:
    """Return the loudness in steps of 1 / `COLUMNS_PER_SECOND` s, from 0 to 1."""
    size = SAMPLE_RATE_HZ // COLUMNS_PER_SECOND
    samples = np.frombuffer(pcm, "<i2").astype(np.float64)
    samples = samples[: len(samples) // size * size]
    levels = np.sqrt(np.mean(samples.reshape(-1, size) ** 2, axis=1))
    loudest = float(levels.max(initial=0.0)) or 1.0
    shown: list[float] = np.sqrt(levels / loudest).tolist()
    return shown


def _rows(number: int, spoken: Spoken) -> Iterator[str]:
    """Yield the rows of text of a line: what was heard, then what was cut off."""
    words = [(word, "text") for word in spoken.text.split()] + [
        (word, "cut-text") for word in spoken.cut_text.split()
    ]
    rows: list[list[tuple[str, str]]] = [[]]
    for word, kind in words:
        if sum(len(each) + 1 for each, _ in rows[-1]) + len(word) > CHARACTERS:
            rows.append([])
        rows[-1].append((word, kind))
    for index, row in enumerate(rows):
        head = ""
        if not index:
            head = (
                f'<circle class="{spoken.role}" cx="26" cy="-4" r="9"/>'
                '<text class="on" x="26" y="0" text-anchor="middle" font-weight="700" font-size="11">'
                f"{number}</text>"
                f'<text class="dim" x="44" y="0">{spoken.start_seconds:.1f} s</text>'
                f'<text class="{spoken.role}" x="92" y="0" font-weight="600">{spoken.role}</text>'
            )
        yield f'{head}<text x="148" y="0" font-size="13">{_spans(row, pressed=spoken.pressed)}</text>'


def _spans(row: Sequence[tuple[str, str]], *, pressed: bool) -> str:
    parts = []
    for kind in ("text", "cut-text"):
        words = escape(" ".join(word for word, each in row if each == kind))
        if words:
            struck = ' text-decoration="line-through"' if kind == "cut-text" else ""
            shown = f"presses {words}" if pressed else words
            parts.append(f'<tspan class="{kind}"{struck}>{shown}</tspan>')
    return " ".join(parts)
