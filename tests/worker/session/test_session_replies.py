"""Heard parts of replies: truncation at the model, and transcripts for AVR Core."""

from __future__ import annotations

from typing import Any

import pytest

from common.link import wire
from common.settings.session_values import AudioFormat
from common.settings.settings import Settings
from tests.worker import api_events as api
from tests.worker.session_driver import (
    CREATE,
    Did,
    Driver,
    audio_samples,
    heard,
    live,
    only,
    pcm_24k,
    playout,
    samples_8k,
    texts,
)
from worker.session.actions import Measurement, Metric, Used
from worker.session.agent.replies import MAX_FLUSHES

HELLO = "one two three four"


def truncate(item_id: str, milliseconds: int) -> dict[str, Any]:
    return {
        "type": "conversation.item.truncate",
        "item_id": item_id,
        "content_index": 0,
        "audio_end_ms": milliseconds,
    }


def delete(item_id: str) -> dict[str, Any]:
    return {"type": "conversation.item.delete", "item_id": item_id}


def cancel(response_id: str) -> dict[str, Any]:
    return {"type": "response.cancel", "response_id": response_id}


def greeted() -> tuple[Driver, list[Did]]:
    """Return a session whose greeting, a second of `HELLO`, was sent to its end and is playing."""
    driver = live()
    return driver, driver.reply("resp_1", "hello", HELLO, 1000)


def hear_out(driver: Driver, did: list[Did]) -> list[Did]:
    """Let the caller hear all audio that was sent in `did`."""
    return driver.record(playout(*audio_samples(did).items(), idle=True))


# Heard to the end


def test_a_fully_heard_reply_is_sent_once_and_not_truncated() -> None:
    driver, did = greeted()
    assert texts(did) == []
    assert hear_out(driver, did) == [wire.Transcript("hello", "agent", HELLO)]
    assert hear_out(driver, did) == []
    assert driver.event(api.speech_started("item_a")) == []


def test_a_reply_goes_to_the_dispatcher_as_item_audio_and_end() -> None:
    _, did = greeted()
    named, *audio, done = only(did, wire.ReplyItem, wire.ReplyAudio, wire.ReplyItemDone)
    assert named == wire.ReplyItem(0, "hello")
    assert {one.item_index for one in audio} == {0}
    assert samples_8k(1000) <= audio_samples(did)[0] <= samples_8k(1005)
    assert done == wire.ReplyItemDone(0)


def test_an_idle_playout_does_not_settle_audio_in_transit() -> None:
    # The dispatcher had played all that it had got, and reported so just before the rest came; or it holds the
    # rest because AVR Core does not read.
    driver, _ = greeted()
    assert driver.record(playout((0, samples_8k(100)), idle=True)) == []
    assert driver.record(playout(idle=True)) == []
    assert driver.event(api.speech_started("item_a")) == [wire.Flush(1)]
    assert driver.record(heard(1, (0, 100))) == [truncate("hello", 100)]


def test_reply_heard_out_before_its_end_is_settled_with_g711() -> None:
    # The end of a reply adds no samples there, so the dispatcher has nothing more to report.
    driver = live(settings=Settings(openai_audio_format=AudioFormat.PCMU), audio_format="pcmu")
    did = driver.event(
        api.response_created("resp_1"),
        api.item_added(api.reply_item("hello")),
        api.text_delta("resp_1", "hello", HELLO),
        api.audio_delta("resp_1", "hello", b"\xff" * samples_8k(300)),
    )
    assert driver.record(playout(*audio_samples(did).items(), idle=True)) == []
    assert texts(driver.reply_done("resp_1", "hello", HELLO)) == [("agent", HELLO)]
    assert not driver.session.parts.agent.is_heard


def test_text_that_comes_behind_the_playout_is_still_said() -> None:
    driver = live()
    did = driver.reply("resp_1", "hello", HELLO, 1000, done=False)
    did += driver.event(api.audio_done("resp_1", "hello"))
    assert hear_out(driver, did) == []
    did += driver.reply_done("resp_1", "hello", HELLO)
    assert texts(hear_out(driver, did)) == [("agent", HELLO)]


# Barge-in


