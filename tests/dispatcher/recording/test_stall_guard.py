"""A process that has just stalled does not write what others may hold now."""

from __future__ import annotations

from dispatcher.recording.stall_guard import SETTLE_SECONDS, STALL_SECONDS, StallGuard


def test_process_that_steps_often_may_write() -> None:
    guard = StallGuard()
    assert all(guard.step(0.25 * number) for number in range(100))


def test_process_that_stalled_waits_before_it_writes() -> None:
    guard = StallGuard()
    assert guard.step(100.0)
    woke = 100.0 + STALL_SECONDS
    steps = [woke + 0.25 * number for number in range(20)]
    assert [guard.step(each) for each in steps] == [each >= woke + SETTLE_SECONDS for each in steps]


def test_first_step_is_no_stall() -> None:
    assert StallGuard().step(1e9)
