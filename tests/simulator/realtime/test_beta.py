"""The beta dialect; the driver checks every event against `openai.types.beta.realtime`."""

from __future__ import annotations

import base64
from typing import Any

import pytest

from common.audio.g711 import decode_ulaw
from simulator.realtime.settings import DialectName, SimulatorSettings, ToolCall, Voice
from simulator.realtime.voice import dominant_hz
from tests.simulator.realtime_driver import Driver, all_of, error_of, kinds, only, silence, tone
from tests.simulator.validation import BETA_CLIENT_EVENTS, BETA_SERVER_EVENTS

_FULL_SESSION: dict[str, Any] = {
    "instructions": "Be kind.",
    "modalities": ["text", "audio"],
    "voice": "ash",
    "input_audio_format": "g711_ulaw",
    "output_audio_format": "g711_alaw",
    "input_audio_transcription": {"model": "whisper-1", "language": "it"},
    "input_audio_noise_reduction": {"type": "far_field"},
    "turn_detection": {
        "type": "server_vad",
        "threshold": 0.6,
        "prefix_padding_ms": 200,
        "silence_duration_ms": 400,
        "create_response": True,
        "interrupt_response": False,
    },
    "tools": [{"type": "function", "name": "find", "description": "Finds", "parameters": {"type": "object"}}],
    "tool_choice": "find",
    "temperature": 0.9,
    "max_response_output_tokens": 300,
    "speed": 1.2,
    "tracing": "auto",
}


def _driver(**settings: Any) -> Driver:
    return Driver(SimulatorSettings(dialect=DialectName.BETA, **settings))


def _update(driver: Driver, **session: Any) -> dict[str, Any]:
    updated: dict[str, Any] = only(driver.send("session.update", session=session), "session.updated")["session"]
    return updated


def test_a_session_begins_flat_with_the_defaults_of_beta() -> None:
    created, conversation = _driver().events
    assert (created["type"], conversation["type"]) == ("session.created", "conversation.created")
    session = created["session"]
    assert session["model"] == "gpt-4o-realtime-preview"
    assert session["voice"] == "alloy"
    assert session["modalities"] == ["audio", "text"]
    assert session["input_audio_format"] == session["output_audio_format"] == "pcm16"
    assert session["temperature"] == 0.8
    assert session["max_response_output_tokens"] == "inf"
    assert session["turn_detection"]["type"] == "server_vad"
    assert "audio" not in session


def test_every_field_that_is_set_comes_back() -> None:
    updated = _update(_driver(), **_FULL_SESSION)
    assert {name: updated[name] for name in _FULL_SESSION} == _FULL_SESSION | {"modalities": ["audio", "text"]}


def test_flat_settings_are_kept_in_ga_shape() -> None:
    driver = _driver()
    _update(driver, **_FULL_SESSION)
    session = driver.session.config.session
    assert session["audio"]["input"]["format"] == {"type": "audio/pcmu"}
    assert session["audio"]["output"]["format"] == {"type": "audio/pcma"}
    assert session["audio"]["output"]["voice"] == "ash"
    assert session["audio"]["input"]["turn_detection"]["silence_duration_ms"] == 400
    assert session["tool_choice"] == {"type": "function", "name": "find"}
    assert session["max_output_tokens"] == 300


def test_null_turns_turn_detection_and_transcription_off() -> None:
    driver = _driver()
    _update(driver, **_FULL_SESSION)
    updated = _update(driver, turn_detection=None, input_audio_transcription=None)
    assert updated["turn_detection"] is updated["input_audio_transcription"] is None
    assert updated["voice"] == "ash"


@pytest.mark.parametrize(
    ("session", "param", "message"),
    [
        ({"type": "realtime"}, "session.type", "Unknown parameter: 'session.type'."),
        ({"audio": {}}, "session.audio", "Unknown parameter"),
        ({"output_modalities": ["audio"]}, "session.output_modalities", "Unknown parameter"),
        ({"modalities": ["audio"]}, "session.modalities", "Supported combinations are: ['text'] and"),
        ({"temperature": 0.1}, "session.temperature", ">= 0.6"),
        ({"voice": "marin"}, "session.voice", "'verse'"),
        ({"input_audio_format": "audio/pcmu"}, "session.input_audio_format", "'pcm16', 'g711_ulaw'"),
        ({"tools": [{"type": "mcp", "server_label": "crm"}]}, "session.tools[0].type", "'function'"),
        (
            {"turn_detection": {"type": "server_vad", "idle_timeout_ms": 6000}},
            "session.turn_detection.idle_timeout_ms",
            "Unknown",
        ),
    ],
)
def test_field_unknown_to_beta_is_refused_by_its_flat_name(
    session: dict[str, Any], param: str, message: str
) -> None:
    error = error_of(_driver().send_raw({"type": "session.update", "session": session}))
    assert error["param"] == param
    assert message in error["message"]


