from __future__ import annotations

from common.runtime.restart_policy import FIRST_DELAY_SECONDS, HEALTHY_SECONDS, MAX_DELAY_SECONDS, RestartPolicy


def lives(policy: RestartPolicy, *lengths_seconds: float) -> list[float]:
    """Delays after processes of these lengths, each started when the delay before it was over."""
    now = 1000.0
    delays = []
    for length in lengths_seconds:
        policy.started(now)
        now += length
        delays.append(policy.ended(now))
        now += delays[-1]
    return delays


def test_a_healthy_process_is_restarted_at_once() -> None:
    assert lives(RestartPolicy(), HEALTHY_SECONDS, 3600, HEALTHY_SECONDS) == [0, 0, 0]


def test_short_lives_double_the_delay_up_to_a_limit() -> None:
    assert lives(RestartPolicy(), *[0.1] * 8) == [0.25, 0.5, 1, 2, 4, 8, 10, 10]
    assert (FIRST_DELAY_SECONDS, MAX_DELAY_SECONDS) == (0.25, 10)


def test_a_healthy_life_forgets_the_short_ones() -> None:
    assert lives(RestartPolicy(), 0, 4.9, HEALTHY_SECONDS, 0, 0) == [0.25, 0.5, 0, 0.25, 0.5]


def test_any_number_of_short_lives_is_counted() -> None:
    policy = RestartPolicy()
    assert lives(policy, *[0.0] * 5000)[-1] == MAX_DELAY_SECONDS
    assert policy.short_lives == 5000
