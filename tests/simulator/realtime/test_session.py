from __future__ import annotations

import base64
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from simulator.realtime.audio import PCMA, PCMU, WireAudio
from simulator.realtime.requests import CLIENT_EVENTS
from simulator.realtime.session import MAX_ITEMS
from simulator.realtime.settings import DialectName, SimulatorSettings, Transcription
from tests.simulator.realtime_driver import Driver, Event, all_of, error_of, kinds, only, silence, tone

_TRANSCRIPTION = "conversation.item.input_audio_transcription"


def _user(text: str, **item: Any) -> dict[str, Any]:
    return {"type": "message", "role": "user", "content": [{"type": "input_text", "text": text}], **item}


# Session.


def test_a_session_begins_with_its_defaults() -> None:
    driver = Driver(SimulatorSettings(session_limit_seconds=600))
    created, conversation = driver.events
    assert created["type"] == "session.created"
    assert conversation["type"] == "conversation.created"
    session = created["session"]
    assert session["model"] == "gpt-realtime-2"
    assert session["expires_at"] == 10**9 + 600
    assert session["audio"]["input"]["turn_detection"] == {
        "type": "server_vad",
        "threshold": 0.5,
        "prefix_padding_ms": 300,
        "silence_duration_ms": 500,
        "idle_timeout_ms": None,
        "create_response": True,
        "interrupt_response": True,
    }


def test_an_update_is_answered_with_the_whole_session() -> None:
    driver = Driver()
    updated = only(driver.update(instructions="Be kind.", audio={"output": {"voice": "ash"}}), "session.updated")
    assert updated["session"]["instructions"] == "Be kind."
    assert updated["session"]["audio"]["output"]["voice"] == "ash"
    assert updated["session"]["audio"]["input"]["format"] == {"type": "audio/pcm", "rate": 24000}


def test_wrong_update_changes_nothing_and_names_the_event() -> None:
    driver = Driver()
    session = {"type": "realtime", "instructions": "new", "audio": {"output": {"speed": 9}}}
    error = error_of(driver.send_raw({"type": "session.update", "event_id": "evt_7", "session": session}))
    assert error["event_id"] == "evt_7"
    assert error["type"] == "invalid_request_error"
    assert error["code"] == "decimal_above_max_value"
    assert error["param"] == "session.audio.output.speed"
    assert driver.session.config.instructions != "new"


def test_a_wrong_directive_is_answered_like_a_wrong_field() -> None:
    error = error_of(Driver().update(instructions='simulator: {"words": "many"}'))
    assert error["param"] == "session.instructions"
    assert "'words' cannot be 'many'" in error["message"]


@pytest.mark.parametrize(
    ("message", "code"),
    [("{nonsense", "invalid_json"), ("[]", "invalid_event"), (b"\xff\xfe", "invalid_json"), ("{}", None)],
)
def test_invalid_event_is_answered_and_the_session_continues(message: str | bytes, code: str | None) -> None:
    driver = Driver()
    assert error_of(driver.send_raw(message))["code"] == (code or "missing_required_parameter")
    assert kinds(driver.update()) == ["session.updated"]
    assert driver.session.received["(refused)"] == 1


_DETECTION = {"type": "server_vad", "threshold": 0.5}


@pytest.mark.parametrize("dialect", list(DialectName))
@settings(max_examples=100, deadline=None)
@given(
    events=st.lists(
        st.fixed_dictionaries(
            {"type": st.sampled_from(sorted(CLIENT_EVENTS))},
            optional={
                "event_id": st.none() | st.text(max_size=5),
                "session": st.dictionaries(
                    st.sampled_from(["type", "audio", "tools", "voice", "turn_detection", "modalities", "x"]),
                    st.none()
                    | st.text()
                    | st.sampled_from(
                        ["realtime", "ash", _DETECTION, {"input": {}}, {"output": None}, [], ["text"]]
                    ),
                ),
                "audio": st.sampled_from(["AAAA", "A", "AA==", "é", "", 3]),
                "item": st.sampled_from(
                    [
                        None,
                        {},
                        _user("hi"),
                        _user("hi", id="a"),
                        {"type": "function_call"},
                        {"type": "force_message", "content": []},
                        {"type": "force_message", "content": [{"type": "output_text", "text": "hi"}]},
                    ]
                ),
                "item_id": st.sampled_from(["a", "b", 1]),
                "content_index": st.integers(-1, 2),
                "audio_end_ms": st.integers(-1, 500),
                "response": st.sampled_from(
                    [None, {}, {"conversation": "none"}, {"instructions": 1}, {"modalities": ["text"]}]
                ),
                "response_id": st.none() | st.text(max_size=3),
            },
        ),
        max_size=12,
    )
)
def test_any_client_input_gets_valid_server_events(dialect: DialectName, events: list[dict[str, Any]]) -> None:
    driver = Driver(SimulatorSettings(dialect=dialect))
    for event in events:
        driver.send_raw(event)
        driver.run(0.05)
    session = {"type": "realtime"} if dialect is DialectName.GA else {}
    assert kinds(driver.send("session.update", session=session))[0] == "session.updated"


