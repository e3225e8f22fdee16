from __future__ import annotations

import itertools
import random

import pytest

from worker.realtime.session_openings import (
    MAX_WAITING,
    MOST_CALLER_SECONDS,
    OWED_SECONDS,
    SAVED_SECONDS,
    WAITING_SHARE,
    Opening,
    SessionOpenings,
    Urgency,
)

RATE = 50.0
GIVE_UP_SECONDS = 30.0
START_SECONDS = 1000.0


class World:
    """A queue, its clock, and what has begun."""

    def __init__(self, rate: float = RATE) -> None:
        self.now_seconds = START_SECONDS
        self.openings = SessionOpenings(rate, self.now_seconds)
        self.begun: list[tuple[float, Opening]] = []

    def join(
        self,
        waited_seconds: float = 0.0,
        urgency: Urgency = Urgency.CALLER,
        give_up_seconds: float = GIVE_UP_SECONDS,
    ) -> Opening:
        since_seconds = self.now_seconds - waited_seconds
        return self.openings.join(since_seconds, since_seconds + give_up_seconds, urgency, self.now_seconds)

    def run(self, seconds: float = 60.0) -> list[Opening]:
        """Let time pass as the shell does; return what has begun."""
        until_seconds = self.now_seconds + seconds
        begun: list[Opening] = []
        for _ in range(100_000):
            begun += (now := self.openings.begin(self.now_seconds))
            self.begun += [(self.now_seconds, opening) for opening in now]
            due_seconds = self.openings.next_seconds(self.now_seconds)
            if due_seconds is None or due_seconds > until_seconds:
                self.now_seconds = until_seconds
                return begun
            self.now_seconds = max(due_seconds, self.now_seconds + 1e-6)
        raise AssertionError("the queue asks to be called again and again")

    def most_in_a_second(self) -> int:
        """Return the most openings of any second."""
        times = [seconds for seconds, _ in self.begun]
        return max(sum(one <= other < one + 1.0 for other in times) for one in times)


def test_a_few_openings_begin_at_once() -> None:
    world = World()
    joined = [world.join() for _ in range(int(RATE * SAVED_SECONDS))]
    assert world.openings.begin(world.now_seconds) == joined
    assert world.openings.waiting == 0
    assert world.openings.next_seconds(world.now_seconds) is None


def test_two_hundred_openings_are_spread() -> None:
    world = World()
    joined = [world.join() for _ in range(200)]
    assert world.run() == joined
    assert world.begun[-1][0] - START_SECONDS == pytest.approx(200 / RATE - SAVED_SECONDS, abs=0.05)
    assert world.most_in_a_second() <= RATE * (1 + SAVED_SECONDS) + 1


def test_the_longest_waiting_begins_first() -> None:
    world = World(rate=1.0)
    world.join()
    world.openings.begin(world.now_seconds)  # uses the saved token
    late, early, middle = world.join(0.1), world.join(2.0), world.join(1.0)
    assert world.run() == [early, middle, late]


def test_callers_begin_before_standbys() -> None:
    world = World(rate=2.0)
    world.join()
    world.openings.begin(world.now_seconds)
    standbys = [world.join(9.0, Urgency.STANDBY) for _ in range(2)]
    callers = [world.join() for _ in range(3)]
    assert world.run() == [*callers, *standbys]


def test_a_standby_whose_call_lost_its_session_is_a_caller() -> None:
    world = World(rate=1.0)
    world.join()
    world.openings.begin(world.now_seconds)
    caller, other, promoted = world.join(), world.join(0.0, Urgency.STANDBY), world.join(3.0, Urgency.STANDBY)
    world.openings.promote(promoted, world.now_seconds)
    assert promoted.latest_seconds == world.now_seconds + MOST_CALLER_SECONDS
    assert world.run() == [promoted, caller, other]
    world.openings.promote(promoted, world.now_seconds)
    assert world.openings.waiting == 0


