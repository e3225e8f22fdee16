from __future__ import annotations

import base64
from typing import Any

import numpy as np
import pytest

from simulator.realtime.audio import PCMA, PCMU, WireAudio
from simulator.realtime.ending import Ending
from simulator.realtime.responder import MAX_OUT_OF_BAND
from simulator.realtime.session_faults import SessionFaults
from simulator.realtime.settings import SimulatorSettings, ToolCall, Voice
from simulator.realtime.voice import dominant_hz
from tests.simulator.realtime_driver import Driver, all_of, audio_of, error_of, kinds, only, silence, tone

_SPOKEN = [
    "response.created",
    "response.output_item.added",
    "conversation.item.added",
    "response.content_part.added",
    "response.output_audio_transcript.delta",
    "response.output_audio.delta",
    "response.output_audio.done",
    "response.output_audio_transcript.done",
    "response.content_part.done",
    "conversation.item.done",
    "response.output_item.done",
    "response.done",
    "rate_limits.updated",
]


def _done(events: list[dict[str, Any]]) -> dict[str, Any]:
    response: dict[str, Any] = only(events, "response.done")["response"]
    return response


def _speaking(milliseconds: int, **settings: Any) -> Driver:
    """A driver whose model has just sent so much of a reply of 8 words."""
    driver = Driver(SimulatorSettings(greeting_words=8, **settings))
    driver.send("response.create")
    while driver.session.responses[-1].sent_ms < milliseconds:
        driver.run(0.01)
    return driver


# What a response says.


def test_a_spoken_response_has_all_its_events_in_order() -> None:
    driver = Driver(SimulatorSettings(greeting_words=1))
    events = driver.respond()
    assert kinds(events) == _SPOKEN
    response = _done(events)
    assert response["status"] == "completed"
    assert response["output"][0]["status"] == "completed"
    assert response["output"][0]["content"] == [{"type": "output_audio", "transcript": "greeting"}]
    assert only(events, "conversation.item.added")["item"]["status"] == "in_progress"


def test_audio_is_as_long_as_its_words_and_in_step_with_them() -> None:
    driver = Driver(SimulatorSettings(greeting_words=6))
    events = driver.respond()
    sent_ms = 0
    begins: list[tuple[str, int]] = []
    for event in events:
        if event["type"] == "response.output_audio_transcript.delta":
            begins.append((event["delta"], sent_ms))
        elif event["type"] == "response.output_audio.delta":
            sent_ms += len(base64.b64decode(event["delta"])) // 48
    words = ["greeting", " one", " alpha", " bravo", " charlie", " delta"]
    assert begins == [(word, 400 * index) for index, word in enumerate(words)]
    assert sent_ms == 2400


def test_words_shorter_than_a_delta_all_come() -> None:
    events = Driver(SimulatorSettings(greeting_words=7, word_ms=70, delta_ms=200)).respond()
    deltas = [event["delta"] for event in all_of(events, "response.output_audio_transcript.delta")]
    assert "".join(deltas) == only(events, "response.output_audio_transcript.done")["transcript"]
    assert len(deltas) == 7
    assert len(audio_of(events)) == 490 * 48


def test_replies_come_after_latency_and_faster_than_real_time() -> None:
    driver = Driver(SimulatorSettings(greeting_words=10, first_audio_seconds=0.3, speed=5.0))
    driver.send("response.create")
    assert kinds(driver.run(0.149)) == []
    assert kinds(driver.run(0.002)) == _SPOKEN[1:4]
    assert kinds(driver.run(0.148)) == []
    assert len(all_of(driver.run(0.002), "response.output_audio.delta")) == 1
    assert len(all_of(driver.run(0.4), "response.output_audio.delta")) == 20  # 2 s of audio
    assert driver.session.active_response is not None
    driver.run(0.4)
    assert driver.session.active_response is None


def test_an_unlimited_speed_sends_a_reply_at_once() -> None:
    driver = Driver(SimulatorSettings(first_audio_seconds=0.0, speed=float("inf")))
    driver.send("response.create")
    assert kinds(driver.run(0))[-1] == "rate_limits.updated"