def test_barge_in_while_the_reply_streams() -> None:
    driver = live()
    driver.reply("resp_1", "hello", HELLO, 1000, done=False)
    assert driver.event(api.speech_started("item_a")) == [wire.Flush(1)]
    assert driver.event(api.audio_delta("resp_1", "hello", pcm_24k(100))) == []
    cancelled = api.cancelled("resp_1", output=[api.reply_item("hello", "incomplete", HELLO)])
    assert driver.event(api.audio_done("resp_1", "hello"), cancelled) == []
    # 550 of the 1,100 ms that the API sent.
    assert driver.record(heard(1, (0, 550))) == [
        truncate("hello", 550),
        wire.Transcript("hello", "agent", "one two"),
    ]


def test_what_was_heard_is_known_before_the_response_is_over() -> None:
    driver = live()
    driver.reply("resp_1", "hello", "one two", 1000, done=False)
    driver.event(api.speech_started("item_a"))
    assert driver.record(heard(1, (0, 500))) == [truncate("hello", 500)]
    driver.event(api.audio_delta("resp_1", "hello", pcm_24k(1000)))
    # The late second belongs to the text, and was not heard.
    assert driver.event(api.text_done("resp_1", "hello", "one two three four five six seven")) == []
    assert texts(driver.event(api.cancelled("resp_1"))) == [("agent", "one two")]


def test_reply_is_over_when_its_item_is_done() -> None:
    driver = live()
    did = driver.reply("resp_1", "hello", HELLO, 1000, done=False)
    done = api.reply_item("hello", "completed", HELLO)
    driver.event(api.text_done("resp_1", "hello", HELLO))
    did += driver.event(api.event("response.output_item.done", response_id="resp_1", output_index=0, item=done))
    assert len(only(did, wire.ReplyItemDone)) == 1
    # Its response goes on, and may never end.
    assert texts(hear_out(driver, did)) == [("agent", HELLO)]


def test_barge_in_truncates_the_part_that_was_playing() -> None:
    driver = live()
    driver.reply("resp_1", "hello", HELLO, 500, done=False)
    second = api.audio_delta("resp_1", "hello", pcm_24k(500)) | {"content_index": 1}
    driver.event(second, api.speech_started("item_a"))
    did = driver.record(heard(1, (0, 700)))
    assert truncate("hello", 200) | {"content_index": 1} in did


def test_barge_in_while_the_rest_of_a_finished_response_plays() -> None:
    driver, _ = greeted()
    assert driver.event(api.speech_started("item_a")) == [wire.Flush(1)]
    assert driver.record(heard(1, (0, 500))) == [
        truncate("hello", 500),
        wire.Transcript("hello", "agent", "one two"),
    ]


@pytest.mark.parametrize("response_is_done", [True, False])
def test_late_audio_after_a_barge_in_is_dropped(response_is_done: bool) -> None:
    driver = live()
    driver.reply("resp_1", "hello", HELLO, 1000, done=response_is_done)
    driver.event(api.speech_started("item_a"))
    if not response_is_done:
        driver.event(api.cancelled("resp_1"))
    assert driver.record(heard(1, (0, 500)))[0] == truncate("hello", 500)
    assert driver.event(api.audio_delta("resp_1", "hello", pcm_24k(100))) == []
    assert driver.event(api.audio_done("resp_1", "hello"), api.text_done("resp_1", "hello", HELLO)) == []


def test_an_unheard_reply_is_deleted_without_a_transcript() -> None:
    driver, _ = greeted()
    driver.event(api.speech_started("item_a"))
    assert driver.record(heard(1, (0, 0))) == [delete("hello")]
    assert driver.event(api.audio_delta("resp_1", "hello", pcm_24k(100))) == []
    did = driver.event(api.speech_stopped("item_a", 0), api.committed("item_a"), api.transcribed("item_a", "Hi"))
    assert texts(did) == [("user", "Hi")]


def test_less_than_a_millisecond_is_nothing() -> None:
    driver, _ = greeted()
    driver.event(api.speech_started("item_a"))
    assert driver.record(wire.Heard(1, (wire.ItemHeard(0, 7),))) == [delete("hello")]


def test_it_is_never_cut_beyond_what_was_received() -> None:
    driver = live()
    driver.reply("resp_1", "hello", HELLO, 1000, done=False)
    driver.event(api.speech_started("item_a"))
    assert driver.record(heard(1, (0, 1004))) == [truncate("hello", 1000)]


def test_a_reply_fully_heard_at_the_barge_in_is_not_truncated() -> None:
    driver, _ = greeted()
    assert driver.event(api.speech_started("item_a")) == [wire.Flush(1)]
    assert driver.record(wire.Heard(1)) == [wire.Transcript("hello", "agent", HELLO)]


