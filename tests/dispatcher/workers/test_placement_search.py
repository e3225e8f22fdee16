"""The search for a worker of one call, without Redis and links."""

from __future__ import annotations

import pytest

from common.store.pins import NoCapacityReason
from dispatcher.call.actions import Place, Purpose
from dispatcher.call.assignment import Assignment
from dispatcher.workers.placement_search import NotPlaced, PlacementSearch


def search(purpose: Purpose = Purpose.BEGIN, *excluded: str, pins: int = 0) -> PlacementSearch:
    return PlacementSearch(Place(purpose, 1, frozenset(excluded)), pins)


def test_an_unreachable_worker_is_left_out_from_then_on() -> None:
    made = search(Purpose.RECOVER, "w-1", pins=1)
    assert not made.unreachable(Assignment("w-2", 3, pins=2))
    assert (made.excluded, made.epoch, made.pins) == (frozenset({"w-1", "w-2"}), 4, 2)


def test_the_pin_of_a_new_call_is_taken_back() -> None:
    made = search()
    assert made.unreachable(Assignment("w-1", 1, pins=1))
    assert (made.excluded, made.epoch, made.pins) == (frozenset({"w-1"}), 2, 0)


FULL = "no capacity: every worker has all the calls that it may take"


@pytest.mark.parametrize("found", [Assignment("w-1", 2, pins=2), Assignment("w-1", 2, pins=1, attach=True)])
def test_the_pin_of_an_older_call_stays(found: Assignment) -> None:
    made = search()
    assert not made.unreachable(found)
    assert made.pins == found.pins


@pytest.mark.parametrize(
    ("reason", "excluded", "refused", "away", "outcome"),
    [
        ("full", (), False, False, (1013, FULL, True)),
        (
            "no_workers",
            (),
            True,
            False,
            (1013, FULL, True),
        ),
        ("no_workers", ("w-1",), False, True, (1011, "none of the 1 workers that were asked took the call", True)),
        ("no_workers", (), False, True, (1011, "no worker is known, because Redis is away", False)),
        ("no_workers", (), False, False, (1013, "no capacity: there is no live worker", True)),
    ],
)
def test_a_failure_names_its_reason(
    reason: str, excluded: tuple[str, ...], refused: bool, away: bool, outcome: tuple[int, str, bool]
) -> None:
    made = search(Purpose.BEGIN, *excluded)
    failure = made.failed(NoCapacityReason(reason), refused_for_capacity=refused, redis_is_away=away)
    assert failure == NotPlaced(*outcome)
