"""A caller's plan for a call, and the model's instructions for it: drawn at random."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import orjson

from tests.chaos.call_rules import HANG_UP, TOOL
from tests.chaos.speech import Speech, recorded, spoken

# Lengths that differ enough to identify a turn that is lost or comes twice.
_LENGTHS = (2, 5, 8)
_RECORDED_SHARE = 0.1
_BARGE_IN_SHARE = 0.3
_TOOL_SHARE = 0.5
_AGENT_HANGS_UP_SHARE = 0.25
_ABRUPT_SHARE = 0.1
_NEVER = 999

# OPENAI_INSTRUCTIONS: names in braces are metadata of the call, or its uuid.
_ASK = "{tool_turn}"


@dataclass(frozen=True, slots=True)
class Turn:
    """Words of a caller.

    Attributes:
        barges_in: whether the caller speaks while the agent does, not after it.
        pause_seconds: time of the agent's words, or of silence, before the caller speaks.
    """

    speech: Speech
    barges_in: bool
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Script:
    """The plan of one call.

    Attributes:
        tool_turn: turn in which the model calls the tool; `_NEVER`: in none.
        agent_hangs_up: whether the model ends the call after the last turn.
        abrupt: whether the caller hangs up within the last answer.
    """

    turns: tuple[Turn, ...]
    tool_turn: int
    agent_hangs_up: bool
    abrupt: bool

    @property
    def metadata(self) -> dict[str, str]:
        """Return the query parameters of the call, which fill the placeholders of `instructions`."""
        last = sum(len(turn.speech.turns) for turn in self.turns)
        return {
            "from": "+390212345",
            "to": "600",
            "tool_turn": str(self.tool_turn),
            "hang_up_turn": str(last if self.agent_hangs_up else _NEVER),
        }


def draw(rng: random.Random) -> Script:
    """Draw a call of two to five turns."""
    turns = tuple(_turn(rng, first=number == 0) for number in range(rng.randint(2, 5)))
    agent_hangs_up = rng.random() < _AGENT_HANGS_UP_SHARE
    return Script(
        turns=turns,
        tool_turn=rng.randint(1, len(turns) - 1) if rng.random() < _TOOL_SHARE else _NEVER,
        agent_hangs_up=agent_hangs_up,
        abrupt=not agent_hangs_up and rng.random() < _ABRUPT_SHARE,
    )


def _turn(rng: random.Random, *, first: bool) -> Turn:
    said = recorded() if rng.random() < _RECORDED_SHARE else spoken(rng.choice(_LENGTHS))
    barges_in = not first and rng.random() < _BARGE_IN_SHARE
    return Turn(said, barges_in, rng.uniform(0.4, 2.0))


_UUID = re.compile(r"You are rehearsed in call ([\w-]+)\.")


def instructions() -> str:
    """Return the instructions of all calls: the call's uuid, and the turns with tools."""
    calls = [
        f'{{"turn": {_ASK}, "name": "{TOOL}", "arguments": {{"ask": "{_ASK}"}}}}',
        f'{{"turn": {{hang_up_turn}}, "name": "{HANG_UP}"}}',
    ]
    # A worker's notes in brackets to the model are not turns of the caller.
    behaviour = orjson.dumps({"greeting_words": 5, "words": 8, "notes_are_turns": False}).decode().rstrip("}")
    return f'You are rehearsed in call {{uuid}}.\nsimulator: {behaviour}, "tool_calls": [{", ".join(calls)}]}}'


def uuid_in(text: str) -> str:
    """Return the call of these instructions; empty if they are of no call."""
    found = _UUID.search(text)
    return found[1] if found else ""


def tool_source(log: str, seconds: float) -> str:
    """Return the source of the tool, a file of TOOLS_DIR that records its worker and then waits."""
    return f'''"""Looks something up, and records the run."""

import asyncio
import json
import os
import time

name = "{TOOL}"
description = "Looks something up"
input_schema = {{"type": "object", "properties": {{"ask": {{"type": "string"}}}}, "required": ["ask"]}}


async def handler(uuid, args):
    run = {{"uuid": uuid, "ask": args["ask"], "pid": os.getppid(), "at_seconds": time.monotonic()}}
    with open({log!r}, "a", encoding="utf-8") as log:
        log.write(json.dumps(run) + "\\n")
    await asyncio.sleep({seconds})
    return "the answer to " + args["ask"]
'''
