"""An assignment of a call to a worker, at an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from common.link import wire


class AssignmentState(Enum):
    """State of an assignment."""

    OPENING = "opening"  # the worker was asked
    TAKEN = "taken"  # the worker has taken the call, and opens a session
    READY = "ready"  # the session is up


@dataclass(eq=False, slots=True)
class Assignment:
    """Assignment of one call. A call has one assignment, and a second one while it moves.

    Placement finds the fields up to `age_seconds`, in Redis or in the last known table. The call sets the others.

    Attributes:
        worker_id: id of the worker.
        epoch: epoch of the call at this worker.
        pins: number of workers that have held the call, this one included.
        address: address at which the worker accepts links; empty: there is a link already.
        started_at_ms: time of the call's first pin, by the clock of Redis; None: unknown.
        attach: the worker already has a session of the call, from another dispatcher.
        age_seconds: age of the call, as far as Redis knows.
        reason: why the call needs another session, a `wire.Reason`; empty for its first.
        credit_bytes: size of the caller's audio that may be sent.
        given_bytes: size of the reply audio that the worker may send.
        returned_bytes: size of the reply audio that AVR Core has taken, without new credit for it yet.
        move: the standby's worker wants the call to move on, once the standby has the call.
        is_attached: the worker continues in its existing session.
    """

    worker_id: str
    epoch: int
    pins: int = 1
    address: str = ""
    started_at_ms: int | None = None
    attach: bool = False
    age_seconds: float = 0.0
    reason: str = ""
    state: AssignmentState = AssignmentState.OPENING
    credit_bytes: int = 0
    given_bytes: int = wire.REPLY_CREDIT_BYTES
    returned_bytes: int = 0
    move: wire.Move | None = None
    is_attached: bool = False

    def due_credit(self) -> int:
        """Return the credit to give now; 0 while it is less than `CREDIT_STEP_BYTES`."""
        if self.returned_bytes < wire.CREDIT_STEP_BYTES:
            return 0
        due, self.returned_bytes = self.returned_bytes, 0
        self.given_bytes += due
        return due
