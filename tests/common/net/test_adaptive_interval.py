from __future__ import annotations

import itertools
import math

import pytest

from common.net.adaptive_interval import (
    FULL_LOAD,
    LEAST_SECONDS,
    MEASURE_SECONDS,
    MOST_OPENING_SECONDS,
    MOST_SECONDS,
    READ_AT_ONCE_LOAD,
    AdaptiveInterval,
    Reading,
)

# CPU seconds of a call in a second, by the interval in ms: the figures of docs/performance.md for
# dispatchers and workers together, which here are one process. The steepest part decides whether intervals swing.
COSTS = ((0.0, 0.0050), (2.0, 0.0044), (4.0, 0.0034), (6.0, 0.0031), (10.0, 0.0030), (40.0, 0.0023))
SETTLED_STEPS = 50


def cost(interval_seconds: float) -> float:
    """Return the CPU time of a call in a second, between the measured figures."""
    ms = 1000 * interval_seconds
    for (low, low_cost), (high, high_cost) in itertools.pairwise(COSTS):
        if ms <= high:
            return low_cost + (high_cost - low_cost) * (ms - low) / (high - low)
    return COSTS[-1][1]


class Machine:
    """A process with calls, whose cost follows the interval that it is given."""

    def __init__(self, *, limit_cores: float | None = None) -> None:
        self.interval = AdaptiveInterval(limit_cores)
        self.now_seconds = 1000.0
        self.cpu_seconds = 7.0
        self.waited_seconds = 3.0
        self.group_seconds = 0.0
        self.cores = min(1.0, limit_cores or 1.0)
        self.neighbour = 0.0  # cores that others take of this one
        self.rest_of_group = 0.0  # cores that other processes of the container use
        self.measure()

    def measure(self) -> None:
        self.interval.measure(self.now_seconds, Reading(self.cpu_seconds, self.waited_seconds, self.group_seconds))

    def run(self, calls: float, steps: int = SETTLED_STEPS) -> list[float]:
        """Let steps pass with so many calls; return the interval after each."""
        return [self._step(calls) for _ in range(steps)]

    def _step(self, calls: float) -> float:
        wanted = calls * cost(self.interval.seconds)
        used = min(wanted, self.cores - self.neighbour)
        self.now_seconds += MEASURE_SECONDS
        self.cpu_seconds += used * MEASURE_SECONDS
        if self.neighbour:
            # While it wants to run, the others have the core for their share of the time.
            self.waited_seconds += min(1.0 - used, wanted * self.neighbour) * MEASURE_SECONDS
        self.group_seconds += (used + self.rest_of_group) * MEASURE_SECONDS
        self.measure()
        return self.interval.seconds


def grows(values: list[float]) -> bool:
    # A settled interval differs by its rounding.
    return all(one < other or math.isclose(one, other, rel_tol=1e-9) for one, other in itertools.pairwise(values))


def shrinks(values: list[float]) -> bool:
    return grows(values[::-1])


def test_up_to_half_a_core_nothing_waits() -> None:
    machine = Machine()
    calls = READ_AT_ONCE_LOAD / cost(0.0) - 0.01
    assert set(machine.run(calls)) == {0.0}
    assert machine.interval.load == pytest.approx(READ_AT_ONCE_LOAD, abs=0.01)


@pytest.mark.parametrize("calls", [110, 130, 150, 200, 250, 300, 350, 400, 1000])
def test_after_a_step_up_the_interval_grows_and_settles(calls: int) -> None:
    machine = Machine()
    machine.run(20)
    steps = machine.run(calls)
    assert grows(steps)
    assert steps[-1] == pytest.approx(steps[-10], rel=0.01)
    assert LEAST_SECONDS <= steps[-1] <= MOST_SECONDS


@pytest.mark.parametrize(("more", "fewer"), [(1000, 300), (400, 150), (300, 20), (200, 110), (130, 0)])
def test_after_a_step_down_the_interval_shrinks_and_settles(more: int, fewer: int) -> None:
    machine = Machine()
    machine.run(more)
    steps = machine.run(fewer)
    assert shrinks(steps)
    assert steps[-1] == pytest.approx(steps[-10], rel=0.01)