def test_the_second_of_two_items_of_one_response_is_cut() -> None:
    driver = live()
    did = driver.reply("resp_1", "first", "one two", 1000, done=False)
    did += driver.event(
        api.audio_done("resp_1", "first"),
        api.text_done("resp_1", "first", "one two"),
        api.item_added(api.reply_item("second"), "first"),
        api.audio_delta("resp_1", "second", pcm_24k(1000)),
        api.audio_done("resp_1", "second"),
        api.text_done("resp_1", "second", "three four"),
        api.response_done("resp_1"),
    )
    assert only(did, wire.ReplyItem) == [wire.ReplyItem(0, "first"), wire.ReplyItem(1, "second")]
    assert driver.event(api.speech_started("item_a")) == [wire.Flush(1)]
    assert driver.record(heard(1, (1, 500))) == [
        truncate("second", 500),
        wire.Transcript("first", "agent", "one two"),
        wire.Transcript("second", "agent", "three"),
    ]


def test_of_two_items_one_is_truncated_and_the_unheard_deleted() -> None:
    driver = live()
    driver.reply("resp_1", "first", "one two", 1000, done=False)
    driver.event(
        api.item_added(api.reply_item("second"), "first"),
        api.audio_delta("resp_1", "second", pcm_24k(1000)),
        api.text_delta("resp_1", "second", "three four"),
    )
    driver.event(api.speech_started("item_a"))
    driver.event(api.cancelled("resp_1"))
    assert driver.record(heard(1, (0, 500), (1, 0))) == [
        truncate("first", 500),
        delete("second"),
        wire.Transcript("first", "agent", "one"),
    ]


def test_audio_that_waited_for_credit_was_not_heard() -> None:
    driver = live(credit_bytes=2 * samples_8k(400))
    did = driver.reply("resp_1", "hello", HELLO, 1000)
    assert audio_samples(did) == {0: samples_8k(400)}
    driver.event(api.speech_started("item_a"))
    assert driver.record(wire.Heard(1)) == [
        truncate("hello", 400),
        wire.Transcript("hello", "agent", "one two"),
    ]
    assert driver.credit(16_000) == []


def test_an_item_that_waited_whole_for_credit_is_deleted() -> None:
    driver = live(credit_bytes=0)
    driver.reply("resp_1", "hello", HELLO, 1000)
    driver.event(api.speech_started("item_a"))
    assert driver.record(wire.Heard(1)) == [delete("hello")]


def test_the_next_reply_may_play_before_heard_arrives() -> None:
    driver = live()
    driver.reply("resp_1", "hello", HELLO, 1000, done=False)
    driver.event(api.speech_started("item_a"), api.cancelled("resp_1"))
    driver.event(api.speech_stopped("item_a", 0), api.committed("item_a", "hello"))
    driver.event(api.transcribed("item_a", "Stop!"))
    did = driver.reply("resp_2", "answer", "Yes", 500, previous="item_a")
    assert texts(did) == []
    assert audio_samples(did)[1] >= samples_8k(500)
    assert driver.record(heard(1, (0, 500))) == [
        truncate("hello", 500),
        wire.Transcript("hello", "agent", "one two"),
        wire.Transcript("item_a", "user", "Stop!"),
    ]
    assert hear_out(driver, did) == [wire.Transcript("answer", "agent", "Yes")]


def test_a_second_barge_in_cuts_the_second_reply_alone() -> None:
    driver = live()
    driver.reply("resp_1", "hello", HELLO, 1000)
    driver.turn("item_a", "Stop!", previous="hello")
    driver.reply("resp_2", "answer", HELLO, 1000, previous="item_a")
    assert driver.event(api.speech_started("item_b")) == [wire.Flush(2)]
    assert driver.record(heard(1, (0, 500)))[0] == truncate("hello", 500)
    assert driver.record(heard(2, (1, 250)))[0] == truncate("answer", 250)


# Responses that were not to be


