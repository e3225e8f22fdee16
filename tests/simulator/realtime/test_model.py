from __future__ import annotations

from typing import Any

import pytest

from simulator.realtime.conversation import Conversation, Item, Origin, Part
from simulator.realtime.ending import Ending
from simulator.realtime.model import SimulatedModel
from simulator.realtime.response import Plan
from simulator.realtime.settings import Behaviour, ToolCall, Voice
from simulator.realtime.voice import ToneVoice
from tests.simulator.realtime_driver import tone


def _plan(
    model: SimulatedModel | None = None,
    behaviour: Behaviour | None = None,
    *,
    turns: int = 0,
    speaks: bool = True,
    max_tokens: int | str = "inf",
    ending: Ending | None = None,
    **request: Any,
) -> Plan:
    conversation = Conversation("conv_1")
    for turn in range(turns):
        part = Part("input_text", "hello")
        conversation.add(Item(f"item_{turn}", "message", Origin.CLIENT, role="user", parts=[part]))
    return (model or SimulatedModel()).plan(
        behaviour or Behaviour(),
        conversation,
        request,
        number=1,
        speaks=speaks,
        max_tokens=max_tokens,
        ending=ending,
    )


def test_the_greeting_and_replies_have_lengths_of_their_own() -> None:
    behaviour = Behaviour(words=7, greeting_words=3)
    assert len(_plan(behaviour=behaviour).words) == 3
    assert len(_plan(behaviour=behaviour, turns=2).words) == 7


def test_model_with_restored_replies_does_not_greet_again() -> None:
    conversation = Conversation("conv_1")
    said = [Part("output_text", "greeting one")]
    conversation.add(Item("item_1", "message", Origin.CLIENT, role="assistant", parts=said))
    plan = SimulatedModel().plan(
        Behaviour(words=6), conversation, {}, number=1, speaks=True, max_tokens="inf", ending=None
    )
    assert " ".join(plan.words) == "reply one turn zero alpha bravo"


@pytest.mark.parametrize(
    ("instructions", "said"),
    [
        ('Say word for word: "Good morning."', "Good morning."),
        ('Say EXACTLY "one\ntwo"', "one two"),
        ('Repeat verbatim: "He said "hi" to me"', 'He said "hi" to me'),
        (r'Say exactly: "He said \"h\u00ed\"\nto me"', 'He said "hí" to me'),
        ('Talk about "cats"', "greeting one alpha bravo charlie"),
        ("Do exactly as you like", "greeting one alpha bravo charlie"),
    ],
)
def test_only_dictated_text_is_repeated(instructions: str, said: str) -> None:
    assert " ".join(_plan(instructions=instructions).words) == said


def test_reply_text_can_be_fixed() -> None:
    assert _plan(behaviour=Behaviour(say="always the same"), turns=1).words == ["always", "the", "same"]


def test_each_function_is_called_once_and_in_its_turn() -> None:
    model = SimulatedModel()
    behaviour = Behaviour(tool_calls=(ToolCall(1, "a"), ToolCall(2, "b")))
    assert [call.name for call in _plan(model, behaviour, turns=1).calls] == ["a"]
    assert not _plan(model, behaviour, turns=1).calls
    assert not _plan(model, behaviour, turns=2, tool_choice="none").calls
    assert [call.name for call in _plan(model, behaviour, turns=2).calls] == ["b"]


def test_tone_is_that_of_the_last_turn_with_a_known_tone() -> None:
    model = SimulatedModel()
    behaviour = Behaviour(voice=Voice.TONE, echo=True, tone_hz=440.0)
    heard = []
    for speech in (b"", tone(500, 800.0), tone(10, 2000.0)):
        model.hear(speech)
        sound = _plan(model, behaviour, turns=1).voice
        assert isinstance(sound, ToneVoice)
        heard.append(round(sound.hz, 1))
    assert heard == [440.0, 800.0, 800.0]
    greeting = _plan(model, behaviour).voice
    assert isinstance(greeting, ToneVoice)
    assert greeting.hz == 440.0


@pytest.mark.parametrize(
    ("max_tokens", "speaks", "after_ms"),
    [("inf", True, None), (4096, True, None), (20, True, 800), (1, True, 0), (2, False, 400)],
)
def test_a_token_limit_ends_a_reply_at_a_word(max_tokens: int | str, speaks: bool, after_ms: int | None) -> None:
    ending = _plan(max_tokens=max_tokens, speaks=speaks).ending
    assert (ending.after_ms if ending else None) == after_ms
    assert ending is None or (ending.status, ending.reason) == ("incomplete", "max_output_tokens")


def test_a_commanded_ending_comes_before_a_token_limit() -> None:
    ending = Ending("failed", 100)
    assert _plan(max_tokens=1, ending=ending).ending is ending
