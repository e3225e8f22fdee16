"""The picture of a trace in the documents."""

from __future__ import annotations

import json
from typing import Any
from xml.etree import ElementTree

from scripts import trace_picture

SPANS: list[dict[str, Any]] = json.loads(trace_picture.SPANS.read_text("utf-8"))


def test_picture_is_that_of_its_spans() -> None:
    assert trace_picture.PICTURE.read_text("utf-8") == trace_picture.draw(SPANS), "python -m scripts.trace_picture"


def test_picture_has_a_bar_for_each_span() -> None:
    drawn = ElementTree.fromstring(trace_picture.draw(SPANS))  # noqa: S314 - written here
    bars = [each for each in drawn.iter("{http://www.w3.org/2000/svg}rect") if each.get("rx")]
    assert len(bars) == len(SPANS)
    assert all(float(bar.get("width", "0")) >= trace_picture.SHORTEST for bar in bars)


def test_child_follows_its_parent() -> None:
    rows = list(trace_picture.rows(SPANS))
    assert len(rows) == len(SPANS)
    seen: dict[str, int] = {}
    for row in rows:
        assert row.depth == seen.get(row.span["parent_id"], -1) + 1
        seen[row.span["span_id"]] = row.depth
