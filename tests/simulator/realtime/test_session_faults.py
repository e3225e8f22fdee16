"""Faults of one session, on a clock of the test."""

from __future__ import annotations

import json
from typing import Any

import orjson
import pytest

from simulator.realtime.ending import Ending, Output
from simulator.realtime.faults import Faults
from simulator.realtime.session_faults import SessionFaults
from simulator.realtime.settings import SimulatorSettings, ToolCall
from tests.simulator.realtime_driver import Driver, Event, all_of, audio_of, error_of, kinds, only, silence, tone

_CALL = ToolCall(1, "find", '{"city":"Rome"}')
_NOTE = {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "[The line was lost.]"}]}


def _driver(**settings: Any) -> tuple[Driver, Faults]:
    """Return a session that transcribes, and the faults for any session."""
    faults = Faults()
    driver = Driver(SimulatorSettings(**settings), faults=SessionFaults.of_new_session(faults.shared))
    driver.update(audio={"input": {"transcription": {"model": "whisper-1"}}})
    return driver, faults


def _turn(driver: Driver) -> list[Event]:
    return driver.speak(tone(400) + silence(500))


def _done(events: list[Event]) -> Event:
    response: Event = only(events, "response.done")["response"]
    return response


class TestEndings:
    @pytest.mark.parametrize(
        ("code", "words"),
        [
            ("server_error", "The server had an error"),
            ("rate_limit_exceeded", "Please try again in 3s."),
            ("insufficient_quota", "exceeded your current quota"),
            ("context_length_exceeded", "exceeds the context window"),
        ],
    )
    def test_failed_response_has_the_words_of_its_code(self, code: str, words: str) -> None:
        driver, faults = _driver()
        faults.end_response("failed", code=code, output="none")
        response = _done(driver.respond())
        assert (response["status"], response["output"]) == ("failed", [])
        assert response["status_details"]["error"]["code"] == code
        assert words in response["status_details"]["error"]["message"]

    def test_failed_response_costs_its_input_tokens(self) -> None:
        driver, faults = _driver()
        driver.update(instructions="x" * 1000)
        faults.end_response("failed", output="none")
        usage = _done(driver.respond())["usage"]
        assert usage["input_tokens"] >= 250
        assert usage["output_tokens"] == 0

    def test_failed_response_may_end_after_some_audio(self) -> None:
        driver, faults = _driver()
        faults.end_response("failed", after_ms=700)
        events = driver.respond()
        assert len(audio_of(events)) == 700 * 48
        assert _done(events)["output"][0]["status"] == "incomplete"

    @pytest.mark.parametrize("reason", ["content_filter", "max_output_tokens"])
    def test_incomplete_response_names_its_reason(self, reason: str) -> None:
        driver, faults = _driver()
        faults.end_response("incomplete", reason=reason)
        response = _done(driver.respond())
        assert response["status_details"] == {"type": "incomplete", "reason": reason}

    def test_greeting_that_was_cut_off_is_continued_without_another(self) -> None:
        driver, faults = _driver()
        faults.end_response("failed", after_ms=900)
        driver.respond()
        assert _done(driver.respond())["output"][0]["content"][0]["transcript"].startswith("reply two turn zero")

    def test_greeting_that_was_not_heard_is_said_by_the_next(self) -> None:
        driver, faults = _driver()
        faults.end_response("failed")
        driver.respond()
        assert _done(driver.respond())["output"][0]["content"][0]["transcript"].startswith("greeting two")

    def test_completed_response_may_have_no_output(self) -> None:
        driver, faults = _driver()
        faults.end_response("completed")
        response = _done(driver.respond())
        assert (response["status"], response["output"]) == ("completed", [])
        assert driver.session.conversation.items == []

    def test_completed_response_may_have_text_alone(self) -> None:
        driver, faults = _driver(greeting_words=3)
        faults.end_response("completed", output="text")
        events = driver.respond()
        assert audio_of(events) == b""
        assert _done(events)["output"][0]["content"] == [{"type": "output_text", "text": "greeting one alpha"}]

    def test_function_call_is_cut_off_by_an_incomplete_end(self) -> None:
        driver, faults = _driver(tool_calls=(_CALL,))
        faults.end_response("incomplete", reason="max_output_tokens")
        events = _turn(driver) + driver.finish()
        call = only(events, "response.output_item.done")["item"]
        assert (call["type"], call["status"]) == ("function_call", "incomplete")
        assert only(events, "response.function_call_arguments.done")["arguments"] == '{"city"'
        assert _done(events)["status"] == "incomplete"

    @pytest.mark.parametrize("status", ["failed", "completed", "incomplete"])
    def test_function_is_called_by_the_response_after_a_bad_one(self, status: str) -> None:
        driver, faults = _driver(tool_calls=(_CALL,))
        faults.end_response(status, output="none")
        _turn(driver)
        driver.finish()
        assert _done(driver.respond())["output"][0]["name"] == "find"

    def test_context_is_exceeded_until_it_is_shorter(self) -> None:
        driver, faults = _driver()
        driver.update(instructions="x" * 400)
        faults.limit_context(80)
        assert _done(driver.respond())["status_details"]["error"]["code"] == "context_length_exceeded"
        driver.update(instructions="x" * 40)
        assert _done(driver.respond())["status"] == "completed"

    @pytest.mark.parametrize(("status", "output"), [("splendid", "item"), ("failed", "cake")])
    def test_unknown_end_is_refused(self, status: str, output: str) -> None:
        with pytest.raises(ValueError, match=r"splendid|cake"):
            Faults().end_response(status, output=output)


