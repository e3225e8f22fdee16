"""What a core may send in a time."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from dispatcher.call.caller.token_bucket import TokenBucket


def test_a_burst_is_allowed_at_once_and_no_more() -> None:
    bucket = TokenBucket(rate=1.0, burst=3.0, seen_seconds=10.0)
    assert [bucket.exceeded(1.0, 10.0) for _ in range(4)] == [False, False, False, True]


def test_tokens_are_refilled_with_time_up_to_the_used_ones() -> None:
    bucket = TokenBucket(rate=2.0, burst=4.0, seen_seconds=0.0)
    assert not bucket.exceeded(4.0, 0.0)
    assert not bucket.exceeded(2.0, 1.0)
    # An hour of silence is no credit for the next one.
    assert not bucket.exceeded(4.0, 3600.0)
    assert bucket.exceeded(0.1, 3600.0)


def test_one_that_was_exceeded_goes_on_counting() -> None:
    bucket = TokenBucket(rate=1.0, burst=1.0, seen_seconds=0.0)
    assert bucket.exceeded(5.0, 0.0)
    assert bucket.exceeded(0.0, 3.9)
    assert not bucket.exceeded(0.0, 4.0)


def test_a_clock_that_goes_back_gives_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=2.0, seen_seconds=100.0)
    assert not bucket.exceeded(2.0, 100.0)
    assert bucket.exceeded(0.5, 90.0)
    assert bucket.used == 2.5


def test_what_was_saved_is_allowed_besides_the_burst_and_once() -> None:
    bucket = TokenBucket(rate=1.0, burst=2.0, seen_seconds=0.0)
    bucket.exceeded(2.0, 0.0)
    bucket.save(20.0)
    # It does not grow with the time that it is kept.
    assert not bucket.exceeded(0.0, 100.0)
    assert [bucket.exceeded(1.0, 100.0) for _ in range(23)] == [False] * 22 + [True]


@given(
    steps=st.lists(st.tuples(st.integers(0, 100), st.integers(0, 50)), max_size=40),
    rate=st.integers(1, 20),
    burst=st.integers(1, 200),
)
def test_at_most_the_burst_and_the_rate_pass_in_any_time(
    steps: list[tuple[int, int]], rate: int, burst: int
) -> None:
    bucket = TokenBucket(float(rate), float(burst), 0.0)
    now = 0
    passed: list[tuple[int, int]] = []
    for wait, amount in steps:
        now += wait
        if bucket.exceeded(float(amount), float(now)):
            break
        passed.append((now, amount))
    for number, (since, _) in enumerate(passed):
        for until in range(number, len(passed)):
            used = sum(amount for _, amount in passed[number : until + 1])
            assert used <= burst + rate * (passed[until][0] - since)


def test_what_is_refused_uses_nothing() -> None:
    bucket = TokenBucket(rate=1.0, burst=2.0, seen_seconds=0.0)
    assert [bucket.take(1.0, 0.0) for _ in range(4)] == [True, True, False, False]
    assert bucket.take(1.0, 1.0)
    bucket.give_back(1.0)
    assert bucket.take(1.0, 1.0)
