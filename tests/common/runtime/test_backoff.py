"""Delays between attempts that fail."""

from __future__ import annotations

from common.runtime.backoff import Backoff


def test_delays_double_up_to_the_bound() -> None:
    backoff = Backoff(0.25, 5.0)
    assert [backoff.delay_seconds(failures) for failures in range(8)] == [0.0, 0.25, 0.5, 1.0, 2.0, 4.0, 5.0, 5.0]


def test_any_number_of_failures_has_a_delay() -> None:
    assert Backoff(0.1, 10.0).delay_seconds(10**9) == 10.0
