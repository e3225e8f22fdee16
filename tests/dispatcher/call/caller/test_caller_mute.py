from __future__ import annotations

import pytest

from dispatcher.call.caller.caller_mute import (
    MAX_COLLECTION_SECONDS,
    MAX_SETTLING_SECONDS,
    MAX_STRAY_SECONDS,
    MAX_TAIL_SECONDS,
    SETTLE_SECONDS,
    STRAY_SECONDS,
    TAIL_SECONDS,
    TRANSITIONS,
    CallerMute,
    MuteEvent,
    MuteState,
)


def _collecting(number: int = 7) -> CallerMute:
    mute = CallerMute()
    mute.begin(number, 60.0, 100.0)
    return mute


def test_keys_belong_to_the_collection_that_is_on() -> None:
    mute = _collecting(7)
    assert mute.look(101.0)
    assert mute.key(101.0) == 7


def test_end_unmutes_after_the_tail() -> None:
    mute = _collecting(7)
    mute.end(7, 110.0, abandoned=False)
    assert mute.look(110.0 + TAIL_SECONDS - 0.01)
    assert not mute.look(110.0 + TAIL_SECONDS)
    assert mute.state is MuteState.OFF


def test_keys_in_the_tail_are_discarded_and_prolong_it() -> None:
    mute = _collecting(7)
    mute.end(7, 110.0, abandoned=False)
    assert mute.key(110.4) == 0
    assert mute.look(110.4 + TAIL_SECONDS - 0.01)
    assert not mute.look(110.4 + TAIL_SECONDS)


def test_tail_is_bounded_though_keys_go_on() -> None:
    mute = _collecting(7)
    mute.end(7, 110.0, abandoned=False)
    now = 110.0
    while mute.look(now):
        mute.key(now)
        now += 0.1
    assert now == pytest.approx(110.0 + MAX_TAIL_SECONDS, abs=0.11)


def test_lost_session_mutes_until_the_next_is_up_and_quiet() -> None:
    mute = _collecting()
    mute.session_lost(110.0)
    assert mute.key(110.5) == 0
    assert mute.look(113.0)  # no session yet
    mute.session_up()
    assert not mute.look(113.0)


def test_next_session_is_not_enough_while_keys_come() -> None:
    mute = _collecting()
    mute.session_lost(110.0)
    mute.session_up()
    mute.key(111.0)
    assert mute.look(111.0 + STRAY_SECONDS - 0.01)
    assert not mute.look(111.0 + STRAY_SECONDS)


def test_lost_session_mutes_for_a_bounded_time() -> None:
    mute = _collecting()
    mute.session_lost(110.0)
    assert mute.look(110.0 + MAX_STRAY_SECONDS - 0.01)
    assert not mute.look(110.0 + MAX_STRAY_SECONDS)


def test_abandoned_collection_needs_no_other_session() -> None:
    mute = _collecting(7)
    mute.end(7, 110.0, abandoned=True)
    assert mute.state is MuteState.STRAY
    assert not mute.look(110.0 + STRAY_SECONDS)


def test_end_of_an_earlier_collection_has_no_effect() -> None:
    mute = _collecting(7)
    mute.begin(8, 60.0, 105.0)
    mute.end(7, 106.0, abandoned=False)
    assert mute.key(107.0) == 8


def test_collection_without_an_end_is_bounded() -> None:
    mute = CallerMute()
    mute.begin(1, 10**9, 100.0)
    assert mute.look(100.0 + MAX_COLLECTION_SECONDS - 1)
    mute.look(100.0 + MAX_COLLECTION_SECONDS)
    assert mute.state is MuteState.TAIL


def test_lost_session_without_a_collection_mutes_nobody() -> None:
    mute = CallerMute()
    mute.session_lost(100.0)
    assert not mute.is_on


def test_take_over_of_a_collecting_session_mutes() -> None:
    mute = CallerMute()
    mute.taken_over(100.0, 99.0)
    assert mute.key(101.0) == 0
    mute.session_up()
    assert not mute.look(101.0 + STRAY_SECONDS)


def test_collection_waits_after_a_take_over() -> None:
    """Keys of the lost entry may have come to the former dispatcher."""
    mute = CallerMute()
    mute.taken_over(100.0, 99.0)
    mute.begin(8, 60.0, 100.1)
    assert mute.confirmation() is None
    mute.look(100.0 + SETTLE_SECONDS)
    assert mute.confirmation() == 8


def test_each_state_can_begin_a_collection() -> None:
    assert {row[MuteEvent.BEGIN] for row in TRANSITIONS.values()} == {MuteState.ON, MuteState.SETTLING}


def test_begun_collection_is_confirmed_once() -> None:
    mute = _collecting(7)
    assert [mute.confirmation(), mute.confirmation()] == [7, None]


def _again() -> CallerMute:
    """A tool that asks again at once, while the caller goes on with the keys of the lost entry."""
    mute = _collecting(7)
    mute.confirmation()
    mute.key(109.9)
    mute.session_lost(110.0)
    mute.begin(8, 60.0, 110.2)
    return mute


def test_collection_after_a_lost_one_waits_for_quiet() -> None:
    mute = _again()
    assert mute.key(110.3) == 0
    assert mute.look(110.3 + SETTLE_SECONDS - 0.01)
    assert mute.confirmation() is None
    assert mute.look(110.3 + SETTLE_SECONDS)
    assert mute.confirmation() == 8
    assert mute.key(112.0) == 8


def test_collection_does_not_wait_for_a_caller_without_end() -> None:
    mute = _again()
    now = 110.2
    while mute.confirmation() is None:
        assert mute.key(now) == 0
        now += 0.1
        assert mute.look(now)
    assert now == pytest.approx(110.2 + MAX_SETTLING_SECONDS, abs=0.11)


def test_collection_of_a_caller_who_has_stopped_begins_at_once() -> None:
    mute = _collecting(7)
    mute.key(103.0)
    mute.end(7, 110.0, abandoned=True)
    mute.begin(8, 60.0, 110.0)
    assert mute.confirmation() == 8


def test_time_of_a_collection_begins_when_the_caller_has_stopped() -> None:
    mute = _again()
    mute.look(111.3)
    mute.look(111.3 + 59.9)
    assert mute.state is MuteState.ON


@pytest.mark.parametrize("abandoned", [True, False])
def test_collection_that_ends_before_it_begins_leaves_stray_keys(abandoned: bool) -> None:
    mute = _again()
    mute.end(8, 110.4, abandoned=abandoned)
    assert mute.state is MuteState.STRAY
    assert mute.confirmation() is None


def test_session_lost_before_the_collection_begins() -> None:
    mute = _again()
    mute.session_lost(110.4)
    assert mute.look(113.0)
    mute.session_up()
    assert not mute.look(113.0)


def test_recorder_is_told_each_change_once() -> None:
    told: list[tuple[bool, float]] = []
    mute = CallerMute(lambda is_on, since: told.append((is_on, since)))
    mute.begin(7, 60.0, 100.0)
    mute.begin(8, 60.0, 105.0)
    mute.end(8, 110.0, abandoned=False)
    mute.look(110.0 + TAIL_SECONDS)
    assert told == [(True, 100.0), (False, 110.0 + TAIL_SECONDS)]


def test_recorder_is_told_of_audio_from_before_a_take_over() -> None:
    told: list[tuple[bool, float]] = []
    CallerMute(lambda is_on, since: told.append((is_on, since))).taken_over(100.0, 99.0)
    assert told == [(True, 99.0)]
