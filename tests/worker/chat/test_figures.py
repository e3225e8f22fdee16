"""Words for tokens, cost and time."""

from __future__ import annotations

from common.link import wire
from worker.chat import figures

BEFORE = wire.Figures(tokens={"m": {"input_text": 100, "output_audio": 10}}, cost_usd=0.01)
AFTER = wire.Figures(
    tokens={"m": {"input_text": 1300, "cached_text": 50, "output_audio": 30, "output_text": 5}}, cost_usd=0.0123
)


def test_difference_of_two_reports_is_one_turn() -> None:
    assert figures.told(BEFORE, AFTER) == "1,250 tokens in (50 cached), 25 out (20 of audio), $0.0023"


def test_unknown_price_and_missing_tokens_are_said() -> None:
    unpriced = wire.Figures(tokens={"m": {"input_text": 1}})
    assert figures.told(wire.Figures(), unpriced).endswith("cost unknown")
    assert figures.told(BEFORE, BEFORE) == "the API reported no tokens"


def test_tool_has_its_duration_and_outcome() -> None:
    ended = wire.ToolFigure("look_up", 0.126, "failed")
    assert figures.tool("look_up", "boom", ended) == "tool look_up: failed after 0.13 s: boom"
    assert figures.tool("avr_transfer", "refused", None) == "tool avr_transfer: not run: refused"
