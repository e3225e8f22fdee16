"""A session's life: opening, retries, the caller's audio on its way to the model, errors and ends.

`test_session_replies.py` has replies, `test_session_oddities.py` has odd events.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from common.errors import IllegalTransition, LinkProtocolError, UpstreamError
from common.link import wire
from common.link.wire import Kind, Outcome
from common.settings.openai_fields import TurnDetection
from common.settings.settings import Settings
from tests.worker import api_events as api
from tests.worker.session_driver import (
    CREATE,
    FRAME,
    Append,
    Driver,
    live,
    only,
    pcm_24k,
    texts,
)
from worker.audio.resample import Upsampler
from worker.config.session_update import session_object
from worker.realtime.usage import Usage
from worker.session.actions import Connect, Ended, Measurement, Metric, Released, Used
from worker.session.states import State

UPDATE = {"type": "session.update", "event_id": "session-update", "session": session_object(Settings())}
BUSY = UpstreamError("the Realtime API answered HTTP 503", code="http_503", retryable=True)
BAD_KEY = UpstreamError("OpenAI refused the API key", code="invalid_api_key", retryable=False)


def failed(message: str, reason: str = "upstream") -> list[Any]:
    """Return the actions that end a failed call."""
    return [wire.Ended(Outcome.FAILED, message, reason), Ended(Outcome.FAILED, message)]


def dropped(message: str) -> list[Any]:
    """Return the actions that release a call to another session."""
    return [wire.Released("dropped", message), Released("dropped", message)]


def error(code: str) -> Measurement:
    return Measurement(Metric.UPSTREAM_ERROR, label=code)


def speech(frames: int, seed: int = 1) -> list[bytes]:
    """Caller's audio in frames of 20 ms."""
    samples = np.random.default_rng(seed).integers(-20_000, 20_000, (frames, 160))
    return [frame.astype("<i2").tobytes() for frame in samples]


def state_of(driver: Driver) -> State:
    """Read anew: what an assertion has found out does not hold behind the next call."""
    return driver.session.state


# Opening


def test_a_call_is_accepted_at_once_and_greeted_by_its_session() -> None:
    driver = Driver()
    assert driver.take() == [Connect(0.0)]
    assert driver.connected() == [UPDATE]
    assert driver.event(api.session_created()) == []
    assert driver.event(api.session_updated()) == [wire.Ready(), CREATE]
    assert state_of(driver) is State.LIVE


def test_it_greets_once() -> None:
    driver = live()
    assert driver.event(api.session_updated()) == []


def test_events_of_unknown_types_are_ignored_and_counted() -> None:
    driver = live()
    before = driver.session.ignored
    assert driver.event({"type": "event.of.next.year", "event_id": "1"}) == []
    assert driver.event({"type": "response.of.next.year"}) == []
    driver.session.record(62, memoryview(b"{}"), driver.now)
    assert driver.take() == []
    assert driver.session.ignored == before + 3


def test_a_second_connection_is_an_illegal_transition() -> None:
    driver = Driver()
    driver.connected()
    with pytest.raises(IllegalTransition, match="connected in the state configuring"):
        driver.connected()
    driver.event(api.session_updated())
    with pytest.raises(IllegalTransition, match="connected in the state live"):
        driver.connected()
    driver.session.stopped("the worker is stopping")
    with pytest.raises(IllegalTransition, match="connected in the state ended"):
        driver.connected()


def test_a_failed_attempt_beside_a_connection_is_illegal_too() -> None:
    driver = Driver()
    driver.connected()
    with pytest.raises(IllegalTransition, match="connect_failed in the state configuring"):
        driver.session.connect_failed(BUSY, driver.now)
    driver.event(api.session_updated())
    with pytest.raises(IllegalTransition, match="connect_failed in the state live"):
        driver.session.connect_failed(BUSY, driver.now)


