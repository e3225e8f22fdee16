"""The clock of SILENCE_HANGUP_SECONDS."""

from __future__ import annotations

import pytest

from worker.session.caller.silence_clock import SilenceClock


def test_silence_adds_up_while_the_clock_runs() -> None:
    clock = SilenceClock(100.0)
    for now_seconds in (100.2, 101.0, 104.5):
        clock.tick(now_seconds, runs=True)
    assert clock.seconds == pytest.approx(4.5)


def test_time_of_a_stopped_clock_is_not_silence() -> None:
    clock = SilenceClock(100.0)
    clock.tick(102.0, runs=True)
    clock.tick(150.0, runs=False)
    assert clock.seconds == pytest.approx(2.0)
    # The silence of before counts on: only the caller sets it back.
    clock.tick(153.0, runs=True)
    assert clock.seconds == pytest.approx(5.0)


def test_reset_begins_a_new_silence() -> None:
    clock = SilenceClock(100.0)
    clock.tick(130.0, runs=True)
    clock.reset()
    assert clock.seconds == 0.0
    clock.tick(131.0, runs=True)
    assert clock.seconds == pytest.approx(1.0)


def test_prompts_of_the_agent_do_not_reset_silence() -> None:
    # `idle_timeout_ms`: the agent speaks for 3 s after every 6 s of silence.
    clock, now_seconds = SilenceClock(0.0), 0.0
    for _ in range(5):
        now_seconds += 6.0
        clock.tick(now_seconds, runs=True)
        now_seconds += 3.0
        clock.tick(now_seconds, runs=False)
    assert clock.seconds == pytest.approx(30.0)
