"""Where in the call the caller's turns ended, and up to where all of them are text."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from worker.session.caller.turns import MAX_OPEN_TURNS, MAX_RUNS, CallerTurns


def test_positions_equal_the_calls_if_the_session_began_with_it() -> None:
    turns = CallerTurns()
    turns.appended(0, 8000)
    turns.stopped("a", 600)
    assert turns.text_stored("a") == ("a", 4800)


def test_a_session_that_began_later_is_that_far_behind() -> None:
    turns = CallerTurns()
    for position in range(16_000, 24_000, 160):
        turns.appended(position, 160)
    turns.stopped("a", 600)
    assert turns.appended_ms == 1000
    assert turns.text_stored("a") == ("a", 16_000 + 4800)


def test_only_gaps_before_a_turns_end_move_its_position() -> None:
    turns = CallerTurns()
    turns.appended(0, 8000)
    turns.appended(80_000, 8000)  # nine seconds were dropped
    turns.stopped("before", 900)
    turns.stopped("at", 1000)
    turns.stopped("after", 1500)
    assert turns.text_stored("before") == ("before", 7200)
    assert turns.text_stored("at") == ("at", 8000)
    assert turns.text_stored("after") == ("after", 84_000)


def test_a_turn_does_not_end_beyond_what_was_appended() -> None:
    turns = CallerTurns()
    turns.appended(0, 800)
    turns.stopped("a", 5000)
    assert turns.text_stored("a") == ("a", 800)


def test_positions_are_whole_samples_whatever_the_api_counts_in() -> None:
    turns = CallerTurns()
    turns.appended(0, 8000)
    turns.stopped("a", 100.5)
    (_, position) = turns.text_stored("a") or ("", 0)
    assert position == 804
    assert isinstance(position, int)


def test_an_end_before_any_audio_is_passed_over() -> None:
    turns = CallerTurns()
    turns.stopped("a", 100)
    assert turns.text_stored("a") is None


def test_turns_are_finished_only_up_to_the_first_without_text() -> None:
    turns = CallerTurns()
    turns.appended(0, 80_000)
    for number in range(1, 5):
        turns.stopped(str(number), number * 1000)
    assert turns.text_stored("2") is None
    assert turns.text_stored("3") is None
    assert turns.text_stored("1") == ("3", 24_000)
    assert turns.text_stored("4") == ("4", 32_000)


def test_text_of_an_unknown_turn_moves_nothing() -> None:
    turns = CallerTurns()
    turns.appended(0, 80_000)
    assert turns.text_stored("idle timeout") is None
    turns.stopped("a", 1000)
    assert turns.text_stored("another") is None
    assert turns.text_stored("a") == ("a", 8000)
    assert turns.text_stored("a") is None


def test_a_text_that_never_comes_holds_up_only_so_many_turns() -> None:
    turns = CallerTurns()
    turns.appended(0, 8 * 1000 * (MAX_OPEN_TURNS + 2))
    turns.stopped("lost", 500)
    for number in range(1, MAX_OPEN_TURNS):
        turns.stopped(str(number), number * 1000)
        assert turns.text_stored(str(number)) is None
    turns.stopped("last", MAX_OPEN_TURNS * 1000)
    assert turns.text_stored("last") == ("last", MAX_OPEN_TURNS * 8000)


@pytest.mark.interpreted
def test_nothing_of_an_hour_of_turns_is_left_behind() -> None:
    turns = CallerTurns()
    for number in range(3600):
        turns.appended(number * 8001, 8000)  # a sample is lost each second
        turns.stopped(str(number), (number + 1) * 1000)
        turns.text_stored(str(number))
    containers = [value for value in vars(turns).values() if hasattr(value, "__len__")]
    assert sum(len(container) for container in containers) == MAX_RUNS


@given(
    runs=st.lists(st.tuples(st.integers(0, 5), st.integers(1, 400)), min_size=1, max_size=MAX_RUNS),
    ends=st.lists(st.integers(1, 400), min_size=1, max_size=5),
)
def test_a_turn_ends_in_the_call_where_its_last_sample_is(runs: list[tuple[int, int]], ends: list[int]) -> None:
    turns = CallerTurns()
    where: list[int] = []  # in the call, of each sample appended
    position = 0
    for gap, samples in runs:
        position += gap
        turns.appended(position, samples)
        where += range(position, position + samples)
        position += samples
    for number, end_ms in enumerate(ends):
        last = min(end_ms * 8, len(where)) - 1
        turns.stopped(str(number), end_ms)
        assert turns.text_stored(str(number)) == (str(number), where[last] + 1)
