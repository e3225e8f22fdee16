"""An assignment: a call is given to a worker, at an epoch."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum

from common.link import wire


class AssignmentState(Enum):
    """Progress of the worker."""

    OPENING = "opening"  # asked
    TAKEN = "taken"  # it has taken the call, and opens a session
    READY = "ready"  # the session is up


@dataclass(eq=False, slots=True)
class Assignment:
    """A call at a worker, at an epoch. A call has one assignment, and a second one while it moves.

    Placement finds the first fields, in Redis or in the last known table; the call adds the others.

    Attributes:
        worker_id: the worker.
        epoch: the call's epoch from now on.
        pins: number of workers that have held the call, this one included.
        address: where the worker accepts links; empty: there is a link already.
        started_at_ms: when the call was pinned first, by the clock of Redis; None where Redis did not say.
        attach: the worker has a session of the call already, by another dispatcher.
        age_seconds: age of the call, as far as Redis knows.
        reason: why the call needs another session, a `wire.Reason`; empty for its first.
        credit_bytes: caller's audio that may be sent.
        given_bytes: reply audio that the worker may send.
        returned_bytes: reply audio that AVR Core has taken, and for which no credit was given yet.
        move: the worker wants the call to move again, before it has the call.
        is_attached: the worker continues in the session that it has.
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
        """Return credit that is to be given now, in pieces of `CREDIT_STEP_BYTES`; 0 while it is too little."""
        if self.returned_bytes < wire.CREDIT_STEP_BYTES:
            return 0
        due, self.returned_bytes = self.returned_bytes, 0
        self.given_bytes += due
        return due