def test_peers_of_an_ended_session_are_ignored_and_counted() -> None:
    driver = live()
    driver.session.stopped("the worker is stopping")
    driver.take()
    assert driver.event(api.speech_started("turn")) == []
    assert driver.record(wire.Dtmf("1")) == []
    assert driver.caller() == []
    assert driver.session.ignored == 3


# Retries


def fail(driver: Driver, error: UpstreamError = BUSY) -> list[Any]:
    driver.session.connect_failed(error, driver.now)
    return driver.take()


def test_a_temporary_refusal_is_retried_until_the_deadline() -> None:
    driver = Driver(retry_seconds=20.0)
    driver.take()
    delays = []
    while state_of(driver) is State.CONNECTING:
        did = fail(driver)
        assert did[0] == error("http_503")
        for connect in only(did, Connect):
            delays.append(connect.delay_seconds)
            driver.now += connect.delay_seconds
    assert delays == [0.5, 1.0, 2.0, 3.0, 3.0, 3.0, 3.0, 3.0]
    message = "no Realtime session after 9 attempts in 20 s: the Realtime API answered HTTP 503"
    assert did[1:] == failed(message)


def test_attempts_that_take_long_count_for_the_deadline() -> None:
    driver = Driver(retry_seconds=30.0)
    driver.take()
    driver.now += 29.9
    (*_, end) = fail(driver)
    assert isinstance(end, Ended)


def test_after_a_failed_attempt_the_next_one_can_succeed() -> None:
    driver = Driver()
    driver.take()
    assert fail(driver) == [error("http_503"), Connect(0.5)]
    assert driver.connected() == [UPDATE]
    assert driver.event(api.session_updated()) == [wire.Ready(), CREATE]


def test_a_refusal_that_cannot_pass_ends_the_call_at_once() -> None:
    driver = Driver()
    driver.take()
    assert fail(driver, BAD_KEY) == [error("invalid_api_key"), *failed("OpenAI refused the API key")]


def test_a_connection_lost_during_setup_is_opened_again() -> None:
    driver = Driver()
    driver.take()
    driver.connected()
    driver.session.connection_lost("it broke off", driver.now)
    assert driver.take() == [error("connection_lost"), Connect(0.5)]
    assert state_of(driver) is State.CONNECTING


def test_a_session_setup_that_times_out_is_retried() -> None:
    driver = Driver(retry_seconds=15.0)
    driver.take()
    driver.connected()
    assert driver.tick(9.9) == []
    assert driver.tick(0.1) == [error("no_session"), Connect(0.5)]
    driver.connected()
    message = "the Realtime API did not set up the session within 10 s"
    did = driver.tick(10.0)
    assert did == [error("no_session"), *failed(f"no Realtime session after 2 attempts in 15 s: {message}")]


def test_a_connection_lost_in_the_middle_of_a_call_lets_it_go() -> None:
    driver = live()
    driver.session.connection_lost("closed with code 1011", driver.now)
    message = "the connection to the Realtime API was lost: closed with code 1011"
    assert driver.take() == [error("connection_lost"), *dropped(message)]


def test_a_session_whose_time_is_over_lets_its_call_go() -> None:
    driver = live()
    did = driver.event(api.error("session_expired", "Your session hit the maximum duration of 60 minutes."))
    assert did == [error("session_expired"), *dropped("the Realtime session reached its time limit")]


def test_a_session_that_is_refused_ends_the_call_with_the_reason() -> None:
    driver = Driver()
    driver.take()
    driver.connected()
    refusal = api.error("invalid_value", "Invalid voice.", event_id="session-update")
    did = driver.event(refusal)
    assert did == [error("invalid_value"), *failed("the Realtime API refused the session: Invalid voice.")]


def test_a_key_refused_after_the_handshake_ends_the_call() -> None:
    # The event may be read together with the handshake's answer.
    driver = Driver()
    driver.take()
    did = driver.event(api.error("invalid_api_key", "Incorrect API key provided: sk-abc***xyz."))
    assert did == [
        error("invalid_api_key"),
        *failed("OpenAI refused the API key: check OPENAI_API_KEY"),
    ]


