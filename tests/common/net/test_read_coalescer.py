from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest

from common.net.read_coalescer import (
    BEGIN_BYTES_PER_SECOND,
    END_BYTES_PER_SECOND,
    READ_NOW_SECONDS,
    WATCH_SECONDS,
    ReadCoalescer,
)

INTERVAL_SECONDS = 0.01
TURN_SECONDS = 0.0001
ENOUGH = int(BEGIN_BYTES_PER_SECOND * WATCH_SECONDS)
TOO_FEW = int(END_BYTES_PER_SECOND * WATCH_SECONDS) - 1


class World:
    """An event loop and its clock. A turn takes a moment; with nothing to call, the loop waits for its timers."""

    def __init__(self, now_seconds: float = 100.0) -> None:
        self.now_seconds = now_seconds
        self.sleeps: list[float] = []
        self.turns = 0
        self.turn_seconds = TURN_SECONDS
        self._ready: list[Callable[[], None]] = []
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._numbers = itertools.count()
        self.coalescer = ReadCoalescer(lambda: self.now_seconds, self._sleep)

    def call_soon(self, callback: Callable[[], None], /) -> None:
        self._ready.append(callback)

    def call_later(self, delay: float, callback: Callable[[], None], /) -> None:
        heapq.heappush(self._timers, (self.now_seconds + delay, next(self._numbers), callback))

    def run(self, seconds: float) -> None:
        """Let so much time pass."""
        until = self.now_seconds + seconds
        while self.now_seconds < until:
            if self._ready:
                self.turns += 1
                self.now_seconds += self.turn_seconds
            else:
                self.now_seconds = min(max(self.now_seconds, self._timers[0][0]), until)
            while self._timers and self._timers[0][0] <= self.now_seconds:
                self._ready.append(heapq.heappop(self._timers)[2])
            ready, self._ready = self._ready, []
            for callback in ready:
                callback()

    @property
    def reads_at_intervals(self) -> bool:
        return self.coalescer.is_on

    def busy(self, read_bytes: int, seconds: float = 2 * WATCH_SECONDS) -> None:
        """Let so much be read between two looks at it."""
        for _ in range(round(seconds / WATCH_SECONDS)):
            self.coalescer.read_bytes += read_bytes
            self.run(WATCH_SECONDS)

    def _sleep(self, seconds: float) -> None:
        self.now_seconds += seconds
        self.sleeps.append(self.now_seconds)


@pytest.fixture
def world() -> World:
    world = World()
    world.coalescer.begin(world, INTERVAL_SECONDS)
    return world


def test_with_few_calls_nothing_waits(world: World) -> None:
    world.busy(ENOUGH - 1, seconds=5)
    assert not world.coalescer.is_on
    assert world.sleeps == []


def test_without_an_interval_nothing_waits() -> None:
    world = World()
    world.coalescer.begin(world, 0.0)
    assert world._timers == []
    world.coalescer.read_now()


def test_with_many_calls_the_loop_sleeps_until_each_interval(world: World) -> None:
    world.busy(ENOUGH, seconds=2)
    assert world.coalescer.is_on
    intervals = [sleep / INTERVAL_SECONDS for sleep in world.sleeps]
    assert intervals == pytest.approx([round(each) for each in intervals], abs=0.001)
    gaps = {round(later - earlier) for earlier, later in itertools.pairwise(intervals)}
    assert gaps == {1}
    # Between two intervals the loop turns only as often as the read data needs to leave.
    assert world.turns <= 4 * len(world.sleeps) + 10


def test_processes_do_not_all_work_at_the_same_moment() -> None:
    worlds = World(100.0), World(100.003)
    for world in worlds:
        world.coalescer.begin(world, INTERVAL_SECONDS)
        world.busy(ENOUGH)
    first, second = (world.sleeps[-1] / INTERVAL_SECONDS % 1 for world in worlds)
    assert second - first == pytest.approx(0.3, abs=0.01)


def test_intervals_end_when_half_the_calls_have_ended(world: World) -> None:
    world.busy(ENOUGH)
    world.busy(TOO_FEW + 1)
    assert world.coalescer.is_on
    world.busy(TOO_FEW)
    assert not world.reads_at_intervals
    sleeps, turns = len(world.sleeps), world.turns
    world.busy(TOO_FEW)
    assert len(world.sleeps) == sleeps
    assert world.turns <= turns + 5
    world.busy(ENOUGH)
    assert world.coalescer.is_on


def test_a_new_connection_does_not_wait(world: World) -> None:
    world.busy(ENOUGH)
    world.coalescer.read_now()
    sleeps = len(world.sleeps)
    world.run(READ_NOW_SECONDS - TURN_SECONDS)
    assert len(world.sleeps) == sleeps
    # The other calls are read at intervals again.
    world.run(2 * INTERVAL_SECONDS)
    assert world.coalescer.is_on
    assert len(world.sleeps) > sleeps


def test_intervals_are_off_while_connections_keep_coming(world: World) -> None:
    for _ in range(100):
        world.coalescer.read_now()
        world.busy(ENOUGH, seconds=0.05)
        world.run(0.05)
    assert world.sleeps == []


def test_a_loop_busy_for_longer_than_an_interval_does_not_sleep(world: World) -> None:
    world.busy(ENOUGH)
    sleeps = len(world.sleeps)
    world.turn_seconds = INTERVAL_SECONDS
    world.busy(ENOUGH)
    assert world.coalescer.is_on
    assert len(world.sleeps) == sleeps


def test_whatever_happens_there_is_one_chain_of_turns(world: World) -> None:
    for _ in range(10):
        world.busy(ENOUGH)
        world.coalescer.read_now()
        world.busy(TOO_FEW)
    world.busy(ENOUGH)
    assert len(world._ready) == 1