def test_a_late_wake_up_makes_up_for_lost_time() -> None:
    driver = Driver(SimulatorSettings(greeting_words=10))
    driver.send("response.create")
    driver.session.advance(driver.now + 0.71)
    assert driver.session.responses[0].sent_ms == 2100


def test_a_text_response_has_no_audio() -> None:
    driver = Driver(SimulatorSettings(greeting_words=3))
    driver.update(output_modalities=["text"])
    events = driver.respond()
    assert audio_of(events) == b""
    assert only(events, "response.output_text.done")["text"] == "greeting one alpha"
    assert _done(events)["output"][0]["content"] == [{"type": "output_text", "text": "greeting one alpha"}]
    assert _done(events)["usage"]["output_token_details"]["audio_tokens"] == 0


def test_dictated_text_is_said_word_for_word() -> None:
    instructions = 'Say the following word for word, nothing else: "Welcome to ACME, how can I help?"'
    events = Driver().respond(instructions=instructions)
    assert (
        only(events, "response.output_audio_transcript.done")["transcript"] == "Welcome to ACME, how can I help?"
    )
    assert len(audio_of(events)) == 7 * 400 * 48


def test_directives_of_the_session_change_what_it_does() -> None:
    driver = Driver()
    driver.update(instructions='simulator: {"voice": "tone", "tone_hz": 1234, "greeting_words": 3}')
    pcm = audio_of(driver.respond())
    assert len(pcm) == 3 * 400 * 48
    assert dominant_hz(pcm) == pytest.approx(1234, abs=0.1)
    driver.update(instructions="")
    driver.send("conversation.item.create", item=_ASKED)
    assert len(audio_of(driver.respond())) == 8 * 400 * 48


_ASKED = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "and?"}]}


def test_tone_voice_answers_in_the_callers_tone_without_a_gap() -> None:
    driver = Driver(SimulatorSettings(voice=Voice.TONE, echo=True, tone_hz=500.0))
    assert dominant_hz(audio_of(driver.respond())) == pytest.approx(500, abs=0.1)
    for hz in (700.0, 1500.5):
        driver.speak(tone(800, hz) + silence(500))
        pcm = audio_of(driver.finish())
        assert dominant_hz(pcm) == pytest.approx(hz, abs=0.2)
        jumps = np.abs(np.diff(np.frombuffer(pcm, dtype="<i2").astype(np.int32)))
        assert np.max(jumps) <= 2 * np.pi * hz / 24_000 * 32767 * 10 ** (-10 / 20) + 2


@pytest.mark.parametrize(("form", "audio"), [("audio/pcmu", PCMU), ("audio/pcma", PCMA)])
def test_a_reply_is_spoken_in_the_format_of_the_session(form: str, audio: WireAudio) -> None:
    settings = SimulatorSettings(voice=Voice.TONE, echo=True, tone_hz=1234.0, greeting_words=2)
    driver, other = Driver(settings), Driver(settings)
    driver.update(audio={"output": {"format": {"type": form}}})
    events = driver.respond()
    assert audio_of(events) == audio.encode(audio_of(other.respond()))
    assert len(audio_of(events)) == 2 * 400 * 8
    assert _done(events)["audio"]["output"]["format"] == {"type": form}
    driver.speak(tone(800, 700) + silence(500))
    assert dominant_hz(audio.decode(audio_of(driver.finish()))) == pytest.approx(700, abs=0.5)


def test_a_response_may_have_a_format_of_its_own() -> None:
    driver = Driver(SimulatorSettings(greeting_words=2))
    events = driver.respond(audio={"output": {"format": {"type": "audio/pcmu"}}})
    assert len(audio_of(events)) == 2 * 400 * 8
    assert _done(events)["audio"]["output"]["format"] == {"type": "audio/pcmu"}