def test_a_response_created_during_speech_is_cancelled() -> None:
    driver = live()
    driver.event(api.speech_started("item_a"))
    did = driver.event(api.response_created("resp_1"))
    assert did == [cancel("resp_1")]
    did = driver.event(
        api.item_added(api.reply_item("hello")),
        api.text_delta("resp_1", "hello", HELLO),
        api.audio_delta("resp_1", "hello", pcm_24k(1000)),
    )
    assert did == []
    done = api.response_done(
        "resp_1", "cancelled", status_details={"type": "cancelled", "reason": "client_cancelled"}
    )
    assert driver.event(done) == [delete("hello")]
    assert driver.event(api.audio_delta("resp_1", "hello", pcm_24k(100))) == []


def test_behind_the_speech_responses_are_welcome_again() -> None:
    driver = live()
    driver.turn("item_a")
    assert only(driver.event(api.response_created("resp_1")), dict) == []


def test_a_committed_turn_has_ended_without_speech_stopped() -> None:
    driver = live()
    driver.event(api.speech_started("item_a"), api.committed("item_a"))
    assert driver.event(api.response_created("resp_1")) == []


@pytest.mark.parametrize("listed", [True, False])
@pytest.mark.parametrize("late_audio", [True, False])
def test_a_response_cancelled_before_its_audio_delays_nothing(listed: bool, late_audio: bool) -> None:
    driver = live()
    driver.event(
        api.response_created("resp_1"),
        api.item_added(api.reply_item("hello")),
        api.text_delta("resp_1", "hello", "one"),
    )
    assert driver.event(api.speech_started("item_a")) == []
    if late_audio:
        assert driver.event(api.audio_delta("resp_1", "hello", pcm_24k(100))) == []
    output = [api.reply_item("hello", "incomplete", "one")] if listed else []
    # The model's text of it is not what the caller heard.
    assert driver.event(api.cancelled("resp_1", output=output)) == [delete("hello")]
    driver.event(api.speech_stopped("item_a", 0), api.committed("item_a", "hello"))
    assert driver.event(api.transcribed("item_a", "Hi")) == [wire.Transcript("item_a", "user", "Hi")]


def test_reply_of_text_alone_is_deleted_from_the_conversation() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"), api.item_added(api.reply_item("hello")))
    assert driver.event(api.response_done("resp_1")) == [delete("hello")]
    assert texts(driver.turn("item_a", "Hi", previous="hello")) == [("user", "Hi")]


def test_a_function_call_has_no_transcript_and_holds_nothing_up() -> None:
    driver = live()
    driver.event(
        api.response_created("resp_1"),
        api.item_added(api.function_call_item("call")),
        api.response_done("resp_1", usage=api.USAGE),
    )
    assert texts(driver.turn("item_a", "Hi", previous="call")) == [("user", "Hi")]


def test_an_injected_message_has_no_speaker() -> None:
    driver = live()
    driver.event(api.item_added(api.reply_item("restored", "completed", "said before")))
    driver.reply("resp_1", "hello", HELLO, 100)
    assert texts(driver.turn("item_a", "Hi", previous="restored")) == [("user", "Hi")]


def test_a_reply_for_a_slow_caller_is_truncated_and_counted() -> None:
    driver = live(credit_bytes=2 * samples_8k(400))
    driver.reply("resp_1", "hello", HELLO, 1000, done=False)
    # Five minutes wait at most.
    for _ in range(4):
        assert cancel("resp_1") not in driver.event(api.audio_delta("resp_1", "hello", pcm_24k(60_000)))
    did = driver.event(api.audio_delta("resp_1", "hello", pcm_24k(60_000)))
    assert did == [
        Measurement(Metric.REPLY_AUDIO_DROPPED_SECONDS, 300.6),
        cancel("resp_1"),
        wire.Flush(1),
    ]
    assert driver.event(api.audio_delta("resp_1", "hello", pcm_24k(1000))) == []
    assert driver.event(api.cancelled("resp_1")) == []
    assert driver.record(wire.Heard(1))[0] == truncate("hello", 400)


def test_barge_ins_that_no_dispatcher_answers_end_the_call() -> None:
    driver = live()
    for number in range(1, MAX_FLUSHES + 2):
        assert not only(driver.tick(), wire.Ended)
        driver.reply(f"resp_{number}", f"reply_{number}", HELLO, 1000)
        driver.turn(f"item_{number}")
    assert only(driver.tick(), wire.Ended) == [
        wire.Ended("failed", "the dispatcher does not answer interruptions (FLUSH)", "internal")
    ]


