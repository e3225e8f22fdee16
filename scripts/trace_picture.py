"""Draw a trace as a waterfall: `python -m scripts.trace_picture`.

`docs/trace.json` has the spans of a real call, as a collector got them. `python -m tests.trace_sample` places such
a call and writes that file. The picture is `docs/trace.svg`.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from pathlib import Path
from typing import Any, Final

REPOSITORY: Final = Path(__file__).resolve().parents[1]
SPANS: Final = REPOSITORY / "docs/trace.json"
PICTURE: Final = REPOSITORY / "docs/trace.svg"

WIDTH: Final = 1180
LABELS: Final = 300
PROCESSES: Final = 90
TOP: Final = 44
ROW: Final = 18
BAR: Final = 12
SHORTEST: Final = 2.0
CHARACTER: Final = 6.4
"""Width of a character at 11 px, at most."""

_COLOURS: Final = {
    "call": "#64748b",
    "greeting": "#0d9488",
    "session": "#3b82f6",
    "connect": "#93c5fd",
    "turn": "#16a34a",
    "end_of_speech": "#eab308",
    "request": "#facc15",
    "relay": "#db2777",
    "chat": "#8b5cf6",
    "execute_tool": "#f97316",
    "recovery": "#dc2626",
    "move": "#0891b2",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One span of the picture."""

    span: dict[str, Any]
    depth: int

    @property
    def colour(self) -> str:
        """Colour of the kind of span."""
        return _COLOURS[str(self.span["name"]).split(" ", maxsplit=1)[0]]


def rows(spans: list[dict[str, Any]]) -> Iterator[Row]:
    """Yield the spans as a tree, each level in the order of time."""
    known = {span["span_id"] for span in spans}
    children: dict[str, list[dict[str, Any]]] = {}
    for span in sorted(spans, key=lambda each: (each["began_seconds"], -each["ended_seconds"])):
        children.setdefault(span["parent_id"] if span["parent_id"] in known else "", []).append(span)

    def below(parent_id: str, depth: int) -> Iterator[Row]:
        for span in children.get(parent_id, []):
            yield Row(span, depth)
            yield from below(span["span_id"], depth + 1)

    yield from below("", 0)


def draw(spans: list[dict[str, Any]]) -> str:
    """Return the picture as SVG."""
    drawn = list(rows(spans))
    zero = min(span["began_seconds"] for span in spans)
    length = max(span["ended_seconds"] for span in spans) - zero
    scale = (WIDTH - LABELS - PROCESSES - 60) / length
    height = TOP + ROW * len(drawn) + 12
    instances = sorted({(span["role"], span["instance"]) for span in spans})
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="system-ui, sans-serif" font-size="11" fill="#1e293b">',
        "<title>The trace of a call: three turns, a tool, a lost worker, a rollover</title>",
        f'<rect width="{WIDTH}" height="{height}" fill="#ffffff"/>',
        f'<text x="12" y="20" font-size="13" font-weight="600">{escape(_title(spans, length))}</text>',
    ]
    for second in range(0, int(length) + 1, 1 if length < 20 else 2):
        x = LABELS + second * scale
        lines.append(f'<path d="M{x:.1f} {TOP - 4}V{height - 8}" stroke="#e2e8f0"/>')
        lines.append(f'<text x="{x:.1f}" y="{TOP - 8}" text-anchor="middle" fill="#64748b">{second} s</text>')
    for number, row in enumerate(drawn):
        lines += _row(row, TOP + ROW * number, zero, scale, instances)
    return "\n".join([*lines, "</svg>"]) + "\n"


def _title(spans: list[dict[str, Any]], length: float) -> str:
    processes = len({span["instance"] for span in spans})
    return f"trace {spans[0]['trace_id']}: {len(spans)} spans of {processes} processes, {length:.1f} s"


def _row(row: Row, y: float, zero: float, scale: float, instances: list[tuple[str, str]]) -> Iterator[str]:
    span = row.span
    seconds = span["ended_seconds"] - span["began_seconds"]
    x, width = LABELS + (span["began_seconds"] - zero) * scale, max(SHORTEST, seconds * scale)
    middle = y + ROW / 2 + 4
    weight = ' font-weight="600"' if row.depth == 0 else ""
    yield f'<text x="{12 + 14 * row.depth}" y="{middle}"{weight}>{escape(_label(span))}</text>'
    error = ' stroke="#b91c1c" stroke-width="2"' if span["is_error"] else ""
    bar = f'<rect x="{x:.1f}" y="{y + (ROW - BAR) / 2}" width="{width:.1f}" height="{BAR}" rx="2"'
    yield f'{bar} fill="{row.colour}"{error}/>'
    told = f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.1f} ms"
    end = x + width + 5
    if end + CHARACTER * len(told) < WIDTH - PROCESSES:
        yield f'<text x="{end:.1f}" y="{middle}" fill="#475569">{told}</text>'
    else:
        yield f'<text x="{x + width - 5:.1f}" y="{middle}" text-anchor="end" fill="#ffffff">{told}</text>'
    process = _process(span, instances)
    yield f'<text x="{WIDTH - 12}" y="{middle}" text-anchor="end" fill="#64748b">{process}</text>'


def _label(span: dict[str, Any]) -> str:
    attributes = span["attributes"]
    details = [
        attributes.get("avr.reason"),
        f"epoch {attributes['avr.session.epoch']}" if "avr.session.epoch" in attributes else None,
        attributes.get("error.type"),
    ]
    return ", ".join([span["name"], *(each for each in details if each)])


def _process(span: dict[str, Any], instances: list[tuple[str, str]]) -> str:
    alike = [instance for role, instance in instances if role == span["role"]]
    number = f" {alike.index(span['instance']) + 1}" if len(alike) > 1 else ""
    return f"{span['role']}{number}"


def main() -> int:
    """Write the picture."""
    PICTURE.write_text(draw(json.loads(SPANS.read_text("utf-8"))), "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