def test_an_unrelated_error_does_not_end_the_setup() -> None:
    driver = Driver()
    driver.take()
    driver.connected()
    assert driver.event(api.error("server_error", kind="server_error")) == [error("server_error")]
    assert driver.event(api.session_updated()) == [wire.Ready(), CREATE]


# Caller's audio


def test_early_audio_is_sent_in_order_after_the_greeting() -> None:
    driver = Driver()
    driver.take()
    frames = speech(150)
    early = [one for frame in frames[:100] for one in driver.caller(frame)]
    driver.connected()
    early += [one for frame in frames[100:] for one in driver.caller(frame)]
    assert only(early, Append) == []
    did = driver.event(api.session_updated())
    appends = only(did, Append)
    assert did == [wire.Ready(), CREATE, *appends]
    assert b"".join(one.pcm for one in appends) == Upsampler().process(b"".join(frames))
    assert [len(one.pcm) for one in appends] == [48_000, 48_000, 48_000]


def test_live_audio_goes_on_frame_by_frame() -> None:
    driver = live()
    upsampler = Upsampler()
    for frame in speech(5):
        assert driver.caller(frame) == [Append(upsampler.process(frame))]
    assert driver.caller(b"") == []


def test_of_early_audio_only_the_last_thirty_seconds_are_kept() -> None:
    driver = Driver()
    driver.take()
    frames = speech(1510)
    did = [one for frame in frames for one in driver.caller(frame)]
    dropped = [one for one in did if isinstance(one, Measurement)]
    assert dropped == [Measurement(Metric.CALLER_AUDIO_DROPPED_SECONDS, 0.02)] * 10
    driver.connected()
    appends = only(driver.event(api.session_updated()), Append)
    assert b"".join(one.pcm for one in appends) == Upsampler().process(b"".join(frames[10:]))


@pytest.mark.parametrize("is_live", [True, False])
def test_credit_is_returned_in_steps_for_unsent_audio_too(is_live: bool) -> None:
    driver = live() if is_live else Driver()
    driver.take()
    credits_given = [only(driver.caller(FRAME), wire.Credit) for _ in range(50)]
    assert [n for n, given in enumerate(credits_given, 1) if given] == [25, 50]
    assert credits_given[24] == [wire.Credit(8000)]


def test_audio_waits_for_a_stalled_api_and_follows_in_order() -> None:
    driver = live()
    frames = speech(120)
    upsampler = Upsampler()
    assert driver.caller(frames[0]) == [Append(upsampler.process(frames[0]))]
    driver.session.upstream_paused()
    assert only([one for frame in frames[1:100] for one in driver.caller(frame)], Append) == []
    driver.session.upstream_writable(driver.now)
    waited = only(driver.take(), Append)
    after = [one for frame in frames[100:] for one in only(driver.caller(frame), Append)]
    assert b"".join(one.pcm for one in waited + after) == upsampler.process(b"".join(frames[1:]))
    assert len(after) == 20


def test_a_pause_of_a_lost_connection_ends_with_it() -> None:
    driver = Driver()
    driver.take()
    driver.connected()
    driver.session.upstream_paused()
    driver.session.connection_lost("it broke off", driver.now)
    driver.take()
    driver.connected()
    driver.event(api.session_updated())
    assert len(only(driver.caller(FRAME), Append)) == 1


# Finished positions


def finished(driver: Driver, item_id: str, end_ms: int) -> list[Any]:
    """Return the finished positions during a turn that gets a transcript."""
    driver.memory_writer.clear()
    driver.turn(item_id, "something", end_ms=end_ms)
    return only(driver.memory_writer, wire.Finished)


def speaks(position_samples: int = 0) -> list[wire.Finished]:
    """Return the records of a turn without a finished position."""
    return [wire.Finished(position_samples, speaking=True), wire.Finished(position_samples)]