def test_a_session_ends_when_it_has_lasted_as_long_as_it_may() -> None:
    driver = Driver(SimulatorSettings(session_limit_seconds=3600))
    assert driver.run(3599) == []
    message = "Your session hit the maximum duration of 60 minutes."
    error = error_of(driver.run(2))
    assert (error["code"], error["message"]) == ("session_expired", message)
    assert driver.session.closing == (1001, message)
    assert driver.send("response.create") == []


# Input audio and turn detection.


def test_a_turn_is_detected_committed_and_answered_in_order() -> None:
    driver = Driver()
    driver.detect(prefix_padding_ms=200, silence_duration_ms=400)
    events = driver.speak(silence(1000) + tone(800) + silence(400))
    assert kinds(events) == [
        "input_audio_buffer.speech_started",
        "input_audio_buffer.speech_stopped",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    started, stopped, committed, added, done, _ = events
    assert started["audio_start_ms"] == 800  # with its padding
    assert stopped["audio_end_ms"] == 2200  # with its silence
    assert started["item_id"] == stopped["item_id"] == committed["item_id"] == added["item"]["id"]
    assert committed["previous_item_id"] is None
    assert added["item"] == done["item"]
    assert added["item"]["content"] == [{"type": "input_audio", "transcript": None}]


def test_the_next_turn_follows_the_reply() -> None:
    driver = Driver()
    driver.speak(tone(500) + silence(500))
    reply = only(driver.finish(), "response.done")["response"]["output"][0]
    committed = only(driver.speak(tone(500) + silence(500)), "input_audio_buffer.committed")
    assert committed["previous_item_id"] == reply["id"]


def test_turns_are_found_by_audio_time_however_fast_it_comes() -> None:
    slow, fast = Driver(), Driver()
    pcm = silence(500) + tone(700) + silence(900)
    in_time = slow.speak(pcm)
    at_once = fast.send("input_audio_buffer.append", audio=base64.b64encode(pcm).decode())
    for kind, field in (
        ("input_audio_buffer.speech_started", "audio_start_ms"),
        ("input_audio_buffer.speech_stopped", "audio_end_ms"),
    ):
        assert only(in_time, kind)[field] == only(at_once, kind)[field]


@pytest.mark.parametrize("detection", [{"type": "server_vad"}, {"type": "semantic_vad", "eagerness": "low"}])
def test_both_kinds_of_turn_detection_hear_a_turn(detection: dict[str, Any]) -> None:
    driver = Driver()
    driver.update(audio={"input": {"turn_detection": detection}})
    assert "response.created" in kinds(driver.speak(tone(500) + silence(600)))


def test_turn_without_create_response_is_committed_unanswered() -> None:
    driver = Driver()
    driver.detect(create_response=False)
    assert kinds(driver.speak(tone(500) + silence(500)))[-1] == "conversation.item.done"


def test_without_turn_detection_the_client_commits_and_asks() -> None:
    driver = Driver()
    driver.detect()
    assert driver.speak(tone(500) + silence(1000)) == []
    assert kinds(driver.send("input_audio_buffer.commit")) == [
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
    ]
    assert kinds(driver.send("response.create")) == ["response.created"]


def test_a_commit_of_too_little_is_refused() -> None:
    driver = Driver()
    driver.detect()
    driver.speak(silence(80))
    error = error_of(driver.send("input_audio_buffer.commit"))
    assert error["code"] == "input_audio_buffer_commit_empty"
    assert "Expected at least 100ms of audio, but buffer only has 80.00ms of audio." in error["message"]


def test_clear_forgets_what_was_said() -> None:
    driver = Driver()
    driver.detect()
    driver.speak(tone(500))
    assert kinds(driver.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
    assert error_of(driver.send("input_audio_buffer.commit"))["code"] == "input_audio_buffer_commit_empty"


@pytest.mark.parametrize("audio", ["AAA", "A===", "no base64!", "AAAA\n", base64.b64encode(b"odd").decode()])
def test_audio_that_is_not_base64_of_whole_samples_is_refused(audio: str) -> None:
    driver = Driver()
    error = error_of(driver.send("input_audio_buffer.append", audio=audio, event_id="evt_1"))
    assert (error["code"], error["param"], error["event_id"]) == ("invalid_value", "audio", "evt_1")
    assert "mono PCM16 at 24kHz" in error["message"]
    assert driver.session.input.appended_ms == 0


def test_appended_audio_is_kept_unless_switched_off() -> None:
    keeping, forgetting = Driver(), Driver(SimulatorSettings(keep_audio=False))
    for driver in (keeping, forgetting):
        driver.speak(tone(300))
        assert driver.session.input.appended_ms == 300
    assert keeping.session.recording.data == tone(300)
    assert forgetting.session.recording.data == b""


def test_after_an_idle_timeout_the_model_speaks_by_itself() -> None:
    driver = Driver(SimulatorSettings(words=5))
    driver.detect(idle_timeout_ms=5000)
    driver.respond()
    assert driver.speak(silence(6980)) == []  # 2 s of reply play first
    events = driver.speak(silence(20))
    assert kinds(events) == [
        "input_audio_buffer.timeout_triggered",
        "input_audio_buffer.committed",
        "conversation.item.added",
        "conversation.item.done",
        "response.created",
    ]
    assert (events[0]["audio_start_ms"], events[0]["audio_end_ms"]) == (2000, 7000)
    assert events[0]["item_id"] == events[1]["item_id"]


def test_speech_delays_the_idle_timeout() -> None:
    driver = Driver()
    driver.detect(idle_timeout_ms=5000, create_response=False)
    driver.respond()
    driver.speak(silence(3000) + tone(500) + silence(8000))
    assert not all_of(driver.events, "input_audio_buffer.timeout_triggered")


# G.711.

_G711 = pytest.mark.parametrize(("form", "audio"), [("audio/pcmu", PCMU), ("audio/pcma", PCMA)])


def _speak_in(driver: Driver, audio: WireAudio, pcm: bytes) -> list[Event]:
    events = []
    for start in range(0, len(pcm), 960):
        events += driver.run(0.02)
        frame = base64.b64encode(audio.encode(pcm[start : start + 960])).decode()
        events += driver.send("input_audio_buffer.append", audio=frame)
    return events


@_G711
def test_g711_is_heard_like_pcm_and_kept_as_it_came(form: str, audio: WireAudio) -> None:
    driver, other = Driver(), Driver()
    driver.update(audio={"input": {"format": {"type": form}}})
    pcm = silence(1000) + tone(800) + silence(600)
    heard, as_pcm = _speak_in(driver, audio, pcm), other.speak(pcm)
    for kind, field in (
        ("input_audio_buffer.speech_started", "audio_start_ms"),
        ("input_audio_buffer.speech_stopped", "audio_end_ms"),
    ):
        assert only(heard, kind)[field] == only(as_pcm, kind)[field]
    assert driver.session.recording.data == audio.encode(pcm)
    assert driver.session.input.appended_ms == 2400


@_G711
def test_g711_of_a_turn_comes_back_as_it_was(form: str, audio: WireAudio) -> None:
    driver = Driver()
    driver.update(audio={"input": {"format": {"type": form}}})
    driver.detect()
    _speak_in(driver, audio, tone(400))
    item_id = only(driver.send("input_audio_buffer.commit"), "input_audio_buffer.committed")["item_id"]
    item = only(driver.send("conversation.item.retrieve", item_id=item_id), "conversation.item.retrieved")["item"]
    assert base64.b64decode(item["content"][0]["audio"]) == audio.encode(tone(400))


def test_g711_has_no_samples_to_be_cut_in_two_but_must_be_base64() -> None:
    driver = Driver()
    driver.update(audio={"input": {"format": {"type": "audio/pcmu"}}})
    assert driver.send("input_audio_buffer.append", audio=base64.b64encode(b"odd").decode()) == []
    error = error_of(driver.send("input_audio_buffer.append", audio="A==="))
    assert "mono G.711 u-law at 8kHz" in error["message"]


def test_unheard_g711_is_counted_by_its_length() -> None:
    driver = Driver(SimulatorSettings(listen=False))
    driver.update(audio={"input": {"format": {"type": "audio/pcma"}}})
    driver.send("input_audio_buffer.append", audio=base64.b64encode(bytes(3000)).decode())
    assert driver.session.input.appended_ms == 375


def test_noise_reduction_and_speed_are_taken() -> None:
    updated = Driver().update(
        audio={"input": {"noise_reduction": {"type": "far_field"}}, "output": {"speed": 1.25}}
    )
    audio = only(updated, "session.updated")["session"]["audio"]
    assert audio["input"]["noise_reduction"] == {"type": "far_field"}
    assert audio["output"]["speed"] == 1.25


# Input transcription.


def _transcribing(model: str = "whisper-1", **behaviour: Any) -> Driver:
    driver = Driver(SimulatorSettings(**behaviour))
    driver.update(audio={"input": {"transcription": {"model": model}}})
    return driver


def test_transcription_comes_late_and_beside_the_reply() -> None:
    driver = _transcribing(transcription_delay_seconds=0.6)
    item_id = only(driver.speak(tone(1000) + silence(500)), "input_audio_buffer.committed")["item_id"]
    assert not all_of(driver.run(0.59), f"{_TRANSCRIPTION}.completed")
    events = driver.run(0.02)
    completed = only(events, f"{_TRANSCRIPTION}.completed")
    assert completed["item_id"] == only(events, f"{_TRANSCRIPTION}.delta")["item_id"] == item_id
    assert completed["transcript"] == "heard one two three"
    assert completed["usage"] == {"type": "duration", "seconds": 1.5}
    assert driver.session.active_response is not None
    assert driver.session.conversation.items[0].text == "heard one two three"


def test_models_that_stream_send_words_and_count_tokens() -> None:
    driver = _transcribing("gpt-4o-transcribe", transcript="one two three")
    driver.speak(tone(1000) + silence(500))
    events = driver.run(1)
    deltas = [event["delta"] for event in all_of(events, f"{_TRANSCRIPTION}.delta")]
    assert deltas == ["one", " two", " three"]
    assert only(events, f"{_TRANSCRIPTION}.completed")["usage"]["input_token_details"]["audio_tokens"] == 15


def test_transcription_can_fail_or_never_come() -> None:
    failing = _transcribing(transcription=Transcription.FAIL)
    failing.speak(tone(500) + silence(500))
    assert only(failing.run(2), f"{_TRANSCRIPTION}.failed")["error"]["code"] == "audio_unintelligible"
    silent = _transcribing(transcription=Transcription.NEVER)
    silent.speak(tone(500) + silence(500))
    silent.run(60)
    assert not [event for event in silent.events if event["type"].startswith(_TRANSCRIPTION)]


def test_without_transcription_in_the_session_there_is_none() -> None:
    driver = Driver()
    driver.speak(tone(500) + silence(500))
    driver.run(5)
    assert not [event for event in driver.events if event["type"].startswith(_TRANSCRIPTION)]


# Conversation items.


def test_history_is_accepted_in_order_and_counted() -> None:
    driver = Driver()
    for item in (
        _user("hello", id="a"),
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "hi"}], "id": "b"},
        {"type": "function_call", "call_id": "call_1", "name": "find", "arguments": "{}", "id": "c"},
        {"type": "function_call_output", "call_id": "call_1", "output": "found", "id": "d"},
        {
            "type": "message",
            "role": "user",
            "id": "e",
            "content": [{"type": "input_audio", "audio": base64.b64encode(tone(700)).decode()}],
        },
    ):
        added, done = driver.send("conversation.item.create", item=item)
        assert (added["type"], done["type"]) == ("conversation.item.added", "conversation.item.done")
        assert added["item"]["id"] == item["id"]
    items = driver.session.conversation.items
    assert [(item.role or item.type, item.text) for item in items] == [
        ("user", "hello"),
        ("assistant", "hi"),
        ("function_call", ""),
        ("function_call_output", ""),
        ("user", ""),
    ]
    assert items[4].audio_ms == 700
    done = only(driver.respond(), "response.done")["response"]
    assert done["output"][0]["content"][0]["transcript"].startswith("reply one turn two")
    assert done["usage"]["input_token_details"]["audio_tokens"] == 7


