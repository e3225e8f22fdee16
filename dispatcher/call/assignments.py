"""The assignments of a call: the present worker, and former ones."""

from __future__ import annotations

from dispatcher.call.assignment import Assignment


class Assignments:
    """The present assignment of one call, and facts about former ones.

    Attributes:
        current: the assignment that has the call; None: no worker has it.
        worker_id: the worker of the current assignment, or of the last one; empty if there was none.
        epoch: the highest epoch that is known of the call.
        pins: number of workers that have held the call.
    """

    def __init__(self) -> None:
        self.current: Assignment | None = None
        self.worker_id = ""
        self.epoch = 0
        self.pins = 0
        self._held_epoch = 0
        self._claimed_epoch = 0

    @property
    def held_epoch(self) -> int:
        """The epoch at which a worker has the call, or had it last; 0: no worker had the call.

        It is higher than the worker's where Redis knows of another one (`outrank`).
        """
        return max(self._held_epoch, self._claimed_epoch)

    def saw_epoch(self, epoch: int) -> None:
        """Note that the call had this epoch."""
        self.epoch = max(self.epoch, epoch)

    def outrank(self, epoch: int) -> None:
        """Note the epoch of a holder that Redis remembers from before it was away: the present one is newer."""
        self._claimed_epoch = epoch + 1
        self.saw_epoch(self._claimed_epoch)

    def take(self, assignment: Assignment) -> None:
        """Give the call to the worker of an assignment."""
        self.current = assignment
        self.worker_id, self._held_epoch = assignment.worker_id, assignment.epoch

    def hold_alone(self) -> None:
        """Note that the dispatcher has the call without a worker.

        The call is published, and taken out of Redis, though no worker may ever have had it.
        """
        self.saw_epoch(1)
        self._held_epoch = max(self._held_epoch, 1)
        self.worker_id = ""