def test_truncated_audio_is_counted_in_time_in_any_format() -> None:
    driver = Driver(SimulatorSettings(greeting_words=5))
    driver.update(audio={"output": {"format": {"type": "audio/pcmu"}}})
    driver.respond()
    item = driver.session.conversation.items[0]
    (truncated,) = driver.send("conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=900)
    assert truncated["audio_end_ms"] == 900
    assert item.text == "greeting one"


def test_metadata_and_settings_of_a_response_are_shown() -> None:
    response = _done(Driver().respond(metadata={"why": "test"}, max_output_tokens=4000))
    assert response["metadata"] == {"why": "test"}
    assert response["max_output_tokens"] == 4000
    assert response["audio"]["output"]["voice"] == "marin"


# One at a time.


def test_a_second_response_is_refused_while_one_is_active() -> None:
    driver = _speaking(300)
    active = driver.session.responses[0].id
    error = error_of(driver.send("response.create", event_id="evt_2"))
    assert error == {
        "type": "invalid_request_error",
        "code": "conversation_already_has_active_response",
        "message": f"Conversation already has an active response in progress: {active}. "
        "Wait until the response is finished before creating a new one.",
        "param": None,
        "event_id": "evt_2",
    }
    assert _done(driver.finish())["status"] == "completed"


def test_responses_outside_the_conversation_may_run_beside_it() -> None:
    driver = _speaking(300)
    created = only(driver.send("response.create", response={"conversation": "none"}), "response.created")
    assert created["response"]["conversation_id"] is None
    events = driver.run(2)
    assert [each["response"]["status"] for each in all_of(events, "response.done")] == ["completed"] * 2
    assert len(driver.session.conversation.items) == 1


def test_responses_outside_the_conversation_are_bounded() -> None:
    driver = Driver()
    for _ in range(MAX_OUT_OF_BAND):
        assert kinds(driver.send("response.create", response={"conversation": "none"})) == ["response.created"]
    error = error_of(driver.send("response.create", response={"conversation": "none"}))
    assert error["code"] == "too_many_responses"


def test_a_response_may_have_its_own_input() -> None:
    driver = Driver()
    driver.send("conversation.item.create", item={**_ASKED, "id": "a"})
    reference = {"type": "item_reference", "id": "a"}
    events = driver.send_raw(
        {"type": "response.create", "response": {"conversation": "none", "input": [reference, _ASKED]}}
    )
    assert kinds(events) == ["response.created"]
    missing = {"type": "item_reference", "id": "zzz"}
    error = error_of(driver.send_raw({"type": "response.create", "response": {"input": [missing]}}))
    assert error["param"] == "response.input[0].id"


# Cancelling.


def test_a_response_cancelled_by_the_client_ends_as_such() -> None:
    driver = _speaking(1000)
    events = driver.send("response.cancel")
    assert kinds(events) == _SPOKEN[6:]
    response = _done(events)
    assert response["status"] == "cancelled"
    assert response["status_details"] == {"type": "cancelled", "reason": "client_cancelled"}
    assert response["output"][0]["status"] == "incomplete"
    assert response["output"][0]["content"][0]["transcript"] == "greeting one alpha"
    assert driver.run(5) == []


def test_cancelling_nothing_is_refused() -> None:
    driver = Driver()
    expected = "Cancellation failed: no active response found"
    error = error_of(driver.send("response.cancel"))
    assert (error["code"], error["message"]) == ("response_cancel_not_active", expected)
    driver = _speaking(300)
    assert error_of(driver.send("response.cancel", response_id="resp_x"))["code"] == "response_cancel_not_active"
    assert _done(driver.send("response.cancel", response_id=driver.session.responses[0].id))


def test_speech_cancels_the_reply() -> None:
    driver = _speaking(800)
    events = driver.speak(tone(400))
    started = kinds(events).index("input_audio_buffer.speech_started")
    assert kinds(events)[started : started + 2] == [
        "input_audio_buffer.speech_started",
        "response.output_audio.done",
    ]
    assert _done(events)["status_details"] == {"type": "cancelled", "reason": "turn_detected"}
    after = events[[event["type"] for event in events].index("response.done") :]
    assert audio_of(after) == b""
    driver.speak(silence(500))
    assert _done(driver.finish())["output"][0]["content"][0]["transcript"].startswith("reply two turn one")


def test_speech_does_not_cancel_where_it_may_not() -> None:
    driver = Driver(SimulatorSettings(greeting_words=100))
    driver.detect(interrupt_response=False)
    driver.send("response.create")
    events = driver.speak(tone(400) + silence(500))
    assert not all_of(events, "response.done")
    error = only(events, "error")["error"]
    assert (error["code"], error["event_id"]) == ("conversation_already_has_active_response", None)


def test_a_response_cancelled_before_its_item_has_no_output() -> None:
    driver = Driver()
    driver.send("response.create")
    events = driver.send("response.cancel")
    assert kinds(events) == ["response.done", "rate_limits.updated"]
    assert _done(events)["output"] == []


def test_announced_item_without_audio_cannot_be_truncated() -> None:
    driver = Driver(SimulatorSettings(first_audio_seconds=1.0))
    driver.send("response.create")
    item_id = only(driver.run(0.6), "response.output_item.added")["item"]["id"]
    driver.send("response.cancel")
    where = {"item_id": item_id, "content_index": 0}
    error = error_of(driver.send("conversation.item.truncate", **where, audio_end_ms=0))
    assert error["message"] == "Only model output audio messages can be truncated"
    assert kinds(driver.send("conversation.item.delete", item_id=item_id)) == ["conversation.item.deleted"]


# Truncating.


def test_a_truncated_reply_is_remembered_as_it_was_heard() -> None:
    driver = _speaking(2000)
    driver.send("response.cancel")
    item = driver.session.conversation.items[0]
    where = {"item_id": item.id, "content_index": 0}
    error = error_of(driver.send("conversation.item.truncate", **where, audio_end_ms=2001, event_id="evt_3"))
    assert error["message"] == "Audio content of 2000ms is already shorter than 2001ms"
    assert (error["param"], error["event_id"]) == ("audio_end_ms", "evt_3")
    (truncated,) = driver.send("conversation.item.truncate", **where, audio_end_ms=1300)
    assert truncated["type"] == "conversation.item.truncated"
    assert truncated["audio_end_ms"] == 1300
    assert item.text == "greeting one alpha"
    assert " ".join(item.said) == "greeting one alpha bravo charlie"


def test_truncating_while_it_is_spoken_forgets_the_rest_too() -> None:
    driver = _speaking(1000)
    item = driver.session.conversation.items[0]
    driver.send("conversation.item.truncate", item_id=item.id, content_index=0, audio_end_ms=900)
    assert _done(driver.finish())["status"] == "completed"
    assert item.text == "greeting one"
    assert len(item.said) == 8


def test_deleting_while_it_is_spoken_leaves_the_response_running() -> None:
    driver = _speaking(1000)
    item_id = driver.session.conversation.items[0].id
    driver.send("conversation.item.delete", item_id=item_id)
    assert _done(driver.finish())["status"] == "completed"
    assert driver.session.conversation.items == []


def test_restored_text_cannot_be_truncated() -> None:
    driver = Driver()
    item = {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}], "id": "a"}
    driver.send("conversation.item.create", item=item)
    error = error_of(driver.send("conversation.item.truncate", item_id="a", content_index=0, audio_end_ms=1))
    assert error["code"] == "unsupported_content_type"


