"""The limits that the calls of one process share, on a virtual clock."""

from __future__ import annotations

import functools
import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest

from worker.realtime.upstream_limits import (
    FAILURES_TO_OPEN,
    MAX_COUNTED,
    MAX_HOLD_SECONDS,
    MAX_PAIRS,
    OPEN_FIRST_SECONDS,
    OPEN_MOST_SECONDS,
    PROBE_SECONDS,
    REPEAT_FLOOR,
    SPREAD_REPEATS,
    WINDOW_SECONDS,
    BreakerState,
    LimitsTable,
    RetryBudget,
    UpstreamLimits,
)


def limits() -> UpstreamLimits:
    """Return limits without jitter."""
    return UpstreamLimits(jitter=lambda: 1.0)


def opened(now_seconds: float = 0.0) -> UpstreamLimits:
    """Return limits whose breaker has just opened."""
    made = limits()
    for _ in range(FAILURES_TO_OPEN):
        made.failed(now_seconds)
    return made


def granted(ask: Callable[[], bool], most: int = 1000) -> int:
    """Count the permissions until the first refusal."""
    count = 0
    while count < most and ask():
        count += 1
    return count


class TestPause:
    def test_retry_after_pauses_first_and_repeated_requests(self) -> None:
        made = limits()
        made.failed(100.0, 3.0)
        for repeat in (False, True):
            assert not made.may_send(102.9, repeat=repeat)
            assert made.may_send(103.0, repeat=repeat)

    def test_the_longest_pause_counts(self) -> None:
        made = limits()
        made.failed(100.0, 5.0)
        made.failed(100.5, 1.0)
        assert not made.may_send(104.9, repeat=False)
        assert made.may_send(105.0, repeat=False)

    def test_a_pause_is_bounded(self) -> None:
        made = limits()
        made.failed(100.0, 3600.0)
        assert not made.may_send(100.0 + MAX_HOLD_SECONDS - 0.1, repeat=False)
        assert made.may_send(100.0 + MAX_HOLD_SECONDS, repeat=False)

    @pytest.mark.parametrize(("reset_seconds", "paused_seconds"), [(1.5, 1.5), (5.0, 5.0), (60.0, 5.0)])
    def test_a_rate_limit_pauses_for_5_s_at_most(self, reset_seconds: float, paused_seconds: float) -> None:
        made = limits()
        made.rate_limited(reset_seconds, 100.0)
        assert not made.may_send(100.0 + paused_seconds - 0.1, repeat=False)
        assert made.may_send(100.0 + paused_seconds, repeat=False)

    def test_a_success_does_not_shorten_a_pause(self) -> None:
        made = limits()
        made.failed(100.0, 5.0)
        # This response began before the API asked for the pause.
        made.succeeded(101.0, repeat=False)
        assert not made.may_send(104.0, repeat=False)

    def test_a_pause_applies_to_probes(self) -> None:
        made = opened(100.0)
        made.hold(4.0, 100.0)
        assert not made.may_send(103.9, repeat=True)
        assert made.may_send(104.0, repeat=True)


def spent(take: Callable[[float], bool], from_seconds: float, seconds: float = WINDOW_SECONDS) -> list[float]:
    """Ask for permission every 0.1 s, and return the times at which it was granted."""
    times = []
    for step in range(round(seconds * 10)):
        now_seconds = from_seconds + step / 10
        times += [now_seconds] * granted(functools.partial(take, now_seconds))
    return times


