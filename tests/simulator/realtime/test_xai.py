from __future__ import annotations

import base64
from typing import Any

import pytest

from simulator.realtime.settings import DialectName, SimulatorSettings, ToolCall
from tests.simulator.realtime_driver import Driver, all_of, audio_of, error_of, kinds, only, silence, tone

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


def _driver(**settings: Any) -> Driver:
    return Driver(SimulatorSettings(dialect=DialectName.XAI, **settings))


def _update(driver: Driver, **session: Any) -> dict[str, Any]:
    updated: dict[str, Any] = only(driver.send("session.update", session=session), "session.updated")["session"]
    return updated


def _force(text: str, **item: Any) -> dict[str, Any]:
    content = [{"type": "output_text", "text": text}]
    return {"type": "force_message", "role": "assistant", "content": content, **item}


# The session.


def test_a_session_begins_with_the_conversation() -> None:
    assert kinds(_driver().events) == ["conversation.created", "session.created"]


def test_voice_and_turn_detection_stand_at_the_top() -> None:
    driver = _driver()
    detection = {"type": "server_vad", "threshold": 0.7, "silence_duration_ms": 300}
    updated = _update(driver, voice="Leo", turn_detection=detection, instructions="Be kind.")
    assert updated["voice"] == "leo"
    assert updated["turn_detection"].items() >= detection.items()
    assert "voice" not in updated["audio"]["output"]
    assert "turn_detection" not in updated["audio"]["input"]
    inside = driver.session.config.session["audio"]
    assert inside["output"]["voice"] == "leo"
    assert inside["input"]["turn_detection"]["silence_duration_ms"] == 300


@pytest.mark.parametrize("detection", [None, {"type": None}])
def test_turn_detection_can_be_off(detection: Any) -> None:
    driver = _driver()
    assert _update(driver, turn_detection=detection)["turn_detection"] is None
    assert driver.speak(tone(500) + silence(700)) == []
    assert kinds(driver.send("input_audio_buffer.commit"))[0] == "input_audio_buffer.committed"


@pytest.mark.parametrize(
    ("session", "param"),
    [
        ({"audio": {"output": {"voice": "eve"}}}, "session.audio.output.voice"),
        ({"audio": {"input": {"turn_detection": None}}}, "session.audio.input.turn_detection"),
        ({"turn_detection": {"type": "semantic_vad"}}, "session.turn_detection.type"),
        ({"reasoning": {"effort": "medium"}}, "session.reasoning.effort"),
        ({"input_audio_format": "pcm16"}, "session.input_audio_format"),
    ],
)
def test_field_in_the_wrong_place_is_refused(session: dict[str, Any], param: str) -> None:
    assert error_of(_driver().send("session.update", session=session))["param"] == param


def test_tools_of_xai_are_accepted() -> None:
    tools = [
        {"type": "web_search"},
        {"type": "file_search", "vector_store_ids": ["a"], "max_num_results": 10},
        {"type": "function", "name": "find", "description": "Finds", "parameters": {"type": "object"}},
    ]
    assert _update(_driver(), tools=tools)["tools"] == tools


def test_pings_come_along() -> None:
    driver = _driver()
    assert kinds(driver.send("session.update", session={})) == ["session.updated", "ping"]


# Fixed text.


def test_a_forced_message_is_spoken_word_for_word_as_a_response() -> None:
    driver = _driver(tool_calls=(ToolCall(0, "find"),))
    text = 'Welcome to "ACME", how can I help?'
    events = driver.send("conversation.item.create", item=_force(text)) + driver.finish()
    assert kinds(events)[0] == "response.created"
    assert only(events, "response.output_audio_transcript.done")["transcript"] == text
    assert len(audio_of(events)) == 7 * 400 * 48
    assert only(events, "response.done")["response"]["status"] == "completed"


def test_forced_message_can_be_interrupted_by_default() -> None:
    for interruptible, status in ((True, "cancelled"), (False, "completed")):
        driver = _driver(word_ms=1000)
        driver.send(
            "conversation.item.create",
            item=_force("a long and important announcement of eight words", interruptible=interruptible),
        )
        driver.speak(silence(500) + tone(600) + silence(600))
        driver.finish()
        assert driver.session.responses[0].status == status
        assert bool(all_of(driver.events, "input_audio_buffer.speech_started")) is interruptible


def test_caller_is_heard_after_an_uninterruptible_message() -> None:
    driver = _driver(speed=20.0)
    driver.send("conversation.item.create", item=_force("one two", interruptible=False))
    assert driver.speak(silence(1000) + tone(50)) != []
    events = driver.speak(silence(200) + tone(500) + silence(600))
    assert only(events, "input_audio_buffer.speech_started")
    assert driver.session.recording.data.startswith(silence(1000) + tone(50))


def test_a_forced_message_beside_a_response_is_refused() -> None:
    driver = _driver()
    driver.send("response.create")
    error = error_of(driver.send("conversation.item.create", item=_force("now")))
    assert error["code"] == "conversation_already_has_active_response"


# What its events lack.


def test_events_of_a_response_lack_indices_parts_and_usage() -> None:
    events = _driver(greeting_words=1).respond()
    assert "rate_limits.updated" not in kinds(events)
    assert "conversation.item.done" not in kinds(events)
    assert all("output_index" not in event and "content_index" not in event for event in events)
    assert "part" not in only(events, "response.content_part.done")
    assert only(events, "response.created")["response"]["usage"] == {}
    assert only(events, "response.done")["response"]["usage"] == {}


def test_function_call_item_has_the_role_tool() -> None:
    driver = _driver(tool_calls=(ToolCall(0, "find", '{"q":1}'),))
    events = driver.respond()
    assert only(events, "conversation.item.added")["item"]["role"] == "tool"
    done = only(events, "response.function_call_arguments.done")
    assert (done["name"], done["arguments"]) == ("find", '{"q":1}')
    output = {"type": "function_call_output", "call_id": done["call_id"], "output": "found"}
    driver.send("conversation.item.create", item=output)
    assert audio_of(driver.respond(modalities=["text", "audio"]))


# Transcription.


def _heard(driver: Driver) -> list[dict[str, Any]]:
    events = driver.speak(tone(1000) + silence(600)) + driver.run(2)
    return [event for event in events if event["type"].startswith(_TRANSCRIPTION)]


def test_transcription_comes_whole_without_a_request() -> None:
    (completed,) = _heard(_driver())
    assert (completed["type"], completed["transcript"]) == (f"{_TRANSCRIPTION}.completed", "heard one two three")


def test_streaming_transcriber_repeats_its_text_so_far() -> None:
    driver = _driver(transcript="one two three")
    _update(driver, audio={"input": {"transcription": {"model": "grok-transcribe", "language_hint": "en"}}})
    *updates, completed = _heard(driver)
    assert [event["type"] for event in updates] == [f"{_TRANSCRIPTION}.updated"] * 3
    assert [event["transcript"] for event in updates] == ["one", "one two", "one two three"]
    assert completed["transcript"] == "one two three"


def test_g711_goes_both_ways() -> None:
    driver = _driver(greeting_words=2)
    form = {"type": "audio/pcma"}
    _update(driver, audio={"input": {"format": form}, "output": {"format": form}})
    assert len(audio_of(driver.respond())) == 2 * 400 * 8
    driver.send("input_audio_buffer.append", audio=base64.b64encode(b"\xd5" * 800).decode())
    assert driver.session.input.appended_ms == 100
