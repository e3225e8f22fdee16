"""The playout clock, in times that binary fractions hold exactly: 0.125 s are 1,000 samples."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dispatcher.avr.protocol import SAMPLE_RATE_HZ
from dispatcher.call.playback.playout import MAX_RUNS, OWN_SOUND, PlayoutClock

A, B, C = 0, 1, 2


@pytest.fixture
def clock() -> PlayoutClock:
    return PlayoutClock()


class TestProgress:
    def test_nothing_was_handed_over(self, clock: PlayoutClock) -> None:
        assert clock.progress(10.0) == ([], True)
        assert clock.end_seconds == float("-inf")

    def test_what_is_handed_over_plays_at_once_and_in_real_time(self, clock: PlayoutClock) -> None:
        clock.sent(A, 8000, 10.0)
        assert clock.end_seconds == 11.0
        assert clock.progress(10.0) == ([(A, 0)], False)
        assert clock.progress(10.125) == ([(A, 1000)], False)
        assert clock.progress(10.5) == ([(A, 4000)], False)
        assert clock.progress(11.0) == ([(A, 8000)], True)

    def test_the_end_is_known_when_all_has_been_fully_heard(self, clock: PlayoutClock) -> None:
        clock.sent(A, 8000, 10.0)
        clock.sent(OWN_SOUND, 8000, 10.0)
        clock.progress(15.0)
        assert (clock.end_seconds, clock.items_end_seconds) == (12.0, 11.0)

    def test_what_has_been_fully_heard_is_said_once(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        assert clock.progress(99.0) == ([(A, 1000)], True)
        assert clock.progress(99.5) == ([], True)

    def test_more_of_an_item_plays_behind_what_is_queued(self, clock: PlayoutClock) -> None:
        # A reply of a second that comes in an eighth of one.
        for part in range(8):
            clock.sent(A, 1000, 10.0 + part / 64)
        assert clock.end_seconds == 11.0
        assert clock.progress(10.5) == ([(A, 4000)], False)
        assert clock.progress(12.0) == ([(A, 8000)], True)

    def test_an_item_plays_behind_the_one_before(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        clock.sent(B, 1000, 10.0)
        clock.sent(C, 1000, 10.0)
        assert clock.progress(10.0625) == ([(A, 500)], False)
        assert clock.progress(10.125) == ([(A, 1000), (B, 0)], False)
        assert clock.progress(10.1875) == ([(B, 500)], False)
        assert clock.progress(10.5) == ([(B, 1000), (C, 1000)], True)

    def test_an_underrun_is_a_gap_in_which_nothing_plays(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        clock.sent(A, 1000, 20.0)
        assert clock.progress(15.0) == ([(A, 1000)], False)
        assert clock.progress(20.0625) == ([(A, 1500)], False)
        assert clock.progress(30.0) == ([(A, 2000)], True)

    def test_samples_add_up_over_underruns(self, clock: PlayoutClock) -> None:
        for second in range(10, 20):
            clock.sent(A, 1000, float(second))
            assert clock.progress(second + 0.5) == ([(A, 1000 * (second - 9))], True)

    def test_padding_takes_time_and_is_nothing_heard(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0, padding=1000)
        clock.sent(B, 1000, 10.0)
        assert clock.progress(10.1875) == ([(A, 1000)], False)
        assert clock.progress(10.25) == ([(A, 1000), (B, 0)], False)
        assert clock.end_seconds == 10.375
        assert clock.progress(10.375) == ([(B, 1000)], True)

    def test_padding_ends_a_run_of_gapless_audio(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        clock.sent(A, 500, 10.0, padding=500)
        clock.sent(A, 1000, 10.0)
        # 1,500 samples, 500 of silence, and 1,000 more.
        assert clock.progress(10.25) == ([(A, 1500)], False)
        assert clock.progress(10.3125) == ([(A, 2000)], False)
        assert clock.progress(10.375) == ([(A, 2500)], True)

    def test_what_comes_just_as_the_last_sample_plays_makes_no_gap(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        clock.sent(A, 1000, 10.125)
        assert clock.end_seconds == 10.25
        assert clock.truncate(10.1875) == [(A, 1500)]

    def test_an_item_may_be_named_again_after_others_and_counts_on(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        clock.sent(B, 1000, 10.0)
        clock.sent(A, 1000, 10.0)
        assert clock.progress(10.375) == ([(A, 2000), (B, 1000)], True)


class TestCut:
    def test_of_nothing_nothing_was_heard(self, clock: PlayoutClock) -> None:
        assert clock.truncate(10.0) == []

    def test_what_was_heard_of_each_item_that_was_not_fully_heard(self, clock: PlayoutClock) -> None:
        for item in (A, B, C):
            clock.sent(item, 1000, 10.0)
        assert clock.truncate(10.1875) == [(B, 500), (C, 0)]

    def test_what_was_fully_heard_is_not_named(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        assert clock.truncate(10.125) == []

    def test_an_item_counts_from_its_first_sample_over_underruns(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        clock.sent(A, 1000, 20.0)
        assert clock.progress(15.0) == ([(A, 1000)], False)
        assert clock.truncate(20.0625) == [(A, 1500)]

    def test_the_silence_behind_an_item_is_not_heard(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0, padding=1000)
        assert clock.truncate(10.1875) == [(A, 1000)]

    def test_items_that_were_held_back_are_named_too(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        assert clock.truncate(10.0625, unsent=[A, B, B, C]) == [(A, 500), (B, 0), (C, 0)]

    def test_only_the_sent_part_of_a_partly_held_item_counts(self, clock: PlayoutClock) -> None:
        clock.sent(A, 1000, 10.0)
        assert clock.progress(11.0) == ([(A, 1000)], True)
        assert clock.truncate(12.0, unsent=[A]) == [(A, 1000)]

    def test_after_it_the_clock_is_as_new(self, clock: PlayoutClock) -> None:
        clock.sent(A, 8000, 10.0)
        clock.truncate(10.125)
        assert clock.progress(10.25) == ([], True)
        assert clock.truncate(10.25) == []
        clock.sent(B, 1000, 10.25)
        assert clock.progress(10.3125) == ([(B, 500)], False)


class TestBounds:
    def test_audio_in_drops_is_kept_as_so_many_runs_at_most(self, clock: PlayoutClock) -> None:
        # Each drop has a gap behind it, and nobody asks meanwhile.
        for drop in range(MAX_RUNS + 500):
            clock.sent(A, 1, float(drop))
        assert clock.progress(1e6) == ([(A, MAX_RUNS + 500)], True)

    def test_many_items_that_are_queued_lose_the_oldest_not_the_last(self, clock: PlayoutClock) -> None:
        for item in range(MAX_RUNS + 1):
            clock.sent(item, 1000, 10.0)
        cut = clock.truncate(10.0)
        assert cut == [(item, 0) for item in range(1, MAX_RUNS + 1)]

    def test_items_of_a_long_call_leave_nothing_behind(self, clock: PlayoutClock) -> None:
        for item in range(10_000):
            clock.sent(item, 100, float(item))
            clock.progress(item + 0.5)
        assert len(clock._runs) + len(clock._fully_heard) <= 1


pieces = st.lists(
    st.tuples(
        st.integers(1, 4000),  # samples
        st.integers(0, 4000),  # until the next piece comes, in samples
        st.booleans(),  # whether a new item begins
        st.booleans(),  # whether somebody asks how far the playout is
    ),
    max_size=40,
)


@given(pieces, st.integers(0, 40_000))
def test_it_agrees_with_playing_sample_by_sample(pieces: list[tuple[int, int, bool, bool]], rest: int) -> None:
    """Against the plainest model: a list with the time at which each sample plays. Times are in 1/8192 s."""
    rate = SAMPLE_RATE_HZ
    clock = PlayoutClock()
    plays_at: dict[int, list[int]] = {0: []}
    now = cursor = item = 0
    told: dict[int, int] = {}
    for samples, wait, new_item, asks in pieces:
        if new_item:
            item += 1
        cursor = max(cursor, now)
        plays_at.setdefault(item, []).extend(range(cursor, cursor + samples))
        cursor += samples
        clock.sent(item, samples, now / rate)
        now += wait
        if asks:
            told |= dict(clock.progress(now / rate)[0])
    now += rest
    heard = {i: sum(1 for at in times if at < now) for i, times in plays_at.items()}
    cut = dict(clock.truncate(now / rate))
    for i, times in plays_at.items():
        # The clock counts in floating seconds: it may be off by the sample that plays just now.
        if i in cut:
            assert abs(cut[i] - heard[i]) <= 1
        else:
            assert len(times) - heard[i] <= 1
        assert told.get(i, 0) <= heard[i] + 1


class TestOwnSound:
    """Sound of the dispatcher's own takes time, and is part of no item."""

    def test_an_item_begins_behind_it(self) -> None:
        clock = PlayoutClock()
        clock.sent(OWN_SOUND, 480, 0.0)
        clock.sent(1, 800, 0.01)
        assert clock.end_seconds == pytest.approx(0.16)
        assert clock.progress(0.06) == ([(1, 0)], False)
        assert clock.progress(0.11) == ([(1, 400)], False)
        assert clock.queued() == [(1, 800)]

    def test_alone_it_is_idle_and_unreported(self) -> None:
        clock = PlayoutClock()
        clock.sent(OWN_SOUND, 480, 0.0)
        assert clock.progress(0.01) == ([], True)
        assert clock.queued() == []
        assert clock.items_end_seconds == float("-inf")

    def test_a_cut_of_it_alone_cuts_nothing(self) -> None:
        clock = PlayoutClock()
        clock.sent(1, 800, 0.0)
        clock.sent(OWN_SOUND, 480, 0.2)
        assert clock.truncate(0.22) == []
        assert clock.end_seconds == pytest.approx(0.26)
        assert clock.items_end_seconds == pytest.approx(0.1)

    def test_a_cut_of_an_item_behind_it_empties_all(self) -> None:
        clock = PlayoutClock()
        clock.sent(OWN_SOUND, 480, 0.0)
        clock.sent(1, 800, 0.0)
        assert clock.truncate(0.02) == [(1, 0)]
        assert clock.end_seconds == 0.02
        assert clock.items_end_seconds == 0.02

    def test_an_item_goes_on_behind_it(self) -> None:
        clock = PlayoutClock()
        clock.sent(1, 800, 0.0)
        clock.progress(0.2)
        clock.sent(OWN_SOUND, 480, 0.2)
        clock.sent(1, 800, 0.2)
        ((item, samples),), _ = clock.progress(0.31)
        assert item == 1
        assert abs(samples - 1200) <= 1