class TestRetryBudget:
    def test_the_floor_is_five_repeats_in_10_s(self) -> None:
        budget = RetryBudget()
        assert len(spent(budget.take, 100.0)) == REPEAT_FLOOR == 5
        times = spent(budget.take, 100.0 + WINDOW_SECONDS, 60.0)
        assert all(sum(at <= each < at + WINDOW_SECONDS for each in times) <= REPEAT_FLOOR for at in times)

    def test_the_budget_is_never_empty_for_long(self) -> None:
        times = spent(RetryBudget().take, 100.0, 60.0)
        assert max(later - earlier for earlier, later in itertools.pairwise(times)) < 4.0

    @pytest.mark.parametrize(("first", "repeats"), [(0, 5), (25, 5), (29, 5), (30, 6), (100, 20), (1000, 200)])
    def test_repeats_are_20_percent_of_first_requests(self, first: int, repeats: int) -> None:
        budget = RetryBudget()
        for _ in range(first):
            budget.first(105.0)
        assert len(spent(budget.take, 105.0)) == repeats

    def test_first_requests_count_for_10_s(self) -> None:
        budget = RetryBudget()
        for _ in range(100):
            budget.first(100.0)
        assert len(spent(budget.take, 100.0 + WINDOW_SECONDS)) == REPEAT_FLOOR

    def test_successful_repeats_let_more_and_more_follow(self) -> None:
        budget, now_seconds = RetryBudget(), 100.0
        waves = []
        for _ in range(5):
            wave = granted(functools.partial(budget.take, now_seconds))
            waves.append(wave)
            now_seconds += 0.5
            for _ in range(wave):
                budget.refund(now_seconds)
        assert waves[0] == REPEAT_FLOOR - SPREAD_REPEATS
        assert all(later > 1.5 * earlier for earlier, later in itertools.pairwise(waves))

    def test_one_success_is_enough_after_an_exhausted_budget(self) -> None:
        budget = RetryBudget()
        spent(budget.take, 100.0)
        waiting, now_seconds = 50, 110.0
        while waiting and now_seconds < 118.0:
            sent = min(waiting, granted(functools.partial(budget.take, now_seconds)))
            waiting -= sent
            now_seconds += 0.3
            for _ in range(sent):
                budget.refund(now_seconds)
        assert not waiting

    def test_earned_repeats_expire_after_10_s(self) -> None:
        budget = RetryBudget()
        for _ in range(50):
            budget.refund(100.0)
        assert len(spent(budget.take, 100.0 + WINDOW_SECONDS)) == REPEAT_FLOOR

    def test_the_counts_are_bounded(self) -> None:
        budget = RetryBudget()
        for _ in range(MAX_COUNTED + 10):
            budget.first(100.0)
            budget.refund(100.0)
        assert len(budget._first) == len(budget._earned) == MAX_COUNTED

    def test_a_first_request_needs_no_budget(self) -> None:
        made = limits()
        spent(lambda now: made.may_send(now, repeat=True), 90.0)
        assert made.may_send(100.0, repeat=False)

    def test_a_successful_first_request_earns_no_repeat(self) -> None:
        made = limits()
        now_seconds = spent(lambda now: made.may_send(now, repeat=True), 90.0)[-1]
        assert not made.may_send(now_seconds, repeat=True)
        made.succeeded(now_seconds, repeat=False)
        assert not made.may_send(now_seconds, repeat=True)
        made.succeeded(now_seconds, repeat=True)
        assert made.may_send(now_seconds, repeat=True)


