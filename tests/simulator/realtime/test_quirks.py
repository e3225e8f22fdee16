from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from simulator.realtime.faults import Faults
from simulator.realtime.quirks import FIRST_PART_DELTAS, LATE_DELTAS
from simulator.realtime.session_faults import SessionFaults
from simulator.realtime.settings import SimulatorSettings, ToolCall
from tests.simulator.realtime_driver import Driver, Event, all_of, audio_of, kinds, only, silence, tone

_CALL = ToolCall(0, "find", '{"city":"Rome"}')
_REMOTE = ToolCall(0, "lookup", "{}", server="shop")
_SERVER = {
    "type": "mcp",
    "server_label": "shop",
    "server_url": "https://shop.example",
    "require_approval": "never",
}


class _Lenient(Driver):
    """A driver that accepts events without fields that the `openai` package requires."""

    def _collect(self) -> list[Event]:
        events = [orjson.loads(event) for event in self.session.take_output()]
        self.events += events
        return events


def _driver(*names: str, **settings: Any) -> Driver:
    faults = Faults()
    faults.leave_out(names)
    session = SessionFaults.of_new_session(faults.shared)
    driver = _Lenient(SimulatorSettings(**settings), faults=session)
    driver.update(audio={"input": {"transcription": {"model": "whisper-1"}}})
    return driver


def test_item_is_never_announced() -> None:
    driver = _driver("no_item_added")
    events = driver.respond()
    assert "conversation.item.added" not in kinds(events)
    assert "response.output_item.added" in kinds(events)


@pytest.mark.parametrize(("name", "field"), [("no_content_index", "content_index"), ("no_item_id", "item_id")])
def test_audio_event_lacks_the_left_out_field(name: str, field: str) -> None:
    events = _driver(name).respond()
    for kind in ("response.output_audio.delta", "response.output_audio_transcript.delta"):
        assert all(field not in event for event in all_of(events, kind))
    assert audio_of(events)


def test_turn_is_committed_silently() -> None:
    events = _driver("no_committed").speak(tone(400) + silence(500))
    assert "input_audio_buffer.committed" not in kinds(events)
    assert "conversation.item.added" in kinds(events)


def test_transcript_comes_before_committed() -> None:
    driver = _driver("transcript_first")
    types = kinds(driver.speak(tone(400) + silence(500)) + driver.run(5))
    completed = "conversation.item.input_audio_transcription.completed"
    assert types.count(completed) == 1
    assert types.index(completed) < types.index("input_audio_buffer.committed")


def test_function_call_is_only_in_its_arguments() -> None:
    events = _driver("calls_in_arguments", tool_calls=(_CALL,)).respond()
    assert kinds(events) == [
        "response.created",
        "response.function_call_arguments.done",
        "response.done",
        "rate_limits.updated",
    ]
    call = only(events, "response.function_call_arguments.done")
    assert (call["name"], call["arguments"]) == ("find", '{"city":"Rome"}')
    assert call["call_id"]
    assert only(events, "response.done")["response"]["output"] == []


def test_function_call_is_only_in_response_done() -> None:
    events = _driver("calls_in_done", tool_calls=(_CALL,)).respond()
    assert kinds(events) == ["response.created", "response.done", "rate_limits.updated"]
    (call,) = only(events, "response.done")["response"]["output"]
    assert (call["name"], call["arguments"]) == ("find", '{"city":"Rome"}')


def test_message_has_two_parts_of_audio() -> None:
    plain, driver = _driver(greeting_words=4), _driver("two_parts", greeting_words=4)
    whole, events = plain.respond(), driver.respond()
    indices = [event["content_index"] for event in all_of(events, "response.output_audio.delta")]
    assert indices == [0] * FIRST_PART_DELTAS + [1] * (len(indices) - FIRST_PART_DELTAS)
    assert audio_of(events) == audio_of(whole)
    parts = all_of(events, "response.content_part.added")
    assert [part["content_index"] for part in parts] == [0, 1]
    done = all_of(events, "response.content_part.done")
    assert [part["content_index"] for part in done] == [0, 1]
    item_id = driver.session.conversation.items[0].id
    where = {"item_id": item_id, "content_index": 1}
    (truncated,) = driver.send("conversation.item.truncate", **where, audio_end_ms=300)
    assert (truncated["content_index"], truncated["audio_end_ms"]) == (1, 300)
    assert driver.session.conversation.items[0].audio_ms == 800


def test_short_message_has_one_part() -> None:
    events = _driver("two_parts", greeting_words=1).respond()
    assert {event["content_index"] for event in all_of(events, "response.output_audio.delta")} == {0}


def test_last_deltas_come_after_response_done() -> None:
    events = _driver("done_early", greeting_words=4).respond()
    late = events[[event["type"] for event in events].index("response.done") :]
    assert len(all_of(late, "response.output_audio.delta")) == LATE_DELTAS
    assert audio_of(events) == audio_of(_driver(greeting_words=4).respond())


def test_item_is_done_twice() -> None:
    events = _driver("done_twice", tool_calls=(_CALL,)).respond()
    for kind in ("response.function_call_arguments.done", "response.output_item.done", "conversation.item.done"):
        one, other = all_of(events, kind)
        assert {**one, "event_id": ""} == {**other, "event_id": ""}


def test_mcp_call_ends_with_its_output_item() -> None:
    driver = _driver("mcp_call_in_item", tool_calls=(_REMOTE,))
    driver.update(tools=[_SERVER])
    driver.run(1)
    events = driver.respond() + driver.run(2)
    item = only(events, "response.output_item.done")["item"]
    assert (item["type"], item["output"]) == ("mcp_call", "found")
    assert not any(".mcp_call.completed" in kind for kind in kinds(events))
    assert "conversation.item.done" not in kinds(events)


def test_quirks_of_one_session_are_its_own() -> None:
    faults = Faults()
    session = SessionFaults.of_new_session(faults.shared)
    faults.leave_out(["no_committed"])
    assert session.quirks == set()
    assert SessionFaults.of_new_session(faults.shared).quirks == {"no_committed"}


def test_unknown_quirk_is_refused() -> None:
    with pytest.raises(ValueError, match="no_manners"):
        Faults().leave_out(["no_manners"])


def test_quirks_together_change_the_same_events() -> None:
    events = _driver("two_parts", "no_content_index", "done_twice", greeting_words=4).respond()
    assert len(all_of(events, "response.content_part.added")) == 2
    assert len(all_of(events, "response.output_item.done")) == 2
    data = b"".join(base64.b64decode(each["delta"]) for each in all_of(events, "response.output_audio.delta"))
    assert len(data) == 4 * 400 * 48