def test_those_that_are_answered_do_not() -> None:
    driver = live()
    for number in range(1, 2 * MAX_FLUSHES):
        driver.reply(f"resp_{number}", f"reply_{number}", HELLO, 1000)
        driver.turn(f"item_{number}")
        driver.record(heard(number, (number - 1, 500)))
    assert not only(driver.tick(), wire.Ended)


# Transcripts of both sides


def test_transcripts_go_out_in_the_order_of_the_conversation() -> None:
    driver, did = greeted()
    driver.turn("item_a", previous="hello")
    answer = driver.reply("resp_2", "answer", "Yes", 500, previous="item_a")
    assert driver.event(api.transcribed("item_a", " Are you there? ")) == []
    assert hear_out(driver, answer) == []
    assert driver.record(heard(1, (0, 1000))) == [
        wire.Transcript("hello", "agent", HELLO),
        wire.Transcript("item_a", "user", "Are you there?"),
        wire.Transcript("answer", "agent", "Yes"),
    ]
    assert len(did) > 0


def test_a_transcript_waits_3_s_for_the_callers_text() -> None:
    driver = live()
    driver.turn("item_a")
    answer = driver.reply("resp_1", "answer", "Yes", 500, previous="item_a")
    assert hear_out(driver, answer) == []
    assert driver.tick(2.9) == []
    assert driver.tick(0.2) == [wire.Transcript("answer", "agent", "Yes")]
    assert texts(driver.event(api.transcribed("item_a", "late"))) == []


def test_a_transcription_that_failed_is_not_waited_for() -> None:
    driver = live()
    driver.turn("item_a")
    answer = driver.reply("resp_1", "answer", "Yes", 500, previous="item_a")
    hear_out(driver, answer)
    assert driver.event(api.transcription_failed("item_a")) == [
        wire.Transcript("answer", "agent", "Yes"),
        Measurement(Metric.SIDE_ERROR, label="audio_unintelligible"),
    ]
    assert texts(driver.event(api.transcribed("item_a", "after all"))) == []


def test_a_failed_transcription_without_a_code_has_a_label() -> None:
    driver = live()
    driver.turn("item_a")
    (report,) = driver.event(api.transcription_failed("item_a", code=None))
    assert report == Measurement(Metric.SIDE_ERROR, label="transcription_error")


def test_a_text_that_comes_twice_is_said_once() -> None:
    driver = live()
    assert texts(driver.turn("item_a", "Hi")) == [("user", "Hi")]
    assert driver.event(api.transcribed("item_a", "Hi")) == []


def test_a_turn_of_silence_has_no_transcript() -> None:
    driver = live()
    assert texts(driver.turn("item_a", "  \n")) == []
    assert texts(driver.turn("item_b", "Hi", previous="item_a")) == [("user", "Hi")]


# One response at a time


def active(message_id: str | None = "response-create") -> api.Event:
    return api.error(
        "conversation_already_has_active_response",
        "Conversation already has an active response in progress: resp_1.",
        event_id=message_id,
    )


@pytest.mark.parametrize("message_id", ["response-create", None])
def test_a_greeting_refused_for_an_active_response_is_repeated(message_id: str | None) -> None:
    driver = live()
    driver.turn("item_a")
    driver.reply("resp_1", "answer", "Yes", 500, done=False)
    refused = driver.event(active(message_id))
    assert refused == [Measurement(Metric.UPSTREAM_ERROR, label="conversation_already_has_active_response")]
    assert driver.reply_done("resp_1", "answer", "Yes").count(CREATE) == 1


def test_a_refusal_for_an_unknown_response_awaits_the_next_end() -> None:
    driver = live()
    assert only(driver.event(active()), dict) == []
    assert only(driver.reply("resp_1", "answer", "Yes", 500), dict) == [CREATE]


def test_refused_for_another_reason_it_can_be_asked_for_again() -> None:
    driver = live()
    assert only(driver.event(api.error("invalid_value", event_id="response-create")), dict) == []
    assert only(driver.reply("resp_1", "answer", "Yes", 500), dict) == []


def test_what_waits_is_given_up_while_the_caller_speaks() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"), active())
    driver.event(api.speech_started("item_a"))
    assert driver.event(api.cancelled("resp_1")) == []


def test_the_end_of_another_response_is_not_the_end_of_this_one() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"), active())
    assert only(driver.event(api.cancelled("resp_0", usage=api.USAGE)), dict, Used) != []
    assert only(driver.event(api.cancelled("resp_1")), dict) == [CREATE]
