"""Which fault comes when: drawn from the seed before anything begins."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.facts import FaultKind


@dataclass(frozen=True, slots=True)
class Step:
    """A fault, so long after the start."""

    at_seconds: float
    kind: FaultKind


def draw(
    rng: random.Random,
    kinds: Sequence[FaultKind],
    *,
    duration_seconds: float,
    gap_seconds: tuple[float, float],
    quiet_seconds: float,
    first_seconds: float,
) -> list[Step]:
    """Every kind once, in any order, then a quiet time; and so on until the end.

    Args:
        rng: decides.
        kinds: that there are.
        duration_seconds: no step is later.
        gap_seconds: between two faults, at least and at most.
        quiet_seconds: behind each round, in which nothing is done.
        first_seconds: of the first fault.
    """
    steps: list[Step] = []
    at_seconds = first_seconds
    while kinds:
        for kind in rng.sample(list(kinds), len(kinds)):
            if at_seconds > duration_seconds:
                return steps
            steps.append(Step(at_seconds, kind))
            at_seconds += rng.uniform(*gap_seconds)
        at_seconds += quiet_seconds
    return steps
