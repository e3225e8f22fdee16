"""The example in `docs/chat.md` is what `chat` prints."""

from __future__ import annotations

import re

from common.link import wire
from tests.docs.blocks import blocks, document
from worker.chat import figures
from worker.chat.chat import HELP


def test_example_has_lines_as_chat_prints_them() -> None:
    (block,) = (each for each in blocks("chat.md") if each.language == "text")
    ended = wire.ToolFigure("opening_hours", 0.01, "completed")
    assert f"[{figures.tool('opening_hours', 'Open from 9 to 5 on Monday', ended)}]\n" in block.text
    tokens = {"input_text": 181, "cached_text": 640, "output_text": 20, "output_audio": 64}
    used = wire.Figures(tokens={"m": tokens}, cost_usd=0.0078)
    assert f"[0.81 s to the first audio, {figures.told(wire.Figures(), used)}]\n" in block.text


def test_page_has_each_command_of_a_conversation() -> None:
    commands = set(re.findall(r"/[a-z]+", HELP))
    assert commands
    assert commands <= set(re.findall(r"/[a-z]+", document("chat.md")))