def test_an_item_goes_where_the_client_wants_it() -> None:
    driver = Driver()
    for item_id, after in (("a", None), ("b", None), ("c", "a"), ("d", "root")):
        event = driver.send("conversation.item.create", item=_user("x", id=item_id), previous_item_id=after)[0]
        assert event["item"]["id"] == item_id
    assert [item.id for item in driver.session.conversation.items] == ["d", "a", "c", "b"]


@pytest.mark.parametrize(
    ("event", "code"),
    [
        ({"type": "conversation.item.delete", "item_id": "x"}, "item_delete_invalid_item_id"),
        ({"type": "conversation.item.retrieve", "item_id": "x"}, "item_retrieve_invalid_item_id"),
        (
            {"type": "conversation.item.truncate", "item_id": "x", "content_index": 0, "audio_end_ms": 1},
            "item_truncate_invalid_item_id",
        ),
        (
            {"type": "conversation.item.create", "item": _user("x"), "previous_item_id": "x"},
            "item_create_invalid_previous_item_id",
        ),
        (
            {
                "type": "conversation.item.create",
                "item": {"type": "function_call_output", "call_id": "call_x", "output": ""},
            },
            "invalid_tool_call_id",
        ),
    ],
)
def test_event_naming_an_unknown_item_is_refused(event: dict[str, Any], code: str) -> None:
    assert error_of(Driver().send_raw(event))["code"] == code