def test_a_spoken_response_has_the_older_names() -> None:
    events = _driver(greeting_words=2).respond()
    assert kinds(events) == [
        "response.created",
        "response.output_item.added",
        "conversation.item.created",
        "response.content_part.added",
        "response.audio_transcript.delta",
        "response.audio.delta",
        "response.audio_transcript.delta",
        "response.audio.delta",
        "response.audio.done",
        "response.audio_transcript.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.done",
        "rate_limits.updated",
    ]
    response = only(events, "response.done")["response"]
    assert response["output"][0]["content"] == [{"type": "audio", "transcript": "greeting one"}]
    assert (response["voice"], response["modalities"]) == ("alloy", ["audio", "text"])
    assert response["output_audio_format"] == "pcm16"
    assert "audio" not in response


def test_a_text_response_has_the_older_names() -> None:
    driver = _driver(greeting_words=2)
    _update(driver, modalities=["text"])
    events = driver.respond()
    assert only(events, "response.text.done")["text"] == "greeting one"
    assert only(events, "response.done")["response"]["output"][0]["content"][0]["type"] == "text"


def test_a_turn_is_heard_and_answered() -> None:
    driver = _driver()
    _update(driver, input_audio_transcription={"model": "whisper-1"})
    events = driver.speak(tone(600) + silence(500)) + driver.finish() + driver.run(1)
    created = all_of(events, "conversation.item.created")
    assert [event["item"]["role"] for event in created] == ["user", "assistant"]
    assert only(events, "conversation.item.input_audio_transcription.completed")["transcript"]
    assert not all_of(events, "conversation.item.added")
    assert not all_of(events, "conversation.item.done")


def test_history_is_taken_with_the_older_contents() -> None:
    driver = _driver()
    for role, content in (
        ("user", {"type": "input_text", "text": "hello"}),
        ("assistant", {"type": "text", "text": "hi"}),
        ("system", {"type": "input_text", "text": "be brief"}),
    ):
        item = {"type": "message", "role": role, "content": [content]}
        created = only(driver.send("conversation.item.create", item=item), "conversation.item.created")
        assert created["item"]["content"] == [content]
    assert [part.kind for item in driver.session.conversation.items for part in item.parts] == [
        "input_text",
        "output_text",
        "input_text",
    ]
    new = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}]}
    error = error_of(driver.send_raw({"type": "conversation.item.create", "item": new}))
    assert error["param"] == "item.content[0].type"


def test_a_function_is_called_and_its_name_stands_in_the_item() -> None:
    driver = _driver(tool_calls=(ToolCall(0, "find", '{"q":1}'),))
    events = driver.respond()
    assert "name" not in only(events, "response.function_call_arguments.done")
    assert only(events, "response.output_item.done")["item"]["name"] == "find"


def test_a_response_may_have_settings_of_its_own() -> None:
    driver = _driver(greeting_words=2)
    item = {"type": "message", "role": "assistant", "content": [{"type": "text", "text": "hi"}]}
    events = driver.respond(
        modalities=["text"],
        instructions='Say word for word: "Good bye now"',
        max_response_output_tokens=99,
        tool_choice="none",
        input=[item],
        metadata={"a": "b"},
    )
    assert only(events, "response.text.done")["text"] == "Good bye now"
    assert only(events, "response.done")["response"]["max_output_tokens"] == 99


def test_g711_goes_both_ways() -> None:
    driver = _driver(voice=Voice.TONE, tone_hz=1000.0)
    _update(driver, input_audio_format="g711_ulaw", output_audio_format="g711_ulaw")
    deltas = all_of(driver.respond(), "response.audio.delta")
    codes = b"".join(base64.b64decode(event["delta"]) for event in deltas)
    assert len(codes) == 5 * 400 * 8
    pcm24k = b"".join(sample * 3 for sample in _samples(decode_ulaw(codes)))
    assert dominant_hz(pcm24k) == pytest.approx(1000, abs=0.5)


def _samples(pcm: bytes) -> list[bytes]:
    return [pcm[at : at + 2] for at in range(0, len(pcm), 2)]


def test_everything_else_is_as_in_ga() -> None:
    driver = _driver(greeting_words=8)
    driver.send("response.create")
    driver.run(0.5)
    item_id = driver.session.conversation.items[0].id
    assert error_of(driver.send("response.create"))["code"] == "conversation_already_has_active_response"
    driver.send("response.cancel")
    truncated = driver.send("conversation.item.truncate", item_id=item_id, content_index=0, audio_end_ms=400)
    assert kinds(truncated) == ["conversation.item.truncated"]
    retrieved = driver.send("conversation.item.retrieve", item_id=item_id)
    assert only(retrieved, "conversation.item.retrieved")["item"]["content"][0]["type"] == "audio"


def test_the_models_of_beta_are_those_of_the_openai_package() -> None:
    assert "conversation.item.created" in BETA_SERVER_EVENTS
    assert "response.audio.delta" in BETA_SERVER_EVENTS
    assert "session.update" in BETA_CLIENT_EVENTS
