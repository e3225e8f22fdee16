"""What a caller is going to do in a call, and what the model is told to do in it: drawn at random."""

from __future__ import annotations

import random
import re
from dataclasses import dataclass

import orjson

from tests.chaos.call_rules import HANG_UP, TOOL
from tests.chaos.speech import Speech, recorded, spoken

# Lengths that cannot be taken for each other, should a turn be lost or come twice.
_LENGTHS = (2, 5, 8)
_RECORDED_SHARE = 0.1
_BARGE_IN_SHARE = 0.3
_TOOL_SHARE = 0.5
_AGENT_HANGS_UP_SHARE = 0.25
_ABRUPT_SHARE = 0.1
_NEVER = 999

# OPENAI_INSTRUCTIONS: names in braces are metadata of the call, and its uuid.
_ASK = "{tool_turn}"


@dataclass(frozen=True, slots=True)
class Turn:
    """Something to say.

    Attributes:
        barges_in: into what the agent is saying, else after it.
        pause_seconds: of the agent's words that are listened to first, or of silence.
    """

    speech: Speech
    barges_in: bool
    pause_seconds: float


@dataclass(frozen=True, slots=True)
class Script:
    """One call.

    Attributes:
        tool_turn: the turn in which the model asks for the tool; `_NEVER`: in none.
        agent_hangs_up: whether the model ends the call behind the last turn.
        abrupt: the caller hangs up in the middle of the last answer.
    """

    turns: tuple[Turn, ...]
    tool_turn: int
    agent_hangs_up: bool
    abrupt: bool

    @property
    def metadata(self) -> dict[str, str]:
        """Query parameters of the call, which fill the placeholders of `instructions`."""
        last = sum(len(turn.speech.turns) for turn in self.turns)
        return {
            "from": "+390212345",
            "to": "600",
            "tool_turn": str(self.tool_turn),
            "hang_up_turn": str(last if self.agent_hangs_up else _NEVER),
        }


def draw(rng: random.Random) -> Script:
    """A call of two to five turns."""
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
    """What the service tells the model of every call: which it is, and when it uses its tools."""
    calls = [
        f'{{"turn": {_ASK}, "name": "{TOOL}", "arguments": {{"ask": "{_ASK}"}}}}',
        f'{{"turn": {{hang_up_turn}}, "name": "{HANG_UP}"}}',
    ]
    # What the worker tells the model in brackets is no turn of the caller's.
    behaviour = orjson.dumps({"greeting_words": 5, "words": 8, "notes_are_turns": False}).decode().rstrip("}")
    return f'You are rehearsed in call {{uuid}}.\nsimulator: {behaviour}, "tool_calls": [{", ".join(calls)}]}}'


def uuid_in(text: str) -> str:
    """The call that instructions are of; empty if they are of none."""
    found = _UUID.search(text)
    return found[1] if found else ""


def tool_source(log: str, seconds: float) -> str:
    """The tool, as a file of TOOLS_DIR: it writes down which worker runs it, and takes a while."""
    return f'''"""Looks something up, and writes down that it does."""

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