class TestSilence:
    def test_response_ends_with_an_error_event_alone(self) -> None:
        driver, faults = _driver()
        faults.silent_response(after_ms=300)
        events = driver.respond()
        error = only(events, "error")["error"]
        assert (error["code"], error["event_id"], error["type"]) == ("server_error", None, "server_error")
        assert len(audio_of(events)) == 300 * 48
        assert all_of(events, "response.done") == []
        assert error_of(driver.send("response.cancel"))["code"] == "response_cancel_not_active"
        assert _done(driver.respond())["status"] == "completed"

    def test_response_done_may_be_lost_after_all_audio(self) -> None:
        driver, faults = _driver(greeting_words=2)
        faults.silent_response(after_ms=None, error=False)
        events = driver.respond()
        assert len(audio_of(events)) == 800 * 48
        assert only(events, "response.output_item.done")["item"]["status"] == "completed"
        assert all_of(events, "response.done") == all_of(events, "error") == []

    def test_hung_response_is_active_until_it_is_cancelled(self) -> None:
        driver, faults = _driver(greeting_words=8)
        faults.silent_response(after_ms=300, error=False, active=True)
        driver.send("response.create")
        assert all_of(driver.run(60), "response.done") == []
        error = error_of(driver.send("response.create"))
        assert error["code"] == "conversation_already_has_active_response"
        assert _done(driver.send("response.cancel"))["status"] == "cancelled"

    def test_hung_response_that_said_all_can_be_cancelled(self) -> None:
        driver, faults = _driver(greeting_words=2)
        faults.silent_response(after_ms=None, error=False, active=True)
        driver.send("response.create")
        driver.run(60)
        events = driver.send("response.cancel")
        assert kinds(events) == ["response.done", "rate_limits.updated"]

    def test_any_server_event_can_be_lost(self) -> None:
        driver, faults = _driver()
        faults.lose("response.created")
        assert "response.created" not in kinds(driver.respond())
        assert "response.created" in kinds(driver.respond())


