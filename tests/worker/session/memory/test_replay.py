"""Replay of a conversation to a session that does not have it."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from common.audio import g711
from tests.dispatcher.call_driver import sound
from tests.simulator.validation import validate_client_event
from worker.audio.audio_format import for_format
from worker.session.action_queue import ActionQueue
from worker.session.actions import ToUpstream
from worker.session.memory.conversation import Conversation, Item, ItemKind, Role
from worker.session.memory.replay import MAX_ID_CHARS, Replay


class Told:
    """Replay of one session, with its events."""

    def __init__(self, audio_format: str = "pcmu") -> None:
        self.conversation = Conversation()
        self.outbox = ActionQueue("uuid-1")
        self.replay = Replay(self.conversation, self.outbox, for_format(audio_format).uplink)

    def item(self, item_id: str, role: Role | None = None, text: str = "", **fields: Any) -> Item:
        """Return one more item, behind all others."""
        last = self.conversation.last()
        item = self.conversation.insert(item_id, role, last.item_id if last is not None else None)
        item.text, item.text_done = text, True
        item.heard_share = 1.0 if role is Role.AGENT else None
        for name, value in fields.items():
            setattr(item, name, value)
        return item

    def synchronize(self, audio: list[tuple[int, bytes]] | None = None) -> list[dict[str, Any]]:
        self.replay.synchronize(audio or [])
        return self.take()

    def take(self) -> list[dict[str, Any]]:
        actions, self.outbox.actions = self.outbox.actions, []
        events = [action.event for action in actions if isinstance(action, ToUpstream)]
        for event in events:
            validate_client_event(event)
        return events


def created(event: dict[str, Any]) -> tuple[str, dict[str, Any]]:
    """Return (previous item, item) of `conversation.item.create`."""
    assert event["type"] == "conversation.item.create"
    return event.get("previous_item_id", "at the end"), event["item"]


def message(item_id: str, role: str, kind: str, text: str) -> dict[str, Any]:
    field = "audio" if kind == "input_audio" else "text"
    return {"id": item_id, "type": "message", "role": role, "content": [{"type": kind, field: text}]}


def test_items_are_brought_in_order_each_at_the_end() -> None:
    told = Told()
    told.item("a", Role.AGENT, "Hello.")
    told.item("b", Role.USER, "What is the weather?")
    told.item("c", kind=ItemKind.FUNCTION_CALL, call_id="call_1", name="weather", text='{"city":"Rome"}')
    told.item("d", kind=ItemKind.FUNCTION_CALL_OUTPUT, call_id="call_1", text="sunny")
    told.item("e", text="[The caller pressed these keys on the telephone: 1]")
    assert [created(event) for event in told.synchronize()] == [
        ("at the end", message("a", "assistant", "output_text", "Hello.")),
        ("at the end", message("b", "user", "input_text", "What is the weather?")),
        (
            "at the end",
            {
                "id": "c",
                "type": "function_call",
                "call_id": "call_1",
                "name": "weather",
                "arguments": '{"city":"Rome"}',
            },
        ),
        ("at the end", {"id": "d", "type": "function_call_output", "call_id": "call_1", "output": "sunny"}),
        (
            "at the end",
            message("e", "user", "input_text", "[The caller pressed these keys on the telephone: 1]"),
        ),
    ]
    assert told.synchronize() == []


def test_of_a_reply_only_what_was_heard_is_brought() -> None:
    told = Told()
    told.item("a", Role.AGENT, "one two three four", heard_share=0.5)
    told.item("b", Role.AGENT, "one two three four", heard_share=0.1)
    told.item("c", Role.AGENT, "one two three four", heard_share=None)
    assert [created(event)[1] for event in told.synchronize()] == [
        message("a", "assistant", "output_text", "one two"),
        # It is playing still, and is cut when that is known to be necessary.
        message("c", "assistant", "output_text", "one two three four"),
    ]


def test_a_turn_without_text_is_brought_as_sound() -> None:
    told = Told()
    pcm = sound(16_000)
    told.item("a", Role.USER, span=(1000, 5000))
    told.item("b", Role.AGENT, "Yes.")
    (first, second) = told.synchronize([(0, pcm[:8000]), (4000, pcm[8000:])])
    codes = g711.encode_ulaw(pcm)[1000:5000]
    assert created(first)[1] == message("a", "user", "input_audio", base64.b64encode(codes).decode())
    assert created(second)[1]["id"] == "b"
    # It is remembered so: its text will not come any more.
    item = told.conversation.get("a")
    assert item is not None
    assert item.sound == codes
    assert "a" in [record.item_id for record in told.conversation.take_changes()]


def test_a_session_that_speaks_another_format_gets_that() -> None:
    told = Told("pcm")
    codes = g711.encode_ulaw(sound(1600))
    told.item("a", Role.USER, sound=codes)
    ((_, item),) = (created(event) for event in told.synchronize())
    pcm = base64.b64decode(item["content"][0]["audio"])
    assert len(pcm) == 3 * 1600


@pytest.mark.parametrize("fields", [{}, {"span": (0, 800)}])
def test_a_turn_without_text_and_sound_is_left_out(fields: dict[str, Any]) -> None:
    told = Told()
    told.item("a", Role.USER, **fields)
    told.item("b", Role.AGENT, "Yes.")
    assert [created(event)[1]["id"] for event in told.synchronize()] == ["b"]


def test_an_item_that_changed_is_put_there_again_in_its_place() -> None:
    told = Told()
    told.item("a", Role.AGENT, "Hello.")
    middle = told.item("b", Role.AGENT, "one two three four")
    told.item("c", Role.USER, "Stop.")
    told.synchronize()
    middle.heard_share = 0.5
    delete, again = told.synchronize()
    assert delete == {"type": "conversation.item.delete", "item_id": "b"}
    assert created(again) == ("a", message("b", "assistant", "output_text", "one two"))


def test_so_is_one_that_is_new_in_the_middle_or_at_the_beginning() -> None:
    told = Told()
    told.item("b", Role.USER, "Hello?")
    told.synchronize()
    told.conversation.insert("c", Role.USER, "b").text = "Are you there?"
    assert created(told.synchronize()[0])[0] == "at the end"
    told.conversation.insert("b2", Role.USER, "b").text = "Hm."
    assert created(told.synchronize()[0])[0] == "b"
    told.conversation._order.insert(0, "a")
    told.conversation._items["a"] = Item("a", Role.USER, "First.")
    assert created(told.synchronize()[0])[0] == "root"


def test_one_that_is_gone_is_deleted() -> None:
    told = Told()
    told.item("a", Role.AGENT, "Hello.")
    told.item("b", Role.USER, "Hello?")
    told.synchronize()
    told.conversation.remove("a")
    assert told.synchronize() == [{"type": "conversation.item.delete", "item_id": "a"}]


def test_what_the_session_made_itself_is_left_alone() -> None:
    told = Told()
    told.item("a", Role.USER, "Hello?")
    told.replay.made("a")
    told.item("b", Role.AGENT, "Yes.")
    assert [created(event)[1]["id"] for event in told.synchronize()] == ["b"]
    assert not told.replay.knows("a")
    assert told.replay.knows("b")


def test_a_reply_that_is_cut_afterwards_is_rewritten() -> None:
    told = Told()
    told.item("a", Role.AGENT, "one two three four")
    told.item("b", Role.USER, "Stop.")
    told.synchronize()
    item = told.conversation.get("a")
    assert item is not None
    item.heard_share = 0.5
    told.replay.rewrite(item)
    delete, again = told.take()
    assert delete["item_id"] == "a"
    assert created(again) == ("root", message("a", "assistant", "output_text", "one two"))
    # Nothing of it was heard after all.
    item.heard_share = 0.0
    told.replay.rewrite(item)
    assert [event["type"] for event in told.take()] == ["conversation.item.delete"]
    assert told.synchronize() == []


def test_reply_that_is_cut_afterwards_stays_behind_its_turn() -> None:
    told = Told()
    told.item("a", Role.USER, "Hi.")
    told.item("without text", Role.USER, "")
    item = told.item("b", Role.AGENT, "one two three four")
    told.item("c", Role.USER, "Stop.")
    told.synchronize()
    item.heard_share = 0.5
    told.replay.rewrite(item)
    # An item that the session lacks is not a predecessor.
    assert created(told.take()[1]) == ("a", message("b", "assistant", "output_text", "one two"))


def test_an_item_of_ours_is_behind_all_others() -> None:
    told = Told()
    told.item("a", Role.USER, "Hello?")
    told.replay.made("a")
    told.replay.add("avr_1_1", kind=ItemKind.FUNCTION_CALL_OUTPUT, call_id="call_1", text="sunny")
    ((where, item),) = (created(event) for event in told.take())
    assert (where, item["id"], item["output"]) == ("at the end", "avr_1_1", "sunny")
    assert told.conversation.last() is told.conversation.get("avr_1_1")


def test_its_echo_is_known() -> None:
    told = Told()
    told.item("a", Role.USER, "Hello?")
    told.synchronize()
    assert told.replay.has_replayed("a")
    assert not told.replay.has_replayed("b")


def test_an_id_too_long_for_the_api_gets_a_stable_replacement() -> None:
    told = Told()
    long = "an_item_of_another_service_" + "x" * 40
    told.item(long, Role.AGENT, "one two three four")
    told.item("b", Role.USER, "Stop.")
    first = created(told.synchronize()[0])[1]["id"]
    assert len(first) <= MAX_ID_CHARS
    assert first.startswith("avr_")
    assert told.replay.has_replayed(first)
    item = told.conversation.get(long)
    assert item is not None
    item.heard_share = 0.5
    delete, again = told.synchronize()
    assert delete["item_id"] == first
    assert created(again)[1]["id"] == first
    # What follows it is put behind it.
    told.conversation.insert("c", Role.USER, long).text = "Hm."
    assert created(told.synchronize()[0])[0] == first


def test_two_of_them_are_not_taken_for_each_other() -> None:
    told = Told()
    told.item("x" * 40 + "1", Role.USER, "One.")
    told.item("x" * 40 + "2", Role.USER, "Two.")
    ids = [created(event)[1]["id"] for event in told.synchronize()]
    assert len(set(ids)) == 2


def test_a_predecessor_in_the_call_may_be_missing_upstream() -> None:
    told = Told()
    told.item("a", Role.USER, "Hello?")
    told.item("b", Role.AGENT, "one two", heard_share=0.0)
    told.item("c", Role.USER)
    told.synchronize()
    # The session lacks b and c, so a new item after a follows c in the call.
    assert told.replay.predecessor("a") == "c"
    assert told.replay.predecessor(None) is None
    assert told.replay.predecessor("nobody knows") == "nobody knows"
    told.item("d", Role.USER, "Yes.")
    told.replay.made("d")
    assert told.replay.predecessor("a") == "c"
    assert told.replay.predecessor("d") == "d"


@pytest.mark.parametrize("outputs", [[], ["one"], ["two", "one"], ["one", "two"]])
def test_calls_and_outputs_leave_a_long_conversation_in_pairs(outputs: list[str]) -> None:
    told = Told()
    told.item("question", Role.USER, "How much?")
    for call_id in ("one", "two"):
        told.item(f"call {call_id}", kind=ItemKind.FUNCTION_CALL, call_id=call_id, name="look_up", text="{}")
    for call_id in outputs:
        told.item(f"output {call_id}", kind=ItemKind.FUNCTION_CALL_OUTPUT, call_id=call_id, text="found")
    told.synchronize()
    assert told.replay.shorten() > 0
    left = [item for item in told.conversation if not item.left_out]
    calls = {item.call_id for item in left if item.kind is ItemKind.FUNCTION_CALL}
    assert calls >= {item.call_id for item in left if item.kind is ItemKind.FUNCTION_CALL_OUTPUT}
    # Outputs of these calls are still to come.
    assert calls >= {"one", "two"} - set(outputs)


def test_a_system_message_is_one_in_each_session() -> None:
    first = Told()
    first.replay.add("avr_1_1", text="[The tools of crm are not available at the moment.]", by_system=True)
    (event,) = first.take()
    assert event["item"]["role"] == "system"
    item = first.conversation.get("avr_1_1")
    assert item is not None
    second = Told()
    second.conversation.insert("avr_1_1", None, None)
    again = Item.from_record("avr_1_1", item.to_record())
    assert again.by_system
    second.item("avr_1_2", text=again.text, by_system=again.by_system)
    assert [event["item"]["role"] for event in second.synchronize()] == ["system"]