def test_the_voice_is_fixed_once_it_was_heard() -> None:
    driver = _speaking(300)
    driver.send("response.cancel")
    error = error_of(driver.update(audio={"output": {"voice": "ash"}}))
    assert error["code"] == "cannot_update_voice"
    error = error_of(driver.send("response.create", response={"audio": {"output": {"voice": "ash"}}}))
    assert error["code"] == "cannot_update_voice"


# Function calls.

_CALLS = (ToolCall(1, "find", '{"q":"x"}'), ToolCall(1, "note", "{}"), ToolCall(2, "hangup", "{}"))


def test_functions_are_called_in_turn_and_outputs_answered() -> None:
    driver = Driver(SimulatorSettings(tool_calls=_CALLS))
    driver.speak(tone(400) + silence(500))
    events = driver.finish()
    assert kinds(events) == [
        *(
            "response.output_item.added",
            "conversation.item.added",
            "response.function_call_arguments.delta",
            "response.function_call_arguments.done",
            "conversation.item.done",
            "response.output_item.done",
        )
        * 2,
        "response.done",
        "rate_limits.updated",
    ]
    calls = _done(events)["output"]
    assert [(call["name"], call["arguments"], call["status"]) for call in calls] == [
        ("find", '{"q":"x"}', "completed"),
        ("note", "{}", "completed"),
    ]
    for call in calls:
        output = {"type": "function_call_output", "call_id": call["call_id"], "output": "done"}
        assert kinds(driver.send("conversation.item.create", item=output))[-1] == "conversation.item.done"
    assert _done(driver.respond())["output"][0]["content"][0]["transcript"].startswith("reply two turn one")
    driver.speak(tone(400) + silence(500))
    assert [call["name"] for call in _done(driver.finish())["output"]] == ["hangup"]


