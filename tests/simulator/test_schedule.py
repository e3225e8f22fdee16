from __future__ import annotations

from functools import partial

from simulator.schedule import Schedule


def _note(ran: list[int], number: int, _due: float) -> None:
    ran.append(number)


def test_actions_run_in_order_and_get_their_due_time() -> None:
    schedule = Schedule()
    ran: list[tuple[str, float]] = []
    schedule.at(3.0, lambda due: ran.append(("late", due)))
    schedule.at(1.0, lambda due: ran.append(("early", due)))
    assert schedule.next_due_seconds() == 1.0
    schedule.run_due(2.5)
    assert ran == [("early", 1.0)]
    schedule.run_due(9.0)
    assert ran == [("early", 1.0), ("late", 3.0)]
    assert schedule.next_due_seconds() is None


def test_actions_due_together_run_in_the_order_they_were_set() -> None:
    schedule = Schedule()
    ran: list[int] = []
    for number in range(5):
        schedule.at(1.0, partial(_note, ran, number))
    schedule.run_due(1.0)
    assert ran == [0, 1, 2, 3, 4]


def test_action_scheduled_for_the_past_runs_at_once() -> None:
    schedule = Schedule()
    ran: list[float] = []

    def again(due: float) -> None:
        ran.append(due)
        schedule.at(due + 1, ran.append)

    schedule.at(1.0, again)
    schedule.run_due(5.0)
    assert ran == [1.0, 2.0]


def test_a_cancelled_timer_neither_runs_nor_counts() -> None:
    schedule = Schedule()
    ran: list[float] = []
    timer = schedule.at(1.0, ran.append)
    timer.cancel()
    timer.cancel()
    assert timer.cancelled
    assert schedule.next_due_seconds() is None
    schedule.run_due(2.0)
    assert ran == []
