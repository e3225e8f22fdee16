from __future__ import annotations

import math

import pytest

from tests.chaos.facts import CallFacts, Fault, FaultKind, Part, Session, Spans
from tests.chaos.recovery import hearing, recovery_seconds

FAULT = Fault(FaultKind.KILL_WORKER, 110.0)


def _session(answering: Spans, audio: Spans) -> Session:
    return Session(1, "", answering[0][0], answering[-1][1], answering, audio, audio[-1][1])


def _call(*sessions: Session, ended_seconds: float = 130.0) -> CallFacts:
    return CallFacts("u-1", Part.TALKER, 100.0, ended_seconds, sessions=list(sessions))


def test_recovery_ends_when_a_session_that_may_answer_gets_audio() -> None:
    old = _session([(101.0, 110.0)], [(101.0, 110.02)])
    heard_first = _session([(110.4, 130.0)], [(110.7, 130.0)])
    set_up_last = _session([(110.9, 130.0)], [(110.3, 130.0)])
    assert recovery_seconds(_call(old, heard_first), FAULT) == pytest.approx(0.7)
    assert recovery_seconds(_call(old, set_up_last), FAULT) == pytest.approx(0.9)


def test_a_pause_in_the_same_session_counts() -> None:
    assert recovery_seconds(_call(_session([(101.0, 130.0)], [(101.0, 110.1), (111.5, 130.0)])), FAULT) == 1.5


def test_session_made_before_the_break_recovers_at_once() -> None:
    old = _session([(101.0, 110.8)], [(101.0, 110.8)])
    new = _session([(110.8, 130.0)], [(110.1, 130.0)])
    assert recovery_seconds(_call(old, new), FAULT) == 0.0


def test_a_caller_who_is_not_heard_again_has_not_recovered() -> None:
    lost = _session([(101.0, 110.0)], [(101.0, 110.0)])
    assert recovery_seconds(_call(lost), FAULT) == math.inf
    assert recovery_seconds(_call(lost, ended_seconds=112.0), FAULT) is None, "it hung up"


def test_call_not_heard_before_the_fault_proves_nothing() -> None:
    assert recovery_seconds(_call(_session([(112.0, 130.0)], [(112.0, 130.0)])), FAULT) is None


def test_caller_is_heard_while_an_answering_session_gets_audio() -> None:
    call = _call(
        _session([(101.0, 110.0)], [(101.0, 105.0), (106.0, 110.0)]),
        _session([(109.8, math.inf)], [(109.5, 120.0)]),
    )
    assert hearing(call) == [(101.0, 105.0), (106.0, 120.0)]