def test_more_calls_never_have_a_shorter_interval() -> None:
    settled = []
    for calls in range(50, 500, 10):
        machine = Machine()
        settled.append(machine.run(calls)[-1])
    assert grows(settled)
    assert settled[0] == 0.0
    assert settled[-1] == MOST_SECONDS


def test_a_full_process_has_the_longest_interval() -> None:
    calls = FULL_LOAD / cost(MOST_SECONDS)
    machine = Machine()
    assert machine.run(calls + 10)[-1] == MOST_SECONDS
    assert machine.interval.load == pytest.approx(min(1.0, (calls + 10) * cost(MOST_SECONDS)), abs=0.01)


def test_a_load_that_swings_is_followed_smoothly() -> None:
    """The load is full and none in turn, every 100 ms: no step makes it more than five times as long, or short."""
    machine = Machine()
    machine.run(300)
    intervals = [machine._step(1000 if number % 2 else 0) for number in range(200)]
    for before, after in itertools.pairwise(intervals):
        low, high = sorted((before, after))
        assert high <= 5 * max(low, LEAST_SECONDS)


def test_after_a_pause_the_interval_is_of_the_load_since() -> None:
    machine = Machine()
    machine.run(1000)
    assert machine.interval.seconds == MOST_SECONDS
    machine.now_seconds += 3600.0  # the machine slept
    machine.measure()
    assert machine.interval.seconds == 0.0
    assert set(machine.run(50)) == {0.0}


def test_a_limit_below_one_core_is_the_whole_core() -> None:
    """A container of half a core is full at half a core, and its largest interval comes as early."""
    machine = Machine(limit_cores=0.5)
    assert machine.run(40)[-1] == 0.0
    assert machine.run(300)[-1] == MOST_SECONDS


def test_processes_that_share_a_limit_wait_together() -> None:
    """A dispatcher that uses a third of the container's core has no room if its workers use the rest."""
    machine = Machine(limit_cores=1.0)
    machine.rest_of_group = 0.1
    assert machine.run(60)[-1] == 0.0
    machine.rest_of_group = 0.65
    assert machine.run(60)[-1] > MOST_SECONDS / 4
    machine.rest_of_group = 0.1
    assert machine.run(60)[-1] == 0.0


def test_a_limit_of_many_cores_is_not_one_processs_core() -> None:
    machine = Machine(limit_cores=4.0)
    machine.rest_of_group = 1.0
    assert machine.run(90)[-1] == 0.0


def test_a_process_that_waits_for_its_core_has_no_room() -> None:
    """Its own share is low, and the core is full: others have it."""
    machine = Machine()
    machine.neighbour = 0.7
    used_before = machine.cpu_seconds
    intervals = machine.run(150)
    assert (machine.cpu_seconds - used_before) / (SETTLED_STEPS * MEASURE_SECONDS) < READ_AT_ONCE_LOAD
    assert intervals[-1] > LEAST_SECONDS
    machine.neighbour = 0.0
    assert machine.run(80)[-1] == 0.0


def test_threads_beside_the_loop_count_for_a_core_at_most() -> None:
    interval = AdaptiveInterval()
    interval.measure(0.0, Reading(0.0))
    interval.measure(100.0, Reading(800.0))
    assert interval.load == 1.0
    assert interval.seconds == MOST_SECONDS


def test_the_first_measurement_only_begins() -> None:
    interval = AdaptiveInterval(0.5)
    interval.measure(50.0, Reading(49.0, 40.0, 1000.0))
    assert interval.load == 0.0
    interval.measure(50.0, Reading(49.0, 40.0, 1000.0))
    assert interval.load == 0.0


def test_while_a_connection_opens_the_interval_is_an_eighth() -> None:
    machine = Machine()
    machine.run(1000)
    assert machine.interval.opening_seconds == pytest.approx(MOST_OPENING_SECONDS)
    machine.run(50)
    assert machine.interval.opening_seconds == 0.0