class TestRefusals:
    @pytest.mark.parametrize(("echo", "event_id"), [("echo", "evt_7"), ("null", None), ("absent", ...)])
    def test_refusal_names_the_client_event_or_not(self, echo: str, event_id: object) -> None:
        driver, faults = _driver()
        faults.refuse_event("session.update", param="session.audio.input.noise_reduction", event_id=echo)
        event = {
            "type": "session.update",
            "event_id": "evt_7",
            "session": {"type": "realtime", "instructions": "!"},
        }
        error = error_of(driver.send_raw(event))
        assert error["param"] == "session.audio.input.noise_reduction"
        assert error.get("event_id", ...) == event_id
        assert driver.session.config.instructions != "!"
        assert kinds(driver.send_raw(event)) == ["session.updated"]

    def test_response_create_is_refused_with_any_code(self) -> None:
        driver, faults = _driver()
        faults.refuse_event("response.create", code="server_is_overloaded", kind="server_error")
        error = error_of(driver.send("response.create", event_id="evt_1"))
        assert (error["code"], error["type"]) == ("server_is_overloaded", "server_error")
        assert driver.session.active_response is None

    def test_late_answer_to_session_update(self) -> None:
        driver, faults = _driver()
        faults.delay("session.update", 5.0)
        assert driver.update(instructions="Be kind.") == []
        assert driver.run(4.9) == []
        assert kinds(driver.run(0.2)) == ["session.updated"]
        assert driver.session.config.instructions == "Be kind."

    def test_late_event_that_is_wrong_is_refused_late(self) -> None:
        driver, faults = _driver()
        faults.delay("response.cancel", 2.0)
        assert driver.send("response.cancel", event_id="evt_9") == []
        assert error_of(driver.run(2.1))["event_id"] == "evt_9"

    def test_late_response_is_active_before_it_is_created(self) -> None:
        driver, faults = _driver(greeting_words=2)
        faults.late_response(11.0)
        assert driver.send("response.create") == []
        assert driver.run(10.0) == []
        error = error_of(driver.send("response.create"))
        assert error["code"] == "conversation_already_has_active_response"
        events = driver.run(3.0)
        assert _done(events)["status"] == "completed"
        assert kinds(events)[0] == "response.created"

    def test_late_response_can_be_cancelled_before(self) -> None:
        driver, faults = _driver()
        faults.late_response(11.0)
        driver.send("response.create")
        events = driver.send("response.cancel")
        assert kinds(events) == ["response.created", "response.done", "rate_limits.updated"]
        assert _done(events)["status"] == "cancelled"
        assert driver.run(20.0) == []

    def test_unread_field_stays_as_it_was(self) -> None:
        driver, faults = _driver()
        faults.leave_unread(["audio.output.speed"], session=None)
        other = Driver(faults=SessionFaults.of_new_session(faults.shared))
        for each, speed in ((driver, 1.25), (other, 1.0)):
            events = each.update(audio={"output": {"speed": 1.25, "voice": "ash"}})
            output = only(events, "session.updated")["session"]["audio"]["output"]
            assert (output["speed"], output["voice"]) == (speed, "ash")


class TestSpeech:
    def test_speech_goes_on_until_the_client_commits(self) -> None:
        driver, faults = _driver()
        faults.endless_speech()
        events = _turn(driver) + driver.speak(silence(8000) + tone(400) + silence(1000))
        assert kinds(events) == ["input_audio_buffer.speech_started"]
        committed = driver.send("input_audio_buffer.commit")
        assert kinds(committed)[0] == "input_audio_buffer.committed"
        assert committed[0]["item_id"] == events[0]["item_id"]
        (item,) = driver.session.conversation.items
        assert item.audio_ms > 9000
        assert only(driver.run(1), "conversation.item.input_audio_transcription.completed")["transcript"]

    def test_next_speech_ends_by_itself_after_a_commit(self) -> None:
        driver, faults = _driver()
        faults.endless_speech()
        _turn(driver)
        driver.send("input_audio_buffer.commit")
        assert "input_audio_buffer.speech_stopped" in kinds(_turn(driver))

    def test_clearing_the_buffer_ends_endless_speech(self) -> None:
        driver, faults = _driver()
        faults.endless_speech()
        _turn(driver)
        assert kinds(driver.send("input_audio_buffer.clear")) == ["input_audio_buffer.cleared"]
        assert "input_audio_buffer.speech_stopped" in kinds(_turn(driver))

    def test_commit_while_turns_are_detected_asks_for_no_answer(self) -> None:
        driver, _ = _driver()
        driver.speak(tone(400))
        assert "response.created" not in kinds(driver.send("input_audio_buffer.commit") + driver.run(5))

    def test_false_speech_interrupts_and_never_ends(self) -> None:
        driver, _ = _driver(greeting_words=20)
        driver.send("response.create")
        driver.run(0.5)
        driver.session.hearing.start_speech(driver.now, None)
        events = driver.speak(silence(3000))
        assert kinds(events)[0] == "input_audio_buffer.speech_started"
        assert _done(events)["status_details"]["reason"] == "turn_detected"
        assert "input_audio_buffer.speech_stopped" not in kinds(events)
        assert "input_audio_buffer.committed" in kinds(driver.send("input_audio_buffer.commit"))

    def test_false_speech_may_end_and_is_answered(self) -> None:
        driver, _ = _driver()
        driver.speak(silence(500))
        driver.session.hearing.start_speech(driver.now, 1.0)
        events = driver.speak(silence(2000)) + driver.finish()
        assert kinds(events)[:3] == [
            "input_audio_buffer.speech_started",
            "input_audio_buffer.speech_stopped",
            "input_audio_buffer.committed",
        ]
        assert _done(events)["status"] == "completed"

    def test_speech_going_on_does_not_start_again(self) -> None:
        driver, _ = _driver()
        driver.speak(tone(400))
        driver.session.hearing.start_speech(driver.now, None)
        assert driver.speak(tone(400) + silence(2000)) == []


