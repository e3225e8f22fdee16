"""The order and times of faults, drawn from the seed before the run begins."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass

from tests.chaos.facts import FaultKind


@dataclass(frozen=True, slots=True)
class Step:
    """A fault, and its time after the start."""

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
    """Draw all kinds once in any order, then a quiet time, and repeat until the end.

    Args:
        rng: source of the draws.
        kinds: kinds of faults.
        duration_seconds: time of the last possible step.
        gap_seconds: minimum and maximum time between two faults.
        quiet_seconds: time without faults after each round.
        first_seconds: time of the first fault.
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