class TestCircuitBreaker:
    def test_five_consecutive_failures_open_the_breaker(self) -> None:
        made = limits()
        for _ in range(FAILURES_TO_OPEN - 1):
            made.failed(100.0)
        assert made.may_send(100.0, repeat=False)
        made.failed(100.0)
        assert made.breaker is BreakerState.OPEN
        assert not made.may_send(100.0, repeat=False)

    def test_success_between_failures_keeps_the_breaker_closed(self) -> None:
        made = limits()
        for _ in range(3):
            for _ in range(FAILURES_TO_OPEN - 1):
                made.failed(100.0)
            assert made.breaker is BreakerState.CLOSED
            made.succeeded(100.0, repeat=False)

    def test_an_open_breaker_lets_a_single_probe_pass(self) -> None:
        made = opened(100.0)
        assert not made.may_send(100.0 + OPEN_FIRST_SECONDS - 0.01, repeat=False)
        assert granted(lambda: made.may_send(100.0 + OPEN_FIRST_SECONDS, repeat=True)) == 1
        assert made.breaker is BreakerState.PROBING
        assert not made.may_send(100.0 + OPEN_FIRST_SECONDS + PROBE_SECONDS - 0.01, repeat=False)

    def test_a_probe_without_result_is_followed_by_another(self) -> None:
        made = opened(100.0)
        assert made.may_send(101.0, repeat=True)
        assert granted(lambda: made.may_send(101.0 + PROBE_SECONDS, repeat=True)) == 1

    def test_a_probe_needs_no_room_in_the_budget(self) -> None:
        made = limits()
        spent(lambda now: made.may_send(now, repeat=True), 90.0)
        for _ in range(FAILURES_TO_OPEN):
            made.failed(100.0)
        assert made.may_send(101.0, repeat=True)

    def test_the_end_of_an_outage_empties_the_budget(self) -> None:
        made = limits()
        now_seconds = spent(lambda now: made.may_send(now, repeat=True), 90.0)[-1]
        for _ in range(FAILURES_TO_OPEN):
            made.failed(now_seconds)
        probed_seconds = now_seconds + OPEN_FIRST_SECONDS
        assert made.may_send(probed_seconds, repeat=True)
        made.succeeded(probed_seconds, repeat=False)
        assert granted(lambda: made.may_send(probed_seconds, repeat=True)) == REPEAT_FLOOR - SPREAD_REPEATS

    def test_the_pause_doubles_with_each_failed_probe(self) -> None:
        made, now_seconds = opened(100.0), 100.0
        pauses = []
        for _ in range(5):
            began_seconds = now_seconds
            while not made.may_send(now_seconds, repeat=True):
                now_seconds += 0.125
            pauses.append(now_seconds - began_seconds)
            made.failed(now_seconds)
            assert made.breaker is BreakerState.OPEN
        assert pauses == [0.5, 1.0, OPEN_MOST_SECONDS, OPEN_MOST_SECONDS, OPEN_MOST_SECONDS]

    def test_failures_of_older_requests_do_not_extend_the_pause(self) -> None:
        made = opened(100.0)
        # These were sent before it opened.
        for _ in range(50):
            made.failed(100.4)
        assert made.may_send(100.0 + OPEN_FIRST_SECONDS, repeat=True)

    def test_successful_probe_closes_breaker_and_resets_the_pause(self) -> None:
        made = opened(100.0)
        assert made.may_send(100.5, repeat=True)
        made.failed(100.5)
        assert made.may_send(101.5, repeat=True)
        made.succeeded(101.6, repeat=True)
        assert made.breaker is BreakerState.CLOSED
        assert made.may_send(101.6, repeat=False)
        for _ in range(FAILURES_TO_OPEN):
            made.failed(110.0)
        assert made.may_send(110.0 + OPEN_FIRST_SECONDS, repeat=True)

    def test_the_pause_is_jittered(self) -> None:
        made = UpstreamLimits(jitter=lambda: 1.4)
        for _ in range(FAILURES_TO_OPEN):
            made.failed(100.0)
        assert not made.may_send(100.69, repeat=True)
        assert made.may_send(100.71, repeat=True)

    def test_jitter_never_shortens_a_delay(self) -> None:
        drawn = [UpstreamLimits().jitter() for _ in range(200)]
        assert min(drawn) >= 1.0
        assert max(drawn) <= 1.4
        assert len(set(drawn)) > 100


class TestLimitsTable:
    def test_one_pair_has_one_set_of_limits(self) -> None:
        table = LimitsTable()
        made = table.of("wss://a", "key-1")
        assert table.of("wss://a", "key-1") is made
        assert table.of("wss://b", "key-1") is not made
        assert table.of("wss://a", "key-2") is not made

    def test_a_full_table_forgets_the_least_recently_used(self) -> None:
        table = LimitsTable()
        first, second = table.of("wss://a", "0"), table.of("wss://a", "1")
        for number in range(2, MAX_PAIRS):
            table.of("wss://a", str(number))
        assert table.of("wss://a", "0") is first
        table.of("wss://a", "one more")
        assert len(table._limits) == MAX_PAIRS
        assert table.of("wss://a", "0") is first
        assert table.of("wss://a", "1") is not second

    def test_a_message_is_new_once(self) -> None:
        made = limits()
        assert made.first_time("max_output_tokens")
        assert not made.first_time("max_output_tokens")
        assert made.first_time("another")


