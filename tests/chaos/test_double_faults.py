"""Faults that end a call's dispatcher, alone or with its worker: the losses that a caller may notice."""

from __future__ import annotations

import pytest

from simulator.avr.call_record import ClosedBy
from tests.chaos import callers
from tests.chaos.facts import CallFacts, Close, Fault, FaultKind, Frozen, Gap, ToolRun, Utterance
from tests.chaos.histories import (
    FIRST,
    GREETING,
    SECOND,
    a_call,
    a_moved_call,
    a_session,
    broken_rules,
    heard_words_of,
    transcript_of,
)

DIED_SECONDS = 115.0


def _both_killed() -> CallFacts:
    """Return a call that lost its worker and its dispatcher while its caller was heard."""
    call = a_moved_call(DIED_SECONDS, kind=FaultKind.KILL_BOTH)
    call.closes.insert(0, Close(DIED_SECONDS + 0.1, 1006, ClosedBy.NOBODY))
    call.gaps = [Gap(DIED_SECONDS + 0.1, DIED_SECONDS + 0.3)]
    return call


def _hung(*, was_killed: bool) -> CallFacts:
    """Return a call whose dispatcher hung from 118 s to 124 s."""
    call = a_call()
    hang = Fault(FaultKind.HANG_DISPATCHER, 118.0, lasts=True, until_seconds=124.0, was_killed=was_killed)
    call.faults = [hang]
    if was_killed:
        call.closes.insert(0, Close(124.1, 1006, ClosedBy.NOBODY))
        call.gaps = [Gap(124.1, 124.3)]
    return call


def test_both_killed_together_lose_the_connection() -> None:
    assert broken_rules(_both_killed()) == []
    late = _both_killed()
    late.closes[0] = Close(DIED_SECONDS + 4.0, 1006, ClosedBy.NOBODY)
    assert "connection" in broken_rules(late)


@pytest.mark.parametrize(("said_seconds", "is_lost"), [(114.0, True), (112.4, False)])
def test_both_killed_lose_only_the_last_words(said_seconds: float, is_lost: bool) -> None:
    call = _both_killed()
    call.utterances.append(Utterance(said_seconds - 0.4, said_seconds, (3,)))
    assert ("listened" not in broken_rules(call)) == is_lost


@pytest.mark.parametrize(("told_seconds", "may_come_again"), [(114.5, True), (112.0, False)])
def test_both_killed_repeat_only_the_last_transcript(told_seconds: float, may_come_again: bool) -> None:
    call = _both_killed()
    call.messages = [(told_seconds, f"user: {transcript_of(5)}")]
    call.transcripts.insert(4, ("user", transcript_of(5)))
    assert ("transcripts" not in broken_rules(call)) == may_come_again


@pytest.mark.parametrize(("ran_seconds", "may_run_again"), [(114.5, True), (112.0, False)])
def test_both_killed_forget_only_the_last_tool(ran_seconds: float, may_run_again: bool) -> None:
    call = _both_killed()
    call.tool_runs = [ToolRun("u-1", "2", 1, ran_seconds), ToolRun("u-1", "2", 2, 117.0)]
    assert ("tools" not in broken_rules(call)) == may_run_again


@pytest.mark.parametrize(("died_seconds", "may_greet_again"), [(102.0, True), (105.0, False)])
def test_both_killed_repeat_only_a_greeting_under_way(died_seconds: float, may_greet_again: bool) -> None:
    call = a_moved_call(died_seconds, kind=FaultKind.KILL_BOTH)
    call.heard = heard_words_of(GREETING, GREETING, FIRST, SECOND)
    assert ("greeting" not in broken_rules(call)) == may_greet_again


def test_worker_killed_alone_forgets_no_tool() -> None:
    call = a_moved_call(DIED_SECONDS)
    call.tool_runs = [ToolRun("u-1", "2", 1, 114.5), ToolRun("u-1", "2", 2, 117.0)]
    assert broken_rules(call) == ["tools"]


def test_hung_dispatcher_loses_connections_when_replaced() -> None:
    assert broken_rules(_hung(was_killed=True)) == []
    early = _hung(was_killed=True)
    early.closes[0] = Close(119.0, 1006, ClosedBy.NOBODY)
    assert "connection" in broken_rules(early)


def test_words_to_a_hung_dispatcher_are_lost_if_killed() -> None:
    for was_killed in (True, False):
        call = _hung(was_killed=was_killed)
        call.utterances.append(Utterance(120.0, 121.0, (3,)))
        assert ("listened" in broken_rules(call)) != was_killed


@pytest.mark.parametrize(("killed_seconds", "is_lost"), [(121.0, True), (124.2, True), (124.9, False)])
def test_worker_killed_before_the_caller_is_back_is_both_killed(killed_seconds: float, is_lost: bool) -> None:
    call = _hung(was_killed=True)
    call.messages = [(117.0, f"user: {transcript_of(5)}")]
    call.transcripts.insert(4, ("user", transcript_of(5)))
    call.faults.append(Fault(FaultKind.KILL_WORKER, killed_seconds))
    assert ("transcripts" not in broken_rules(call)) == is_lost
    # A worker that is held still cannot tell the next dispatcher anything.
    call.frozen = [Frozen(min(killed_seconds, 124.5), killed_seconds)]
    assert "transcripts" not in broken_rules(call)


def test_worker_killed_behind_a_hung_dispatcher_is_both_killed() -> None:
    call = _hung(was_killed=True)
    call.messages = [(117.0, f"user: {transcript_of(5)}")]
    call.transcripts.insert(4, ("user", transcript_of(5)))
    assert broken_rules(call) == ["transcripts"]
    call.faults.append(Fault(FaultKind.KILL_WORKER, 121.0))
    assert broken_rules(call) == []
    call.faults[1] = Fault(FaultKind.KILL_WORKER, 125.0)
    assert broken_rules(call) == ["transcripts"]


@pytest.mark.parametrize(("closed_seconds", "is_lost"), [(120.0, True), (121.0, False)])
def test_hand_over_by_a_hung_dispatcher_is_both_killed(closed_seconds: float, is_lost: bool) -> None:
    call = _hung(was_killed=True)
    call.sessions = [
        a_session(1, end=closed_seconds, hearing=((101.0, 118.0),)),
        a_session(2, begin=124.5),
    ]
    call.messages = [(117.0, f"user: {transcript_of(5)}")]
    call.transcripts.insert(4, ("user", transcript_of(5)))
    assert ("transcripts" not in broken_rules(call)) == is_lost


def test_answer_is_due_when_the_hang_is_over() -> None:
    call = _hung(was_killed=False)
    call.utterances[1] = Utterance(117.0, 119.0, (5,))
    call.heard = [each for each in call.heard if each.word in FIRST.split() or each.at_seconds < 15.0]
    call.ended_seconds = 131.0
    assert "answered" not in broken_rules(call)
    call.ended_seconds = 133.0
    assert "answered" in broken_rules(call)


def test_caller_does_not_hang_up_on_a_hung_dispatcher() -> None:
    hang = Fault(FaultKind.HANG_DISPATCHER, 10.0, lasts=True)
    assert callers.over_seconds(hang, 25.0) == 25.0
    hang.until_seconds = 20.0
    assert callers.over_seconds(hang, 25.0) == 20.0
    assert callers.over_seconds(Fault(FaultKind.KILL_WORKER, 10.0), 25.0) == 10.0