def test_a_turn_with_text_is_finished_at_its_end_in_the_call() -> None:
    driver = live(position_samples=16_000)
    for _ in range(100):
        driver.caller()
    assert finished(driver, "item_a", 1500) == [*speaks(), wire.Finished(16_000 + 12_000)]


def test_waiting_and_lost_audio_count_for_the_position() -> None:
    driver = Driver(position_samples=800)
    driver.take()
    driver.caller()
    driver.caller(lost_samples=8000)
    driver.caller()
    driver.connected()
    assert [len(one.pcm) // 6 for one in only(driver.event(api.session_updated()), Append)] == [160, 320]
    assert finished(driver, "item_a", 30) == [*speaks(), wire.Finished(800 + 160 + 8000 + 80)]


def test_a_turn_without_text_keeps_later_turns_unfinished() -> None:
    driver = live()
    for _ in range(200):
        driver.caller()
    driver.turn("item_a", end_ms=1000)
    assert finished(driver, "item_b", 2000) == speaks()
    driver.memory_writer.clear()
    driver.event(api.transcribed("item_a", "first"))
    assert only(driver.memory_writer, wire.Finished) == [wire.Finished(16_000)]


def test_a_turn_is_remembered_before_its_audio_is_finished() -> None:
    driver = live()
    for _ in range(100):
        driver.caller()
    driver.memory_writer.clear()
    driver.turn("item_a", "something", end_ms=1000)
    with_text = [
        number
        for number, record in enumerate(driver.memory_writer)
        if isinstance(record, wire.ItemUpdate) and record.item.get("text") == "something"
    ]
    without_audio = driver.memory_writer.index(wire.Finished(8_000))
    assert with_text
    assert with_text[0] < without_audio


def test_of_silence_a_second_is_kept() -> None:
    driver = live()
    for _ in range(20):
        for _ in range(10):
            driver.caller()
        driver.tick(0.2)
    positions = [record.position_samples for record in only(driver.memory_writer, wire.Finished)]
    # What the session heard first may be known for speech late; after 3 s silence goes by the second.
    assert positions == [3 * 8000 - 8000, 4 * 8000 - 8000]


def test_nothing_is_finished_that_the_api_has_not_read() -> None:
    driver = live()
    heard_seconds = driver.now + 3.0
    for _ in range(50):
        for _ in range(10):
            driver.caller()
        driver.now += 0.2
        driver.session.tick(driver.now, heard_seconds)
        driver.take()
    positions = [record.position_samples for record in only(driver.memory_writer, wire.Finished)]
    assert max(positions) <= 3 * 8000 + 1600 - 8000


def test_speech_and_turns_without_text_are_not_finished() -> None:
    driver = live()
    for _ in range(50):
        driver.caller()
        driver.tick(0.02)
    driver.event(api.speech_started("item_a", 500))
    for _ in range(125):
        driver.caller()
        driver.tick(0.02)
    driver.event(api.speech_stopped("item_a", 3_000), api.committed("item_a"), api.caller_item_added("item_a"))
    for _ in range(250):
        driver.caller()
        driver.tick(0.02)
    assert {record.position_samples for record in only(driver.memory_writer, wire.Finished)} == {0}
    driver.event(api.transcribed("item_a", "Hello"))
    assert only(driver.memory_writer, wire.Finished)[-1] == wire.Finished(3_000 * 8)


# Turn latency


def test_turn_latency_runs_from_end_of_speech_to_first_audio() -> None:
    driver = live(settings=Settings(openai_turn_detection_silence_ms=400))
    driver.reply("resp_0", "greeting", "Hello", 100)
    for _ in range(100):
        driver.caller()
    driver.event(api.speech_started("item_a"))
    # The speech ended 400 ms before the API says so, and 100 ms were appended since.
    driver.event(api.speech_stopped("item_a", 1900), api.committed("item_a"))
    driver.now += 0.8
    did = driver.reply("resp_1", "reply", "Yes", 100)
    (latency,) = only(did, Measurement)
    assert latency.seen is Metric.TURN_LATENCY_SECONDS
    assert latency.value == pytest.approx(0.8 + 0.4 + 0.1)


def test_only_the_first_audio_counts_and_only_behind_a_turn() -> None:
    driver = live()
    assert only(driver.reply("resp_0", "greeting", "Hello", 100), Measurement) == []
    driver.turn("item_a")
    assert len(only(driver.reply("resp_1", "reply", "Yes", 100, done=False), Measurement)) == 1
    assert only(driver.event(api.audio_delta("resp_1", "reply", pcm_24k(100))), Measurement) == []


def test_semantic_turn_detection_waits_for_no_silence() -> None:
    driver = live(settings=Settings(openai_turn_detection=TurnDetection.SEMANTIC_VAD))
    for _ in range(50):
        driver.caller()
    driver.turn("item_a", end_ms=1000)
    driver.now += 0.5
    (latency,) = only(driver.reply("resp_1", "reply", "Yes", 100), Measurement)
    assert latency.value == pytest.approx(0.5)


def test_late_audio_of_a_reply_that_was_cut_is_not_the_answer() -> None:
    driver = live()
    driver.reply("resp_0", "greeting", "Hello", 1000, done=False)
    driver.turn("item_a")
    assert driver.event(api.audio_delta("resp_0", "greeting", pcm_24k(100))) == []


# Errors and usage


@pytest.mark.parametrize("code", ["invalid_value", "server_error", "response_cancel_not_active", None])
def test_an_error_is_counted_and_the_call_goes_on(code: str | None) -> None:
    driver = live()
    assert driver.event(api.error(code)) == [error(code or "invalid_request_error")]
    assert state_of(driver) is State.LIVE


def test_an_error_that_no_session_gets_over_ends_the_call() -> None:
    driver = live()
    message = "the OpenAI account has no quota left: check its plan and billing"
    assert driver.event(api.error("insufficient_quota")) == [error("insufficient_quota"), *failed(message)]


@pytest.mark.parametrize(
    ("status", "details", "reported"),
    [
        ("failed", {"type": "failed", "error": {"type": "server_error", "code": "busy"}}, [error("busy")]),
        ("failed", {"type": "failed", "error": {"type": "server_error"}}, [error("server_error")]),
        ("failed", {"type": "failed", "error": None}, [error("unknown")]),
        ("failed", None, [error("unknown")]),
        ("incomplete", {"type": "incomplete", "reason": "content_filter"}, []),
        ("incomplete", None, []),
    ],
)
def test_a_failed_response_does_not_end_the_call(
    status: str, details: dict[str, Any] | None, reported: list[Measurement]
) -> None:
    driver = live()
    driver.reply("resp_1", "reply", "One two", 200, done=False)
    did = driver.event(api.response_done("resp_1", status, status_details=details, usage=api.USAGE))
    assert only(did, Measurement) == reported
    assert len(only(did, Used)) == 1
    assert state_of(driver) is State.LIVE
    assert only(did, wire.ReplyItemDone) == [wire.ReplyItemDone(0)]


def test_a_transcriptions_usage_is_reported_once() -> None:
    driver = live()
    usage = {"type": "duration", "seconds": 1.0}
    driver.event(api.committed("item_a"), api.transcribed("item_a", "Hello"))
    assert driver.transcribed == [usage]
    # The item is unknown; the transcription was paid for all the same.
    driver.event(api.transcribed("item_none", "Hello"))
    assert driver.transcribed == [usage, usage]
    without = {name: value for name, value in api.transcribed("item_b", "Hi").items() if name != "usage"}
    driver.event(without)
    assert driver.transcribed == [usage, usage]


def test_a_response_that_failed_for_want_of_quota_is() -> None:
    driver = live()
    driver.event(api.response_created("resp_1"))
    details = {"type": "failed", "error": {"type": "insufficient_quota", "code": "insufficient_quota"}}
    did = driver.event(api.response_done("resp_1", "failed", status_details=details))
    message = "the OpenAI account has no quota left: check its plan and billing"
    assert did == [error("insufficient_quota"), *failed(message)]


def test_tokens_of_cancelled_responses_are_counted_too() -> None:
    driver = live()
    usage = Usage(input_text=9, input_audio=46, cached_text=60, cached_audio=4, output_text=24, output_audio=90)
    driver.event(api.response_created("resp_1"))
    assert only(driver.event(api.cancelled("resp_1", usage=api.USAGE)), Used) == [Used(usage)]
    driver.event(api.response_created("resp_2"))
    assert only(driver.event(api.response_done("resp_2", usage=api.USAGE)), Used) == [Used(usage)]
    driver.event(api.response_created("resp_3"))
    assert driver.event(api.response_done("resp_3")) == []


# The link, and ends


def test_records_of_a_newer_release_are_skipped() -> None:
    driver = live()
    driver.session.record(200, memoryview(b"?"), driver.now)
    assert driver.take() == []


@pytest.mark.parametrize(
    ("kind", "payload"),
    [
        (Kind.CREDIT, b""),
        (Kind.PLAYOUT, b"not json"),
        (Kind.PLAYOUT, b'{"items":[7]}'),
        (Kind.HEARD, b'{"number":"one"}'),
        (Kind.HEARD, b"[]"),
        (Kind.CLOSE, b"\xff"),
    ],
)
def test_a_record_that_cannot_be_understood_is_the_links_error(kind: Kind, payload: bytes) -> None:
    driver = live()
    with pytest.raises(LinkProtocolError):
        driver.session.record(kind, memoryview(payload), driver.now)


def test_a_call_closed_by_the_dispatcher_is_completed_silently() -> None:
    driver = live()
    assert driver.record(wire.Close("the caller hung up")) == [Ended(Outcome.COMPLETED, "the caller hung up")]


def test_a_call_without_its_dispatcher_fails_silently() -> None:
    driver = live()
    driver.session.dispatcher_lost()
    assert driver.take() == [Ended(Outcome.FAILED, "the dispatcher of this call was lost")]


def test_a_call_that_is_stopped_says_why() -> None:
    driver = live()
    driver.session.stopped("the worker is stopping")
    assert driver.take() == failed("the worker is stopping", "internal")


def test_after_the_end_nothing_is_done_any_more() -> None:
    driver = live()
    driver.reply("resp_1", "reply", "One two", 200, done=False)
    driver.session.stopped("the worker is stopping")
    driver.take()
    driver.session.stopped("again")
    driver.session.dispatcher_lost()
    driver.session.connection_lost("too", driver.now)
    driver.session.connect_failed(BUSY, driver.now)
    driver.session.upstream_writable(driver.now)
    did = driver.take() + driver.tick(1000.0) + driver.caller() + driver.credit(100)
    did += driver.record(wire.Close("late"), wire.Heard(1), wire.Playout())
    did += driver.event(api.speech_started("item_a"), api.error("insufficient_quota"), api.session_updated())
    did += driver.reply_done("resp_1", "reply", "One two")
    assert did == []
    assert texts(did) == []


def test_the_session_is_the_one_that_was_asked_for() -> None:
    settings = Settings(openai_instructions="Sell.", openai_voice="marin", openai_max_tokens=100)
    driver = Driver(settings=settings)
    driver.take()
    (update,) = driver.connected()
    assert update == {**UPDATE, "session": session_object(settings)}


def test_what_waited_is_forgotten_at_the_end() -> None:
    driver = Driver()
    for frame in speech(100):
        driver.caller(frame)
    driver.session.stopped("the worker is stopping")
    assert driver.session.parts.audio.waiting_bytes == 0


def test_the_uuid_and_epoch_are_the_openings() -> None:
    driver = Driver()
    assert (driver.session.uuid, driver.session.epoch) == ("uuid-1", 1)
