"""When filler is due, and which of its frames."""

from __future__ import annotations

import pytest

from dispatcher.call.playback.filler import AHEAD_SECONDS, LAPSE_SECONDS, STEP_SECONDS, Filler

NEVER = float("-inf")
SOUND = bytes(range(250)) * 2  # no multiple of a frame


def test_it_is_due_when_an_answer_has_been_owed_long_enough() -> None:
    filler = Filler(SOUND, 1.5)
    assert not filler.is_due(NEVER, 10.0)
    filler.owed(10.0)
    filler.owed(11.0)
    assert not filler.is_due(NEVER, 11.4)
    assert filler.is_due(NEVER, 11.5)
    filler.settled()
    assert not filler.is_due(NEVER, 20.0)


def test_it_waits_as_long_behind_a_reply() -> None:
    filler = Filler(SOUND, 1.5)
    filler.owed(10.0)
    assert not filler.is_due(15.0, 16.4)
    assert filler.is_due(15.0, 16.5)


def test_what_is_owed_lapses_unless_it_is_said_again() -> None:
    filler = Filler(SOUND, 1.5)
    filler.lapses(9.0)
    filler.owed(10.0)
    filler.lapses(12.0)
    assert filler.is_due(NEVER, 12.0 + LAPSE_SECONDS / 2)
    filler.owed(12.5)
    assert filler.is_due(NEVER, 20.0)
    filler.lapses(20.0)
    assert not filler.is_due(NEVER, 20.0 + LAPSE_SECONDS)
    assert not filler.is_owed


@pytest.mark.parametrize(
    ("ahead_seconds", "frames"), [(0.0, 3), (0.01, 2), (0.02, 2), (0.04, 1), (0.041, 0), (1, 0)]
)
def test_frames_are_at_most_so_far_ahead(ahead_seconds: float, frames: int) -> None:
    assert len(Filler(SOUND, 1.5).take(ahead_seconds)) == 320 * frames


def test_it_loops_without_a_gap_and_begins_anew() -> None:
    filler = Filler(SOUND, 1.5)
    taken = b"".join(filler.take(AHEAD_SECONDS - STEP_SECONDS) for _ in range(50))
    assert taken == (SOUND * 40)[: len(taken)]
    filler.stop()
    assert filler.take(0.0) == (SOUND * 2)[:960]
