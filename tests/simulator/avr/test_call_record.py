from __future__ import annotations

import base64
from typing import Any

import orjson
import pytest

from simulator.avr.call_record import (
    MAX_MESSAGES,
    Audio,
    CallRecord,
    ClosedBy,
    Closing,
    ConnectionBack,
    ErrorMessage,
    Interruption,
    Outage,
    Transcript,
    Violation,
)

_START = 50.0


def _audio(frame: bytes = bytes(320)) -> str:
    return _message("audio", audio=base64.b64encode(frame).decode())


def _message(kind: str, **fields: Any) -> str:
    return orjson.dumps({"type": kind, **fields}).decode()


@pytest.fixture
def record() -> CallRecord:
    return CallRecord("a-call", _START)


def test_messages_are_kept_in_order_with_their_times_since_init(record: CallRecord) -> None:
    record.receive(_message("transcript", role="agent", text="Hello."), _START + 0.5)
    record.receive(_audio(), _START + 1.0)
    record.receive(_audio(), _START + 1.0)
    record.receive(_message("interruption"), _START + 1.015625)
    record.receive(_message("error", message="no more"), _START + 2.0)
    assert record.messages == [
        Transcript(0.5, "agent", "Hello."),
        Audio(1.0, 0, 160),
        Audio(1.0, 160, 160),
        Interruption(1.015625, received_samples=320, dropped_samples=320 - 125),
        ErrorMessage(2.0, "no more"),
    ]
    assert record.transcripts == [record.messages[0]]
    assert record.interruptions == [record.messages[3]]
    assert record.errors == [record.messages[4]]


@pytest.mark.parametrize(
    ("message", "what"),
    [
        ("{nonsense", "not JSON: '{nonsense'"),
        ("[1]", "unknown message: '[1]'"),
        ('{"type": ["audio"]}', "unknown message"),
        ('{"type": "video"}', 'unknown message: \'{"type": "video"}\''),
        (b"\x00\x01", "a binary message of 2 bytes"),
        (_audio(bytes(318)), "an audio message of 318 bytes, not 320"),
        (_message("audio"), "an audio message of 0 bytes, not 320"),
        (_message("audio", audio="a"), "an audio message of 0 bytes, not 320"),
        (_message("audio", audio="\u00e4"), "an audio message of 0 bytes, not 320"),
        (_message("transcript", role="agent"), "a transcript without role and text"),
        (_message("transcript", role="robot", text="Hi"), "a transcript without role and text"),
        (_message("error"), "an error without a message"),
    ],
)
def test_a_service_that_breaks_the_protocol_is_seen(record: CallRecord, message: str | bytes, what: str) -> None:
    record.receive(message, _START + 1)
    (violation,) = record.violations
    assert isinstance(violation, Violation)
    assert what in violation.what


def test_audio_of_a_wrong_size_is_played(record: CallRecord) -> None:
    record.receive(_audio(bytes(640)), _START)
    assert record.playout.received_samples == 320
    assert len(record.violations) == 1


def test_report_separates_received_from_heard_audio(record: CallRecord) -> None:
    record.sent_frame(sounds=False, now_seconds=_START)
    for _ in range(50):
        record.receive(_audio(), _START + 0.25)
    record.receive(_message("interruption"), _START + 0.75)
    record.hang_up(_START + 2.0)
    record.closed(1000, "bye", ClosedBy.SERVICE, _START + 2)
    report = record.report(_START + 99, latest_frame_seconds=0.004)
    assert report.seconds == 2.0
    assert (report.frames_sent, report.frames_received) == (1, 50)
    assert report.first_audio_seconds == 0.25
    assert report.received_seconds == 1.0
    assert report.heard_seconds == 0.5
    assert len(report.interruptions) == 1
    assert (report.close_code, report.close_reason) == (1000, "bye")
    assert report.latest_frame_seconds == 0.004


def test_connections_that_ended_and_outages_are_kept(record: CallRecord) -> None:
    record.connection_lost(1006, "", _START + 1)
    record.lost_frame(sounds=False)
    record.lost_frame(sounds=True)
    record.connection_back(_START + 1.5)
    record.lost_frame(sounds=True)  # belongs to the next outage, which is not reported yet
    record.hang_up(_START + 3)
    record.closed(1000, "bye", ClosedBy.CALLER, _START + 3)
    assert record.outages == [Outage(1.0, 1.5, lost_frames=2, lost_sounding_frames=1)]
    assert record.frames_lost == 3
    assert record.messages == [
        Closing(1.0, 1006, "", ClosedBy.NOBODY),
        ConnectionBack(1.5, 0.5),
        Closing(3.0, 1000, "bye", ClosedBy.CALLER),
    ]
    assert record.report(_START + 3).outages == (record.outages[0],)


def test_gaps_are_reported_within_a_reply_only(record: CallRecord) -> None:
    for at_seconds in (0.0, 0.02, 0.07, 0.1, 3.0):
        record.receive(_audio(), _START + at_seconds)
    report = record.report(_START + 4)
    assert report.gaps == 2
    assert report.longest_gap_seconds == pytest.approx(0.03)


def test_reply_latency_counts_from_the_callers_last_sound(record: CallRecord) -> None:
    record.receive(_audio(), _START + 0.5)  # the greeting, which answers nothing
    record.sent_frame(sounds=True, now_seconds=_START + 1.0)
    record.sent_frame(sounds=True, now_seconds=_START + 1.02)
    record.sent_frame(sounds=False, now_seconds=_START + 1.04)
    record.receive(_audio(), _START + 1.82)
    record.receive(_audio(), _START + 2.5)  # late audio of the same reply
    record.sent_frame(sounds=True, now_seconds=_START + 4.0)
    record.receive(_audio(), _START + 4.1)  # too soon to be an answer
    record.receive(_audio(), _START + 4.6)
    assert record.report(_START + 5).reply_latencies_seconds == pytest.approx((0.8, 0.6))


def test_reply_in_progress_is_no_answer_to_a_barge_in(record: CallRecord) -> None:
    for _ in range(100):
        record.receive(_audio(), _START)
    record.sent_frame(sounds=True, now_seconds=_START + 0.5)
    record.receive(_audio(), _START + 0.9)
    assert record.reply_latencies_seconds == []
    record.receive(_message("interruption"), _START + 1.0)
    record.receive(_audio(), _START + 1.25)
    assert record.reply_latencies_seconds == [0.75]


def test_late_frame_of_a_reply_is_no_answer_to_a_barge_in(record: CallRecord) -> None:
    for _ in range(100):
        record.receive(_audio(), _START)
    record.sent_frame(sounds=True, now_seconds=_START + 1.0)
    record.receive(_audio(), _START + 2.125)  # 125 ms after the buffer ran empty
    assert record.reply_latencies_seconds == []


def test_messages_and_audio_beyond_their_limits_are_not_kept() -> None:
    record = CallRecord("a-call", _START, record_limit_bytes=0)
    for number in range(MAX_MESSAGES + 2):
        record.receive(_message("transcript", role="user", text=str(number)), _START)
    record.receive(_audio(), _START)
    record.receive(_message("interruption"), _START)
    assert [transcript.text for transcript in record.transcripts] == [*map(str, range(MAX_MESSAGES))]
    assert len(record.messages) == MAX_MESSAGES
    assert record.frames_received == 1
    assert record.playout.queued_ms(_START) == 0
