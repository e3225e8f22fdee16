"""Waits of made-up calls: when an answer counts, and when it is due."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from simulator.avr.call_record import ClosedBy
from simulator.realtime.voice import reply_words
from tests.chaos.announcements import FALLBACK_WORDS, FILLER_WORD, WORDS
from tests.chaos.answers import Wait, answered_in_time, answered_once, heard_way_out, waits
from tests.chaos.ears import Ear, HeardWord
from tests.chaos.facts import (
    CallFacts,
    Close,
    Fault,
    FaultKind,
    Gap,
    Part,
    Reply,
    Session,
    Struck,
    Utterance,
)

GREETING = "greeting one alpha bravo charlie"
FIRST = "reply two turn one alpha bravo charlie delta"
AGAIN = "reply three turn one alpha bravo charlie delta"


def _words(at_seconds: float, text: str) -> list[HeardWord]:
    return [HeardWord(at_seconds + number * 0.4, word, 1.0) for number, word in enumerate(text.split())]


def _session(*replies: Reply, struck: tuple[Struck, ...] = ()) -> Session:
    return Session(1, "", 100.0, 160.0, ((100.0, 160.0),), (), 160.0, (), replies, struck)


def _call(*heard: tuple[float, str], ended_seconds: float = 160.0) -> CallFacts:
    """A call from 100 s on, whose caller speaks from 110 to 112 s; `heard` counts from its beginning."""
    return CallFacts(
        "u-1",
        Part.TALKER,
        started_seconds=100.0,
        ended_seconds=ended_seconds,
        utterances=[Utterance(110.0, 112.0, (5,))],
        heard=[word for at_seconds, text in heard for word in _words(at_seconds, text)],
        sessions=[_session(Reply(100.5, "completed", GREETING), Reply(112.5, "completed", FIRST))],
        hung_up="caller",
    )


def _wait(call: CallFacts) -> Wait:
    greeting, wait = waits(call)
    assert greeting.of == "greeting"
    return wait


def _is_late(call: CallFacts) -> bool:
    return bool([breach for breach in answered_in_time(call) if "answer to 1" in breach.what])


def test_wait_ends_with_the_first_word_of_the_reply() -> None:
    call = _call((0.8, GREETING), (13.0, FIRST))
    greeting, wait = waits(call)
    assert greeting.seconds == pytest.approx(0.8)
    assert wait.seconds == pytest.approx(1.0)
    assert not wait.struck
    assert list(answered_in_time(call)) == []


@pytest.mark.parametrize("text", [GREETING, " ".join(FALLBACK_WORDS), f"{FILLER_WORD} {FILLER_WORD}", "? ?"])
def test_sound_outside_replies_answers_nothing(text: str) -> None:
    call = _call((0.8, GREETING), (13.0, text))
    assert _wait(call).answered_seconds == math.inf


def test_rest_of_an_older_reply_answers_nothing() -> None:
    call = _call((0.8, GREETING), (12.5, FIRST))
    call.sessions = [_session(Reply(100.5, "completed", GREETING), Reply(109.0, "completed", FIRST))]
    assert _wait(call).seconds is None
    assert _is_late(call)


def test_cut_reply_is_an_answer() -> None:
    call = _call((0.8, GREETING))
    call.heard += [HeardWord(13.0, "reply", 1.0), HeardWord(13.4, "?", 0.1), HeardWord(20.0, "delta", 1.0)]
    assert _wait(call).seconds == pytest.approx(1.0)


@pytest.mark.parametrize(("answered", "late"), [(19.9, False), (20.1, True)])
def test_answer_is_due_after_eight_seconds(answered: float, late: bool) -> None:
    assert _is_late(_call((0.8, GREETING), (answered, FIRST))) is late


@pytest.mark.parametrize(("answered", "late"), [(32.9, False), (33.1, True)])
def test_lasting_fault_delays_the_due_time(answered: float, late: bool) -> None:
    call = _call((0.8, GREETING), (answered, FIRST))
    call.faults = [Fault(FaultKind.REFUSE_SESSIONS, 111.0, lasts=True, until_seconds=125.0)]
    assert _is_late(call) is late
    assert _wait(call).struck


def test_fault_after_the_due_time_delays_nothing() -> None:
    call = _call((0.8, GREETING), (30.0, FIRST))
    call.faults = [Fault(FaultKind.KILL_WORKER, 121.0)]
    assert _is_late(call)
    call.faults = [Fault(FaultKind.KILL_WORKER, 109.0)]
    assert _is_late(call)


def test_successive_faults_delay_the_due_time_together() -> None:
    call = _call((0.8, GREETING), (33.0, FIRST))
    call.faults = [Fault(FaultKind.DROP_SESSION, 119.0), Fault(FaultKind.KILL_WORKER, 126.0)]
    assert not _is_late(call)


def test_pending_fault_counts_from_when_it_strikes() -> None:
    call = _call((0.8, GREETING), (22.0, FIRST))
    call.faults = [Fault(FaultKind.FAIL_ANSWER, 113.0)]
    assert _is_late(call)
    replies = call.sessions[0].responses
    call.sessions = [_session(*replies, struck=(Struck("ending", 112.5, 115.5),))]
    assert not _is_late(call)


def test_endless_speech_delays_until_silence_was_heard() -> None:
    call = _call((0.8, GREETING), (23.9, FIRST))
    replies = call.sessions[0].responses
    call.sessions = [_session(*replies, struck=(Struck("endless_speech", 110.3, 123.0),))]
    assert not _is_late(call)
    call.heard = [*_words(0.8, GREETING), *_words(24.2, FIRST)]
    assert _is_late(call)


def test_caller_who_speaks_again_is_owed_the_next_answer() -> None:
    call = _call((0.8, GREETING), (20.5, AGAIN))
    call.utterances.append(Utterance(118.0, 119.0, (2,)))
    call.sessions = [_session(Reply(100.5, "completed", GREETING), Reply(119.5, "completed", AGAIN))]
    _, first, second = waits(call)
    assert (first.seconds, first.is_kept) == (None, True)
    assert second.seconds == pytest.approx(1.5)


def test_caller_who_gave_up_was_not_answered() -> None:
    call = _call((0.8, GREETING))
    call.utterances.append(Utterance(157.0, 158.0, (2,)))
    assert _is_late(call)


@pytest.mark.parametrize(("ended", "late"), [(146.0, False), (148.0, True)])
def test_end_with_a_reason_comes_within_35_seconds(ended: float, late: bool) -> None:
    call = _call((0.8, GREETING), ended_seconds=ended)
    call.closes = [Close(ended, 1011, ClosedBy.SERVICE)]
    assert _is_late(call) is late


def test_apology_comes_within_35_seconds() -> None:
    call = _call((0.8, GREETING), (45.0, " ".join(FALLBACK_WORDS)), ended_seconds=155.0)
    call.closes = [Close(155.0, 1011, ClosedBy.SERVICE)]
    assert heard_way_out(call) == pytest.approx(145.0)
    assert not _is_late(call)


def test_hang_up_that_was_asked_for_is_an_answer() -> None:
    call = _call((0.8, GREETING))
    call.promised = 113.0
    assert _wait(call).seconds == pytest.approx(1.0)


def test_words_that_were_lost_on_the_way_are_owed_nothing() -> None:
    call = _call((0.8, GREETING))
    call.utterances = [replace(call.utterances[0], damaged=True)]
    assert [wait.of for wait in waits(call)] == ["greeting"]


def test_caller_without_a_connection_cannot_be_answered() -> None:
    call = _call((0.8, GREETING))
    call.gaps = [Gap(114.0, None)]
    assert not _is_late(call)


def test_reply_behind_one_that_was_cut_is_no_second_answer() -> None:
    call = _call((0.8, GREETING), (13.0, "reply two turn"), (15.0, AGAIN))
    replies = (Reply(112.5, "failed", "reply two turn one"), Reply(114.5, "completed", AGAIN))
    call.sessions = [_session(*replies)]
    assert list(answered_once(call)) == []
    call.heard = [*_words(13.0, FIRST), *_words(17.0, AGAIN)]
    call.sessions = [_session(Reply(112.5, "failed", FIRST), replies[1])]
    assert [breach.what for breach in answered_once(call)] == ["turn one got 2 whole replies"]


def test_announcements_sound_like_no_word_of_the_model() -> None:
    replies = (reply_words(number=number, turn=number, count=24, greets=False) for number in range(1, 12))
    spoken = {word for words in replies for word in words} | {"greeting"}
    ear = Ear({*spoken, *WORDS})
    assert not [(one, other) for one in WORDS for other in spoken if ear.same(one, other)]
    assert len({word for word in WORDS if not any(ear.same(word, each) for each in WORDS if each < word)}) == 4