def test_a_call_that_is_in_the_history_is_not_made_again() -> None:
    driver = Driver(SimulatorSettings(tool_calls=_CALLS))
    for item in (
        _ASKED,
        {"type": "function_call", "call_id": "call_1", "name": "find", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "call_1", "output": "found"},
    ):
        driver.send("conversation.item.create", item=item)
    assert _done(driver.respond())["output"][0]["type"] == "message"


def test_a_response_that_may_not_call_functions_speaks() -> None:
    driver = Driver(SimulatorSettings(tool_calls=_CALLS))
    driver.send("conversation.item.create", item=_ASKED)
    assert _done(driver.respond(tool_choice="none"))["output"][0]["type"] == "message"


# Usage and bad ends.


def test_usage_counts_input_and_output_and_grows() -> None:
    driver = Driver(SimulatorSettings(words=5, greeting_words=5))
    driver.update(instructions="x" * 1000)
    first = _done(driver.respond())["usage"]
    assert first["output_token_details"]["audio_tokens"] == 5 * 8
    assert first["input_token_details"]["cached_tokens"] == 0
    driver.speak(tone(1000) + silence(500))
    second = _done(driver.finish())["usage"]
    assert second["input_token_details"]["audio_tokens"] == 40 + 15
    cached = second["input_token_details"]["cached_tokens_details"]
    assert (cached["text_tokens"], cached["audio_tokens"]) == (192, 0)
    for usage in (first, second):
        details = usage["input_token_details"]
        assert usage["input_tokens"] == details["text_tokens"] + details["audio_tokens"]
        assert details["cached_tokens"] <= usage["input_tokens"]
        assert usage["total_tokens"] == usage["input_tokens"] + usage["output_tokens"]
    assert driver.session.usage.input.total == first["input_tokens"] + second["input_tokens"]


def test_cancelled_response_counts_its_tokens() -> None:
    driver = _speaking(1000)
    usage = _done(driver.send("response.cancel"))["usage"]
    assert usage["output_token_details"]["audio_tokens"] == 20


def test_a_response_is_cut_where_its_tokens_end() -> None:
    driver = Driver(SimulatorSettings(greeting_words=8))
    events = driver.respond(max_output_tokens=40)
    response = _done(events)
    assert response["status"] == "incomplete"
    assert response["status_details"] == {"type": "incomplete", "reason": "max_output_tokens"}
    assert 0 < response["usage"]["output_tokens"] <= 40
    assert response["output"][0]["content"][0]["transcript"] == "greeting one alpha bravo"
    assert len(audio_of(events)) == 4 * 400 * 48


@pytest.mark.parametrize(
    ("ending", "details"),
    [
        (Ending("failed", 500, code="rate_limit_exceeded", message="slow down"), {"code": "rate_limit_exceeded"}),
        (Ending("incomplete", 0), None),
    ],
)
def test_a_response_can_be_made_to_end_badly(ending: Ending, details: dict[str, Any] | None) -> None:
    faults = SessionFaults()
    faults.endings.add(ending, 1)
    driver = Driver(faults=faults)
    events = driver.respond()
    response = _done(events)
    assert response["status"] == ending.status
    if details:
        assert response["status_details"]["error"].items() >= details.items()
    else:
        assert response["status_details"]["reason"] == "content_filter"
    assert len(audio_of(events)) == (ending.after_ms or 0) * 48
    assert _done(driver.respond())["status"] == "completed"


def test_late_deltas_of_a_cancelled_response_are_not_kept() -> None:
    driver = _speaking(1000)
    driver.session.faults.late_deltas = 2
    events = driver.send("response.cancel")
    assert kinds(events)[-2:] == ["rate_limits.updated", "response.output_audio.delta"]
    assert len(audio_of(events)) == 200 * 48
    assert driver.session.conversation.items[0].audio_ms == 1000
    response_id = driver.session.responses[0].id
    assert all(each["response_id"] == response_id for each in all_of(events, "response.output_audio.delta"))