class TestBrokenEvents:
    @pytest.mark.parametrize(
        "kind",
        ["response.output_audio_transcript.delta", "response.output_audio_transcript.done", "response.done"],
    )
    def test_lone_surrogate_in_text_is_refused_by_orjson(self, kind: str) -> None:
        driver, faults = _driver(greeting_words=2)
        faults.garble(kind)
        driver.session.receive(b'{"type": "response.create"}', driver.now)
        driver.session.advance(driver.now + 5)
        refused = [text for text in driver.session.take_output() if not _is_read(text)]
        (event,) = (json.loads(text) for text in refused)
        assert event["type"] == kind
        assert "\ud800" in _text(event)

    def test_lone_surrogate_in_arguments_leaves_them_json(self) -> None:
        driver, faults = _driver(tool_calls=(_CALL,))
        for text in ("function_call_arguments.done", "output_item.done", "done"):
            faults.garble(f"response.{text}")
        driver.send("conversation.item.create", item=_NOTE)
        driver.session.receive(b'{"type": "response.create"}', driver.now)
        driver.session.advance(driver.now + 5)
        refused = [json.loads(text) for text in driver.session.take_output() if not _is_read(text)]
        assert [event["type"].rpartition("response.")[2] for event in refused] == [
            "function_call_arguments.done",
            "output_item.done",
            "done",
        ]
        assert json.loads(refused[0]["arguments"]) == {"city": "Rome\ud800"}

    def test_garbled_event_is_no_json(self) -> None:
        driver, faults = _driver(greeting_words=2)
        faults.garble("response.done", "not_json")
        driver.session.receive(b'{"type": "response.create"}', driver.now)
        driver.session.advance(driver.now + 5)
        output = driver.session.take_output()
        (broken,) = [text for text in output if not _is_read(text)]
        with pytest.raises(ValueError, match=r"Expecting|Unterminated"):
            json.loads(broken)
        assert broken.startswith(b'{"type":"response.done"')
        assert driver.session.active_response is None


def _is_read(text: bytes) -> bool:
    try:
        orjson.loads(text)
    except orjson.JSONDecodeError:
        return False
    return True


def _text(event: Event) -> str:
    if event["type"] == "response.done":
        return str(event["response"]["output"][0]["content"][0]["transcript"])
    return str(event.get("delta") or event["transcript"])


class TestOrder:
    def test_next_response_is_created_before_a_calling_one_ends(self) -> None:
        driver, faults = _driver(tool_calls=(_CALL,))
        faults.overlap()
        events = _turn(driver) + driver.finish()
        of_responses = [event for event in events if event["type"] in ("response.created", "response.done")]
        ids = [event["response"]["id"] for event in of_responses]
        assert [event["type"] for event in of_responses] == ["response.created"] * 2 + ["response.done"] * 2
        assert ids[2:] == ids[:2]
        assert of_responses[2]["response"]["output"][0]["name"] == "find"

    def test_rate_limit_is_shown_once(self) -> None:
        driver, faults = _driver()
        faults.rate_limit(0, 4.5, name="requests")
        limit = only(driver.respond(), "rate_limits.updated")["rate_limits"]
        assert [(each["name"], each["remaining"], each["reset_seconds"]) for each in limit] == [
            ("requests", 0, 4.5)
        ]
        assert only(driver.respond(), "rate_limits.updated")["rate_limits"][0]["remaining"] > 0


