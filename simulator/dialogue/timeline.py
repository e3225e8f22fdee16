"""The timeline of a dialogue's call: who spoke when, what was heard, what was cut off, and the waits."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

from simulator.avr.call_record import Transcript
from simulator.avr.playout import SAMPLE_RATE_HZ, Segment, SegmentEnd
from simulator.dialogue.dialogue import Dialogue, Press, Say
from simulator.dialogue.player import Acted


@dataclass(frozen=True, slots=True)
class Spoken:
    """A line in the call. Times are seconds since the call began.

    Attributes:
        role: `caller` or `agent`.
        start_seconds: start.
        end_seconds: end of what was heard.
        text: the words that were heard.
        cut_text: the words that were not heard.
        cut_seconds: length of the sound that was not heard.
        pressed: whether these are keys.
    """

    role: str
    start_seconds: float
    end_seconds: float
    text: str
    cut_text: str = ""
    cut_seconds: float = 0.0
    pressed: bool = False


def told_seconds(seconds: float) -> str:
    """Return a length of time for people."""
    return f"{seconds:.2f} s" if seconds >= 1 else f"{1000 * seconds:.0f} ms"


@dataclass(frozen=True, slots=True)
class ToolRun:
    """A call of a function.

    Attributes:
        name: its name.
        start_seconds: time at which the model called it.
        end_seconds: time at which it had its output.
        outcome: the service's word for its end, or the target of a transfer.
    """

    name: str
    start_seconds: float
    end_seconds: float
    outcome: str


@dataclass(frozen=True, slots=True)
class Wait:
    """The caller's wait for an answer.

    Attributes:
        start_seconds: end of the caller's act.
        end_seconds: first sound of the agent.
    """

    start_seconds: float
    end_seconds: float

    @property
    def seconds(self) -> float:
        """Return the length."""
        return self.end_seconds - self.start_seconds


@dataclass(frozen=True, slots=True)
class Timeline:
    """A whole call.

    Attributes:
        name: name of the dialogue.
        seconds: length of the call.
        spoken: lines of both sides, in order of their starts.
        tools: calls of functions, in order.
        waits: the caller's waits; the wait for the greeting is first.
    """

    name: str
    seconds: float
    spoken: tuple[Spoken, ...]
    tools: tuple[ToolRun, ...]
    waits: tuple[Wait, ...]


def timeline_of(
    dialogue: Dialogue,
    *,
    seconds: float,
    acted: Sequence[Acted],
    segments: Sequence[Segment],
    transcripts: Sequence[Transcript],
    tools: Sequence[ToolRun] = (),
) -> Timeline:
    """Return the timeline of a call.

    Args:
        dialogue: what the sides were to say.
        seconds: length of the call.
        acted: what the caller did.
        segments: what the caller heard.
        transcripts: what the service told AVR Core, in order.
        tools: calls of functions.
    """
    told = [transcript.text for transcript in transcripts if transcript.role == "agent"]
    spoken: list[Spoken] = []
    waits: list[Wait] = []
    for number, (act, exchange) in enumerate(zip(acted, dialogue.exchanges, strict=False)):
        until = acted[number + 1].start_sample if number + 1 < len(acted) else None
        heard = [
            segment
            for segment in segments
            if segment.start_sample >= act.start_sample and (until is None or segment.start_sample < until)
        ]
        if act.act is not None:
            spoken.append(_of_caller(act))
        if heard:
            waits.append(Wait(act.end_sample / SAMPLE_RATE_HZ, heard[0].start_sample / SAMPLE_RATE_HZ))
        lines = [line.text for line in exchange.agent_lines]
        texts, told = told[: len(lines)], told[len(lines) :]
        spoken += _of_agent(heard, lines, texts)
    spoken.sort(key=lambda each: each.start_seconds)
    return Timeline(dialogue.name, seconds, tuple(spoken), tuple(tools), tuple(waits))


def _of_caller(act: Acted) -> Spoken:
    start, end = act.start_sample / SAMPLE_RATE_HZ, act.end_sample / SAMPLE_RATE_HZ
    if isinstance(act.act, Press):
        return Spoken("caller", start, end, act.act.digits, pressed=True)
    assert isinstance(act.act, Say)
    return Spoken("caller", start, end, act.act.line.text)


def _of_agent(segments: Sequence[Segment], lines: Sequence[str], told: Sequence[str]) -> list[Spoken]:
    """Return the agent's lines in an answer. A late frame splits a line: as many segments as lines are needed."""
    spans = _joined(segments, len(lines))
    spoken = []
    for span, line, text in zip(spans, lines, told, strict=False):
        last = span[-1]
        was_cut = last.end in {SegmentEnd.INTERRUPTED, SegmentEnd.CALL_ENDED}
        words = len(text.split())
        spoken.append(
            Spoken(
                "agent",
                span[0].start_sample / SAMPLE_RATE_HZ,
                last.end_sample / SAMPLE_RATE_HZ,
                text,
                " ".join(line.split()[words:]) if was_cut else "",
                last.unplayed_samples / SAMPLE_RATE_HZ if was_cut else 0.0,
            )
        )
    return spoken


def _joined(segments: Sequence[Segment], count: int) -> list[list[Segment]]:
    """Join segments at the shortest pauses until there are `count` groups."""
    groups = [[segment] for segment in segments]
    while len(groups) > max(1, count):
        pauses = [after[0].start_sample - before[-1].end_sample for before, after in itertools.pairwise(groups)]
        at = pauses.index(min(pauses))
        groups[at : at + 2] = [groups[at] + groups[at + 1]]
    return groups
