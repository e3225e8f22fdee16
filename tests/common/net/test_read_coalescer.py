from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable

import pytest

from common.net.adaptive_interval import (
    LEAST_SECONDS,
    MOST_OPENING_SECONDS,
    MOST_SECONDS,
    READ_AT_ONCE_LOAD,
    AdaptiveInterval,
    Reading,
)
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


class LoadedWorld(World):
    """A world whose process has used its core for a share of the time."""

    def __init__(self) -> None:
        super().__init__()
        self.load = 0.0
        self._cpu_seconds = 0.0
        self._counted_seconds = self.now_seconds
        self.adaptive = AdaptiveInterval()
        self.coalescer.adapt(self, self.adaptive, self._read)

    def _read(self) -> Reading:
        self._cpu_seconds += self.load * (self.now_seconds - self._counted_seconds)
        self._counted_seconds = self.now_seconds
        return Reading(self._cpu_seconds)

    @property
    def gaps(self) -> list[float]:
        """The times between the ends of intervals."""
        return [later - earlier for earlier, later in itertools.pairwise(self.sleeps)]


def test_auto_a_process_with_room_reads_at_once() -> None:
    world = LoadedWorld()
    world.load = READ_AT_ONCE_LOAD - 0.01
    world.busy(10 * ENOUGH, seconds=5)
    assert world.sleeps == []
    assert world.coalescer.wanted_seconds == 0.0


def test_auto_the_intervals_grow_with_the_load_and_shrink_again() -> None:
    world = LoadedWorld()
    world.load = 1.0
    world.busy(ENOUGH, seconds=5)
    assert world.coalescer.wanted_seconds == MOST_SECONDS
    # Where the length changes, the interval that has begun ends later.
    assert all(after > before - 1e-6 for before, after in itertools.pairwise(world.gaps))
    assert world.gaps[-1] == pytest.approx(MOST_SECONDS)
    world.load = 0.7
    world.busy(ENOUGH, seconds=5)
    assert world.gaps[-1] == pytest.approx(world.adaptive.seconds, rel=0.01)
    assert LEAST_SECONDS < world.adaptive.seconds < MOST_SECONDS / 4
    world.load = 0.2
    world.busy(ENOUGH, seconds=5)
    sleeps = len(world.sleeps)
    world.busy(ENOUGH)
    assert len(world.sleeps) == sleeps
    assert not world.reads_at_intervals


def test_auto_no_sleep_is_longer_than_the_longest_interval() -> None:
    world = LoadedWorld()
    for load in (1.0, 0.5, 0.9, 0.6, 0.0, 1.0, 0.8):
        world.load = load
        before = len(world.sleeps)
        world.busy(ENOUGH, seconds=1)
        recent = [later - earlier for earlier, later in itertools.pairwise(world.sleeps[before:])]
        assert max(recent, default=0.0) <= MOST_SECONDS + 1e-6


def test_auto_with_few_calls_nothing_waits() -> None:
    """A core that is full of other work has no audio to group."""
    world = LoadedWorld()
    world.load = 1.0
    world.busy(ENOUGH - 1, seconds=5)
    assert world.sleeps == []
    assert world.coalescer.wanted_seconds == 0.0


def test_auto_a_new_connection_waits_for_short_intervals_alone() -> None:
    """Otherwise ten new calls a second would switch all intervals of a full process off."""
    world = LoadedWorld()
    world.load = 1.0
    world.busy(ENOUGH, seconds=5)
    world.coalescer.read_now()
    before = len(world.sleeps)
    world.coalescer.read_bytes += ENOUGH
    world.run(READ_NOW_SECONDS - TURN_SECONDS)
    assert len(world.sleeps) - before == pytest.approx(READ_NOW_SECONDS / MOST_OPENING_SECONDS, abs=2)
    assert world.coalescer.wanted_seconds == MOST_SECONDS


def test_auto_a_new_connection_does_not_wait_if_there_is_room() -> None:
    world = LoadedWorld()
    world.load = 0.7
    world.busy(ENOUGH, seconds=5)
    assert world.reads_at_intervals
    world.coalescer.read_now()
    sleeps = len(world.sleeps)
    world.coalescer.read_bytes += ENOUGH
    world.run(READ_NOW_SECONDS - TURN_SECONDS)
    assert len(world.sleeps) == sleeps
    world.busy(ENOUGH, seconds=WATCH_SECONDS)
    assert len(world.sleeps) > sleeps


def test_auto_whatever_happens_there_is_one_chain_of_turns() -> None:
    world = LoadedWorld()
    for number in range(100):
        world.load = (number * 7 % 11) / 10
        world.busy(ENOUGH if number % 5 else TOO_FEW, seconds=WATCH_SECONDS)
        world.coalescer.read_now()
    world.load = 1.0
    world.busy(ENOUGH, seconds=5)
    assert len(world._ready) == 1
