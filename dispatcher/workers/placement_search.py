"""The search for a worker of one call, Sans-I/O: excluded workers, the next epoch, and the end of the search.

The I/O around it: `dispatcher/runner/worker_finder.py`.
"""

from __future__ import annotations

from typing import NamedTuple

from common.store.pins import NoCapacityReason
from dispatcher.call.actions import Place, Purpose
from dispatcher.call.assignment import Assignment

TRY_AGAIN_LATER = 1013
INTERNAL_ERROR = 1011


class NotPlaced(NamedTuple):
    """Why no worker was found.

    Attributes:
        code: the WebSocket close code for AVR Core.
        message: for AVR Core.
        is_known: False if Redis is away and no worker is known.
    """

    code: int
    message: str
    is_known: bool = True


class PlacementSearch:
    """Search for a worker that will have a call.

    Attributes:
        purpose: purpose of the search.
        excluded: workers that have refused the call or cannot be reached.
        epoch: minimum epoch of the new assignment.
        pins: workers that have held the call.
    """

    def __init__(self, wanted: Place, pins: int) -> None:
        self.purpose = wanted.purpose
        self.excluded = wanted.excluded
        self.epoch = wanted.epoch
        self.pins = pins

    def unreachable(self, found: Assignment) -> bool:
        """Look for another worker, as this one cannot be reached; return whether it is to be unpinned.

        A worker that was never reached has held nothing, unless the call is older than this dispatcher.
        """
        self.excluded = self.excluded | {found.worker_id}
        self.epoch = found.epoch + 1
        if self.purpose is Purpose.BEGIN and found.pins == 1 and not found.attach:
            return True
        self.pins = found.pins
        return False

    def failed(self, reason: NoCapacityReason, *, refused_for_capacity: bool, redis_is_away: bool) -> NotPlaced:
        """Return why no worker was found.

        Args:
            reason: of placement.
            refused_for_capacity: the last worker that was asked had no room.
            redis_is_away: there may be workers, but this dispatcher has no table of them.
        """
        if reason is NoCapacityReason.FULL or refused_for_capacity:
            return NotPlaced(TRY_AGAIN_LATER, "no capacity: every worker has all the calls that it may take")
        if self.excluded:
            message = f"none of the {len(self.excluded)} workers that were asked took the call"
            return NotPlaced(INTERNAL_ERROR, message)
        if redis_is_away:
            return NotPlaced(INTERNAL_ERROR, "no worker is known, because Redis is away", is_known=False)
        return NotPlaced(TRY_AGAIN_LATER, "no capacity: there is no live worker")