class TestOutage:
    def test_every_response_fails_until_the_outage_is_over(self) -> None:
        driver, _ = _driver(greeting_words=20)
        driver.send("response.create")
        driver.run(0.5)
        shared = driver.session.faults.shared
        assert shared is not None
        shared.outage.until_seconds = driver.now + 10.0
        shared.outage.ending = Ending(code="server_error", output=Output.NONE)
        assert _done(driver.run(0.2))["status"] == "failed"
        response = _done(driver.respond())
        assert (response["status"], response["output"]) == ("failed", [])
        driver.run(10.0)
        assert _done(driver.respond())["status"] == "completed"

    def test_outage_refuses_connections_before_other_refusals(self) -> None:
        now = 50.0
        faults = Faults(lambda: now)
        faults.refuse(401)
        faults.outage(30.0, 503, retry_after_seconds=7)
        refusals = [faults.take_refusal() for _ in range(2)]
        assert [(each.status, each.retry_after_seconds) for each in refusals if each] == [(503, 7)] * 2
        assert faults.shared.failing(79.0) is not None
        now = 80.0
        refusal = faults.take_refusal()
        assert refusal is not None
        assert refusal.status == 401
        assert faults.shared.failing(now) is None


class TestTimeline:
    @pytest.mark.parametrize(("code", "waits"), [("server_error", 0.0), ("rate_limit_exceeded", 3.0)])
    def test_failed_response_is_noted_with_the_time_it_asks_for(self, code: str, waits: float) -> None:
        driver, faults = _driver()
        faults.end_response("failed", code=code, output="none")
        driver.respond()
        response = driver.session.responses[-1]
        assert response.ended_seconds is not None
        (struck,) = driver.session.timeline.faults
        assert struck.name == "ending"
        assert (struck.from_seconds, struck.until_seconds) == (
            response.started_seconds,
            response.ended_seconds + waits,
        )

    def test_late_response_is_noted_until_it_is_created(self) -> None:
        driver, faults = _driver(greeting_words=1)
        faults.late_response(11.0)
        driver.respond()
        (struck,) = driver.session.timeline.faults
        assert struck.name == "late_response"
        assert struck.until_seconds - struck.from_seconds == pytest.approx(11.0)

    def test_endless_speech_is_noted_until_the_commit(self) -> None:
        driver, faults = _driver()
        faults.endless_speech()
        _turn(driver)
        driver.speak(silence(3000))
        assert driver.session.timeline.faults == []
        driver.send("input_audio_buffer.commit")
        (struck,) = driver.session.timeline.faults
        assert (struck.name, struck.until_seconds) == ("endless_speech", driver.now)
        assert struck.until_seconds - struck.from_seconds == pytest.approx(3.84, abs=0.05)

    def test_refused_event_is_noted(self) -> None:
        driver, faults = _driver()
        faults.refuse_event()
        driver.send("response.create")
        assert [each.name for each in driver.session.timeline.faults] == ["rejection"]

    def test_limit_of_tokens_is_no_fault(self) -> None:
        driver, _ = _driver(greeting_words=8)
        assert _done(driver.respond(max_output_tokens=40))["status"] == "incomplete"
        assert driver.session.timeline.faults == []


class TestNotes:
    @pytest.mark.parametrize("counts", [True, False])
    def test_note_of_the_client_counts_as_a_turn_or_not(self, counts: bool) -> None:
        driver, _ = _driver(notes_are_turns=counts)
        driver.send("conversation.item.create", item=_NOTE)
        assert _done(driver.respond())["output"][0]["content"][0]["transcript"].startswith(
            "reply one turn one" if counts else "greeting one"
        )

    def test_note_after_a_tool_output_repeats_no_call(self) -> None:
        driver, _ = _driver(notes_are_turns=False, tool_calls=(_CALL,))
        for item in (
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "where?"}]},
            {"type": "function_call", "call_id": "call_1", "name": "find", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "call_1", "output": "found"},
            _NOTE,
        ):
            driver.send("conversation.item.create", item=item)
        assert _done(driver.respond())["output"][0]["type"] == "message"