def test_no_opening_waits_beyond_its_bound() -> None:
    world = World(rate=0.1)
    joined = [world.join() for _ in range(100)] + [world.join(0.0, Urgency.STANDBY) for _ in range(100)]
    assert set(world.run()) == set(joined)
    waits = dict.fromkeys(Urgency, 0.0)
    for seconds, opening in world.begun:
        waits[opening.urgency] = max(waits[opening.urgency], seconds - START_SECONDS)
    assert waits[Urgency.CALLER] == pytest.approx(MOST_CALLER_SECONDS, abs=0.01)
    assert waits[Urgency.STANDBY] == pytest.approx(WAITING_SHARE * GIVE_UP_SECONDS, abs=0.01)


@pytest.mark.parametrize(
    ("waited", "give_up", "most"), [(0.0, 4.0, 2.0), (3.0, 4.0, 0.5), (5.0, 4.0, 0.0), (0, 0, 0)]
)
def test_a_call_that_is_given_up_soon_has_time_left(waited: float, give_up: float, most: float) -> None:
    world = World(rate=0.1)
    world.join()
    world.openings.begin(world.now_seconds)
    opening = world.join(waited, give_up_seconds=give_up)
    assert opening.latest_seconds - world.now_seconds == pytest.approx(most)


def test_openings_beyond_their_bound_use_later_tokens() -> None:
    world = World(rate=1.0)
    for _ in range(10):
        world.join(give_up_seconds=0.0)
    assert len(world.openings.begin(world.now_seconds)) == 10
    next_one = world.join()
    # Ten tokens are owed, and no more than a second's worth counts.
    world.run()
    (waited,) = [seconds - START_SECONDS for seconds, opening in world.begun if opening is next_one]
    assert waited == pytest.approx(OWED_SECONDS + 1.0)


def test_a_call_that_ended_uses_no_token() -> None:
    world = World(rate=1.0)
    first, gone, last = world.join(2.0), world.join(1.0), world.join()
    world.openings.leave(gone)
    world.openings.leave(gone)
    assert world.openings.waiting == 2
    assert world.run() == [first, last]
    assert world.begun[-1][0] - START_SECONDS == pytest.approx(1.0)


def test_a_token_given_back_is_used_by_the_next() -> None:
    world = World(rate=1.0)
    world.join()
    second = world.join()
    assert len(world.openings.begin(world.now_seconds)) == 1
    world.openings.give_back(world.now_seconds)
    world.openings.give_back(world.now_seconds)  # no more than the bucket holds
    assert world.openings.begin(world.now_seconds) == [second]
    world.join()
    assert world.openings.begin(world.now_seconds) == []


def test_a_full_queue_lets_further_openings_begin() -> None:
    world = World(rate=0.1)
    for _ in range(MAX_WAITING + 1):
        world.join(urgency=Urgency.STANDBY)
    beyond = world.join()
    assert beyond in world.openings.begin(world.now_seconds)


def test_whatever_happens_the_queue_keeps_its_promises() -> None:
    chance = random.Random(7)
    for _ in range(50):
        world = World(rate=chance.choice([0.5, 5.0, 50.0]))
        joined: list[tuple[float, Opening]] = []
        left: set[Opening] = set()
        for _ in range(chance.randrange(1, 80)):
            urgency = chance.choice(list(Urgency))
            opening = world.join(chance.uniform(0, 20), urgency, chance.choice([0.0, 10.0, 30.0]))
            joined.append((world.now_seconds, opening))
            _, other = chance.choice(joined)
            if chance.random() < 0.1 and other.is_waiting:
                world.openings.leave(other)
                left.add(other)
            elif chance.random() < 0.2:
                world.openings.promote(other, world.now_seconds)
            world.run(chance.choice([0.0, 0.01, 0.5]))
        world.run()
        begun = [opening for _, opening in world.begun]
        assert len(begun) == len(set(begun))
        assert set(begun) | left == {opening for _, opening in joined}
        assert world.openings.waiting == 0
        late = [seconds - opening.latest_seconds for seconds, opening in world.begun]
        assert max(late) < 0.01
    assert all(one[0] <= other[0] for one, other in itertools.pairwise(world.begun))