# An outage with 200 calls


@dataclass
class Waiting:
    """A call that waits for an answer."""

    not_before_seconds: float
    repeats: int = 0
    was_held: bool = False
    served_seconds: float | None = None


@dataclass
class Outage:
    """A simulation of 200 calls on a virtual clock, with an API that fails until `until_seconds`.

    The clock ticks every 200 ms, like a session's clock. A call waits for the limits, or retries with back-off,
    like `worker/session/agent/answering.py`.
    """

    until_seconds: float
    first_output_seconds: float = 0.4
    limits: UpstreamLimits = field(default_factory=limits)
    requests: list[float] = field(default_factory=list)
    under_way: list[tuple[float, Waiting]] = field(default_factory=list)

    def run(self, calls: list[Waiting], seconds: float, now_seconds: float = 0.0) -> None:
        end_seconds = now_seconds + seconds
        while now_seconds < end_seconds:
            for due_seconds, call in [each for each in self.under_way if each[0] <= now_seconds]:
                self.under_way.remove((due_seconds, call))
                call.served_seconds = now_seconds
                self.limits.succeeded(now_seconds, repeat=call.repeats > 0 or call.was_held)
            for call in calls:
                self.pursue(call, now_seconds)
            now_seconds = round(now_seconds + 0.2, 3)

    def pursue(self, call: Waiting, now_seconds: float) -> None:
        busy = call.served_seconds is not None or any(call is other for _, other in self.under_way)
        if busy or now_seconds < call.not_before_seconds:
            return
        if not self.limits.may_send(now_seconds, repeat=call.repeats > 0 or call.was_held):
            call.was_held = True
            return
        self.requests.append(now_seconds)
        if now_seconds < self.until_seconds:
            call.not_before_seconds = now_seconds + min(0.5 * 2**call.repeats, 5.0)
            call.repeats += 1
            self.limits.failed(now_seconds)
        else:
            self.under_way.append((now_seconds + self.first_output_seconds, call))


def test_outage_of_60_s_causes_no_storm_and_ends_soon() -> None:
    outage = Outage(until_seconds=60.0)
    # The callers finish their turns in the first 10 s of the outage.
    calls = [Waiting(not_before_seconds=number / 20) for number in range(200)]
    outage.run(calls, seconds=75.0)
    during = [at for at in outage.requests if at < 60.0]
    per_second = Counter(int(at) for at in during)
    # 5 requests open the breaker. Then only probes are sent: at 0.5 s, at 1 s, and every 2 s.
    assert max(per_second.values()) <= FAILURES_TO_OPEN + 1
    assert max(count for second, count in per_second.items() if second >= 5) == 1
    assert len(during) <= FAILURES_TO_OPEN + 2 + 60.0 / OPEN_MOST_SECONDS
    # After the outage there is a probe within 2 s, then waves that double with each answer.
    waited = [call.served_seconds - 60.0 if call.served_seconds is not None else None for call in calls]
    assert None not in waited
    assert max(each for each in waited if each is not None) <= 6.0
    # Each call sent one request after the outage.
    assert len([at for at in outage.requests if at >= 60.0]) == 200


def test_calls_that_begin_in_an_outage_wait() -> None:
    outage = Outage(until_seconds=30.0, limits=opened(0.0))
    calls = [Waiting(not_before_seconds=number / 10) for number in range(200)]
    outage.run(calls, seconds=40.0)
    assert len([at for at in outage.requests if at < 30.0]) <= 2 + 30.0 / OPEN_MOST_SECONDS
    assert all(call.served_seconds is not None for call in calls)


def test_an_outage_with_slow_answers_ends_within_8_s() -> None:
    outage = Outage(until_seconds=60.0, first_output_seconds=0.8)
    calls = [Waiting(not_before_seconds=number / 20) for number in range(200)]
    outage.run(calls, seconds=80.0)
    assert max(call.served_seconds or 1e9 for call in calls) - 60.0 <= 8.0
