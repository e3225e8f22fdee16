from __future__ import annotations

import itertools
import random

from tests.chaos import schedule
from tests.chaos.facts import FaultKind
from tests.chaos.schedule import Step

_KINDS = tuple(FaultKind)


def _drawn(seed: int, duration_seconds: float = 200.0) -> list[Step]:
    return schedule.draw(
        random.Random(seed),
        _KINDS,
        duration_seconds=duration_seconds,
        gap_seconds=(1.0, 2.0),
        quiet_seconds=7.0,
        first_seconds=3.0,
    )


def test_a_seed_always_draws_the_same_and_another_something_else() -> None:
    assert _drawn(1) == _drawn(1)
    assert [step.kind for step in _drawn(1)] != [step.kind for step in _drawn(2)]


def test_every_kind_comes_once_in_each_round() -> None:
    steps = _drawn(3)
    rounds = [steps[start : start + len(_KINDS)] for start in range(0, len(steps), len(_KINDS))]
    assert len(rounds) > 3
    assert all({step.kind for step in each} == set(_KINDS) for each in rounds[:-1])


def test_faults_keep_their_distance_and_rounds_a_larger_one() -> None:
    steps = _drawn(4)
    assert steps[0].at_seconds == 3.0
    assert steps[-1].at_seconds <= 200.0
    for number, (before, after) in enumerate(itertools.pairwise(steps), start=1):
        gap = after.at_seconds - before.at_seconds
        quiet = 7.0 if number % len(_KINDS) == 0 else 0.0
        assert quiet + 1.0 <= gap <= quiet + 2.0


def test_no_kinds_or_no_time_draw_nothing() -> None:
    assert _drawn(5, duration_seconds=2.0) == []
    nothing = schedule.draw(
        random.Random(1), (), duration_seconds=9.0, gap_seconds=(1.0, 2.0), quiet_seconds=0.0, first_seconds=0.0
    )
    assert nothing == []