def test_bad_audio_in_an_item_is_named_by_its_path() -> None:
    content = [{"type": "input_text", "text": "x"}, {"type": "input_audio", "audio": "A"}]
    item = {"type": "message", "role": "user", "content": content}
    assert error_of(Driver().send("conversation.item.create", item=item))["param"] == "item.content[1].audio"


def test_an_item_can_be_fetched_with_its_audio_and_deleted() -> None:
    driver = Driver()
    driver.detect(create_response=False, prefix_padding_ms=0)
    item_id = only(driver.speak(tone(600) + silence(500)), "input_audio_buffer.committed")["item_id"]
    item = only(driver.send("conversation.item.retrieve", item_id=item_id), "conversation.item.retrieved")["item"]
    assert base64.b64decode(item["content"][0]["audio"]) == tone(600) + silence(500)
    assert kinds(driver.send("conversation.item.delete", item_id=item_id)) == ["conversation.item.deleted"]
    assert driver.session.conversation.items == []


def test_a_conversation_is_bounded() -> None:
    driver = Driver()
    for _ in range(MAX_ITEMS):
        driver.session.receive('{"type":"conversation.item.create","item":' + _ITEM + "}", driver.now)
    driver.session.take_output()
    assert error_of(driver.send("conversation.item.create", item=_user("x")))["code"] == "too_many_items"


_ITEM = '{"type":"message","role":"user","content":[{"type":"input_text","text":"x"}]}'


# Benchmarks.


def test_session_that_does_not_listen_speaks_half_the_time() -> None:
    driver = Driver(SimulatorSettings(listen=False, words=5, greeting_words=5, speed=5.0))
    driver.update(instructions="go")
    driver.send("input_audio_buffer.append", audio="this is not looked at")
    events = driver.run(20)
    audio = all_of(events, "response.output_audio.delta")
    assert len(audio) == pytest.approx(5 * 20, abs=20)  # 100 ms each: 2 s of every 4 s
    assert not all_of(events, "error")
