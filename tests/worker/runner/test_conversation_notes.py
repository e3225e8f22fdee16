"""Notes on a conversation: waits for replies and ends of tools, beside the entries that people see."""

from __future__ import annotations

from typing import Any

from common.observe.metrics import TURN_PARTS
from worker.runner.conversation_notes import MAX_NOTES, ConversationNotes, agents_command
from worker.session.actions import Measurement, Metric
from worker.session.memory.conversation import Conversation, Item, ItemKind, Role


def said(conversation: Conversation, item_id: str, role: Role, text: str) -> Item:
    item = conversation.insert(item_id, role, None)
    item.text, item.text_done = text, True
    return item


def called(conversation: Conversation, call_id: str) -> None:
    for kind, text in ((ItemKind.FUNCTION_CALL, "{}"), (ItemKind.FUNCTION_CALL_OUTPUT, "sunny")):
        item = conversation.insert(f"{call_id} {kind}", None, None)
        item.kind, item.call_id, item.name, item.text = kind, call_id, "weather", text


def answered(notes: ConversationNotes, conversation: Conversation) -> None:
    notes.measured(Measurement(Metric.TURN_LATENCY_SECONDS, 1.0004), conversation)
    for part, seconds in zip(TURN_PARTS, (0.5, 0.4, 0.1004), strict=True):
        notes.measured(Measurement(Metric.TURN_PART_SECONDS, seconds, part), conversation)


def shown(notes: ConversationNotes, conversation: Conversation) -> list[dict[str, Any]]:
    return notes.annotated(conversation.as_json(), conversation)


WAITED = {"seconds": 1.0, "end_of_speech_seconds": 0.5, "model_seconds": 0.4, "service_seconds": 0.1}


def test_a_reply_has_the_wait_for_it_and_its_parts() -> None:
    conversation, notes = Conversation(), ConversationNotes()
    said(conversation, "note of the service", None, "")  # type: ignore[arg-type] # no speaker, not shown
    said(conversation, "1", Role.USER, "Hello")
    said(conversation, "2", Role.AGENT, "Good morning")
    answered(notes, conversation)
    said(conversation, "3", Role.AGENT, "What can I do?")
    assert shown(notes, conversation) == [
        {"role": "user", "text": "Hello"},
        {"role": "agent", "text": "Good morning", "waited": WAITED},
        {"role": "agent", "text": "What can I do?"},
    ]


def test_a_tool_has_its_duration_and_outcome() -> None:
    conversation, notes = Conversation(), ConversationNotes()
    called(conversation, "call-1")
    assert shown(notes, conversation)[0].get("outcome") is None
    notes.tool_ended("call-1", 0.25049, "completed")
    call, output = shown(notes, conversation)
    assert (call["call_id"], call["seconds"], call["outcome"]) == ("call-1", 0.25, "completed")
    assert output == {"type": "function_call_output", "name": "weather", "text": "sunny", "call_id": "call-1"}


def test_an_interrupted_reply_has_its_heard_share() -> None:
    conversation, notes = Conversation(), ConversationNotes()
    said(conversation, "1", Role.AGENT, "one two three four").heard_share = 0.5
    said(conversation, "2", Role.AGENT, "five").heard_share = 1.0
    first, second = shown(notes, conversation)
    assert (first["heard_share"], first["text"]) == (0.5, "one two")
    assert "heard_share" not in second


def test_the_next_session_takes_the_notes_over() -> None:
    conversation, older, notes = Conversation(), ConversationNotes(), ConversationNotes()
    said(conversation, "1", Role.AGENT, "Good morning")
    answered(older, conversation)
    notes.take_over(older)
    assert shown(notes, conversation)[0]["waited"] == WAITED


def test_notes_are_bounded() -> None:
    notes = ConversationNotes()
    for number in range(MAX_NOTES + 10):
        notes.tool_ended(f"call-{number}", 1.0, "completed")
    conversation = Conversation()
    called(conversation, "call-9")
    called(conversation, "call-10")
    outcomes = [entry.get("outcome") for entry in shown(notes, conversation)]
    assert outcomes == [None, None, "completed", None]


def test_the_agents_last_command_is_told() -> None:
    conversation = Conversation()
    assert agents_command(conversation) == ""
    called(conversation, "call-1")
    assert agents_command(conversation) == ""
    for name, text in (("avr_hangup", "the agent hung up"), ("avr_transfer", "the agent transferred the call")):
        item = conversation.insert(name, None, None)
        item.kind, item.name = ItemKind.FUNCTION_CALL, name
        assert agents_command(conversation) == text
