"""Faults beside a call: no caller may notice them, and another fault may be the reason of a pause."""

from __future__ import annotations

import pytest

from tests.chaos.beside_rules import longest_pause
from tests.chaos.facts import BESIDE, CallFacts, Fault, FaultKind, Spans
from tests.chaos.histories import a_call, a_moved_call, a_session, broken_rules


def _call(hearing: Spans) -> CallFacts:
    """Return a call of 100 s to 130 s, with a fault beside it from 110 s to 114 s."""
    call = a_call()
    call.sessions = [a_session(hearing=hearing)]
    call.beside = [Fault(FaultKind.STALL_STDERR, 110.0, lasts=True, until_seconds=114.0)]
    return call


def _pause(call: CallFacts) -> float | None:
    return longest_pause(call, call.beside[0])


@pytest.mark.parametrize("kind", sorted(BESIDE, key=str))
def test_caller_is_heard_beside_a_fault(kind: FaultKind) -> None:
    call = _call([(101.0, 111.0), (111.5, 130.0)])
    call.beside[0].kind = kind
    assert broken_rules(call) == []
    call = _call([(101.0, 111.0), (112.5, 130.0)])
    call.beside[0].kind = kind
    assert broken_rules(call) == ["undisturbed"]
    assert _pause(call) == 1.5


def test_pause_before_or_long_after_a_fault_does_not_count() -> None:
    assert _pause(_call([(101.0, 105.0), (108.0, 130.0)])) == 0.0
    assert _pause(_call([(101.0, 117.5), (119.5, 130.0)])) == 0.0
    assert _pause(_call([(101.0, 116.5), (118.5, 130.0)])) == 2.0


def test_caller_who_is_never_heard_again_was_disturbed() -> None:
    assert _pause(_call([(101.0, 111.0)])) == 19.0


def test_caller_who_calls_during_a_fault_is_heard_at_once() -> None:
    call = _call([(101.0, 130.0)])
    call.beside[0].at_seconds = 99.0
    assert _pause(call) == 1.0
    call.started_seconds = 98.5
    assert _pause(call) == 2.5


def test_another_fault_may_be_the_reason_of_a_pause() -> None:
    call = _call([(101.0, 111.0), (113.0, 130.0)])
    call.faults = [Fault(FaultKind.KILL_WORKER, 111.0)]
    assert _pause(call) is None
    call.faults = [Fault(FaultKind.KILL_WORKER, 99.0)]
    assert _pause(call) == 2.0
    call.faults = [Fault(FaultKind.STALL_SESSION, 99.0, lasts=True, until_seconds=101.0)]
    assert _pause(call) is None


def test_caller_who_hangs_up_too_soon_proves_nothing() -> None:
    call = _call([(101.0, 111.0)])
    call.ended_seconds = 116.0
    assert _pause(call) is None


@pytest.mark.parametrize("kind", [FaultKind.DRAIN_WORKER, FaultKind.DRAIN_IN_ROLLOVER])
def test_calls_of_a_worker_told_to_stop_are_not_restored(kind: FaultKind) -> None:
    call = a_moved_call(kind=kind)
    assert broken_rules(call) == []
    call.restorations = [112.4]
    assert broken_rules(call) == ["handed over"]
    for at_seconds in (109.0, 121.0):
        call.restorations = [at_seconds]
        assert broken_rules(call) == []
    call.restorations = [112.4]
    call.faults.append(Fault(FaultKind.BREAK_LINK, 111.0, lasts=True, until_seconds=113.0))
    assert broken_rules(call) == []
