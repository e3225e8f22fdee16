from __future__ import annotations

from pathlib import Path
from typing import Final
from xml.etree import ElementTree as ET

import numpy as np
import pytest

from simulator.avr.call_record import Transcript
from simulator.avr.playout import Segment, SegmentEnd
from simulator.dialogue.dialogue import Dialogue
from simulator.dialogue.player import Acted
from simulator.dialogue.reader import read_dialogue
from simulator.dialogue.stereo_file import write_stereo
from simulator.dialogue.timeline import Spoken, Timeline, ToolRun, Wait, timeline_of
from simulator.dialogue.timeline_picture import draw
from tests.simulator.dialogue.files import write_dialogue

WHOLE: Final = """
steps:
  - agent: Hello there.
    wav: agent.wav
  - caller: A question.
    wav: caller.wav
  - agent: One moment.
    wav: agent.wav
  - tool: look_up
  - agent: A long answer & more of it.
    wav: agent.wav
  - interrupt: Stop.
    wav: caller.wav
  - agent: Yes?
    wav: agent.wav
  - keys: 1#
  - agent: Goodbye.
    wav: agent.wav
"""
SECOND: Final = 8000
TOLD: Final = ("Hello there.", "One moment.", "A long answer", "Yes?", "Goodbye.")


def _segment(start: float, received: float, played: float | None = None) -> Segment:
    end = SegmentEnd.EMPTY if played is None else SegmentEnd.INTERRUPTED
    heard = received if played is None else played
    return Segment(round(start * SECOND), 0, round(received * SECOND), round(heard * SECOND), end)


async def _timeline(folder: Path) -> Timeline:
    dialogue: Dialogue = await read_dialogue(write_dialogue(folder, WHOLE))
    acts = [exchange.act for exchange in dialogue.exchanges]
    return timeline_of(
        dialogue,
        seconds=30.0,
        acted=[
            Acted(acts[0], 0, 0),
            Acted(acts[1], 4 * SECOND, 5 * SECOND),
            Acted(acts[2], 13 * SECOND, 14 * SECOND),
            Acted(acts[3], 19 * SECOND, 19 * SECOND),
        ],
        segments=[
            _segment(0.5, 1.5),
            _segment(2.1, 0.9),  # after a late frame
            _segment(6.0, 3.0),
            _segment(11.0, 5.0, played=2.25),
            _segment(15.0, 3.0),
            _segment(20.0, 3.0),
        ],
        transcripts=[
            Transcript(3.0, "agent", TOLD[0]),
            Transcript(6.0, "user", "A question."),
            *(Transcript(9.0, "agent", text) for text in TOLD[1:]),
        ],
        tools=[ToolRun("look_up", 9.2, 10.8, "completed")],
    )


async def test_lines_have_the_times_at_which_they_were_heard(tmp_path: Path) -> None:
    timeline = await _timeline(tmp_path)
    assert timeline.spoken == (
        Spoken("agent", 0.5, 3.0, "Hello there."),
        Spoken("caller", 4.0, 5.0, "A question."),
        Spoken("agent", 6.0, 9.0, "One moment."),
        Spoken("agent", 11.0, 13.25, "A long answer", "& more of it.", 2.75),
        Spoken("caller", 13.0, 14.0, "Stop."),
        Spoken("agent", 15.0, 18.0, "Yes?"),
        Spoken("caller", 19.0, 19.0, "1#", pressed=True),
        Spoken("agent", 20.0, 23.0, "Goodbye."),
    )


async def test_waits_end_with_the_first_sound_of_each_answer(tmp_path: Path) -> None:
    waits = (await _timeline(tmp_path)).waits
    assert waits == (Wait(0.0, 0.5), Wait(5.0, 6.0), Wait(14.0, 15.0), Wait(19.0, 20.0))


async def test_picture_has_all_of_it_in_both_schemes(tmp_path: Path) -> None:
    sound = (8000 * np.sin(np.arange(30 * SECOND))).astype("<i2").tobytes()
    text = draw(await _timeline(tmp_path), caller_pcm=sound, agent_pcm=sound)
    root = ET.fromstring(text)  # noqa: S314 - our own text
    kinds = [each.attrib["data-kind"] for each in root.iter() if "data-kind" in each.attrib]
    assert {kind: kinds.count(kind) for kind in kinds} == {"spoken": 8, "wait": 4, "tool": 1}
    shown = [" ".join(" ".join(each.itertext()).split()) for each in root.iter() if each.tag.endswith("text")]
    for words in ("A long answer & more of it.", "presses 1#", "look_up: completed, 1.60 s", "not heard: 2.8 s"):
        assert words in shown
    assert "prefers-color-scheme: dark" in text
    classes = {each.attrib["class"] for each in root.iter() if "class" in each.attrib}
    styles = text.partition("@media")
    for name in classes:
        assert all(f".{name} {{" in half for half in (styles[0], styles[2])), f"{name} has no colour in a scheme"


@pytest.mark.parametrize("seconds", [0.4, 3600.0])
def test_picture_of_any_length_can_be_drawn(seconds: float) -> None:
    timeline = Timeline("x", seconds, (Spoken("agent", 0.0, seconds, "word " * 400),), (), (Wait(0.0, 0.1),))
    root = ET.fromstring(draw(timeline, caller_pcm=b"", agent_pcm=bytes(320)))  # noqa: S314 - our own text
    assert float(root.attrib["height"]) > 400
    assert len([each for each in root.iter() if each.get("class") == "grid"]) < 40


def test_shorter_channel_is_filled_with_silence(tmp_path: Path) -> None:
    write_stereo(tmp_path / "call.wav", b"\x01\x00\x02\x00", b"\x03\x00")
    assert (tmp_path / "call.wav").read_bytes()[-8:] == b"\x01\x00\x03\x00\x02\x00\x00\x00"
